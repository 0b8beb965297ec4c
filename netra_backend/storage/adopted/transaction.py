"""`Tx` inside a transaction that belongs to the caller: never begun here, never committed here.

Each verb runs in a savepoint, so that its error leaves the caller's transaction as it was, and sets its tenant anew, because a
savepoint that the caller rolls back takes the former setting with it. On PostgreSQL it acts as `netra_app` for that long, so
that policies bind whoever the caller is logged in as, and hands back what was the caller's.

We do not see the caller's commit, so nothing may depend on it: rows are inserted due (`own` is False), what others must
notice is written to the outbox at the end of the verb, and a commit is seen by everybody who looks. What is known of the
transaction (its one tenant) is therefore written in it, where a rollback forgets it.

However a verb ends, also by a cancellation in the middle of any statement, the way back is gone to its end: a role that was
not handed back would be the caller's from then on.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

from ...errors import Conflict, NetraError, NotFound
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope
from .. import outbox, tenants
from ..errors import ConstraintViolated, DatabaseError
from ..jobs import run_callbacks
from ..meta import INSTALL_ID
from ..statements import Row, Statement, Statements
from ..transaction import Tx
from . import turns
from .driver import Driver
from .errors import NoTransaction, OneTenant, OtherDatabase, OutsideVerb

SAVEPOINT: Final = "netra_verb"
FIRST_USE: Final = "netra_tenant"
PATIENCE_S: Final = 5.0
"""How long a cancellation waits for the database to answer a step that must not be cut."""
Q = Statements("netra_backend.storage")


class Find(Protocol):
    """A look on Netra's own connections."""

    async def __call__(self, reference: str, *, asynchronous: bool) -> str | None:
        """The tenant's name, for its id, uid or name."""
        ...


@dataclass(frozen=True, slots=True)
class Host:
    """What an adopted transaction needs of the Netra that adopts it.

    `find` looks a tenant up, on Netra's own connections, by its id or uid; `wake` has this process look for work.
    """

    install_id: str
    strict: bool
    wake: Callable[[], None]
    find: Find


class AdoptedTx(Tx, ABC):
    """See the module's docstring; one subclass per engine says how a verb is entered and left."""

    def __init__(self, driver: Driver, scope: Scope, runtime: Runtime, host: Host) -> None:
        super().__init__(scope, runtime, own=False)
        self.driver = driver
        self._host = host
        self._reference = scope.tenant
        self._inside: object = None
        self._entered = False
        self._failed: NetraError | None = None
        self._after_let_go: list[Callable[[], None]] = []

    def after_let_go(self, callback: Callable[[], None]) -> None:
        """See `Tx.after_let_go`."""
        self._after_let_go.append(callback)

    async def all(self, statement: Statement, **params: Any) -> list[Row]:
        """See `Tx.all`."""
        self._require_verb()
        return await self._rows(statement, **params)

    async def execute(self, statement: Statement, **params: Any) -> int:
        """See `Tx.execute`."""
        self._require_verb()
        bound = self._bound(statement, params)
        try:
            return await self.driver.execute(statement, bound)
        except Exception as error:
            raise self._fails(error) from error

    @asynccontextmanager
    async def verb(self) -> AsyncIterator[None]:
        """See `Tx.verb`."""
        if self._inside is not None and self._inside == turns.me():
            yield
            return
        with turns.Turn() as turn:
            try:
                await self._to_its_end(self._begin_verb(turn))
                self._inside = turns.me()
                await self._prepare()
                yield
                self._require_whole()
                if self._emissions:
                    await outbox.write(self, self._emissions)
                await self._to_its_end(self._end_verb())
            except BaseException as error:
                await self._go_back(error)
                run_callbacks(self.undone())
                raise
            finally:
                self._inside = None
                self._emissions = []
                self._after_commit = []
                self._after_rollback = []
                let_go, self._after_let_go = self._after_let_go, []
        watched = let_go and self.driver.drops_hooks
        self.driver.on_commit(_Hook(self._host.wake, let_go) if watched else self._host.wake)

    @abstractmethod
    async def _check_engine(self) -> None:
        """Raise where the connection is to another kind of database, or through the wrong library."""

    @abstractmethod
    async def _enter(self) -> None:
        """See that a transaction is open, and set a savepoint in it; nothing is left behind by an error."""

    @abstractmethod
    async def _act(self) -> None:
        """Take the role and the tenant for this verb."""

    @abstractmethod
    async def _undo(self) -> None:
        """Back to the savepoint."""

    @abstractmethod
    async def _leave(self) -> None:
        """Hand back what was the caller's, and let the savepoint go."""

    @abstractmethod
    async def _find(self, reference: str) -> str | None:
        """The tenant of this id or uid."""

    @abstractmethod
    async def _mark(self) -> str:
        """The tenant for which this transaction was adopted, now if not before."""

    def _is_open(self) -> bool:
        """Whether the caller's transaction is open; raises where it can only be rolled back."""
        try:
            return self.driver.in_transaction()
        except Exception as error:
            raise self.driver.translated(error) from error

    def _require_transaction(self) -> None:
        if not self._is_open() and not self.driver.begins_by_itself():
            raise NoTransaction(fix=self.driver.recipe)

    async def _begin_verb(self, turn: turns.Turn) -> None:
        turn.take(self.driver.handle)
        await self.driver.ready()
        turn.take(self.driver.connection)
        await self._check_engine()
        self._failed, self._now_us = None, None
        await self._enter()
        self._entered = True

    async def _end_verb(self) -> None:
        await self._leave()
        self._entered = False

    async def _prepare(self) -> None:
        self.scope = self.scope.with_tenant(self._reference)
        await self._act()
        await self._is_ours()
        await self._has_tenant()
        first = await self._mark()
        if first != self.tenant:
            raise OneTenant(f"this transaction was adopted for the tenant {first!r} before, and for {self.tenant!r} now")

    async def _control(self, sql: str) -> None:
        try:
            await self.driver.control(sql)
        except Exception as error:
            raise self.driver.translated(error) from error

    async def _rows(self, statement: Statement, **params: Any) -> list[Row]:
        bound = self._bound(statement, params)
        try:
            return await self.driver.all(statement, bound)
        except Exception as error:
            raise self._fails(error) from error

    async def _go_back(self, error: BaseException) -> None:
        """Undo the verb whatever happens meanwhile; what the caller learns is why it was undone."""
        if not self._entered:
            return
        self._entered = False
        try:
            await self._to_its_end(self._undo())
        except NetraError as second:
            error.add_note(f"Netra could not bring your transaction back to where it was before this call ({second}): roll it back.")

    async def _to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a step that must not be cut; a cancellation waits for it, unless the database does not answer.

        PostgreSQL fails the whole transaction for a statement that is cancelled outside a savepoint.
        """
        if not self.driver.asynchronous:
            await work
            return
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            await asyncio.wait([task], timeout=PATIENCE_S)
            if task.done():
                task.exception()
            raise
        task.result()

    async def _is_ours(self) -> None:
        try:
            rows = await self._rows(Q.get_meta, name=INSTALL_ID)
        except NetraError as error:
            raise OtherDatabase(f"it has no tables of Netra's ({error})") from error
        if rows != [(self._host.install_id,)]:
            raise OtherDatabase

    async def _has_tenant(self) -> None:
        """The tenant's row, made in the caller's transaction where it is not there: a rollback takes it along."""
        if await self.one(Q.tenant_by_name) is not None:
            return
        name = await self._find(self._reference)
        if name is not None:
            self.scope = self.scope.with_tenant(name)
            await self._act()
        elif self._host.strict:
            raise NotFound(f"there is no tenant {self.tenant!r}", fix=f"Make it: netra tenant create {self.tenant}")
        else:
            await self._first_use()

    async def _first_use(self) -> None:
        """Make the tenant. Of two transactions that do so at once, the second waits for the first and takes what it made."""
        if not await tenants.name_is_free(self, self.tenant):
            if await self.one(Q.tenant_by_name) is not None:  # made since we looked for it
                return
            raise NotFound(f"the tenant {self.tenant!r} was deleted", fix=f"Make it anew: netra tenant create {self.tenant}")
        await self._control(f"savepoint {FIRST_USE}")
        try:
            await tenants.make(self, self.tenant, self.tenant)
        except DatabaseError as error:  # the name was taken a moment ago, or is another tenant's uid
            await self._control(f"rollback to savepoint {FIRST_USE}")
            self._failed = None
            self._emissions = []
            if await self.one(Q.tenant_by_name) is None:
                raise self._no_first_use(error) from error
        await self._control(f"release savepoint {FIRST_USE}")

    def _no_first_use(self, error: DatabaseError) -> NetraError:
        taken = isinstance(error, ConstraintViolated)
        return Conflict(f"{self.tenant!r} is another tenant's uid", fix="Adopt it under that tenant's name.") if taken else error

    def _fails(self, error: Exception) -> NetraError:
        self._failed = self.driver.translated(error)
        return self._failed

    def _require_verb(self) -> None:
        if self._inside != turns.me():
            raise OutsideVerb
        self._require_whole()

    def _require_whole(self) -> None:
        if self._failed is not None:
            raise self._failed


class _Hook:
    """What a framework is given to call after the commit. One that it drops uncalled tells that there was none."""

    def __init__(self, wake: Callable[[], None], let_go: list[Callable[[], None]]) -> None:
        self._wake = wake
        self._let_go = let_go

    def __call__(self) -> None:
        self._let_go = []
        self._wake()

    def __del__(self) -> None:
        run_callbacks(self._let_go)
