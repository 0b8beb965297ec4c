"""Bytes counted on the wire, because what a peer can make us parse is more than what we keep.

Two floods pass every limit on heads and bodies: interim answers (`100 Continue` without end; RFC 9110, section 15.2,
sets no number) and chunk extensions (RFC 9112, section 7.1.1), which are bytes of a body that is not there. Measured
before this page stood: a peer on loopback held the event loop for 2.9 s at a time, through the deadline, and 140 MB of
memory.

So the kernel's receive buffer is small, which bounds what one turn of the loop can be made to parse (a read that does
not fill libuv's or asyncio's own buffer ends the turn), and the meter ends a connection that has sent too much:
256 KiB before its answer's head was seen, or that plus eight times the read limit in all. It also ends a connection
that speaks while nobody asks, for those bytes would be taken for the answer to the next request.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from .addresses import canonical
from .answer import Answer

RECEIVE_BUFFER_BYTES: Final = 16 * 1024
MAX_BEFORE_HEAD: Final = 256 * 1024


def wire_limit(read_limit: int) -> int:
    """How many bytes one exchange may bring in all: room for every honest framing of `read_limit` bytes of body."""
    return MAX_BEFORE_HEAD + 8 * read_limit


class Meter(asyncio.Protocol):
    """Stands between the transport and aiohttp's protocol, which only keeps the connection, for the connection's life.

    `peer` is the socket's own peer, address and port. It is read once, for a connected socket keeps it.
    """

    def __init__(self, transport: asyncio.Transport, inner: asyncio.Protocol) -> None:
        name = transport.get_extra_info("peername")
        self.peer: tuple[str, int] | None = (canonical(name[0]), name[1]) if name else None
        self._transport = transport
        self._inner = inner
        self._answer: Answer | None = None

    @classmethod
    def on(cls, transport: asyncio.Transport) -> Meter:
        """The connection's meter."""
        meter = transport.get_protocol()
        if not isinstance(meter, cls):
            meter = cls(transport, cast("asyncio.Protocol", meter))
            transport.set_protocol(meter)
        return meter

    async def ask(self, request: bytes, answer: Answer) -> None:
        """Write a whole request and wait for its answer."""
        self._answer = answer
        self._transport.write(request)
        try:
            await answer.arrived
        finally:
            self._answer = None
            answer.close()
        if self._transport.get_write_buffer_size():  # answered before it was read: the rest would begin the next request
            answer.reusable = False

    def data_received(self, data: bytes) -> None:
        """Count and pass on, or end the connection; what arrives after that is dropped."""
        answer = self._answer
        if answer is None or answer.arrived.done():
            self._transport.abort()
            return
        exchange = answer.exchange
        exchange.arrived += len(data)
        limit = MAX_BEFORE_HEAD if exchange.phase == "answer" else exchange.wire_limit
        if exchange.arrived <= limit:
            answer.feed(data)
        else:
            answer.flooded(limit)
            self._transport.abort()

    def eof_received(self) -> bool | None:
        """Passed on."""
        return self._inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Passed on, and told to whoever waits for an answer."""
        self._inner.connection_lost(exc)
        if self._answer is not None:
            self._answer.ended(exc)

    def pause_writing(self) -> None:
        """Passed on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Passed on."""
        self._inner.resume_writing()
