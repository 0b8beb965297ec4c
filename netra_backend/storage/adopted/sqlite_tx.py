"""Adopted transactions on SQLite.

A transaction that has read before it wrote cannot become a writer once anybody else has committed (BUSY_SNAPSHOT: 99 % of
them beside 300 commits a second, measured). That would fail at the caller's, by chance, under load. So it is made certain: where
the caller does not hold the write lock yet, we commit something on a connection of our own, and one that had read is refused
each time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ...errors import TwoSqliteLibraries
from ..errors import DatabaseBusy
from ..sqlite import Sqlite
from .errors import BeginImmediate, NoTransaction, OtherDatabase
from .sqlite_connection import run
from .transaction import SAVEPOINT, AdoptedTx

BUSY_SNAPSHOT: Final = 517
"""SQLITE_BUSY_SNAPSHOT, an extended result code."""

TAKE_LOCK: Final = "update netra_probe set count = count where id = 0"
"""Writes nothing and takes the write lock; a library that begins by itself does so ahead of it."""


class SqliteAdoptedTx(AdoptedTx):
    """See the module's docstring."""

    def __init__(self, *arguments: Any, database: Sqlite, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._database = database

    def _check_engine(self) -> None:
        if self.driver.engine != "sqlite":
            raise OtherDatabase
        if self._database.driver != "sqlite3":
            raise TwoSqliteLibraries("Netra has this file open through apsw, your connection is the interpreter's sqlite3")
        if self._file() != self._database.path.resolve():
            raise OtherDatabase(f"it has {self._file()} open, Netra has {self._database.path}")

    async def _enter(self) -> None:
        if self.driver.in_transaction():
            self._database.commit_something()
        elif not self.driver.begins_by_itself():
            raise NoTransaction
        try:
            await self._control(TAKE_LOCK)
        except DatabaseBusy as error:
            if error.facts.get("sqlite_code") == BUSY_SNAPSHOT:
                raise BeginImmediate from error
            raise
        await self._control(f"savepoint {SAVEPOINT}")

    async def _undo(self) -> None:
        if not self.driver.in_transaction():
            return  # a full disk or an I/O error has rolled back everything, the savepoint too
        await self._control(f"rollback to {SAVEPOINT}")
        await self._control(f"release {SAVEPOINT}")

    async def _leave(self) -> None:
        await self._control(f"release {SAVEPOINT}")

    def _file(self) -> Path:
        rows = run(self.driver.connection, "pragma database_list", {})
        return Path(next(file for _, name, file in rows if name == "main")).resolve()
