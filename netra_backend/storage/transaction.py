"""`Tx`: an open transaction that carries a scope.

No SQL without a Tx, no Tx without a tenant. A store function is a coroutine that awaits nothing but its Tx: so one
function runs on SQLite's writer thread (where it never suspends and `drive` runs it to its end), on the event loop
over PostgreSQL, and inside a caller's own synchronous transaction. There is no second, synchronous copy.
"""

from __future__ import annotations

import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

from ..errors import UsageError
from ..kernel.runtime import Runtime
from ..kernel.scope import SYSTEM_TENANT, Scope
from .statements import Row, Statement

StoreFunction = Callable[..., Coroutine[Any, Any, Any]]


class SuspendedStoreFunction(UsageError):
    """A store function awaited something other than its transaction."""

    code = "suspended_store_function"
    fix = "Do HTTP, sleeps and queues before or after the write; inside, await only tx.one, tx.all and tx.execute."


class ForeignTenant(UsageError):
    """A tenant's transaction was to read or write for another tenant. PostgreSQL's policies would refuse it, SQLite has none."""

    code = "foreign_tenant"
    fix = "Do each tenant's work in a transaction of its own."


class Emission(NamedTuple):
    """One thing that others must notice: an item on a stream of the log."""

    stream: str
    tenant: str
    item: Any


class Tx(ABC):
    """What a store function sees of a transaction.

    `now_us` is one wall-clock reading for everything the function writes. `own` says that Netra began this
    transaction (and ends it), which is never so under `adopt()`.
    """

    __slots__ = ("_after_commit", "_after_rollback", "_emissions", "_now_us", "_wakes", "own", "runtime", "scope")

    def __init__(self, scope: Scope, runtime: Runtime, *, own: bool) -> None:
        self.scope = scope
        self.runtime = runtime
        self.own = own
        self._now_us: int | None = None
        self._emissions: list[Emission] = []
        self._after_commit: list[Callable[[], None]] = []
        self._after_rollback: list[Callable[[], None]] = []
        self._wakes = False

    @property
    def tenant(self) -> str:
        """The scope's tenant."""
        return self.scope.tenant

    @property
    def now_us(self) -> int:
        """Wall-clock microseconds, read once per transaction."""
        if self._now_us is None:
            self._now_us = self.runtime.clock.wall_us()
        return self._now_us

    def new_id(self) -> bytes:
        """A fresh UUIDv7."""
        return self.runtime.ids.new()

    def emit(self, stream: str, item: Any, tenant: str | None = None) -> None:
        """Put a JSON-able item on a stream of the log, in this transaction (see `outbox`)."""
        owner = own = self.scope.tenant
        if tenant and tenant != own:
            self._require_own(tenant)
            owner = tenant
        self._emissions.append(Emission(stream, owner, item))

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Run `callback` on the event loop once the commit is known to have happened, even if nobody waits for it."""
        self._after_commit.append(callback)

    def after_rollback(self, callback: Callable[[], None]) -> None:
        """Run `callback` where all of this is known to be undone; never where the outcome is in doubt. On any thread.

        It may be left out (a transaction run again, a caller's own rollback of an adopted one): nothing may depend on it but time.
        """
        self._after_rollback.append(callback)

    def after_let_go(self, callback: Callable[[], None]) -> None:  # noqa: B027  (only some adopted ones are told)
        """Run `callback` when a caller's framework drops an adopted transaction without telling of its commit. On any thread.

        That is a rollback, or a commit whose hooks were not run: whoever must know looks at the database. Few frameworks tell, and a
        transaction of our own has `after_rollback`: nothing may depend on this but time.
        """

    def undone(self) -> list[Callable[[], None]]:
        """What runs after a rollback, once."""
        callbacks, self._after_rollback = self._after_rollback, []
        return callbacks

    def verb(self) -> AbstractAsyncContextManager[None]:
        """Around everything that one public call does: an adopted transaction guards the caller's own by it (`adopted/`)."""
        return nullcontext()

    def wake_others(self) -> None:
        """Have every process look for work once this is committed, where the engine can tell them sooner than they look."""
        self._wakes = True

    @abstractmethod
    async def all(self, statement: Statement, **params: Any) -> list[Row]:
        """Every row that the statement returns."""

    @abstractmethod
    async def execute(self, statement: Statement, **params: Any) -> int:
        """The number of rows that the statement changed."""

    async def attempt(self, fn: StoreFunction, *args: Any) -> Exception | None:  # noqa: ARG002  (an engine's own transaction does it)
        """Run a store function in a savepoint: None if it stands; if it raised, its error, and all that it did is undone.

        For work of which a part may fail without the rest, such as one item of a chunk. It is the one place where a store
        function sees an error and goes on. What is not the function's own (a full disk, a lost connection, a deadlock, a
        transaction that the engine has rolled back) is raised, and ends the transaction. Only in a transaction of Netra's own.
        """
        raise UsageError("this transaction has no attempts", fix="Ship the function with `netra.write`.")

    def _keep(self) -> tuple[int, int, bool]:
        """What an attempt goes back to, of what is not in the database."""
        return len(self._emissions), len(self._after_commit), self._wakes

    def _go_back_to(self, kept: tuple[int, int, bool]) -> None:
        emissions, callbacks, self._wakes = kept
        del self._emissions[emissions:]
        del self._after_commit[callbacks:]

    async def one(self, statement: Statement, **params: Any) -> Row | None:
        """The first row that the statement returns, or None."""
        rows = await self.all(statement, **params)
        return rows[0] if rows else None

    def _bound(self, statement: Statement, params: dict[str, Any]) -> dict[str, Any]:
        if statement.takes_tenant:
            own = self.scope.tenant
            tenant = params.setdefault("tenant", own)
            if tenant != own and not (tenant == SYSTEM_TENANT and statement.only_reads):
                self._require_own(tenant)
        if statement.tenant_places and not self.scope.is_system:
            for table, place in statement.tenant_places.items():
                for row in params[table]:
                    self._require_own(row[place])
        return params

    def _require_own(self, tenant: str) -> None:
        if tenant != self.scope.tenant and not self.scope.is_system:
            raise ForeignTenant(f"{tenant!r} in a transaction of {self.scope.tenant!r}")


@types.coroutine
def supervise(coroutine: Coroutine[Any, Any, Any], is_waiting: Callable[[], bool]) -> Generator[Any, Any, Any]:
    """Run a coroutine on the event loop, and refuse one that suspends while `is_waiting()` (for its statement) is false.

    What `drive` is for an engine whose statements do suspend: a function that slept or called out inside a transaction would
    work here and keep its locks meanwhile, and would fail on SQLite.
    """
    send: Callable[[], Any] = partial(coroutine.send, None)
    while True:
        try:
            awaited = send()
        except StopIteration as stop:
            return stop.value
        if not is_waiting():
            coroutine.close()
            raise _suspended(coroutine)
        try:
            send = partial(coroutine.send, (yield awaited))
        except GeneratorExit:
            coroutine.close()
            raise
        except BaseException as error:  # noqa: BLE001  (whatever is thrown in is the function's: a cancellation above all)
            send = partial(coroutine.throw, error)


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends to its end; refuse one that does."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise _suspended(coroutine)


def _suspended(coroutine: Coroutine[Any, Any, Any]) -> SuspendedStoreFunction:
    return SuspendedStoreFunction(f"{getattr(coroutine, '__qualname__', coroutine)} awaited something other than its transaction")
