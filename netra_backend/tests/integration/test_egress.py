"""The outgoing client over real sockets: where it does not go, how long it waits, how much it reads, what it says."""

from __future__ import annotations

import asyncio
import gzip
import socket
import time
from contextlib import asynccontextmanager, suppress

import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.resilience.addresses import EgressRules
from netra_backend.resilience.egress import Egress, EgressDenied, EgressError
from netra_backend.resilience.exchange import CURRENT, Exchange
from netra_backend.resilience.look_ups import AresResolver
from netra_backend.resilience.pinning import check_peer, pinned_socket
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.testing.name_server import NameServer
from netra_backend.tests.integration.egress_fixtures import Certificates, FixedNames, Listener

SPELLINGS = [
    "127.0.0.1", "127.1", "127.0.1", "0177.0.0.1", "0x7f.0.0.1", "0x7f000001", "2130706433", "017700000001", "127.0.0.1.", "127.0.0.%31", "１２７.０.０.１",
    "①②⑦.⓪.⓪.①", "127。0。0。1", "0.0.0.0", "0", "0x0", "[::1]", "[0:0:0:0:0:0:0:1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]", "[2002:7f00:1::]", "[fe80::1%25lo]", "user@127.0.0.1", "@127.0.0.1", "127.0.0.1\\@example.org", "localhost", "LOCALHOST", "localhost.",
    "ⓛocalhost", "inside.test", "INSIDE.TEST", "mixed.test", "mapped.test", "six.test", "zero.test", "nat.test",
]  # fmt: skip

NAMES = {
    "localhost": ["::1", "127.0.0.1"], "localhost.": ["127.0.0.1"], "inside.test": ["127.0.0.1"], "mixed.test": ["8.8.8.8", "127.0.0.1"],
    "mapped.test": ["::ffff:127.0.0.1"], "six.test": ["::1"], "zero.test": ["0.0.0.0"], "nat.test": ["64:ff9b::7f00:1"],
}  # fmt: skip


@asynccontextmanager
async def open_egress(names=None, **settings):
    settings.setdefault("any_loopback_port", True)
    resolver = FixedNames(names or {})
    async with Egress(Runtime(), resolver=settings.pop("resolver", resolver), **settings) as egress:
        yield egress


async def failure(egress, method, url, **how):
    with pytest.raises(EgressError) as caught:
        await egress.request(method, url, tenant=how.pop("tenant", "t"), **how)
    return caught.value


@asynccontextmanager
async def raw_server(reply):
    """Answers each connection's first bytes with `reply` and keeps what it was sent."""
    asked = []

    async def serve(reader, writer):
        try:
            while data := await reader.read(65536):
                asked.append(data)
                writer.write(reply)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", asked


# W7: no request reaches a denied address


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_and_no_name_reaches_a_denied_address(host):
    with Listener() as forbidden:
        async with open_egress(NAMES, any_loopback_port=False, ports=[forbidden.port]) as egress:
            error = await failure(egress, "POST", f"http://{host}:{forbidden.port}/", body=b"x")
        assert error.kind in {"egress_denied", "bad_url"}
        assert not error.sent
        assert error.fix
        assert forbidden.accepted() == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "localhost", "inside.test", "１２７.０.０.１"])
async def test_the_forbidden_listener_would_have_noticed(host):
    with Listener() as listener:
        async with open_egress(NAMES, any_loopback_port=False, ports=[listener.port], allow=["127.0.0.0/8", "::1/128"]) as egress:
            await failure(egress, "POST", f"http://{host}:{listener.port}/", timeout_s=0.2)
        assert listener.accepted() > 0


async def test_a_closed_port_is_refused_before_any_look_up():
    resolver = FixedNames({"open.test": ["8.8.8.8"]})
    async with open_egress(any_loopback_port=False, resolver=resolver) as egress:
        error = await failure(egress, "GET", "http://open.test:25/")
    assert isinstance(error, EgressDenied)
    assert "NETRA_EGRESS_PORTS" in error.fix
    assert resolver.asked == []


async def test_a_name_that_is_rebound_between_two_connections_is_judged_again():
    names = {"moving.test": ["127.0.0.2"]}
    with Listener("127.0.0.1") as forbidden:
        async with (
            MisbehavingEndpoint(host="127.0.0.2", port=forbidden.port) as allowed,
            open_egress(names, any_loopback_port=False, ports=[forbidden.port], allow=["127.0.0.2/32"]) as egress,
        ):
            url = f"http://moving.test:{forbidden.port}/"
            assert (await egress.request("POST", url, tenant="t")).peer == "127.0.0.2"
            names["moving.test"] = ["127.0.0.1"]
            assert (await egress.request("POST", url, tenant="t")).peer == "127.0.0.2"  # the kept connection, judged when made
            allowed.behave("close")
            await failure(egress, "POST", url)
            assert (await failure(egress, "POST", url)).kind == "egress_denied"
            assert allowed.accepted == 1
        assert forbidden.accepted() == 0


async def test_one_look_up_serves_both_the_judgement_and_the_connection():
    resolver = FixedNames({"once.test": ["127.0.0.1"]})
    async with MisbehavingEndpoint() as endpoint, open_egress(resolver=resolver) as egress:
        await egress.request("POST", f"http://once.test:{endpoint.port}/", tenant="t")
    assert resolver.asked == ["once.test"]


async def test_new_rules_hold_for_connections_that_were_kept_alive():
    async with MisbehavingEndpoint() as endpoint, open_egress() as egress:
        await egress.request("POST", endpoint.url, tenant="t")
        egress.rules = EgressRules()
        assert (await failure(egress, "POST", endpoint.url)).kind == "egress_denied"
        egress.rules = EgressRules(ports=[endpoint.port])
        assert (await failure(egress, "POST", endpoint.url)).kind == "egress_denied"
        assert len(endpoint.received) == 1


async def test_new_rules_close_a_kept_connection_of_a_name():
    async with MisbehavingEndpoint() as endpoint, open_egress({"kept.test": ["127.0.0.1"]}) as egress:
        url = f"http://kept.test:{endpoint.port}/"
        await egress.request("POST", url, tenant="t")
        egress.rules = EgressRules(ports=[endpoint.port])
        assert (await failure(egress, "POST", url)).kind == "egress_denied"
        async with asyncio.timeout(30):
            while endpoint.open_connections:
                await asyncio.sleep(0)
        assert len(endpoint.received) == 1


@pytest.mark.parametrize("peer", [("127.0.0.2", 80), ("127.0.0.1", 81), ("8.8.8.8", 80)])
def test_a_peer_that_was_not_judged_is_refused(peer):
    exchange = Exchange("t", 80, EgressRules(["127.0.0.0/8"], [80, 81]), 1, pinned=frozenset({"127.0.0.1"}))
    check_peer(exchange, ("127.0.0.1", 80))
    with pytest.raises(EgressDenied):
        check_peer(exchange, peer)


def test_no_socket_is_made_for_an_address_that_was_not_judged():
    token = CURRENT.set(Exchange("t", 80, EgressRules(), 1, pinned=frozenset({"8.8.8.8"})))
    try:
        for where in [("127.0.0.1", 80), ("8.8.8.8", 81)]:
            with pytest.raises(OSError):
                pinned_socket((socket.AF_INET, socket.SOCK_STREAM, 0, "", where))
            assert isinstance(CURRENT.get().stopped, EgressDenied)
    finally:
        CURRENT.reset(token)


async def test_a_redirect_is_an_answer_and_is_not_followed():
    with Listener() as forbidden:
        async with MisbehavingEndpoint(f"redirect:http://127.0.0.1:{forbidden.port}/") as endpoint, open_egress() as egress:
            reply = await egress.request("GET", endpoint.url, tenant="t")
        assert reply.status == 302
        assert forbidden.accepted() == 0


async def test_proxies_of_the_environment_are_not_used(monkeypatch):
    with Listener() as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with MisbehavingEndpoint() as endpoint, open_egress() as egress:
            assert (await egress.request("POST", endpoint.url, tenant="t")).status == 200
        assert proxy.accepted() == 0


# One deadline


@pytest.mark.parametrize("spec", ["hang", "slow-headers", "drip", "slow:30"])
async def test_one_deadline_covers_head_and_body(spec):
    async with MisbehavingEndpoint(spec) as endpoint, open_egress() as egress:
        began = time.monotonic()
        error = await failure(egress, "POST", endpoint.url, body=b"x", timeout_s=0.3)
        assert error.kind == "timeout"
        assert error.sent
        assert time.monotonic() - began < 10


async def test_a_connection_that_is_never_accepted_ends_at_the_connect_limit():
    with Listener("127.0.0.1", backlog=0) as full, full.filled():
        async with open_egress() as egress:
            began = time.monotonic()
            error = await failure(egress, "POST", f"http://127.0.0.1:{full.port}/", connect_timeout_s=0.3, timeout_s=10)
        assert (error.kind, error.sent) == ("timeout", False)
        assert time.monotonic() - began < 8


async def test_a_deadline_that_has_passed_sends_nothing():
    async with MisbehavingEndpoint() as endpoint, open_egress() as egress:
        runtime = Runtime()
        error = await failure(egress, "POST", endpoint.url, deadline=runtime.clock.monotonic() - 1)
        assert (error.kind, error.sent) == ("timeout", False)
        assert endpoint.accepted == 0


async def test_a_scopes_deadline_shortens_the_limit():
    async with MisbehavingEndpoint("hang") as endpoint, open_egress() as egress:
        began = time.monotonic()
        await failure(egress, "POST", endpoint.url, deadline=Runtime().clock.monotonic() + 0.2)
        assert time.monotonic() - began < 10


async def test_cancelling_the_caller_closes_the_connection_and_stays_a_cancellation():
    async with MisbehavingEndpoint("hang") as endpoint, open_egress() as egress:
        asking = asyncio.create_task(egress.request("POST", endpoint.url, tenant="t"))
        await endpoint.until(len)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        async with asyncio.timeout(30):
            while endpoint.open_connections:
                await asyncio.sleep(0)


# Capped reads


@pytest.mark.parametrize("spec", ["endless", "chunk-storm"])
async def test_a_success_with_an_endless_body_is_a_success_cut_at_the_limit(spec):
    async with MisbehavingEndpoint(spec) as endpoint, open_egress() as egress:
        reply = await egress.request("POST", endpoint.url, tenant="t", read_limit=10_000)
        assert (reply.status, len(reply.body), reply.truncated) == (200, 10_000, True)
        async with asyncio.timeout(30):
            while endpoint.open_connections:
                await asyncio.sleep(0)


async def test_an_endless_chunk_extension_is_a_success_without_a_body():
    async with MisbehavingEndpoint("extension-storm") as endpoint, open_egress() as egress:
        reply = await egress.request("POST", endpoint.url, tenant="t", timeout_s=5)
        assert (reply.status, reply.body, reply.truncated) == (200, b"", True)


@pytest.mark.parametrize("size", [0, 1, 9_999, 10_000, 10_001])
async def test_a_body_is_whole_up_to_the_limit(size):
    body = b"y" * size
    async with raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + body) as (url, _), open_egress() as egress:
        reply = await egress.request("GET", url, tenant="t", read_limit=10_000)
    assert reply.body == body[:10_000]
    assert reply.truncated is (size > 10_000)


@pytest.mark.parametrize("spec", ["headers-flood", "continue-storm", "garbage", "switch"])
async def test_what_is_not_an_answer_is_a_protocol_error_at_once(spec):
    async with MisbehavingEndpoint(spec) as endpoint, open_egress() as egress:
        began = time.monotonic()
        error = await failure(egress, "POST", endpoint.url, timeout_s=10)
        assert (error.kind, error.sent) == ("protocol", True)
        assert time.monotonic() - began < 8


async def test_a_line_longer_than_16_kib_is_a_protocol_error():
    async with (
        raw_server(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 17_000 + b"\r\ncontent-length: 0\r\n\r\n") as (url, _),
        open_egress() as egress,
    ):
        assert (await failure(egress, "GET", url)).kind == "protocol"


async def test_only_16_kib_of_the_head_are_kept():
    fields = b"".join(b"x-%d: %s\r\n" % (number, b"y" * 1000) for number in range(40))
    async with raw_server(b"HTTP/1.1 200 OK\r\n" + fields + b"content-length: 0\r\n\r\n") as (url, _), open_egress() as egress:
        reply = await egress.request("GET", url, tenant="t")
    assert 10 < len(reply.headers) < 17
    assert reply.headers[0] == ("x-0", "y" * 1000)


async def test_nothing_is_decompressed_and_nothing_asks_for_compression():
    packed = gzip.compress(b"z" * 100_000)
    head = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed)
    async with raw_server(head + packed) as (url, asked), open_egress() as egress:
        assert (await egress.request("POST", url, tenant="t", body=b"x")).body == packed
    assert b"accept-encoding" not in asked[0].lower()


async def test_cookies_are_not_kept():
    async with raw_server(b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\ncontent-length: 0\r\n\r\n") as (url, asked), open_egress() as egress:
        for _ in range(2):
            await egress.request("GET", url, tenant="t")
    assert len(asked) == 2
    assert b"cookie" not in asked[1].lower()


# What is said of failures


@pytest.mark.parametrize(("spec", "kind"), [("close", "reset"), ("reset", "reset"), ("truncate", "reset")])
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_a_broken_connection_is_a_reset_and_is_asked_only_once(spec, kind, method):
    async with MisbehavingEndpoint(spec) as endpoint, open_egress() as egress:
        error = await failure(egress, method, endpoint.url)
        assert (error.kind, error.sent) == (kind, True)
        assert len(endpoint.received) == 1


async def test_what_fails_before_the_request_is_not_sent():
    with Listener() as gone:
        port = gone.port
    async with open_egress({"none.test": []}) as egress:
        kinds = [
            (await failure(egress, "POST", f"http://127.0.0.1:{port}/"), "connect"),
            (await failure(egress, "POST", "http://unknown.test/"), "dns"),
            (await failure(egress, "POST", "http://none.test/"), "dns"),
        ]
    for error, kind in kinds:
        assert (error.kind, error.sent) == (kind, False)


@pytest.mark.parametrize(
    "field",
    [("a b", "x"), ("", "x"), ("x", "a\r\nb: c"), ("x", "a\0"), ("x", "\ud800"), ("Host", "other"), ("Content-Length", "1"), ("transfer-encoding", "chunked")],
)  # fmt: skip
async def test_a_header_that_could_change_the_request_is_refused(field):
    async with MisbehavingEndpoint() as endpoint, open_egress() as egress:
        error = await failure(egress, "POST", endpoint.url, headers=[field])
        assert (error.kind, error.sent) == ("bad_header", False)
        assert endpoint.accepted == 0


async def test_a_client_that_is_not_open_says_so():
    error = await failure(Egress(Runtime(), any_loopback_port=True), "GET", "http://127.0.0.1:9/")
    assert "open" in str(error)


async def test_the_request_arrives_as_it_was_given():
    body = bytes(range(256)) * 5000
    async with MisbehavingEndpoint() as endpoint, open_egress({"hooks.test": ["127.0.0.1"]}) as egress:
        url = f"http://hooks.test:{endpoint.port}/a%2Fb?c=d%20e"
        reply = await egress.request("POST", url, headers={"webhook-id": "msg_1", "X-Note": "wért"}, body=body, tenant="t")
        one = endpoint.received[0]
    assert (reply.status, reply.peer) == (200, "127.0.0.1")
    assert (one.method, one.path, one.body) == ("POST", "/a%2Fb?c=d%20e", body)
    assert one.headers["host"] == f"hooks.test:{endpoint.port}"
    assert one.headers["webhook-id"] == "msg_1"


async def test_a_connection_is_kept_alive():
    async with MisbehavingEndpoint() as endpoint, open_egress() as egress:
        for _ in range(20):
            await egress.request("POST", endpoint.url, body=b"x", tenant="t")
        assert endpoint.accepted == 1


async def test_an_answer_that_nobody_asked_for_is_given_to_nobody():
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b"
    clients = []

    async def serve(reader, writer):
        clients.append(writer)
        with suppress(ConnectionError):
            while await reader.read(65536):
                writer.write(answer % (6, b"honest"))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server, open_egress() as egress:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        assert (await egress.request("GET", url, tenant="t")).body == b"honest"
        clients[0].write(answer % (6, b"planted"[:6]))
        async with asyncio.timeout(30):
            while not clients[0].is_closing():
                await asyncio.sleep(0)
        assert (await egress.request("GET", url, tenant="t")).body == b"honest"
        assert len(clients) == 2


# TLS


async def test_https_uses_the_urls_name_for_sni_certificate_and_host(tmp_path):
    certificates = Certificates(tmp_path, "hooks.test")
    async with certificates.server() as (port, seen), open_egress({"hooks.test": ["127.0.0.1"]}, tls=certificates.trust()) as egress:
        reply = await egress.request("GET", f"https://hooks.test:{port}/", tenant="t")
    assert reply.status == 200
    assert seen["sni"] == ["hooks.test"]
    assert f"host: hooks.test:{port}".encode() in seen["head"][0].lower()


@pytest.mark.parametrize("case", ["another name", "unknown authority"])
async def test_a_certificate_that_does_not_fit_is_a_tls_error_and_nothing_is_sent(tmp_path, case):
    certificates = Certificates(tmp_path, "hooks.test")
    tls = certificates.trust() if case == "another name" else None
    name = "other.test" if case == "another name" else "hooks.test"
    async with certificates.server() as (port, seen), open_egress({name: ["127.0.0.1"]}, tls=tls) as egress:
        error = await failure(egress, "POST", f"https://{name}:{port}/", body=b"secret")
    assert (error.kind, error.sent) == ("tls", False)
    assert seen["head"] == []


# Look-ups


async def test_a_name_server_that_never_answers_for_one_name_delays_no_other():
    async with (
        NameServer({"alive.test": ["127.0.0.1"]}, silent={"dead.test"}) as server,
        MisbehavingEndpoint() as endpoint,
        open_egress(resolver=AresResolver([server.address])) as egress,
    ):
        dead = [asyncio.create_task(failure(egress, "POST", f"http://dead.test:{endpoint.port}/")) for _ in range(20)]
        await asyncio.sleep(0)
        reply = await egress.request("POST", f"http://alive.test:{endpoint.port}/", tenant="t")
        assert reply.status == 200
        assert not any(each.done() for each in dead)
        async with asyncio.timeout(30):  # not twenty look-ups of two seconds, one after the other
            errors = await asyncio.gather(*dead)
        assert {(error.kind, error.sent) for error in errors} == {("dns_timeout", False)}


async def test_a_tenant_has_four_look_ups_at_once_and_another_tenant_does_not_wait_for_them():
    resolver = FixedNames({"free.test": ["127.0.0.1"]}, held=True)
    async with MisbehavingEndpoint() as endpoint, open_egress(resolver=resolver) as egress:
        asking = [asyncio.create_task(failure(egress, "GET", f"http://held-{n % 6}.test/", tenant="greedy")) for n in range(30)]
        async with asyncio.timeout(30):
            while resolver.waiting < 4:
                await asyncio.sleep(0)
        reply = await egress.request("GET", f"http://free.test:{endpoint.port}/", tenant="modest")
        assert reply.status == 200
        assert resolver.waiting == 4
        resolver.release()
        assert {error.kind for error in await asyncio.gather(*asking)} == {"dns"}
        assert resolver.most_waiting == 4
        assert len(resolver.asked) == 7  # each name once, however many wait for it


async def test_a_waiter_that_gives_up_does_not_end_the_look_up_of_the_others():
    resolver = FixedNames({"shared.test": ["127.0.0.1"]}, held=True, free=())
    async with MisbehavingEndpoint() as endpoint, open_egress(resolver=resolver) as egress:
        url = f"http://shared.test:{endpoint.port}/"
        first = asyncio.create_task(egress.request("GET", url, tenant="t"))
        second = asyncio.create_task(egress.request("GET", url, tenant="t"))
        async with asyncio.timeout(30):
            while not resolver.waiting:
                await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        resolver.release()
        assert (await second).status == 200
