"""Adopted transactions on PostgreSQL: as `netra_app`, in one tenant, for the time of a verb.

Whatever else of the caller's session could bend a statement is set for that time too, and handed back: a search path in which
another table is called netra_message, and `row_security`, which turns a policy's rows into errors.
"""

from __future__ import annotations

from typing import Final

from ...errors import NetraError
from ..statements import parse
from .errors import OtherDatabase, ReadOnlyTransaction, RoleNotGranted, TransactionFailed
from .transaction import SAVEPOINT, AdoptedTx

S: Final = parse("""-- name: callers
select current_setting('role'), current_setting('search_path'), current_setting('row_security'),
  coalesce(current_setting('netra.tenant', true), ''), coalesce(current_setting('netra.adopted_for', true), '');
-- name: act
select set_config('role', 'netra_app', true), set_config('search_path', 'public, pg_temp', true),
  set_config('row_security', 'on', true), set_config('netra.tenant', :tenant, true);
-- name: mark
select set_config('netra.adopted_for', :tenant, true);
-- name: hand_back
select set_config('role', :role, true), set_config('search_path', :path, true),
  set_config('row_security', :security, true), set_config('netra.tenant', :former_tenant, true);
""")
"""All `set local`: the transaction's end undoes them, whatever happens, also behind a pooler."""

_FAILED: Final = "25P02"
_READ_ONLY: Final = "25006"
_NOT_ALLOWED: Final = "42501"
_NO_SUCH_ROLE: Final = "22023"


class PostgresAdoptedTx(AdoptedTx):
    """See the module's docstring."""

    _callers: tuple[str, str, str, str] = ("none", "", "on", "")
    _adopted_for = ""

    async def _check_engine(self) -> None:
        if self.driver.engine != "postgresql":
            raise OtherDatabase("it is SQLite's, and Netra's is PostgreSQL's")

    async def _enter(self) -> None:
        self._require_transaction()
        try:
            ((*callers, self._adopted_for),) = await self._rows(S["callers"])
        except NetraError as error:
            if error.facts.get("sqlstate") == _FAILED:
                raise TransactionFailed from error
            raise
        self._callers = tuple(callers)
        await self._control(f"savepoint {SAVEPOINT}")

    async def _act(self) -> None:
        try:
            await self._rows(S["act"])
        except NetraError as error:
            state = error.facts.get("sqlstate")
            if state == _NOT_ALLOWED:
                raise RoleNotGranted(str(error)) from error
            if state == _NO_SUCH_ROLE:
                raise OtherDatabase(f"its server has no role netra_app ({error})") from error
            raise

    async def _undo(self) -> None:
        await self._control(f"rollback to savepoint {SAVEPOINT}")  # and with it the role, the path and the tenant
        await self._control(f"release savepoint {SAVEPOINT}")

    async def _leave(self) -> None:
        role, path, security, tenant = self._callers
        await self._rows(S["hand_back"], role=role, path=path, security=security, former_tenant=tenant)
        await self._control(f"release savepoint {SAVEPOINT}")

    async def _find(self, reference: str) -> str | None:
        """On Netra's own connections: `netra_app` sees no tenant but the one that is set."""
        return await self._host.find(reference, asynchronous=self.driver.asynchronous)

    async def _mark(self) -> str:
        """A setting of the transaction's own; a savepoint that is rolled back takes it along with what was sent in it."""
        if not self._adopted_for:
            await self._rows(S["mark"])
        return self._adopted_for or self.tenant

    def _fails(self, error: Exception) -> NetraError:
        found = super()._fails(error)
        if found.facts.get("sqlstate") == _READ_ONLY:
            found = self._failed = ReadOnlyTransaction(str(found))
        return found
