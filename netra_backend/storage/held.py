"""A SQLite transaction that its owner keeps open across awaits: the small door, `async with netra.transaction()`.

The writer thread serves one such transaction alone: it takes the lock, then runs the statements that the owner sends
until the owner commits or rolls back, or until the time is up, when it rolls back and goes on with others' work. What
is inside cannot reach the writer by another way (see `nesting`).

Whatever goes wrong, the writer is freed: an owner cancelled at any point and an outbox that cannot be written roll
back at once; an error of the commit or of the rollback makes the writer take another connection.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from ..errors import NetraError, OutcomeUnknown, TransactionTimeout
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope, system_scope
from . import outbox
from .jobs import AFTER_COMMIT, BEFORE_COMMIT, run_callbacks
from .sqlite_drivers import Connection
from .sqlite_transaction import SqliteTx
from .statements import Row, Statement
from .transaction import Emission, Tx, drive

_Command = tuple[Callable[[], Any], "asyncio.Future[Any]"]


class HeldTransaction:
    """One transaction between the loop that owns it and the writer thread that runs it."""

    def __init__(self, scope: Scope, runtime: Runtime, timeout_s: float) -> None:
        self.scope = scope
        self._runtime = runtime
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[HeldTx] = self._loop.create_future()
        self._commands: SimpleQueue[_Command] = SimpleQueue()
        self._abandoned = False
        self._ended: bool = False
        self._doubt: NetraError | None = None
        self._tx: SqliteTx | None = None

    async def begun(self) -> HeldTx:
        """From the owner's loop: wait for the lock. An owner that is cancelled meanwhile leaves nobody waiting for it."""
        try:
            return await self.ready
        except BaseException:
            self._abandoned = True
            nobody: asyncio.Future[Any] = self._loop.create_future()
            nobody.cancel()
            self._commands.put((self._undo, nobody))
            raise

    def abandoned(self) -> bool:
        """Whether the owner was cancelled while it waited for the lock."""
        return self._abandoned

    @property
    def is_open(self) -> bool:
        """Whether it holds the writer, so that a second write would wait for itself."""
        return not self._ended

    def refused(self, error: NetraError) -> None:
        """The lock could not be had."""
        self._tell(self.ready, None, error)

    def serve(self, connection: Connection) -> NetraError | None:
        """On the writer thread: run the owner's statements until the end. Returns why to distrust the connection, if so."""
        clock = self._runtime.clock
        deadline = clock.monotonic() + self._timeout_s
        self._tx = SqliteTx(connection, self.scope, self._runtime)
        self._tell(self.ready, HeldTx(self, self.scope, self._runtime), None)
        while not self._ended:
            try:
                run, future = self._commands.get(timeout=max(0.0, deadline - clock.monotonic()))
            except Empty:
                self._undo()
                break
            if clock.monotonic() >= deadline:  # a process that was stopped past its time finds the command waiting
                self._undo()
                self._tell(future, None, TransactionTimeout())
                break
            try:
                self._tell(future, run(), None)
            except Exception as error:  # noqa: BLE001  (the owner's error; the writer serves others after it)
                self._tell(future, None, error)
        self._refuse_stragglers()
        return self._doubt

    async def call(self, run: Callable[[], Any]) -> Any:
        """From the owner's loop: have `run` done on the writer thread."""
        if self._ended:
            raise TransactionTimeout
        future: asyncio.Future[Any] = self._loop.create_future()
        self._commands.put((run, future))
        if self._has_ended():  # between the look above and the put: the writer may have left already
            self._refuse_stragglers()
        return await future

    def statement(self, statement: Statement, params: dict[str, Any]) -> tuple[list[Row], int]:
        """On the writer thread: one statement."""
        tx = self._served()
        rows = tx.run(statement, params)
        return rows, tx.changes()

    async def commit(self, owner: HeldTx) -> None:
        """Write the outbox rows and commit; what follows the commit runs even if the owner is cancelled meanwhile."""
        await self.call(lambda: self._finish(owner))

    async def rollback(self) -> None:
        """Undo everything; a transaction that has timed out is undone already."""
        if not self._ended:
            with contextlib.suppress(TransactionTimeout):
                await self.call(self._undo)

    def _has_ended(self) -> bool:
        return self._ended

    def _served(self) -> SqliteTx:
        if self._tx is None or self._ended:
            raise TransactionTimeout
        return self._tx

    def _finish(self, owner: HeldTx) -> None:
        tx = self._served()
        try:
            tx.require_whole()
            if owner.emitted():
                drive(outbox.write(SqliteTx(tx.connection, system_scope(), self._runtime), owner.emitted()))
        except BaseException:
            self._undo()
            raise
        self._ended = True
        try:
            self._runtime.failpoints.hit(BEFORE_COMMIT)
            tx.connection.run("commit")
            self._runtime.failpoints.hit(AFTER_COMMIT)
        except Exception as error:
            self._doubt = OutcomeUnknown(f"the commit failed: {error}")
            raise self._doubt from error
        self._on_loop(owner.run_callbacks)

    def _undo(self) -> None:
        self._ended = True
        try:
            if self._tx is not None and self._tx.connection.in_transaction():
                self._tx.connection.run("rollback")
        except NetraError as error:  # a new connection undoes it as well
            self._doubt = error

    def _refuse_stragglers(self) -> None:
        while True:
            try:
                _, future = self._commands.get_nowait()
            except Empty:
                return
            self._tell(future, None, TransactionTimeout())

    def _tell(self, future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        def settle() -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(value)

        self._on_loop(settle)

    def _on_loop(self, callback: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # that loop is closed: nobody is left to tell
            self._loop.call_soon_threadsafe(callback)


class HeldTx(Tx):
    """The owner's side: the same store functions, each statement a round trip to the writer thread."""

    __slots__ = ("_held",)

    def __init__(self, held: HeldTransaction, scope: Scope, runtime: Runtime) -> None:
        super().__init__(scope, runtime, own=True)
        self._held = held

    async def all(self, statement: Statement, **params: Any) -> list[Row]:
        """See `Tx.all`."""
        rows: list[Row] = (await self._held.call(lambda: self._held.statement(statement, self._bound(statement, params))))[0]
        return rows

    async def execute(self, statement: Statement, **params: Any) -> int:
        """See `Tx.execute`."""
        changed: int = (await self._held.call(lambda: self._held.statement(statement, self._bound(statement, params))))[1]
        return changed

    def emitted(self) -> list[Emission]:
        """What goes to the outbox at the commit."""
        return self._emissions

    def run_callbacks(self) -> None:
        """What follows the commit."""
        run_callbacks(self._after_commit)
