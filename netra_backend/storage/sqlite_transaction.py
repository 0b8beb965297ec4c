"""`Tx` over a SQLite connection on the thread that owns it: nothing here ever suspends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import UsageError
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from .sqlite_drivers import Connection
from .statements import Row, Statement
from .transaction import Emission, Tx


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
        self.run(statement, params)
        return self.connection.changes()

    def run(self, statement: Statement, params: dict[str, Any]) -> list[Row]:
        """Bind and run one statement."""
        self.require_whole()
        try:
            return self.connection.run(statement.sqlite, statement.bind_sqlite(self._bound(statement, params)))
        except Exception as error:
            self.failed = error
            raise

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
