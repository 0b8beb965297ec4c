"""Connections to PostgreSQL: one pool for work, one connection for heartbeats, which must never wait behind work.

Nothing of a session outlives a transaction (`set local` only), so that a pooler in transaction mode may stand between; it
needs `postgres_statement_cache=0` unless it follows prepared statements. asyncpg's own reset on release would cost a round trip
for what we never do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from ..errors import Unavailable
from .postgres_errors import opening, translated

CONNECT_S: Final = 5.0


class Connections:
    """See the module's docstring."""

    def __init__(self, url: str, size: int, statement_cache: int) -> None:
        self._url = url
        self._statement_cache = statement_cache
        self._work = self._pool(size)
        self._beats = self._pool(1)

    async def open(self) -> None:
        """Ready the pools; a first connection shows that the server can be reached."""
        with opening(self._url):
            await self._work
            await self._beats
            await self._work.release(await self._work.acquire())

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
            return await asyncpg.connect(self._url, **self._options())
        except Exception as error:
            raise _unavailable(error) from error

    def _pool(self, size: int) -> asyncpg.Pool:
        options = self._options()
        return asyncpg.create_pool(self._url, min_size=0, max_size=size, reset=_nothing, max_inactive_connection_lifetime=60, **options)

    def _options(self) -> dict[str, Any]:
        settings = {"application_name": "netra"}
        return {"statement_cache_size": self._statement_cache, "timeout": CONNECT_S, "server_settings": settings}


async def _nothing(_: asyncpg.Connection) -> None:
    return


def _unavailable(error: Exception) -> Exception:
    found = translated(error)
    return found if isinstance(found, Unavailable) else Unavailable(f"no connection to the database: {error}")
