"""`Tx` inside a transaction that belongs to the caller: never begun here, never committed here.

Each verb runs in a savepoint, so that its error leaves the caller's transaction as it was, and sets its tenant anew, because a
savepoint that the caller rolls back takes the former setting with it. On PostgreSQL it acts as `netra_app` for that long, so
that policies bind whoever the caller is logged in as, and hands the caller's own role back.

We do not see the caller's commit, so nothing may depend on it: rows are inserted due (`own` is False), what others must
notice is written to the outbox at the end of the verb, and a commit is seen by everybody who looks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from ...errors import NetraError, NotFound
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope
from .. import outbox, tenants
from ..meta import INSTALL_ID
from ..statements import Row, Statement, Statements
from ..transaction import Tx
from .driver import Driver
from .errors import OtherDatabase

SAVEPOINT: Final = "netra_verb"
Q = Statements("netra_backend.storage")


class AdoptedTx(Tx, ABC):
    """See the module's docstring; one subclass per engine says how a verb is entered and left."""

    def __init__(self, driver: Driver, scope: Scope, runtime: Runtime, install_id: str, *, strict: bool, wake: Callable[[], None]) -> None:
        super().__init__(scope, runtime, own=False)
        self.driver = driver
        self._install_id = install_id
        self._strict = strict
        self._wake = wake
        self._inside = False
        self._failed: NetraError | None = None

    async def all(self, statement: Statement, **params: Any) -> list[Row]:
        """See `Tx.all`."""
        bound = self._ready(statement, params)
        try:
            return await self.driver.all(statement, bound)
        except Exception as error:
            raise self._fails(error) from error

    async def execute(self, statement: Statement, **params: Any) -> int:
        """See `Tx.execute`."""
        bound = self._ready(statement, params)
        try:
            return await self.driver.execute(statement, bound)
        except Exception as error:
            raise self._fails(error) from error

    @asynccontextmanager
    async def verb(self) -> AsyncIterator[None]:
        """See `Tx.verb`."""
        if self._inside:
            yield
            return
        await self.driver.ready()
        self._check_engine()
        await self._enter()
        self._inside, self._failed, self._now_us = True, None, None
        try:
            await self._is_ours()
            await self._has_tenant()
            yield
            self._require_whole()
            if self._emissions:
                await outbox.write(self, self._emissions)
        except BaseException:
            self._inside = False
            await self._undo()
            raise
        else:
            self._inside = False
            await self._leave()
            self.driver.on_commit(self._wake)
        finally:
            self._emissions = []
            self._after_commit = []

    @abstractmethod
    def _check_engine(self) -> None:
        """Raise where the connection is to another kind of database, or through the wrong library."""

    @abstractmethod
    async def _enter(self) -> None:
        """A savepoint, under the tenant and the role."""

    @abstractmethod
    async def _undo(self) -> None:
        """Back to the savepoint."""

    @abstractmethod
    async def _leave(self) -> None:
        """Let the savepoint go, and hand back what was the caller's."""

    async def _control(self, sql: str) -> None:
        try:
            await self.driver.control(sql)
        except Exception as error:
            raise self.driver.translated(error) from error

    async def _is_ours(self) -> None:
        try:
            row = await self.one(Q.get_meta, name=INSTALL_ID)
        except NetraError as error:
            raise OtherDatabase(f"it has no tables of Netra's ({error})") from error
        if row is None or row[0] != self._install_id:
            raise OtherDatabase

    async def _has_tenant(self) -> None:
        """The tenant's row, made in the caller's transaction where it is not there: a rollback takes it along."""
        if await self.one(Q.tenant_by_name) is not None:
            return
        if self._strict:
            raise NotFound(f"there is no tenant {self.tenant!r}", fix=f"Make it: netra tenant create {self.tenant}")
        await tenants.create(self, self.tenant, uid=self.tenant)

    def _ready(self, statement: Statement, params: dict[str, Any]) -> dict[str, Any]:
        self._require_whole()
        return self._bound(statement, params)

    def _fails(self, error: Exception) -> NetraError:
        self._failed = self.driver.translated(error)
        return self._failed

    def _require_whole(self) -> None:
        if self._failed is not None:
            raise self._failed
