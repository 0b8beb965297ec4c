"""`Tx` over a SQLite connection on the thread that owns it: nothing here ever suspends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..errors import Unavailable, UsageError
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from .errors import Corrupt, Interrupted
from .sqlite_drivers import Connection
from .statements import PIECE, Row, Statement
from .transaction import Emission, StoreFunction, Tx


class SqliteTx(Tx):
    """A transaction that stays failed once a statement failed.

    A store function that swallowed an error must not go on in a transaction that the engine may have rolled back,
    where each further statement would commit by itself. So each one raises the first error again.
    """

    __slots__ = ("connection", "failed")

    def __init__(self, connection: Connection, scope: Scope, runtime: Runtime, *, own: bool = True) -> None:
        super().__init__(scope, runtime, own=own)
        self.connection = connection
        self.failed: Exception | None = None

    async def all(self, statement: Statement, **params: Any) -> list[Row]:
        """See `Tx.all`."""
        return self.run(statement, params)

    async def execute(self, statement: Statement, **params: Any) -> int:
        """See `Tx.execute`."""
        if statement.in_pieces and len(rows := params[next(iter(statement.tables))]) >= PIECE:
            return self._insert(statement, params, rows)
        self.run(statement, params)
        return self.connection.changes()

    async def attempt(self, fn: StoreFunction, *args: Any) -> Exception | None:
        """See `Tx.attempt`. Errors that may have rolled back everything are told by the connection itself."""
        self.require_whole()
        kept = self._keep()
        self.connection.run("savepoint netra_attempt")
        try:
            await fn(self, *args)
            self.require_whole()
        except Exception as error:
            if isinstance(error, Unavailable | Corrupt | Interrupted) or not self.connection.in_transaction():
                raise
            self.failed = None
            self._go_back_to(kept)
            self.connection.run("rollback to netra_attempt")
            self.connection.run("release netra_attempt")
            return error
        self.connection.run("release netra_attempt")
        return None

    def run(self, statement: Statement, params: dict[str, Any]) -> list[Row]:
        """Bind and run one statement."""
        self.require_whole()
        try:
            return self.connection.run(statement.sqlite, statement.bind_sqlite(self._bound(statement, params)))
        except Exception as error:
            self.failed = error
            raise

    def _insert(self, statement: Statement, params: dict[str, Any], rows: Sequence[Row]) -> int:
        """A long list piece by piece; the transaction's savepoint makes one of them."""
        self.require_whole()
        inserted, table = 0, next(iter(statement.tables))
        bound = self._bound(statement, params)
        whole = len(rows) - len(rows) % PIECE
        try:
            for start in range(0, whole, PIECE):
                self.connection.run(statement.in_pieces, statement.bind_piece(bound, rows[start : start + PIECE]))
                inserted += self.connection.changes()
        except Exception as refused:
            self.failed = refused
            raise
        if whole < len(rows):
            self.run(statement, {**params, table: rows[whole:]})
            inserted += self.connection.changes()
        return inserted

    def changes(self) -> int:
        """Rows changed by the last statement."""
        return self.connection.changes()

    def require_whole(self) -> None:
        """Raise the error of a statement that the function swallowed: what it did is not what it meant to do."""
        if self.failed is not None:
            raise self.failed

    def end(self) -> None:
        """Refuse every later statement: one that escapes with its `tx` would commit by itself, on a thread of its own."""
        self.failed = UsageError("this transaction is over", fix="Do not keep `tx` beyond the function that was given it.")

    def emissions(self) -> list[Emission]:
        """What this transaction has put on streams."""
        return self._emissions

    def callbacks(self) -> list[Callable[[], None]]:
        """What runs after the commit."""
        return self._after_commit
