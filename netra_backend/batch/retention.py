"""Retention: finished runs go after their time, with their partitions and dead letters; a run after the reruns of it.

One process of the installation does it, under a lease of its own, tenant by tenant in each tenant's own scope (an error with one keeps
nothing of those behind), in small transactions of the bulk lane. A run is locked and looked at once more before anything of it goes,
so that one that is resumed or rerun at the same moment is kept whole.
"""

from __future__ import annotations

from typing import Final

from ..kernel.rounds import attempt
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope, system_scope
from ..storage import log
from ..storage.database import Database
from ..storage.membership import Membership
from ..storage.transaction import Tx
from . import store

Q = store.Q

LEASE: Final = "batch.retention"
RUNS_AT_ONCE: Final = 20
LETTERS_AT_ONCE: Final = 2000
_EVER_US: Final = 2**62
_SCOPE: Final = system_scope("retention")


class Retention:
    """`run` does all there is to do now, if this process may. `keep_s` is how long a finished run stays."""

    def __init__(self, database: Database, runtime: Runtime, membership: Membership, keep_s: float) -> None:
        self._database = database
        self._runtime = runtime
        self._membership = membership
        self._keep_s = keep_s

    async def run(self) -> None:
        """One pass, unless another living process has the lease, which stays with it for as long as it lives."""
        if self._membership.quiet or not await self._database.write(log.has_lead, LEASE, self._membership.id, scope=_SCOPE):
            return
        before_us = self._runtime.clock.wall_us() - int(self._keep_s * 1_000_000)
        tenant = ""
        while (tenant := await self._database.read(next_tenant, tenant, scope=_SCOPE)) and not self._membership.quiet:
            cannot = f"what is old of the runs of tenant {tenant} stays until the next pass"
            await attempt(self._runtime.log, cannot, self._expire_of(Scope(tenant, "retention"), before_us))

    async def _expire_of(self, scope: Scope, before_us: int) -> None:
        while await self._database.write(expire, before_us, scope=scope, lane="bulk"):
            continue


async def next_tenant(tx: Tx, after: str) -> str:
    """The next tenant behind `after` that has runs; empty at the end."""
    row = await tx.one(Q.next_tenant_with_runs, after_tenant=after, ever_us=_EVER_US)
    return str(row[0]) if row else ""


async def expire(tx: Tx, before_us: int) -> bool:
    """Delete a few of the tenant's finished runs that are older, or a part of one's dead letters; whether there may be more."""
    found = await _outlived(tx, before_us)
    for run_id in sorted(found):
        await tx.one(Q.hold_run, id=run_id)
    room, gone = LETTERS_AT_ONCE, 0
    for run_id in sorted(found & await _outlived(tx, before_us)):
        gone += 1
        room -= await tx.execute(Q.delete_failures, run_id=run_id, limit=room)
        if room <= 0:
            break  # there may be more of this one's
        await tx.execute(Q.delete_partitions, run_id=run_id)
        await tx.execute(Q.delete_run, id=run_id)
    return gone > 0


async def _outlived(tx: Tx, before_us: int) -> set[bytes]:
    return {row[0] for row in await tx.all(Q.outlived_runs, before_us=before_us, limit=RUNS_AT_ONCE)}
