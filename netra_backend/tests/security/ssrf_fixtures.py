"""Names that answer as an attacker's do, and endpoints that point elsewhere."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack, asynccontextmanager, closing, suppress
from itertools import count

from netra_backend.resilience.egress import EgressError

from ..integration.egress_fixtures import Listener

ALLOWED = "127.0.0.2"
"""Stands for a public address: the one that the rules of a test allow."""
ENVIRONS = ["127.0.0.1", "127.0.0.53", "127.0.1.1", "127.127.127.127", "127.255.255.254", "::1"]
STATUSES = [300, 301, 302, 303, 305, 307, 308, 200, 201, 401, 407, 421, 503]


class EveryName:
    """A resolver for which every name has the same addresses; `turns` are the answers to the next questions, before that."""

    def __init__(self, *addresses, turns=()):
        self.addresses = addresses
        self.turns = list(turns)
        self.asked = 0

    async def look_up(self, name):
        self.asked += 1
        return self.turns.pop(0) if self.turns else self.addresses

    async def close(self):
        pass


class Fence:
    """Forbidden listeners on one port of every loopback address that is not the allowed one, `::1` included."""

    def __init__(self):
        self._stack = ExitStack()
        self._listeners = []
        self.port = 0

    def __enter__(self):
        for host in ENVIRONS:
            self._listeners.append(self._stack.enter_context(Listener(host, port=self.port)))
            self.port = self._listeners[0].port
        return self

    def __exit__(self, *_):
        self._stack.close()

    def accepted(self):
        return sum(listener.accepted() for listener in self._listeners)


class Doors:
    """The verdict: nobody stood at a forbidden listener, and nothing of this process tried to connect but to `expected`."""

    def __init__(self, seen, *forbidden):
        self._seen = seen
        self._forbidden = forbidden

    def judge(self, *expected):
        reached = sum(listener.accepted() for listener in self._forbidden)
        assert reached == 0, f"{reached} connections stood at a forbidden listener"
        assert set(self._seen) == set(expected), "a connection was tried"


def while_quiet(seen, items):
    """The items, until something tried to connect: then the verdict stands, and the rest would only wait at silent listeners."""
    for item in items:
        if seen:
            return
        yield item


async def outcome(egress, url, *, method="POST", timeout_s=5):
    """The kind of failure, or the status; `sent` after the kind of a failure that has sent something."""
    try:
        return (await egress.request(method, url, tenant="t", timeout_s=timeout_s)).status
    except EgressError as error:
        assert error.fix, url
        return f"{error.kind}, sent" if error.sent else error.kind


@asynccontextmanager
async def server(answer, *, port=0, everywhere=False):
    """Answers each request on the allowed address (or on all) by `answer(head)`; yields its port and what it was sent."""
    asked, serving = [], {}

    async def serve(reader, writer):
        serving[asyncio.current_task()] = writer
        with suppress(asyncio.IncompleteReadError, ConnectionError), closing(writer):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                asked.append(head)
                writer.write(answer(head))

    door = (
        socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        if everywhere
        else socket.create_server((ALLOWED, port))
    )
    async with await asyncio.start_server(serve, sock=door):
        yield door.getsockname()[1], asked
        for writer in serving.values():
            writer.transport.abort()
        await asyncio.gather(*serving)


def once(_):
    """A success after which the connection is closed."""
    return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def pointing_to(targets):
    """An answer for `/status/number` that points to the numbered target in every way that some client has followed."""

    def answer(head):
        status, number = head.split()[1].decode().strip("/").split("/")
        to = targets[int(number)].encode()
        page = b'<meta http-equiv="refresh" content="0; url=%b"><base href="%b">' % (to, to)
        fields = [
            b"location: " + to, b"refresh: 0; url=" + to, b"content-location: " + to, b"link: <" + to + b">; rel=canonical",
            b'alt-svc: h2="' + to + b'", http/1.1="' + to + b'"', b"proxy-authenticate: Basic", b"content-type: text/html", b"content-length: %d" % len(page),
        ]  # fmt: skip
        return b"HTTP/1.1 %b Look Elsewhere\r\n" % status.encode() + b"\r\n".join(fields) + b"\r\n\r\n" + page

    return answer


def named(addresses):
    """A name for each, as a name server has them: alone, and beside public addresses in either order."""
    numbers = count()
    names = {}
    for address in addresses:
        for answers in ([address], ["8.8.8.8", address], [address, "2606:4700::1111"]):
            names[f"n{next(numbers)}.test"] = answers
    return names
