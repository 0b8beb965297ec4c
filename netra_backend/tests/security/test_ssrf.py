"""W7: no request reaches a denied address. The verdict is what stands at the doors: listeners that nobody may reach, and every connect().

The corpus is tried directly, as names, as targets of redirects and by rebinding, in the default configuration except
that the listeners' own port is open, so that nothing but the judgement of addresses stands before them. Where a test cannot
listen (10.0.0.1) the verdict is that nothing tried to connect; `connects` sees that below everything of ours.
"""

from __future__ import annotations

import socket
from ipaddress import ip_address

from netra_backend.kernel.runtime import Runtime
from netra_backend.resilience import pinning
from netra_backend.resilience.address_table import DENIED
from netra_backend.resilience.addresses import canonical, denying_row
from netra_backend.resilience.egress import Egress
from netra_backend.resilience.look_ups import AresResolver
from netra_backend.testing.name_server import NameServer

from ..integration.egress_fixtures import Listener
from ..support.connects import connects
from ..support.ssrf_corpus import URLS, rows
from .ssrf_fixtures import ALLOWED, STATUSES, Doors, EveryName, Fence, named, once, outcome, pointing_to, server, while_quiet

ROWS = rows()
ADDRESSES = list(dict.fromkeys(canonical(row.address) for row in ROWS))
REFUSED = {"egress_denied", "bad_url"}
CLOSED_PORTS = [1, 7, 19, 21, 22, 23, 25, 53, 81, 110, 111, 143, 389, 444, 445, 465, 587, 873, 1433, 2049, 2375, 2379, 3306, 3389, 4194, 5000, 5432,
                5672, 5984, 6379, 6443, 7001, 8000, 8080, 8443, 8500, 9000, 9090, 9200, 10250, 11211, 15672, 27017, 50070, 65535]  # fmt: skip


def test_the_corpus_is_large_and_meets_every_row_of_the_table():
    assert len({row.host for row in ROWS}) == len(ROWS)
    assert len(ROWS) >= 200
    assert len(ADDRESSES) >= 200
    assert [row.network for row in DENIED if row not in {denying_row(ip_address(address)) for address in ADDRESSES}] == []


# That nothing is reached


async def test_no_spelling_of_an_inside_address_is_reached():
    with Listener() as forbidden, connects() as seen:
        names, got = EveryName(), {}
        async with Egress(Runtime(), ports=[forbidden.port], resolver=names) as egress:
            for row in while_quiet(seen, ROWS):
                names.addresses = (row.address,)
                got[row.host] = await outcome(egress, f"http://{row.host}:{forbidden.port}/")
        Doors(seen, forbidden).judge()
        assert set(got.values()) == REFUSED, got


async def test_no_spelling_is_reached_by_a_client_without_any_setting():
    with connects() as seen:
        names, got = EveryName(), {}
        async with Egress(Runtime(), resolver=names) as egress:
            for row in while_quiet(seen, ROWS):
                names.addresses = (row.address,)
                for scheme in ("http", "https"):
                    got[scheme, row.host] = await outcome(egress, f"{scheme}://{row.host}/")
        Doors(seen).judge()
        assert set(got.values()) == REFUSED, got


async def test_no_url_that_readers_read_differently_is_reached():
    with Listener() as forbidden, connects() as seen:
        async with Egress(Runtime(), ports=[80, 443, forbidden.port], resolver=EveryName("127.0.0.1")) as egress:
            got = {url: await outcome(egress, url.format(port=forbidden.port)) for url in while_quiet(seen, URLS)}
        Doors(seen, forbidden).judge()
        assert set(got.values()) == REFUSED, got


async def test_no_name_of_an_inside_address_is_reached_alone_or_beside_public_ones():
    names = named(ADDRESSES)
    with Listener() as forbidden, connects() as seen:
        async with (
            NameServer(names) as name_server,
            Egress(Runtime(), ports=[forbidden.port], resolver=AresResolver([name_server.address])) as egress,
        ):
            got = {name: await outcome(egress, f"http://{name}:{forbidden.port}/") for name in while_quiet(seen, names)}
        Doors(seen, forbidden).judge()
        assert {name: names[name] for name, kind in got.items() if kind != "egress_denied"} == {}


async def test_an_answer_that_only_a_c_library_takes_for_an_address_is_none():
    with Listener() as forbidden, connects() as seen:
        names, got = EveryName(), {}
        async with Egress(Runtime(), ports=[forbidden.port], resolver=names) as egress:
            for row in while_quiet(seen, ROWS):
                names.addresses = (row.host.strip("[]"),)
                got[row.host] = await outcome(egress, f"http://name.test:{forbidden.port}/")
        Doors(seen, forbidden).judge()
        assert set(got.values()) == {"egress_denied", "dns"}, got


async def test_names_that_resolve_oddly_lead_nowhere_inside():
    aliases = {"alias.test": "inside.test", "far.test": "alias.test", "dangling.test": "nowhere.test", "round.test": "about.test", "about.test": "round.test",
               "self.test": "self.test", "local.test": "localhost"}  # fmt: skip
    names = {
        "inside.test": ["127.0.0.1"],
        "empty.test": [],
        "both.test": ["8.8.8.8", "::1"],
        "many.test": [f"10.0.{n}.1" for n in range(200)],
        "twice.test": ["127.0.0.1"] * 9,
    }
    expected = dict.fromkeys(["alias.test", "far.test", "inside.test", "both.test", "many.test", "twice.test"], "egress_denied")
    expected |= dict.fromkeys(["empty.test", "dangling.test", "round.test", "about.test", "self.test", "local.test"], "dns")
    with Listener() as forbidden, connects() as seen:
        async with (
            NameServer(names, aliases=aliases) as name_server,
            Egress(Runtime(), ports=[forbidden.port], resolver=AresResolver([name_server.address])) as egress,
        ):
            got = {name: await outcome(egress, f"http://{name}:{forbidden.port}/") for name in while_quiet(seen, expected)}
        Doors(seen, forbidden).judge()
        assert got == expected


async def test_a_redirect_of_any_kind_to_any_of_them_is_an_answer_and_nothing_more():
    with Listener() as forbidden, connects() as seen:
        hosts = [row.host for row in ROWS if row.host.isprintable()]  # what a field cannot hold is no answer at all
        targets = [f"http://{host}:{forbidden.port}/" for host in hosts] + [f"//{host}:{forbidden.port}/" for host in hosts]
        async with (
            server(pointing_to(targets)) as (port, asked),
            Egress(Runtime(), allow=[f"{ALLOWED}/32"], ports=[port, forbidden.port], resolver=EveryName("127.0.0.1")) as egress,
        ):
            tried = [(each, n) for n in range(len(targets)) for each in (302, STATUSES[n % len(STATUSES)])]
            got = [await outcome(egress, f"http://{ALLOWED}:{port}/{each}/{n}", method="GET") for each, n in tried]
        Doors(seen, forbidden).judge((ALLOWED, port))
        assert got == [each for each, _ in tried]
        assert len(asked) == len(tried) >= 2000


async def test_a_redirect_is_not_followed_even_to_where_a_request_may_go():
    targets = []
    with connects() as seen:
        async with server(once) as (elsewhere, reached), server(pointing_to(targets)) as (port, asked):
            targets.append(f"http://{ALLOWED}:{elsewhere}/")
            async with Egress(Runtime(), allow=[f"{ALLOWED}/32"], ports=[port, elsewhere]) as egress:
                tried = [(status, method) for status in STATUSES for method in ("GET", "POST", "HEAD")]
                got = [await outcome(egress, f"http://{ALLOWED}:{port}/{each}/0", method=method) for each, method in tried]
                assert reached == [], "the redirect was followed"
                Doors(seen).judge((ALLOWED, port))
                assert got == [status for status, _ in tried]
                assert await outcome(egress, targets[0]) == 200
        assert (len(asked), len(reached)) == (len(tried), 1)


async def test_a_name_that_turns_inside_is_reached_neither_by_the_same_request_nor_by_the_next():
    with Fence() as fence, connects() as seen:
        names, got = EveryName(), {}
        async with (
            server(once, port=fence.port) as (port, asked),
            Egress(Runtime(), allow=[f"{ALLOWED}/32"], ports=[port], resolver=names) as egress,
        ):
            url = f"http://turning.test:{port}/"
            for address in ADDRESSES:
                names.turns, names.addresses = [[ALLOWED]], (address,)
                got[address] = [await outcome(egress, url), names.asked, await outcome(egress, url)]
                names.asked = 0
        Doors(seen, fence).judge((ALLOWED, port))
        assert got == {address: [200, 1, "egress_denied"] for address in ADDRESSES}
        assert len(asked) == len(seen) == len(ADDRESSES)


async def test_the_next_address_is_taken_from_the_answer_that_was_judged():
    with Fence() as fence, connects() as seen:
        names = EveryName("127.0.0.1", turns=[["127.0.0.4", ALLOWED]])
        async with (
            server(once, port=fence.port) as (port, _),
            Egress(Runtime(), allow=[f"{ALLOWED}/32", "127.0.0.4/32"], ports=[port], resolver=names) as egress,
        ):
            got = await outcome(egress, f"http://turning.test:{port}/")
        Doors(seen, fence).judge(("127.0.0.4", port), (ALLOWED, port))
        assert (got, names.asked) == (200, 1)


async def test_of_a_long_answer_only_eight_addresses_are_judged_and_tried():
    answers = [f"2606:4700::{n:x}" for n in range(4000)]
    with connects() as seen:
        async with Egress(Runtime(), resolver=EveryName(*answers, *ADDRESSES)) as egress:
            assert await outcome(egress, "http://long.test/") == "connect"
        Doors(seen).judge(*((canonical(address), 80) for address in answers[:8]))
        assert len(seen) <= 8 + 7 + 6 + 5 + 4 + 3 + 2 + 1


async def test_a_connection_that_ends_elsewhere_gets_no_byte_of_the_request(monkeypatch):
    """A firewall's redirection, a bug below us: the socket stands, and its peer is not the judged one."""

    class Diverted(socket.socket):
        def connect(self, address):
            super().connect((ALLOWED, address[1]))

    real = pinning.pinned_socket
    monkeypatch.setattr(pinning, "pinned_socket", lambda info: Diverted(fileno=real(info).detach()))
    async with server(once) as (port, asked), Egress(Runtime(), allow=["127.0.0.0/8"], ports=[port]) as egress:
        assert await outcome(egress, f"http://{ALLOWED}:{port}/") == 200
        assert len(asked) == 1
        assert await outcome(egress, f"http://127.0.0.1:{port}/") == "egress_denied", "the request went to whoever was there"
        assert len(asked) == 1


async def test_no_port_but_80_and_443_is_tried_and_no_name_is_looked_up_for_one():
    with connects() as seen:
        names = EveryName("8.8.8.8")
        async with Egress(Runtime(), resolver=names) as egress:
            tried = [f"http://{host}:{port}/" for port in CLOSED_PORTS for host in ("outside.test", "8.8.8.8", "[2606:4700::1111]")]
            got = {url: await outcome(egress, url) for url in while_quiet(seen, tried)}
        Doors(seen).judge()
        assert set(got.values()) == {"egress_denied"}, got
        assert names.asked == 0


# That the doors would have noticed


async def test_what_the_operator_allows_is_reached_in_every_spelling_that_is_read():
    got, names = [], EveryName()
    with connects() as seen:
        async with (
            server(once, everywhere=True) as (port, asked),
            Egress(Runtime(), allow=["0.0.0.0/0", "::/0"], ports=[port], resolver=names) as egress,
        ):
            for row in ROWS:
                names.addresses = (row.address,)
                before = len(seen)
                got.append(await outcome(egress, f"http://{row.host}:{port}/"))
                tried = [] if got[-1] == "bad_url" else [(canonical(row.address), port)]
                assert [(canonical(address), at) for address, at in seen[before:]] == tried, row
    assert set(got) == {200, "connect", "bad_url", "egress_denied"}
    connected_elsewhere = {canonical(row.address) for row, kind in zip(ROWS, got, strict=True) if kind == "egress_denied"}
    assert connected_elsewhere <= {"0.0.0.0", "::", "::ffff:0:0"}  # the kernel takes them for loopback, whose address is not the judged one
    assert len({address for address, _ in seen}) >= 200
    assert got.count(200) == len(asked) >= 20
