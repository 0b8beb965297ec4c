"""The interpreter's `sqlite3.Connection`, and `aiosqlite`'s, which runs one on a thread."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Mapping
from typing import Any, Final, Literal

from ...errors import NetraError
from ..sqlite_drivers import translated_sqlite3
from ..statements import Row, Statement
from .driver import Driver

CHANGES: Final = "select changes()"
PAUSE_S: Final = 0.001
LEGACY: Final = -1
"""`sqlite3.LEGACY_TRANSACTION_CONTROL`: before Python 3.12 there is no other way."""


class SqliteConnection(Driver):
    """A connection of the caller's thread."""

    recipe = 'connection.execute("begin immediate"), and connection.commit() at the end.'

    @property
    def engine(self) -> Literal["sqlite"]:
        """See `Driver.engine`."""
        return "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    @property
    def connection(self) -> sqlite3.Connection:
        """See `Driver.connection`."""
        return self._connection

    def in_transaction(self) -> bool:
        """See `Driver.in_transaction`."""
        return self._connection.in_transaction

    def begins_by_itself(self) -> bool:
        """See `Driver.begins_by_itself`: with `isolation_level=None`, or `autocommit=True`, it never does."""
        return self._connection.isolation_level is not None and getattr(self._connection, "autocommit", LEGACY) == LEGACY

    async def pause(self) -> None:
        """See `Driver.pause`."""
        time.sleep(PAUSE_S)  # noqa: ASYNC251  (a synchronous kind waits in its caller's thread, and never suspends)

    async def control(self, sql: str) -> None:
        """See `Driver.control`."""
        run(self._connection, sql, {})

    async def all(self, statement: Statement, bound: Mapping[str, Any]) -> list[Row]:
        """See `Driver.all`."""
        return run(self._connection, statement.sqlite, statement.bind_sqlite(bound))

    async def execute(self, statement: Statement, bound: Mapping[str, Any]) -> int:
        """See `Driver.execute`."""
        return changed(self._connection, statement, bound)

    def translated(self, error: Exception) -> NetraError:
        """See `Driver.translated`."""
        return translated_sqlite3(error)


class AioSqliteConnection(SqliteConnection):
    """A connection of `aiosqlite`: the same, run on its thread."""

    asynchronous = True
    recipe = 'await connection.execute("begin immediate"), and await connection.commit() at the end.'

    def __init__(self, wrapper: Any) -> None:
        super().__init__(wrapper._conn)  # noqa: SLF001  (the one name under which it keeps the connection)
        self._wrapper = wrapper

    async def pause(self) -> None:
        """See `Driver.pause`."""
        await asyncio.sleep(PAUSE_S)

    async def control(self, sql: str) -> None:
        """See `Driver.control`."""
        await self._wrapper._execute(run, self._connection, sql, {})  # noqa: SLF001  (how its own methods reach its thread)

    async def all(self, statement: Statement, bound: Mapping[str, Any]) -> list[Row]:
        """See `Driver.all`."""
        found: list[Row] = await self._wrapper._execute(run, self._connection, statement.sqlite, statement.bind_sqlite(bound))  # noqa: SLF001
        return found

    async def execute(self, statement: Statement, bound: Mapping[str, Any]) -> int:
        """See `Driver.execute`."""
        found: int = await self._wrapper._execute(changed, self._connection, statement, bound)  # noqa: SLF001
        return found


def run(connection: sqlite3.Connection, sql: str, params: Mapping[str, Any]) -> list[Row]:
    """One statement's rows as tuples of `str`, whatever factories the caller has set."""
    factory, connection.text_factory = connection.text_factory, str
    try:
        cursor = connection.cursor()
        cursor.row_factory = None
        try:
            return cursor.execute(sql, params).fetchall()
        finally:
            cursor.close()
    finally:
        connection.text_factory = factory


def changed(connection: sqlite3.Connection, statement: Statement, bound: Mapping[str, Any]) -> int:
    """Run it and ask SQLite itself: `rowcount` is wrong for `returning` before 3.12."""
    run(connection, statement.sqlite, statement.bind_sqlite(bound))
    return int(run(connection, CHANGES, {})[0][0])
