"""Retention: finished messages go after their time, with their deliveries, their attempts and their keys.

One process of the installation does it, under a lease of its own, in small batches in the bulk lane, so that nobody waits for
it. It goes tenant by tenant in each tenant's own scope, and an error with one keeps nothing of those behind. A message goes only when
nothing of it is due or on its way; its deliveries are locked and looked at once more, so that one that is sent again at the same
moment is kept whole.

A payload whose producer wanted it kept for a shorter time is erased at the end of that (`expunge.py`), its message stays.

A line whose number nobody has taken for as long goes too, if nobody stands in it: keys come from producers and would grow without
end. Its row is locked first (and passed over where it is locked), for whoever takes a number in it just now must find it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, Final

from ..kernel.rounds import attempt
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope, system_scope
from ..storage import idempotency, log
from ..storage.database import Database
from ..storage.membership import Membership
from ..storage.statements import Statements
from ..storage.transaction import Tx
from . import expunge, lines

Q = Statements(__package__)

LEASE: Final = "webhooks.retention"
MESSAGES_AT_ONCE: Final = 100
ROWS_AT_ONCE: Final = 500
OPEN: Final = frozenset({"due", "leased"})
_EVER_US: Final = 2**62
_LAST: Final = b"\xff" * 16
_SCOPE: Final = system_scope("retention")


class Retention:
    """`run` does all there is to do now, if this process may. `keep_s` is how long a finished message stays."""

    def __init__(self, database: Database, runtime: Runtime, membership: Membership, keep_s: float) -> None:
        self._database = database
        self._runtime = runtime
        self._membership = membership
        self._keep_s = keep_s

    async def run(self) -> None:
        """One pass, unless another living process has the lease: what is older than its time goes.

        The lease stays with the process for as long as that lives: one to be given back might not be, and then nobody had it.
        """
        if self._membership.quiet or not await self._database.write(log.has_lead, LEASE, self._membership.id, scope=_SCOPE):
            return
        before_us = self._runtime.clock.wall_us() - int(self._keep_s * 1_000_000)
        tenant = ""
        while (tenant := await self._database.read(next_tenant, tenant, scope=_SCOPE)) and not self._membership.quiet:
            await self._of_one(tenant, "messages", self._expire_of(Scope(tenant, "retention"), before_us))
        tenant = ""
        while (tenant := await self._database.read(next_tenant_with_lines, tenant, scope=_SCOPE)) and not self._membership.quiet:
            await self._of_one(tenant, "lines", self._prune_of(Scope(tenant, "retention"), before_us))
        await self._erase_outlived()
        while await self._database.write(idempotency.trim, before_us, ROWS_AT_ONCE, scope=_SCOPE, lane="bulk") == ROWS_AT_ONCE:
            continue

    async def _of_one(self, tenant: str, what: str, work: Awaitable[Any]) -> None:
        """One tenant's error is told, and keeps nothing of the others: what is left of his is tried again with the next pass."""
        await attempt(self._runtime.log, f"what is old of the {what} of tenant {tenant} stays until the next pass", work)

    async def _erase_outlived(self) -> None:
        after: expunge.Outlived | None = None
        while not self._membership.quiet and (found := await self._database.read(expunge.outlived, after, MESSAGES_AT_ONCE, scope=_SCOPE)):
            of_tenants: dict[str, list[bytes]] = {}
            for each in found:
                of_tenants.setdefault(each.tenant, []).append(each.message_id)
            for tenant, ids in of_tenants.items():
                erasing = self._database.write(expunge.erase_outlived, ids, scope=Scope(tenant, "retention"), lane="bulk")
                await self._of_one(tenant, "payloads", erasing)
            after = found[-1]

    async def _expire_of(self, scope: Scope, before_us: int) -> None:
        while await self._database.write(expire, before_us, MESSAGES_AT_ONCE, scope=scope, lane="bulk") == MESSAGES_AT_ONCE:
            continue

    async def _prune_of(self, scope: Scope, before_us: int) -> None:
        after: tuple[bytes, str] | None = (b"", "")
        while after is not None:
            after = await self._database.write(prune_lines, before_us, after, ROWS_AT_ONCE, scope=scope, lane="bulk")


async def next_tenant(tx: Tx, after: str) -> str:
    """The next tenant behind `after` that has messages; empty at the end."""
    row = await tx.one(Q.next_tenant_with_messages, after_tenant=after, ever_us=_EVER_US)
    return str(row[0]) if row else ""


async def next_tenant_with_lines(tx: Tx, after: str) -> str:
    """The next tenant behind `after` that has lines; empty at the end."""
    row = await tx.one(Q.next_tenant_with_lines, after_tenant=after, last_endpoint=_LAST)
    return str(row[0]) if row else ""


async def expire(tx: Tx, before_us: int, limit: int) -> int:
    """Delete up to `limit` of the tenant's finished messages that are older; how many were found."""
    found = await tx.all(Q.finished_messages, before_us=before_us, limit=limit)
    if not found:
        return 0
    ids = sorted((row[0],) for row in found)
    again = {message for message, state in await tx.all(Q.hold_deliveries, rows=ids) if state in OPEN}
    ids = [row for row in ids if row[0] not in again]
    for statement in (Q.delete_deliveries, Q.delete_attempts, Q.delete_messages):
        await tx.execute(statement, rows=ids)
    return len(found)


async def prune_lines(tx: Tx, before_us: int, after: tuple[bytes, str], limit: int) -> tuple[bytes, str] | None:
    """Delete those of up to `limit` idle lines behind `after` in which nobody stands; where to go on, None at the end."""
    idle = await tx.all(Q.idle_lines, before_us=before_us, after_endpoint=after[0], after_line=after[1], limit=limit)
    if not idle:
        return None
    held = await lines.hold(tx, [(tx.tenant, row[0], row[1]) for row in idle])
    if held:
        await tx.execute(Q.delete_lines, before_us=before_us, rows=sorted((endpoint, line) for _, endpoint, line in held))
    return (idle[-1][0], idle[-1][1]) if len(idle) == limit else None
