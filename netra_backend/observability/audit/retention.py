"""Retention: entries that are older than `audit_keep` are given away, whole bundles of them, and their hashes stay for ever.

C2SP tlog-tiles calls it pruning. One process does it, under a lease, log by log: an entry `log.prune` says up to which index, and comes
under a signed checkpoint; then the minimum index rises; then the rows go, in small batches, where no row of a table refers to them. So
whoever judges an export finds the claim in the log itself, and the triggers let nothing be deleted that the log has not given away. Killed
anywhere, the next pass goes on: a claim may stand twice, and what is deleted is counted by a cursor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from ...kernel.rounds import Rounds, attempt
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, system_scope
from ...storage import log as stream_log
from ...storage.audit_append import audit_append
from ...storage.database import Database
from ...storage.membership import Membership
from ...storage.transaction import Tx
from . import store
from .merkle import TILE
from .verifying import PRUNED

Q = store.Q

LEASE: Final = "audit.retention"
DONE: Final = "audit.pruned"
INDICES: Final = "audit.index"
BUNDLES_AT_ONCE: Final = 64
LOGS_AT_ONCE: Final = 500
EVERY_S: Final = 3600.0
_SCOPE: Final = system_scope("retention")


class Retention:
    """`run` gives away what is older than `keep_s` seconds, `rounds` each hour; `settle` returns once all is under a checkpoint."""

    def __init__(
        self, database: Database, runtime: Runtime, membership: Membership, keep_s: float, settle: Callable[[Scope], Awaitable[None]]
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._membership = membership
        self._keep_s = keep_s
        self._settle = settle
        self.rounds = Rounds(runtime, self.run, "audit entries could not be given away", EVERY_S)

    async def run(self) -> None:
        """One pass over every log, unless another living process has the lease."""
        if self._membership.quiet or not await self._database.write(stream_log.has_lead, LEASE, self._membership.id, scope=_SCOPE):
            return
        before_us = self._runtime.clock.wall_us() - int(self._keep_s * 1_000_000)
        after = ""
        while logs := await self._database.read(store.logs, after, LOGS_AT_ONCE, scope=_SCOPE):
            for each in logs:
                cannot = f"old audit entries of tenant {each.tenant} stay until the next pass"
                await attempt(self._runtime.log, cannot, self._prune(Scope(each.tenant, "retention"), before_us))
            after = logs[-1].tenant

    async def _prune(self, scope: Scope, before_us: int) -> None:
        while not self._membership.quiet and (minimum := await self._database.write(claim, before_us, scope=scope, lane="bulk")):
            await self._settle(scope)
            await self._database.write(raise_minimum, minimum, scope=scope)
        while await self._database.write(delete_bundle, scope=scope, lane="bulk"):
            continue


async def claim(tx: Tx, before_us: int) -> int | None:
    """Say in the log up to which index its older entries are given away; None where none are."""
    minimum = await _old_until(tx, before_us)
    if minimum is not None:
        await audit_append(tx, PRUNED, tx.tenant, after={"minimum": minimum})
    return minimum


async def raise_minimum(tx: Tx, minimum: int) -> None:
    """What was claimed, now that the claim is under a checkpoint, is not served any more."""
    await tx.execute(Q.raise_minimum, minimum=minimum)


async def _old_until(tx: Tx, before_us: int) -> int | None:
    """The end of the full bundles that hold only older entries, behind the minimum and under a checkpoint."""
    log = await store.find(tx, tx.tenant)
    if log is None:
        return None
    first = number = log.minimum // TILE
    while number < first + BUNDLES_AT_ONCE and (number + 1) * TILE < log.signed_size:
        rows = await store.entries(tx, await store.ids_of(tx, number))
        if any(row[1] >= before_us for row in rows.values()):
            break
        number += 1
    return number * TILE if number > first else None


async def delete_bundle(tx: Tx) -> bool:
    """Delete the next bundle's entries that no row refers to; whether there was one."""
    log, done = await store.find(tx, tx.tenant), await stream_log.cursor(tx, f"{DONE}/{tx.tenant}")
    if log is None or done >= log.minimum // TILE:
        return False
    for id_ in await store.ids_of(tx, done):
        await tx.attempt(_delete, id_)  # one that a row still refers to stays with it
    await stream_log.move_cursor(tx, f"{DONE}/{tx.tenant}", INDICES, done + 1)
    return True


async def _delete(tx: Tx, id_: bytes) -> None:
    await tx.execute(Q.delete_personal, entry_id=id_)
    await tx.execute(Q.delete_use, id=id_)
    await tx.execute(Q.delete_entry, id=id_)
