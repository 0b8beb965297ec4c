"""psycopg's connections, synchronous and asynchronous. psycopg itself is there already: the caller's connection is its."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, Literal

from ...errors import NetraError
from ..errors import DatabaseUnreachable
from ..postgres_errors import state_of, translated
from ..statements import Row, Statement
from .driver import Driver
from .errors import TransactionFailed

_IDLE: Final = 0
_INTRANS: Final = 2
_INERROR: Final = 3
"""libpq's PGTransactionStatusType (PostgreSQL's manual, "Connection Status Functions")."""


class PsycopgConnection(Driver):
    """A `psycopg.Connection`."""

    recipe = "with connection.transaction():"

    @property
    def engine(self) -> Literal["postgresql"]:
        """See `Driver.engine`."""
        return "postgresql"

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._tuples = import_module("psycopg.rows").tuple_row
        self._lost = import_module("psycopg").OperationalError

    @property
    def connection(self) -> Any:
        """See `Driver.connection`."""
        return self._connection

    def in_transaction(self) -> bool:
        """See `Driver.in_transaction`."""
        if self._connection.closed:
            raise DatabaseUnreachable("this connection is closed")
        status = self._connection.info.transaction_status
        if status == _INERROR:
            raise TransactionFailed
        return bool(status == _INTRANS)

    def begins_by_itself(self) -> bool:
        """See `Driver.begins_by_itself`: psycopg does, unless it is told to commit each statement."""
        return not self._connection.autocommit and self._connection.info.transaction_status == _IDLE

    async def control(self, sql: str) -> None:
        """See `Driver.control`."""
        with self._cursor("Cursor") as cursor:
            cursor.execute(sql)

    async def all(self, statement: Statement, bound: Mapping[str, Any]) -> list[Row]:
        """See `Driver.all`."""
        with self._cursor("Cursor") as cursor:
            cursor.execute(statement.pyformat, statement.bind_pyformat(bound))
            rows: list[Row] = cursor.fetchall() if cursor.description else []
            return rows

    async def execute(self, statement: Statement, bound: Mapping[str, Any]) -> int:
        """See `Driver.execute`."""
        with self._cursor("Cursor") as cursor:
            cursor.execute(statement.pyformat, statement.bind_pyformat(bound))
            return max(0, int(cursor.rowcount))

    def translated(self, error: Exception) -> NetraError:
        """See `Driver.translated`: an OperationalError that the server did not send is the connection's end."""
        lost = isinstance(error, self._lost) and not state_of(error)
        return DatabaseUnreachable(f"{DatabaseUnreachable.__doc__} ({error})") if lost else translated(error)

    def _cursor(self, kind: str) -> Any:
        """A plain cursor, whatever factories the caller has set; parameters are sent apart from the text."""
        return getattr(import_module("psycopg"), kind)(self._connection, row_factory=self._tuples)


class AsyncPsycopgConnection(PsycopgConnection):
    """A `psycopg.AsyncConnection`."""

    asynchronous = True
    recipe = "async with connection.transaction():"

    async def control(self, sql: str) -> None:
        """See `Driver.control`."""
        async with self._cursor("AsyncCursor") as cursor:
            await cursor.execute(sql)

    async def all(self, statement: Statement, bound: Mapping[str, Any]) -> list[Row]:
        """See `Driver.all`."""
        async with self._cursor("AsyncCursor") as cursor:
            await cursor.execute(statement.pyformat, statement.bind_pyformat(bound))
            rows: list[Row] = await cursor.fetchall() if cursor.description else []
            return rows

    async def execute(self, statement: Statement, bound: Mapping[str, Any]) -> int:
        """See `Driver.execute`."""
        async with self._cursor("AsyncCursor") as cursor:
            await cursor.execute(statement.pyformat, statement.bind_pyformat(bound))
            return max(0, int(cursor.rowcount))
