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
from .. import tenants
from ..errors import DatabaseBusy
from ..sqlite import Sqlite
from ..statements import parse
from .errors import BeginImmediate, OtherDatabase
from .transaction import SAVEPOINT, AdoptedTx

S: Final = parse("""-- name: files
pragma database_list;
-- name: patience
pragma busy_timeout;
-- name: marked
select value from netra_meta where name = 'adopted_for';
-- name: mark
insert into netra_meta (name, value) values ('adopted_for', :value) on conflict (name) do update set value = excluded.value;
""")
MARK: Final = "adopted_for"

BUSY_SNAPSHOT: Final = 517
"""SQLITE_BUSY_SNAPSHOT, an extended result code."""

TAKE_LOCK: Final = "update netra_probe set count = count where id = 0"
"""Writes nothing and takes the write lock; a library that begins by itself does so ahead of it."""


class SqliteAdoptedTx(AdoptedTx):
    """See the module's docstring."""

    _began = False

    def __init__(self, *arguments: Any, database: Sqlite) -> None:
        super().__init__(*arguments)
        self._database = database

    async def _check_engine(self) -> None:
        if self.driver.engine != "sqlite":
            raise OtherDatabase("it is PostgreSQL's, and Netra's is SQLite's")
        if self._database.driver != "sqlite3":
            raise TwoSqliteLibraries("Netra has this file open through apsw, your connection is the interpreter's sqlite3")
        file = next(file for _, name, file in await self._rows(S["files"]) if name == "main")
        if not _is_same(file, self._database.path):
            raise OtherDatabase(f"it has {file or 'a database in memory'} open, Netra has {self._database.path}")

    async def _enter(self) -> None:
        self._require_transaction()
        self._began = not self._is_open()
        try:
            await self._take_lock()
            await self._control(f"savepoint {SAVEPOINT}")
        except BaseException:
            await self._unbegin()
            raise

    async def _take_lock(self) -> None:
        """Or find out for certain that it cannot be had, however busy everybody else is meanwhile.

        One that has read is not made to wait by SQLite: it is told BUSY at once while another holds the lock, and
        BUSY_SNAPSHOT once that one has committed.
        """
        ends = self.runtime.clock.monotonic() + (await self._rows(S["patience"]))[0][0] / 1000
        while True:
            if not self._began:
                self._database.commit_something()
            try:
                await self._control(TAKE_LOCK)
            except DatabaseBusy as error:
                if error.facts.get("sqlite_code") == BUSY_SNAPSHOT:
                    raise BeginImmediate from error
                if self._began or self.runtime.clock.monotonic() >= ends:
                    raise
            else:
                return
            await self.driver.pause()

    async def _act(self) -> None:
        """Nothing: SQLite has no roles."""

    async def _undo(self) -> None:
        if not self._is_open():
            return  # a full disk or an I/O error has rolled back everything, the savepoint too
        await self._control(f"rollback to {SAVEPOINT}")
        await self._control(f"release {SAVEPOINT}")
        await self._unbegin()

    async def _unbegin(self) -> None:
        """Where the caller's library has begun for this verb alone, which has failed: give the write lock back."""
        if not self._began:
            return
        await self._rows(S["files"])  # what was cancelled on another thread is over once this is
        if self._is_open():
            await self._control("rollback")

    async def _leave(self) -> None:
        await self._control(f"release {SAVEPOINT}")

    async def _find(self, reference: str) -> str | None:
        found = await tenants.find(self, reference)
        return found.tenant if found is not None else None

    async def _mark(self) -> str:
        """A row that this transaction changes first: whoever has the write lock alone may have changed it since the last commit."""
        rows = await self._rows(S["marked"])
        if rows and rows[0][0] != self._database.committed(MARK):
            return str(rows[0][0].partition(" ")[2])
        await self._rows(S["mark"], value=f"{self.new_id().hex()} {self.tenant}")
        return self.tenant


def _is_same(file: str, path: Path) -> bool:
    """Whether both are one file, under whatever names; a database in memory has none."""
    return bool(file) and Path(file).exists() and path.samefile(file)
