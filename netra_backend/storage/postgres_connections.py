"""Connections to PostgreSQL: one pool for work, one connection for heartbeats, which must never wait behind work.

Nothing of a session outlives a transaction (`set local` only), so that a pooler in transaction mode may stand between; it
needs `postgres_statement_cache=0` unless it follows prepared statements. asyncpg's own reset on release would cost a round trip
for what we never do.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from ..errors import Unavailable
from .postgres_errors import translated

CONNECT_S: Final = 5.0
SILENT_S: Final = 10
_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": SILENT_S // 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": SILENT_S // 2, "TCP_USER_TIMEOUT": SILENT_S * 1000}
"""tcp(7): idle time, interval and number of probes, and how long sent data may stay unacknowledged (milliseconds)."""


class Connections:
    """See the module's docstring."""

    def __init__(self, url: str, size: int, statement_cache: int) -> None:
        self._url = url
        self._statement_cache = statement_cache
        self._work = self._pool(size)
        self._beats = self._pool(1)

    async def open(self) -> None:
        """Ready the pools; a first connection shows that the server can be reached."""
        try:
            await self._work
            await self._beats
        except Exception as error:
            raise translated(error) from error
        async with self.one():
            pass

    async def close(self) -> None:
        """Close every connection, those in use at once."""
        self._work.terminate()
        self._beats.terminate()

    @asynccontextmanager
    async def one(self, *, urgent: bool = False) -> AsyncIterator[asyncpg.Connection]:
        """A connection, waited for where all are in use."""
        pool = self._beats if urgent else self._work
        try:
            connection = await pool.acquire()
        except Exception as error:
            raise _unavailable(error) from error
        try:
            yield connection
        finally:
            await pool.release(connection)

    async def alone(self) -> asyncpg.Connection:
        """A connection of its own, for whoever keeps it."""
        try:
            connection = await asyncpg.connect(self._url, **self._options())
            await _notice_silence(connection)
            return connection
        except Exception as error:
            raise _unavailable(error) from error

    def _pool(self, size: int) -> asyncpg.Pool:
        options = self._options()
        more = {"init": _notice_silence, "reset": _nothing, "max_inactive_connection_lifetime": 60}
        return asyncpg.create_pool(self._url, min_size=0, max_size=size, **more, **options)

    def _options(self) -> dict[str, Any]:
        settings = {"application_name": "netra"}
        return {"statement_cache_size": self._statement_cache, "timeout": CONNECT_S, "server_settings": settings}


async def _notice_silence(connection: asyncpg.Connection) -> None:
    """End a connection whose other side has gone without a word (a host that lost its power, a cut cable) in `SILENT_S`.

    TCP alone would wait for hours; the server's own time-outs cannot reach us then.
    """
    wire = connection._transport.get_extra_info("socket")  # noqa: SLF001  (asyncpg gives no other access to its socket)
    if wire is None or wire.family == socket.AF_UNIX:
        return
    wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE.items():
        if hasattr(socket, option):
            wire.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


async def _nothing(_: asyncpg.Connection) -> None:
    return


def _unavailable(error: Exception) -> Exception:
    found = translated(error)
    return found if isinstance(found, Unavailable) else Unavailable(f"no connection to the database: {error}")
