"""Where a browser comes back to while `netra oauth connect` waits without a server: a listener on this host (RFC 8252 section 7.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Self
from urllib.parse import parse_qsl, urlsplit

from ...errors import NetraError

PATH: Final = "/oauth/callback"
MOST_BYTES: Final = 64 * 1024
READ_S: Final = 10.0


class Callback:
    """`async with Callback(finish) as callback: callback.url`. `finish` is given what the provider sends the user back with."""

    def __init__(self, finish: Callable[[Mapping[str, str]], Awaitable[Any]]) -> None:
        self._finish = finish

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=MOST_BYTES)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    @property
    def url(self) -> str:
        """The address to come back to; its port is the system's choice."""
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}{PATH}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(READ_S):
                head = await reader.readuntil(b"\r\n\r\n")
            status, words = await self._answer(head.split(b"\r\n", 1)[0].decode("latin-1"))
            body = words.encode()
            writer.write(f"HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {len(body)}\r\n".encode())
            writer.write(b"cache-control: no-store\r\nconnection: close\r\n\r\n" + body)
            await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return  # not a browser, or one that is gone
        finally:
            writer.close()

    async def _answer(self, line: str) -> tuple[str, str]:
        """Status and words for one request line."""
        method, _, rest = line.partition(" ")
        place = urlsplit(rest.partition(" ")[0])
        given = parse_qsl(place.query, keep_blank_values=True)
        if method != "GET" or place.path != PATH:
            return "404 Not Found", "There is nothing here."
        if len(dict(given)) != len(given):
            return "400 Bad Request", "A parameter stands twice."
        try:
            await self._finish(dict(given))
        except NetraError as error:
            return f"{error.status} Refused", f"Not connected: {error.detail}. You can close this page and try again."
        return "200 OK", "Connected. You can close this page."
