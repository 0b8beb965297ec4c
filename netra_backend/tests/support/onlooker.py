"""A test's eyes on its PostgreSQL server: one thread with a loop, and connections that are kept from one look to the next.

A test that waits looks again and again. With a new connection for each look, looking took more of the processor than what was
looked at. Kept are one connection to the server's own database and one to whichever other was looked at twice in a row: two
looks at the same time have one each, and who is cut off looks once more, so that nobody sees the difference.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final

import asyncpg

NAME: Final = "netra-test-onlooker"
"""The connections' name with the server: they are not among those that a test counts or ends."""

OWN: Final = "postgres"
_CUT_OFF: Final = (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError, asyncpg.InterfaceError, OSError)


class Onlooker:
    """See the module's docstring; `url` tells where the superuser finds a database. From any thread."""

    def __init__(self, url: Callable[[str], str]) -> None:
        self._url = url
        self._kept: dict[str, asyncpg.Connection] = {}
        self._last = OWN
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=NAME, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Its result; the caller's thread may have a running loop of its own."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def query(self, database: str, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        return self.run(self._query(database or OWN, sql, arguments))

    def forget(self, database: str = "") -> None:
        """Keep no connection to that database, or none at all."""
        self.run(self._forget([database] if database else [*self._kept]))

    def close(self) -> None:
        """Nobody looks any more."""
        self.forget()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _query(self, database: str, sql: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        kept = self._kept.pop(database, None)  # taken, so that whoever looks meanwhile has another
        if kept is not None and not kept.is_closed():
            try:
                return await self._rows(kept, database, sql, arguments)
            except _CUT_OFF:
                pass
        return await self._rows(await self._connect(database), database, sql, arguments)

    async def _connect(self, database: str) -> asyncpg.Connection:
        known = {"application_name": NAME}
        return await asyncpg.connect(self._url(database), timeout=10, statement_cache_size=0, server_settings=known)

    async def _rows(self, connection: asyncpg.Connection, database: str, sql: str, arguments: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            rows = await connection.fetch(sql, *arguments)
        except BaseException:
            connection.terminate()
            raise
        self._keep(connection, database)
        return [tuple(row) for row in rows]

    def _keep(self, connection: asyncpg.Connection, database: str) -> None:
        if database != OWN:
            again, self._last = database == self._last, database
            for each in self._kept.keys() - {OWN, database}:
                self._kept.pop(each).terminate()
            if not again:  # most databases are looked at once, and are soon to be dropped
                connection.terminate()
                return
        if (other := self._kept.get(database)) is not None:
            other.terminate()
        self._kept[database] = connection

    async def _forget(self, databases: Any) -> None:
        for database in databases:
            if (connection := self._kept.pop(database, None)) is not None:
                connection.terminate()
