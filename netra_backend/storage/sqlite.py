"""SQLite as Netra's embedded engine: WAL, `synchronous=FULL`, one writer thread, a few readers, own checkpoints.

`FULL` is not a taste: with `NORMAL` a power cut loses acknowledged commits (4 % over 15 real cuts, measured; `FULL`
none). `wal_autocheckpoint=0` leaves checkpoints to `sqlite_housekeeping`.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from ..errors import CannotStart, ForkedRuntime
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope, system_scope
from .database import Lane
from .errors import DatabaseBusy
from .held import HeldTransaction
from .jobs import BatchVerb, Job, run_callbacks
from .migrate import Migration, check_sqlite, migrate_sqlite
from .nesting import open_transaction, refuse_nested
from .sqlite_drivers import Connection, DriverName, connect
from .sqlite_housekeeping import RESTART_BYTES, Housekeeping
from .sqlite_presence import lock_dir_of, present
from .sqlite_readers import SqliteReaders
from .sqlite_restore import interrupted_restore
from .sqlite_writer import SqliteWriter
from .statements import Row, Statements
from .transaction import StoreFunction, Tx

Q = Statements(__package__)
ASK_AGAIN_S: Final = 0.02
_SYSTEM: Final = system_scope()


class Sqlite:
    """An open SQLite file; see `database.Database`. `lock_dir` is shared by every process that uses the file."""

    engine = "sqlite"

    def __init__(
        self,
        path: Path,
        runtime: Runtime,
        *,
        driver: DriverName,
        blocked_after_s: float = 5.0,
        transaction_timeout_s: float = 5.0,
        disk_reserve_bytes: int = 64 * 1024 * 1024,
        migrate: bool = True,
        synchronous: str = "full",
        vfs: str | None = None,
    ) -> None:
        self.path = path.absolute()
        self.driver: DriverName = driver
        self.lock_dir = lock_dir_of(self.path)
        self._runtime = runtime
        self._blocked_after_s = blocked_after_s
        self._transaction_timeout_s = transaction_timeout_s
        self._disk_reserve_bytes = disk_reserve_bytes
        self._migrate = migrate
        self._synchronous = synchronous
        self._vfs = vfs
        self._pid = os.getpid()
        self._watch: Connection | None = None
        self._touch: Connection | None = None
        self._touching = threading.Lock()
        self._presence = ExitStack()
        self.on_unknown_outcome: list[Callable[[], None]] = []
        self.on_wake: list[Callable[[], None]] = []
        self.on_notice: list[Callable[[], None]] = []

    async def open(self) -> None:
        """Claim the file for one SQLite library, migrate it, and start the threads."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._presence.enter_context(present(self.path, self.driver))
        if interrupted := interrupted_restore(self.path):
            self._runtime.log.warning("%s", interrupted)
        try:
            await asyncio.to_thread(self._prepare)
            self._watch = self._connect()
            self._writer = SqliteWriter(self._connect, self.path, self._runtime, blocked_after_s=self._blocked_after_s)
            self._writer.on_unknown_outcome = self.on_unknown_outcome
            self._writer.start()
        except BaseException:
            self._stop_watching()
            self._presence.close()
            raise
        self._readers = SqliteReaders(self._connect, self._runtime)
        self._housekeeping = Housekeeping(self._connect, self.path, self.lock_dir, self._disk_reserve_bytes)
        self._housekeeping.start()

    async def close(self) -> None:
        """Let waiting writes finish, then close every connection."""
        await asyncio.to_thread(self._writer.stop)
        await asyncio.to_thread(self._readers.close)
        await asyncio.to_thread(self._housekeeping.stop)
        self._stop_watching()
        self._presence.close()

    def migrate(self) -> list[Migration]:
        """Apply what is missing, on the calling thread; `open` does it unless told otherwise."""
        connection = self._connect(block_s=self._blocked_after_s)
        try:
            return migrate_sqlite(connection, self._runtime.clock.wall_us())
        finally:
            connection.close()

    async def write(self, fn: StoreFunction, *args: Any, scope: Scope, lane: Lane = "normal") -> Any:
        """See `Database.write`."""
        return await self._submit(fn, args, scope, lane)

    async def write_item(self, verb: BatchVerb, item: Any, *, weight: int = 1) -> Any:
        """See `Database.write_item`."""
        return await self._submit(verb, (item,), _SYSTEM, "normal", weight=weight)

    async def read(self, fn: StoreFunction, *args: Any, scope: Scope) -> Any:
        """See `Database.read`."""
        self._check_process()
        return await self._readers.read(fn, args, scope)

    @asynccontextmanager
    async def transaction(self, scope: Scope) -> AsyncIterator[Tx]:
        """See `Database.transaction` and `held.py`."""
        self._check_process()
        refuse_nested()
        self._writer.refuse()
        held = HeldTransaction(scope, self._runtime, self._transaction_timeout_s)
        self._writer.hold(held)
        tx = await held.begun()
        token = open_transaction.set(held)
        try:
            yield tx
        except BaseException:
            await asyncio.shield(held.rollback())
            run_callbacks(tx.undone())
            raise
        else:
            await asyncio.shield(held.commit(tx))
        finally:
            open_transaction.reset(token)

    def bear(self, node: bytes) -> None:
        """Nothing to do: the lock names its holder, and ends with its process (see `lock_holder`)."""

    def check_intake(self) -> None:
        """See `Database.check_intake`."""
        self._check_process()
        self._writer.refuse()
        if self._housekeeping.disk_full is not None:
            raise self._housekeeping.disk_full.with_traceback(None)

    def version(self) -> int:
        """See `Database.version`: SQLite's `data_version`, a few microseconds and no I/O."""
        return int(self._watch.run("pragma data_version")[0][0]) if self._watch is not None else 0

    def commit_something(self) -> None:
        """Commit a row that means nothing, unless somebody has the write lock just now: then there is nothing to find out.

        A transaction of another connection that has read before can never write after this (see `adopted.sqlite_tx`).
        """
        with self._beside() as connection:
            try:
                connection.run("begin immediate")
            except DatabaseBusy:
                return
            connection.run(Q.probe.sqlite)
            connection.run("commit")

    def committed(self, name: str) -> str | None:
        """A fact of the installation as it was last committed, whatever an open transaction makes of it. Any thread."""
        with self._beside() as connection:
            rows = connection.run(Q.get_meta.sqlite, {"name": name})
        return str(rows[0][0]) if rows else None

    @contextmanager
    def _beside(self) -> Iterator[Connection]:
        """A connection for whoever is not the writer, one at a time."""
        with self._touching:
            if self._touch is None:
                self._touch = self._connect()
                self._touch.run("pragma synchronous = off")  # a power cut may take what it commits: that means nothing
            yield self._touch

    def look_again(self) -> None:
        """See `Database.look_again`."""
        for wake in (*self.on_notice, *self.on_wake):
            wake()

    @property
    def writer(self) -> SqliteWriter:
        """The writer, for its figures (`commits`, `held_max_s`)."""
        return self._writer

    async def _submit(self, fn: StoreFunction, args: tuple[Any, ...], scope: Scope, lane: Lane, *, weight: int = 0) -> Any:
        self._check_process()
        refuse_nested()
        self._writer.refuse()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._writer.submit(Job(fn, args, scope, loop, future, weight), lane)
        return await future

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedRuntime

    def _prepare(self) -> None:
        if self._migrate:
            self.migrate()
            return
        connection = self._connect()
        try:
            check_sqlite(connection)
        finally:
            connection.close()

    def _stop_watching(self) -> None:
        for connection in (self._watch, self._touch):
            if connection is not None:
                connection.close()
        self._watch = self._touch = None

    def _connect(self, block_s: float = 0.0) -> Connection:
        connection = connect(self.driver, str(self.path), self._vfs)
        try:
            self._set_up(connection, block_s)
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_up(self, connection: Connection, block_s: float) -> None:
        if _write_ahead(connection, block_s or 1.0) != [("wal",)]:
            raise CannotStart(f"{self.path} cannot have a write-ahead log", fix="Put it on a local disk, not a network share.")
        connection.run(f"pragma busy_timeout = {int(block_s * 1000)}")
        connection.run(f"pragma synchronous = {self._synchronous}")
        connection.run("pragma wal_autocheckpoint = 0")
        connection.run(f"pragma journal_size_limit = {RESTART_BYTES // 2}")  # or the log stays as large as it ever was
        connection.run("pragma foreign_keys = on")
        connection.run("pragma recursive_triggers = on")  # or `insert or replace` deletes rows behind the audit's back
        connection.run("pragma trusted_schema = off")
        connection.run("pragma cache_size = -16000")


def _write_ahead(connection: Connection, limit_s: float) -> list[Row]:
    """Ask for the log until two that ask at once for the first one are past each other: SQLite answers BUSY without waiting."""
    connection.run(f"pragma busy_timeout = {int(ASK_AGAIN_S * 1000)}")
    for _ in range(int(limit_s / ASK_AGAIN_S)):
        try:
            return connection.run("pragma journal_mode = wal")
        except DatabaseBusy:
            time.sleep(ASK_AGAIN_S)
    return connection.run("pragma journal_mode = wal")
