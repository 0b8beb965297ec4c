"""`Tx` over an asyncpg connection: begun by its first statement, under the role and the tenant that the statement needs.

Who may see what is decided here, once for all statements:

* in a tenant's scope everything runs under the login role with `netra.tenant` set to that tenant, so that row-level
  security keeps a statement from other tenants' rows even where its own predicate is wrong;
* in the system's scope a statement on the fleet list enters the role `netra_fleet`, which sees all tenants, and any other
  one is run as in the scope of the tenant that is its parameter. A statement on tables without tenants stays where it is.

Both are `set local`: the transaction's end undoes them, whatever happens, also behind a pooler. A role that stands in the
session before (left by another client of the pooler, or set for the login role) is left first: it could be the fleet's.
`begin`, the time-outs and the first role are one round trip, and so are `notify` and `commit`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final

import asyncpg

from ..errors import Unavailable, UsageError
from ..kernel.runtime import Runtime
from ..kernel.scope import SYSTEM_TENANT, Scope, check_tenant
from .errors import Corrupt, DatabaseUnreachable, Interrupted
from .postgres_connections import give_up, is_gone
from .postgres_errors import READ_ONLY, is_of_the_connection, state_of, translated
from .statements import Row, Statement
from .transaction import Emission, StoreFunction, Tx

CHANNEL: Final = "netra"
UNDO_S: Final = 2.0
_FLEET: Final = "set local role netra_fleet"
_NOBODY: Final = "set local role none"


_SAVEPOINT: Final = "netra_attempt"


class Savepoint(Enum):
    """What has become of the last attempt's savepoint."""

    NONE = 1
    CLEAN = 2
    """Nothing was done since: it was gone back to."""

    USED = 3
    """Something was done since, and stands."""


class PostgresTx(Tx):
    """A transaction that stays failed once a statement failed, as PostgreSQL's own does; see `SqliteTx`."""

    __slots__ = ("_as_fleet", "_begin", "_begun", "_depth", "_savepoint", "_tenant_set", "_waiting", "connection", "failed")

    def __init__(self, connection: asyncpg.Connection, scope: Scope, runtime: Runtime, begin: str, *, own: bool = True) -> None:
        super().__init__(scope, runtime, own=own)
        self.connection = connection
        self.failed: Exception | None = None
        self._begin = begin
        self._begun = False
        self._as_fleet = False
        self._tenant_set = ""
        self._waiting = False
        self._depth = 0
        self._savepoint = Savepoint.NONE

    async def all(self, statement: Statement, **params: Any) -> list[Row]:
        """See `Tx.all`."""
        text, arguments = await self._ready(statement, params)
        return [tuple(row) for row in await self._ask(self.connection.fetch, text, *arguments)]

    async def execute(self, statement: Statement, **params: Any) -> int:
        """See `Tx.execute`."""
        text, arguments = await self._ready(statement, params)
        status: str = await self._ask(self.connection.execute, text, *arguments)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def attempt(self, fn: StoreFunction, *args: Any) -> Exception | None:
        """See `Tx.attempt`. The way back undoes the role and the tenant that were set meanwhile, so they are known again.

        A savepoint stays where it is until the next attempt, whose way to the server begins with its release; one that was just gone
        back to serves again. So most attempts cost a round trip less than they have steps.
        """
        self.require_whole()
        await self._set_savepoint()
        kept, place = self._keep(), (self._as_fleet, self._tenant_set)
        savepoint, self._savepoint = f"{_SAVEPOINT}_{self._depth}", Savepoint.NONE
        self._depth += 1
        try:
            await fn(self, *args)
            self.require_whole()
        except Exception as error:
            if isinstance(error, Unavailable | Corrupt | Interrupted) or is_gone(self.connection):
                raise
            self.failed = None
            self._go_back_to(kept)
            self._as_fleet, self._tenant_set = place
            await self._ask(self.connection.execute, f"rollback to savepoint {savepoint}")
            self._savepoint = Savepoint.CLEAN
            return error
        else:
            self._savepoint = Savepoint.USED
            return None
        finally:
            self._depth -= 1

    async def _set_savepoint(self) -> None:
        name = f"{_SAVEPOINT}_{self._depth}"
        steps = [] if self._begun else [self._begin, _NOBODY]
        self._begun = True
        if self._savepoint is Savepoint.USED:
            steps.append(f"release savepoint {name}")
        if self._savepoint is not Savepoint.CLEAN:
            steps.append(f"savepoint {name}")
        if steps:
            await self._ask(self.connection.execute, "; ".join(steps))

    def is_waiting(self) -> bool:
        """Whether a statement of ours is on its way: the only thing that a store function may wait for."""
        return self._waiting

    def require_whole(self) -> None:
        """Raise the error of a statement that the function swallowed: what it did is not what it meant to do."""
        if self.failed is not None:
            raise self.failed

    def end(self) -> None:
        """Refuse every later statement, which would run outside any transaction."""
        self.failed = UsageError("this transaction is over", fix="Do not keep `tx` beyond the function that was given it.")

    async def commit(self) -> None:
        """Commit what was begun. Whatever is raised here leaves the outcome to `postgres_errors.is_certainly_undone`."""
        if self._begun:
            if is_gone(self.connection):  # it was never asked, so there is no doubt
                raise DatabaseUnreachable
            status = await self.connection.execute(f"notify {CHANNEL}; commit" if self._wakes else "commit")
            if status != "COMMIT":  # the answer to a COMMIT in a transaction that has failed is a quiet ROLLBACK
                raise asyncpg.InFailedSQLTransactionError(status)

    async def rollback(self) -> None:
        """Undo everything; a connection that cannot even do that, and soon, is given up, which undoes it as well."""
        if not self._begun or is_gone(self.connection):
            return
        try:
            await self.connection.execute("rollback", timeout=UNDO_S)
        except BaseException as error:
            give_up(self.connection)
            if not isinstance(error, Exception):  # a cancellation
                raise

    def emissions(self) -> list[Emission]:
        """What this transaction has put on streams."""
        return self._emissions

    def callbacks(self) -> list[Callable[[], None]]:
        """What runs after the commit."""
        return self._after_commit

    async def _ready(self, statement: Statement, params: dict[str, Any]) -> tuple[str, list[Any]]:
        """Begin, or change place, as the statement needs; its text and its arguments."""
        self.require_whole()
        bound = self._bound(statement, params)
        asked = statement.asked_of_postgres(bound)
        moves = self._moves(statement, bound)
        if not self._begun:
            moves[:0] = [self._begin, _NOBODY]
            self._begun = True
        if moves:
            await self._ask(self.connection.execute, "; ".join(moves))
        if self._savepoint is Savepoint.CLEAN:
            self._savepoint = Savepoint.USED
        return asked

    def _moves(self, statement: Statement, bound: dict[str, Any]) -> list[str]:
        if not self.scope.is_system:
            return self._to_tenant(self.scope.tenant)
        if statement.fleet:
            moves = [] if self._as_fleet else [_FLEET]
            self._as_fleet = True
            return moves
        return self._to_tenant(bound["tenant"]) if "tenant" in bound else []

    def _to_tenant(self, tenant: str) -> list[str]:
        moves = [_NOBODY] if self._as_fleet else []
        self._as_fleet = False
        if tenant != self._tenant_set:
            # A parameter would cost a round trip of its own. The name is of an alphabet without quotes, checked here again.
            moves.append(f"set local netra.tenant = '{tenant if tenant == SYSTEM_TENANT else check_tenant(tenant)}'")
            self._tenant_set = tenant
        return moves

    async def _ask(self, call: Callable[..., Any], *arguments: Any) -> Any:
        self._waiting = True
        try:
            return await call(*arguments)
        except Exception as error:
            self.failed = translated(error)
            if is_of_the_connection(error) or state_of(error) == READ_ONLY:
                give_up(self.connection)  # a standby by now: the primary is at another address
            raise self.failed from error
        finally:
            self._waiting = False
