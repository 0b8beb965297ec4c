"""Sends messages over plain sockets and writes down when each was sent, answered, and under which id it was accepted.

    python load_generator.py < plan.json

A process of its own, so that its work is not the server's, and cheap, because it shares two cores with it. The plan:
`targets` ([host, port] each, taken in turn), `paths` (the same), `key`, `batch` (messages a request; 0 posts one message
as an object), `messages`, `connections`, `rate` (messages/s; 0: each connection sends as soon as it was answered), `out`.

With a rate, a request counts as sent when it was due, not when a connection was free: a server that falls behind
cannot slow the clock that judges it. Each line of `out` is `[sent_us, answered_us, status, ids]`.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httptools
import uvloop

ID = re.compile(rb'"id":\s*"(msg_[0-9a-zA-Z]+)"')
MESSAGE = (
    b'{"eventType":"invoice.paid","payload":{"id":"in_%08d","object":"invoice","customer":"cus_9s6XKzkNRiz8i3",'
    b'"amount_paid":1999,"currency":"eur","lines":[{"description":"Pro plan, monthly","quantity":1,"amount":1999}],'
    b'"metadata":{"region":"eu-west-1","note":"a payload of a usual size"}}}'
)
HEAD = b"POST %s HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"


class Plan:
    """What is left to send, and what came of it."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.targets = plan["targets"]
        self.connections = plan["connections"]
        self.out = Path(plan["out"])
        self.answers: list[tuple[int, int, int, bytes]] = []
        self._paths = plan["paths"]
        self._key = plan["key"]
        self._batch = plan["batch"]
        self._size = max(1, plan["batch"])
        self._requests = plan["messages"] // self._size
        self._every_s = self._size / plan["rate"] if plan["rate"] else 0.0
        self._began = time.time()
        self._numbers = iter(range(self._requests))

    def requests(self) -> Iterator[tuple[float, bytes]]:
        """(due, bytes) of each request, shared by all connections."""
        for number in self._numbers:
            yield self._began + number * self._every_s if self._every_s else 0.0, self._render(number)

    def done(self) -> bool:
        """Whether everything was answered."""
        return len(self.answers) == self._requests

    def write(self) -> None:
        """Save what was seen."""
        with self.out.open("w", encoding="utf-8") as file:
            for sent_us, answered_us, status, body in self.answers:
                ids = [found.decode() for found in ID.findall(body)]
                file.write(json.dumps([sent_us, answered_us, status, ids]) + "\n")

    def _render(self, number: int) -> bytes:
        first = number * self._size
        body = b",".join(MESSAGE % each for each in range(first, first + self._size))
        if self._batch:
            body = b"[" + body + b"]"
        path = self._paths[number % len(self._paths)].encode()
        return HEAD % (path, self._key.encode(), len(body)) + body


class Client(asyncio.Protocol):
    """One connection: one request at a time."""

    def __init__(self, plan: Plan, over: asyncio.Event) -> None:
        self._plan = plan
        self._over = over
        self._requests = plan.requests()
        self._parser = httptools.HttpResponseParser(self)
        self._sent = 0.0
        self._body = b""

    def connection_made(self, transport) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        answer = (int(self._sent * 1e6), int(time.time() * 1e6), self._parser.get_status_code(), self._body)
        self._plan.answers.append(answer)
        self._parser, self._body = httptools.HttpResponseParser(self), b""
        if self._plan.done():
            self._over.set()
        self._next()

    def connection_lost(self, _: Exception | None) -> None:
        self._over.set()

    def _next(self) -> None:
        due, request = next(self._requests, (0.0, b""))
        if not request:
            return
        wait_s = due - time.time()
        if wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s, self._send, due, request)
        else:
            self._send(due or time.time(), request)

    def _send(self, due: float, request: bytes) -> None:
        self._sent = due
        self._transport.write(request)


async def main() -> None:
    plan = Plan(json.load(sys.stdin))
    over = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in range(plan.connections):
        host, port = plan.targets[number % len(plan.targets)]
        await loop.create_connection(lambda: Client(plan, over), host, port)
    await over.wait()
    plan.write()


if __name__ == "__main__":
    uvloop.run(main())
