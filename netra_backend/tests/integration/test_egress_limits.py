"""What a receiver can make the outgoing client read, keep and hold: counted, whatever it streams and whether it reads or not."""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress

import psutil
import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.resilience import egress as client
from netra_backend.resilience.egress import MAX_HEAD_BYTES, Egress, EgressError
from netra_backend.resilience.exchange import Exchange
from netra_backend.resilience.metering import MAX_BEFORE_HEAD, wire_limit
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.tests.integration.egress_fixtures import Listener

READ_LIMIT = 10_000
ONE_READ = 256 * 1024
"""What the event loop takes from a socket at once; a limit is noticed at the end of a read."""
FLOODS = {
    "endless": 200,
    "chunk-storm": 200,
    "extension-storm": 200,
    "headers-flood": "protocol",
    "continue-storm": "protocol",
    "garbage": "protocol",
}
TRICKLES = {"slow-headers": "timeout", "drip": "timeout", "hang": "timeout"}
BODY = b"x" * 8_000_000


@pytest.fixture
def exchanges(monkeypatch):
    """Every exchange of the test, which counts what arrived on the wire."""
    made = []

    def exchange(*facts):
        made.append(Exchange(*facts))
        return made[-1]

    monkeypatch.setattr(client, "Exchange", exchange)
    return made


@pytest.mark.parametrize(("spec", "expected"), (FLOODS | TRICKLES).items())
async def test_whatever_a_receiver_streams_the_bytes_read_and_kept_are_bounded(exchanges, spec, expected):
    async with MisbehavingEndpoint(spec, keep=False) as endpoint, Egress(Runtime(), any_loopback_port=True) as egress:
        for _ in range(5):
            timeout_s = 0.2 if spec in TRICKLES else 10
            try:
                reply = await egress.request("POST", endpoint.url, tenant="t", read_limit=READ_LIMIT, timeout_s=timeout_s)
            except EgressError as error:
                assert error.kind == expected
            else:
                assert reply.status == expected
                assert len(reply.body) <= READ_LIMIT
                assert sum(len(name) + len(value) for name, value in reply.headers) <= MAX_HEAD_BYTES
        assert await within(lambda: endpoint.open_connections == 0)
    assert len(exchanges) == 5
    for exchange in exchanges:
        most = wire_limit(READ_LIMIT) if exchange.phase == "body" else MAX_BEFORE_HEAD
        assert exchange.arrived <= most + ONE_READ


async def test_a_receiver_that_never_reads_keeps_neither_socket_nor_body_past_the_deadline():
    with Listener("127.0.0.1") as deaf:
        async with Egress(Runtime(), any_loopback_port=True) as egress:
            for _ in range(5):
                with pytest.raises(EgressError) as caught:
                    await egress.request("POST", f"http://127.0.0.1:{deaf.port}/", body=BODY, tenant="t", timeout_s=0.1)
                assert caught.value.kind == "timeout"
            assert await within(lambda: sockets_to(deaf.port) == 0), "sockets wait for a receiver that will not read"


async def test_a_receiver_that_answers_and_then_stops_reading_keeps_neither_socket_nor_body():
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)

        async def answer_unread():
            accepted, _ = await loop.sock_accept(listening)
            await loop.sock_recv(accepted, 1000)
            await loop.sock_sendall(accepted, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            return accepted

        async with Egress(Runtime(), any_loopback_port=True) as egress:
            port = listening.getsockname()[1]
            receiver = asyncio.create_task(answer_unread())
            reply = await egress.request("POST", f"http://127.0.0.1:{port}/", body=BODY, tenant="t")
            assert reply.status == 200
            with await receiver:
                assert await within(lambda: sockets_to(port) == 0), "the socket waits for a receiver that will not read"


def sockets_to(port):
    """How many of this process's sockets are connected to that port."""
    return sum(1 for each in psutil.Process().net_connections("tcp") if each.raddr and each.raddr.port == port)


async def within(condition, *, s=5.0):
    """Whether it came true before the time was over."""
    with suppress(TimeoutError):
        async with asyncio.timeout(s):
            while not condition():
                await asyncio.sleep(0)
    return condition()
