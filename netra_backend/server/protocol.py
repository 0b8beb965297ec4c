"""uvicorn's HTTP/1.1 protocol with bounds that ASGI comes too late for: the size of the head, and the time for head and body.

A head has 64 KiB and 100 headers (431), and 10 s from its first byte; a connection that sends nothing for as long is
closed. A body has 30 s for each MiB that has arrived, and 30 s at least (408): a slow reader of a large body may go on
as long as it makes 35 KiB/s, one byte a second may not. Whoever takes an answer has the same time: a client that reads
nothing would hold in our memory what it has asked for, as often as it likes. What would let two parsers disagree on where
a request ends (both Content-Length and Transfer-Encoding, a folded header, a bare carriage return) is refused by llhttp,
which is strict.

Nobody is upgraded to another protocol. llhttp takes what follows a head that asks for it (`Upgrade: h2c`, as Java's client does by itself)
for bytes of that protocol, and the body then for a request of its own: smuggling behind a proxy that hands the header on. So a
request is read once more without the wish, which a server may ignore (RFC 9110 section 7.8).

One timer per connection looks at its deadline and is moved only when it fires, so a request costs no timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from typing import Final

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

HEAD_BYTES: Final = 64 * 1024
HEADERS: Final = 100
HEAD_S: Final = 10.0
BODY_S: Final = 30.0
BODY_BYTES: Final = 1024 * 1024
"""`BODY_S` is the time for as many bytes."""

_REASONS: Final = {
    400: (b"malformed_request", b"this is not HTTP/1.1 as RFC 9112 has it"),
    408: (b"request_timeout", b"the request did not arrive in time"),
    431: (b"head_too_large", b"the head of a request has at most 64 KiB and 100 headers"),
}


class _RefusedError(Exception):
    """Stops the parser; the status stands in the protocol."""


class CappedProtocol(HttpToolsProtocol):
    """See the module's docstring."""

    head_s = HEAD_S
    body_s = BODY_S

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._status = 400
        self._begin()
        self._timer: asyncio.TimerHandle | None = self.loop.call_at(self._since + self.head_s, self._look)
        self._answer_timer: asyncio.TimerHandle | None = None

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._end_answer_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """More of an answer is here than the client has room for: the time to take it begins."""
        super().pause_writing()
        self._end_answer_timer()
        self._begin_answer_timer()

    def resume_writing(self) -> None:
        """It was taken."""
        super().resume_writing()
        self._end_answer_timer()

    def data_received(self, data: bytes) -> None:
        """Feed the parser, and count what it holds back: it keeps an endless header without a word."""
        if self.transport.is_closing():
            return
        if not self._waiting:
            self._begin()
        in_head = self._begun and self._in_head
        self._unset_keepalive_if_required()
        self._feed(data)
        if in_head and self._in_head and not self.transport.is_closing():
            self._held_back += len(data)
            if self._held_back > HEAD_BYTES:
                self._status = 431
                self.send_400_response("")

    def _feed(self, data: bytes) -> None:
        rest = memoryview(data)  # a thousand requests may stand in one read: no copy for each
        try:
            while rest:
                rest = self._read(rest)
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("")

    def _read(self, data: memoryview) -> memoryview:
        """Parse, and give back what stands behind a head that asks for another protocol: there the parser stops."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_head_again()
            return data[upgrade.args[0] :]
        return data[:0]

    def _read_head_again(self) -> None:
        """The head that was just read, without its wish for another protocol."""
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        self._fields = self._head_bytes = 0
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
        lines = [b"%b %b HTTP/%b" % (method, self.url, version), *(b"%b: %b" % each for each in _without_upgrade(self.headers))]
        self.parser.feed_data(b"\r\n".join([*lines, b"", b""]))

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        super().on_message_begin()
        if not self._waiting:  # one more request in the same read
            self._begin()
        self._begun = True

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header."""
        self._fields += 1
        self._count(len(name) + len(value) + 4)  # and a colon, a space, an end of line
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: the body's time begins."""
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise _RefusedError
            return  # it comes once more: `_read_head_again`
        self._in_head = False
        self._since = self.loop.time()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """More bytes, more time."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole; its answer takes the time it takes."""
        if self.parser.should_upgrade():
            return
        self._waiting = False
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what the parser or these bounds refuse, and close. The parser's own words are for its developers."""
        del msg
        if self._may_answer():
            code, detail = _REASONS[self._status]
            body = b'{"code":"%s","detail":"%s"}' % (code, detail)
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[self._status] + head + body)
        cycle = self._latest()
        if cycle is not None and not cycle.response_complete:
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.close()

    def _may_answer(self) -> bool:
        """Whether an answer to the request that is coming in would stand in its place on the wire."""
        cycle = self._latest()
        if cycle is None:
            return True
        return cycle.response_complete if self._in_head else not cycle.response_started and not self.pipeline

    def _latest(self) -> RequestResponseCycle | None:
        """The request whose head was complete last, if there was one; uvicorn's own type leaves the None out."""
        return self.cycle

    def _begin(self) -> None:
        self._waiting = True
        self._begun = False
        self._in_head = True
        self._since = self.loop.time()
        self._head_bytes = self._held_back = self._fields = self._body_bytes = 0

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES or self._fields > HEADERS:
            self._status = 431
            raise _RefusedError

    def _look(self) -> None:
        """End the connection if its deadline has passed, else look again then."""
        now = self.loop.time()
        deadline = self._deadline(now)
        if now < deadline:
            self._timer = self.loop.call_at(deadline, self._look)
            return
        self._timer = None
        self._status = 408
        if self._begun:
            self.send_400_response("")
        else:
            self.transport.close()  # nothing of a request has come: there is nobody to tell

    def _begin_answer_timer(self) -> None:
        self._left = self.transport.get_write_buffer_size()
        self._answer_timer = self.loop.call_later(self.body_s, self._look_at_answer)

    def _end_answer_timer(self) -> None:
        if self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None

    def _look_at_answer(self) -> None:
        """Cut off a client that took less than `BODY_BYTES` in its time, and not all that there was."""
        if self._left - self.transport.get_write_buffer_size() < BODY_BYTES:
            self.transport.abort()
        else:
            self._begin_answer_timer()

    def _deadline(self, now: float) -> float:
        if not self._waiting:
            return now + self.head_s
        if not self._in_head:
            return self._since + self.body_s * max(1.0, self._body_bytes / BODY_BYTES)
        cycle = self._latest()
        if cycle is not None and not cycle.response_complete:
            return now + self.head_s  # an earlier request is being answered; this one's turn has not come
        return self._since + self.head_s


def _without_upgrade(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The headers, save `Upgrade` and its word in `Connection`."""
    for name, value in headers:
        if name == b"connection":
            yield name, b", ".join(word for word in map(bytes.strip, value.split(b",")) if word.lower() != b"upgrade")
        elif name != b"upgrade":
            yield name, value


def protocol_class(**bounds: float) -> type[CappedProtocol]:
    """The protocol with other deadlines (`head_s`, `body_s`): for tests, which have no ten seconds."""
    return type("CappedProtocol", (CappedProtocol,), dict(bounds))
