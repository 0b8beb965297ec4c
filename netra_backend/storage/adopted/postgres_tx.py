"""Adopted transactions on PostgreSQL: as `netra_app`, in one tenant, for the time of a verb."""

from __future__ import annotations

from typing import Final

from ...errors import NetraError
from ..statements import parse
from .errors import NoTransaction, OtherDatabase, RoleNotGranted
from .transaction import SAVEPOINT, AdoptedTx

S: Final = parse("""-- name: role
select current_setting('role');
-- name: act
select set_config('role', 'netra_app', true), set_config('netra.tenant', :tenant, true);
-- name: hand_back
select set_config('role', :role, true);
""")


class PostgresAdoptedTx(AdoptedTx):
    """See the module's docstring."""

    _role = "none"

    def _check_engine(self) -> None:
        if self.driver.engine != "postgresql":
            raise OtherDatabase

    async def _enter(self) -> None:
        if not self.driver.in_transaction() and not self.driver.begins_by_itself():
            raise NoTransaction
        self._failed = None
        ((self._role,),) = await self.all(S["role"])
        await self._control(f"savepoint {SAVEPOINT}")
        try:
            await self.all(S["act"])
        except NetraError as error:
            self._failed = None
            await self._undo()
            if error.facts.get("sqlstate") in {"42501", "22023", "42704"}:
                raise RoleNotGranted(str(error)) from error
            raise

    async def _undo(self) -> None:
        await self._control(f"rollback to savepoint {SAVEPOINT}")  # and with it the role and the tenant
        await self._control(f"release savepoint {SAVEPOINT}")

    async def _leave(self) -> None:
        await self.all(S["hand_back"], role=self._role)
        await self._control(f"release savepoint {SAVEPOINT}")
