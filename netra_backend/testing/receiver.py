"""The HTTP/1.1 side of the misbehaving endpoint: one small protocol over httptools, fast enough never to be the bottleneck.

Order of events for each request: read it whole, check its signature, append it to the ledger, wait until the ledger
is durable, and only then answer (or misbehave). So whatever a sender saw acknowledged stands in the ledger, at any kill.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import cast
from urllib.parse import parse_qs

import httptools
import orjson

from ..kernel.clock import SystemClock
from .behaviours import Behaviour, Plan
from .ledger import Ledger
from .signatures import SignatureCheck

ATTEMPT_HEADER = "netra-attempt"


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came in. `signature_ok` is None where the receiver holds no secret; header names are lower case."""

    at_us: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    signature_ok: bool | None
    status: int | None

    def line(self) -> bytes:
        """The ledger's line: digest instead of body, identifiers instead of headers."""
        tenant, endpoint = _whose(self.path)
        record = {
            "at_us": self.at_us,
            "path": self.path,
            "tenant": tenant,
            "endpoint": endpoint,
            "webhook_id": self.headers.get("webhook-id"),
            "attempt": self.headers.get(ATTEMPT_HEADER),
            "sha256": hashlib.sha256(self.body).hexdigest(),
            "signature_ok": self.signature_ok,
            "status": self.status,
        }
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE)


@lru_cache(maxsize=4096)
def _whose(path: str) -> tuple[str | None, str | None]:
    query = parse_qs(path.partition("?")[2])
    return query.get("tenant", [None])[0], query.get("endpoint", [None])[0]


class Receiver:
    """What all connections share. `keep` holds every request in `received`, bodies included: for tests, not for hours."""

    def __init__(self, behave: Behaviour, check: SignatureCheck, ledger: Ledger, *, keep: bool) -> None:
        self.behave = behave
        self.accepted = 0
        self.seen = 0
        self.received: list[Received] = []
        self.connections: set[Connection] = set()
        self.on_received: Callable[[], None] = _nothing
        self._check = check
        self._ledger = ledger
        self._keep = keep
        self._clock = SystemClock()

    def take(self, method: str, path: str, headers: dict[str, str], body: bytes, act: Callable[[Plan], None]) -> None:
        """Record one request and, once that is durable, do what the behaviour says."""
        plan = self.behave(self.seen)
        self.seen += 1
        now_us = self._clock.wall_us()
        one = Received(now_us, method, path, headers, body, self._check(headers, body, now_us // 1_000_000), plan.status)
        self._ledger.append(one.line(), partial(act, plan))
        if self._keep:
            self.received.append(one)
        self.on_received()


class Connection(asyncio.Protocol):
    """One client. Implements `behaviours.Wire` for the plan, and httptools' callbacks for the parser."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._path = b""
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._pieces: Iterator[bytes] | None = None
        self._every_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._receiver.accepted += 1
        self._receiver.connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of a request; what is not HTTP gets 400."""
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's name)
        """The client has gone, or we have closed."""
        self._transport = self._pieces = None
        self._receiver.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def pause_writing(self) -> None:
        """The client does not read; a stream waits."""
        self._paused = True

    def resume_writing(self) -> None:
        """The client reads again."""
        self._paused = False
        if self._timer is None:
            self._send_pieces()

    # httptools' side

    def on_url(self, url: bytes) -> None:
        """A piece of the request target."""
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One whole field."""
        self._headers[name.lower().decode("latin-1")] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """The request is whole: take it and be ready for the next."""
        path, headers, body = self._path.decode("latin-1"), self._headers, b"".join(self._body)
        self._path, self._headers, self._body = b"", {}, []
        act = partial(self._act, keep_alive=self._parser.should_keep_alive())
        self._receiver.take(self._parser.get_method().decode(), path, headers, body, act)

    # the plan's side

    def _act(self, plan: Plan, *, keep_alive: bool) -> None:
        if self._transport is None:
            return
        plan.act(self)
        if not keep_alive and plan.status is not None and self._pieces is None and self._timer is None:
            self.end()

    def write(self, data: bytes) -> None:
        """See `Wire.write`."""
        if self._transport is not None:
            self._transport.write(data)

    def later(self, delay_s: float, data: bytes) -> None:
        """See `Wire.later`."""
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._late, data)

    def stream(self, pieces: Iterator[bytes], every_s: float = 0.0) -> None:
        """See `Wire.stream`."""
        self._pieces = pieces
        self._every_s = every_s
        self._send_pieces()

    def end(self, *, reset: bool = False) -> None:
        """See `Wire.end`. RST is what the kernel sends when a lingering time of zero is set."""
        if self._transport is None:
            return
        if not reset:
            self._transport.close()
            return
        self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def drop(self) -> None:
        """Forget what was not sent and close."""
        if self._transport is not None:
            self._transport.abort()

    def _late(self, data: bytes) -> None:
        self._timer = None
        self.write(data)

    def _send_pieces(self) -> None:
        """One piece per turn of the loop at most, so that an endless body starves nobody else."""
        self._timer = None
        if self._pieces is None or self._paused or self._transport is None:
            return
        piece = next(self._pieces, None)
        if piece is None:
            self._pieces = None
            return
        self.write(piece)
        self._timer = asyncio.get_running_loop().call_later(self._every_s, self._send_pieces)


def _nothing() -> None:
    return
