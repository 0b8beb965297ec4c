"""One HTTP/1.1 answer as it comes in: llhttp's callbacks on one side, a future on the other.

aiohttp makes and keeps the connections (`pinning.py`); what goes over one is written and read here, because its own way
from the socket to an answer costs five times as much as everything that a webhook needs of it. llhttp is the parser
that aiohttp uses too. What holds:

- An answer is a final one: interim answers (RFC 9110, section 15.2) are read over, 101 is an error, for nobody asked.
- At most 128 fields of at most 16 KiB each; at most `limit` bytes of the body. At the limit the answer is complete and
  `truncated`; a success stays a success.
- A body that announces its end and does not come to it is an error. One that ends with the connection (RFC 9112,
  section 6.3) is whole only if the connection ended cleanly.
- The connection may serve another request only if this answer ended by its own framing, with nothing behind it: bytes
  that nobody asked for would be taken for the next answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import httptools

from .egress_error import EgressError
from .exchange import Exchange

MAX_FIELD_BYTES: Final = 16 * 1024
MAX_FIELDS: Final = 128


class Answer:
    """See the module's docstring. Wait for `arrived`: its error is the exchange's. `listen` hears a success's body as it comes."""

    def __init__(self, exchange: Exchange, method: str, limit: int, listen: Callable[[bytes], None] | None = None) -> None:
        self.exchange = exchange
        self.arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.status = 0
        self.fields: list[tuple[bytes, bytes]] = []
        self.body = bytearray()
        self.truncated = False
        self.reusable = False
        self._limit = limit
        self._listen = listen
        self._bodiless = method == "HEAD"
        self._head_is_whole = False
        self._complete = False
        self._framed = False
        self._failure: EgressError | None = None
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """The next bytes of the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail("the receiver switched protocols unasked")
        except httptools.HttpParserError as error:
            self._fail(f"the answer is not HTTP/1.1: {error}")
        self._settle()

    def flooded(self, limit: int) -> None:
        """The receiver has sent more than anybody would: the end of the body, or of everything."""
        if self._head_is_whole:
            self.truncated = True
            self._finish()
            return
        self._fail(f"the receiver sent more than {limit} bytes")
        self._settle()

    def ended(self, error: Exception | None) -> None:
        """The connection is gone."""
        if self._head_is_whole and not self._framed and error is None:
            self._finish()
        elif not self.arrived.done():
            words = "the connection ended before the answer did" if error is None else str(error) or type(error).__name__
            self.arrived.set_exception(EgressError("reset", words, sent=True))

    def close(self) -> None:
        """Let go of the parser, which refers back to this: a cycle for each request would keep the garbage collector busy."""
        del self._parser

    def _settle(self) -> None:
        if self._failure is not None:
            if not self.arrived.done():
                self.arrived.set_exception(self._failure)
        elif self._complete or (self._head_is_whole and self._bodiless):
            self._finish()
        elif self._head_is_whole and len(self.body) >= self._limit:
            self.truncated = True
            self._finish()

    def _finish(self) -> None:
        if len(self.body) > self._limit:
            self.truncated, self.reusable = True, False
            del self.body[self._limit :]
        if not self.arrived.done():
            self.arrived.set_result(None)

    def _fail(self, words: str) -> None:
        """The answer is broken; what stands behind a whole one breaks only the connection."""
        self.reusable = False
        if not self._complete:
            self._failure = self._failure or EgressError("protocol", words, sent=True)

    # llhttp's side; whatever these raise would reach nobody, so they only take notes

    def on_message_begin(self) -> None:
        """An answer begins: the one that is waited for, or one too many."""
        if self._complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field of the head; of a chunked body's trailer, once the head is whole."""
        if len(name) + len(value) > MAX_FIELD_BYTES or len(self.fields) >= MAX_FIELDS:
            self._fail(f"the answer has a field of more than {MAX_FIELD_BYTES} bytes, or more than {MAX_FIELDS} fields")
        elif not self._head_is_whole:
            self.fields.append((name, value))
            self._framed = self._framed or name.lower() in {b"content-length", b"transfer-encoding"}

    def on_headers_complete(self) -> None:
        """The head is whole; an interim one is forgotten at its end."""
        status = self._parser.get_status_code()
        if status == 101:
            self._fail("the receiver switched protocols unasked")
        elif self._parser.get_http_version() not in {"1.1", "1.0"}:
            self._fail("the answer is not HTTP/1.1")
        elif status >= 200 and not self._complete:
            self.status = status
            self._head_is_whole = True
            self.exchange.phase = "body"

    def on_body(self, body: bytes) -> None:
        """A piece of the body. What one read brings beyond the limit is dropped at its end."""
        if not self._complete:
            self.body += body
            if self._listen is not None and 200 <= self.status < 300:
                self._listen(body)

    def on_message_complete(self) -> None:
        """An answer ended by its own framing."""
        if not self._head_is_whole:
            self.fields.clear()
            self._framed = False
            return
        if not self._complete:
            self._complete = True
            self.reusable = self._parser.should_keep_alive()
