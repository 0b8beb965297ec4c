"""Connections to PostgreSQL: one pool for work, one connection for heartbeats, which must never wait behind work.

Nothing of a session outlives a transaction (`set local` only), so that a pooler in transaction mode may stand between; it
needs `postgres_statement_cache=0` unless it follows prepared statements. asyncpg's own reset on release would cost a round trip
for what we never do.

A server that is cut off without a word answers nothing and closes nothing, for a quarter of an hour by TCP's own clock: so each
answer has its time, behind the server's own limits, and a connection that let it pass is given up.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import asyncpg

from ..errors import Unavailable
from .postgres_errors import opening, translated

CONNECT_S: Final = 5.0
SILENT_S: Final = 10
_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": SILENT_S // 2, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": SILENT_S // 2, "TCP_USER_TIMEOUT": SILENT_S * 1000}
"""tcp(7): idle time, interval and number of probes, and how long sent data may stay unacknowledged (milliseconds)."""

_log: Final = logging.getLogger("netra.storage")


class Connections:
    """See the module's docstring. `work_answer_s` and `beat_answer_s` bound each wait for the server's answer."""

    def __init__(self, url: str, size: int, statement_cache: int, *, work_answer_s: float, beat_answer_s: float) -> None:
        self._url = url
        self._statement_cache = statement_cache
        self._work = self._pool(size, work_answer_s)
        self._beats = self._pool(1, beat_answer_s)
        self._out = 0
        self._all_back = asyncio.Event()
        self._all_back.set()

    async def open(self) -> None:
        """Ready the pools; a first connection shows that the server can be reached."""
        with opening(self._url):
            await self._work
            await self._beats
            await self._work.release(await self._work.acquire())

    async def all_back(self) -> None:
        """Wait until nobody uses a connection."""
        await self._all_back.wait()

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
        self._out += 1
        self._all_back.clear()
        try:
            yield connection
        finally:
            await self._give_back(pool, connection)

    async def alone(self) -> asyncpg.Connection:
        """A connection of its own, for whoever keeps it."""
        try:
            connection = await asyncpg.connect(self._url, **self._options())
            await _notice_silence(connection)
            return connection
        except Exception as error:
            raise _unavailable(error) from error

    async def _give_back(self, pool: asyncpg.Pool, connection: asyncpg.Connection) -> None:
        """Never an error of whoever had it: what was committed with it is committed. An open transaction ends with its connection."""
        try:
            if not is_gone(connection) and connection.is_in_transaction():
                give_up(connection)
            await pool.release(connection)
        except Exception as error:  # noqa: BLE001  (the pool has given the connection up)
            _log.warning("a connection to the database ended as it was given back: %s", error)
        finally:
            self._out -= 1
            if not self._out:
                self._all_back.set()

    def _pool(self, size: int, answer_s: float) -> asyncpg.Pool:
        options = {
            **self._options(),
            "min_size": 0,
            "max_size": size,
            "reset": _nothing,
            "init": _notice_silence,
            "command_timeout": answer_s,
        }
        return asyncpg.create_pool(self._url, max_inactive_connection_lifetime=60, **options)

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


def is_gone(connection: asyncpg.Connection) -> bool:
    """Whether it has ended. asyncpg's pool takes such a one away from whoever has it, and then even this question is an error."""
    try:
        return bool(connection.is_closed())
    except asyncpg.InterfaceError:
        return True


def give_up(connection: asyncpg.Connection) -> None:
    """End it at once, and with it its transaction, whatever it is doing."""
    with suppress(asyncpg.InterfaceError):  # as in `is_gone`
        connection.terminate()


async def _nothing(_: asyncpg.Connection) -> None:
    return


def _unavailable(error: Exception) -> Exception:
    found = translated(error)
    return found if isinstance(found, Unavailable) else Unavailable(f"no connection to the database: {error}")
