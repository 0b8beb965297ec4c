"""Puts entries into their logs and signs checkpoints: one process of the installation, under the lease `audit`.

Protocol. (1) A transaction gives the next entries their indices, writes the tiles and moves the cursor. (2) The new checkpoint is signed
and remembered outside the database, durably. (3) A second transaction lets it stand in the log's row, from where it is served.

A5: never two roots for one size. Step 2 comes before step 3, so whatever was ever served is remembered. A log is signed on only if it
continues what is remembered: the same origin, at least as large, the same root at that size. Otherwise this database is an
older one that was put back (or the memory was lost), and a new epoch opens: an origin of its own for the same tree, told by an entry.
Killed between any two steps, the next round finds the log grown and not signed, and what is remembered is its own beginning.

Rejected: to sign in the transaction of step 1. A checkpoint that is served must be remembered first, and a file cannot be synced under
the write lock; one that is remembered first and then rolled back would look like a restored backup.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from ...kernel.failpoints import declare
from ...kernel.rounds import Rounds
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, system_scope
from ...storage.database import Database
from ...storage.membership import Membership
from ...storage.sealing import CannotUnseal, Sealer
from . import merkle, note, store
from .memory import Memory, Remembered
from .model import Log, Signing
from .note import Checkpoint

POLL_S: Final = 0.1
LOGS_AT_ONCE: Final = 64
LEAST_ROWS: Final = 4
ENTRIES: Final = "netra_audit_entries_total"
REMEMBERED: Final = declare(
    "audit.remembered_before_signed", "checkpoints are remembered outside the database, which does not know them yet"
)
_SCOPE: Final = system_scope("audit")


class Sequencer:
    """See the module's docstring. `drain` does all there is to do now, if this process may; `rounds` again and again."""

    def __init__(self, database: Database, runtime: Runtime, membership: Membership, sealer: Sealer, memory: Memory, origin: str) -> None:
        self._database = database
        self._runtime = runtime
        self._membership = membership
        self._sealer = sealer
        self._memory = memory
        self._origin = origin
        self._rows = LEAST_ROWS
        self._turn = asyncio.Lock()
        cannot = "the audit trail's logs could not be brought up to date"
        self.rounds = Rounds(runtime, self.drain, cannot, POLL_S, changes=database.version)

    async def drain(self) -> None:
        """Sequence and sign what is in the stream by now; what comes meanwhile waits, or a steady load would let nothing be signed."""
        async with self._turn:
            if not self._membership.quiet:
                await self._take_until(await self._database.read(store.last_in_stream, scope=_SCOPE))
            after: str | None = ""
            while after is not None and not self._membership.quiet:
                after = await self._sign_some(after)

    async def _take_until(self, last: int) -> None:
        while not self._membership.quiet and not await self._database.read(store.is_sequenced, last, scope=_SCOPE):
            if not await self._take_some():
                return  # another process does it

    async def _take_some(self) -> bool:
        """One batch; whether there may be more. How many rows are read follows how many entries the last ones held: one, or hundreds."""
        taken = await self._database.write(store.take, self._sealer, self._membership.id, self._rows, scope=_SCOPE, lane="bulk")
        rows, entries = taken or (0, 0)
        if rows:
            self._rows = max(LEAST_ROWS, min(store.ROWS_AT_ONCE, rows * store.ENTRIES_AT_ONCE // max(1, entries)))
        return rows > 0

    async def _sign_some(self, after: str) -> str | None:
        """Sign logs that have grown, of tenants behind `after`; the last of these, or None where there are no more.

        Those that cannot be signed are passed over, however many they are: the next round tries them again.
        """
        tenants: list[str] = await self._database.read(store.unsigned, after, LOGS_AT_ONCE, scope=_SCOPE)
        if not tenants or not await self._database.write(store.may_sign, self._membership.id, scope=_SCOPE):
            return None
        if prepared := [made for tenant in tenants if (made := await self._prepare(tenant)) is not None]:
            signings = await asyncio.to_thread(self._remember, prepared)
            self._runtime.failpoints.hit(REMEMBERED)
            await self._database.write(store.sign, self._membership.id, signings, scope=_SCOPE)
            for each in signings:
                self._runtime.metrics.count(ENTRIES, each.checkpoint.size - each.before.signed_size)
        return tenants[-1] if len(tenants) == LOGS_AT_ONCE else None

    async def _prepare(self, tenant: str) -> tuple[Remembered, Signing] | None:
        """What to sign, and what it was decided from; None where the key does not open."""
        try:
            found: tuple[Log, bytes] | None = await self._database.read(store.to_sign, self._sealer, tenant, scope=Scope(tenant, "audit"))
        except CannotUnseal as error:
            self._runtime.log.warning("the audit log of %s cannot be signed: %s", tenant, error)
            return None
        if found is None:
            return None
        log, seed = found
        remembered = self._memory.recall(tenant)
        epoch, origin = await self._continued(log, remembered) or self._new_epoch(log, remembered)
        checkpoint = Checkpoint(origin, log.size, log.root)
        lost = remembered.checkpoint if epoch > max(1, log.epoch) else None
        return remembered, Signing(log, epoch, checkpoint, note.sign(checkpoint, seed), lost)

    async def _continued(self, log: Log, remembered: Remembered) -> tuple[int, str] | None:
        """The epoch and the origin under which the log goes on; None where it does not continue what is remembered."""
        kept = remembered.checkpoint
        if kept is None:
            return None
        if remembered.epoch < log.epoch:  # what another host has opened since is newer than what this one remembers
            return log.epoch, log.origin
        if remembered.epoch == log.epoch and kept.origin != log.origin:
            return None
        if kept.size > log.size or await self._root_at(log, kept.size) != kept.root:
            return None
        return remembered.epoch, kept.origin  # also where only the memory knows of the epoch: killed before the database did

    async def _root_at(self, log: Log, size: int) -> bytes:
        if size == log.size:
            return log.root
        places = merkle.tiles_of([(0, size)])
        tiles = await self._database.read(store.tiles, log.tenant, sorted(places), scope=Scope(log.tenant, "audit"))
        return merkle.range_root(tiles, 0, size)

    def _new_epoch(self, log: Log, remembered: Remembered) -> tuple[int, str]:
        epoch = max(log.epoch, remembered.epoch) + 1
        origin = f"{self._origin}/{log.tenant}/{epoch}-{self._runtime.chance.token(4).hex()}"
        if epoch > 1:
            self._runtime.log.warning(
                "the audit log of %s (%d entries) does not continue the checkpoint that is kept in %s: it goes on as %s",
                log.tenant, log.size, self._memory.folder, origin,
            )  # fmt: skip
        return epoch, origin

    def _remember(self, prepared: Sequence[tuple[Remembered, Signing]]) -> list[Signing]:
        """Write each to the memory, unless that says something else by now: then the next round decides anew."""
        kept = self._memory.remember([(made.before.tenant, seen, made.note) for seen, made in prepared])
        return [made for (_, made), stands in zip(prepared, kept, strict=True) if stands]
