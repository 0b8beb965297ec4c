"""Uses of secrets in the trail: one entry for an actor, an object and a minute, with how often.

Uses are counted in memory, for they are many and decide nothing, and come into the trail one to two minutes later, or when the process
ends. A kill loses the counts of at most the last two minutes; what was disclosed, and what was decided, is never counted here.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Final

from ...errors import NetraError
from ...kernel.rounds import Rounds
from ...kernel.runtime import Runtime
from ...kernel.scope import SYSTEM_TENANT, Scope
from ...kernel.uses import Meter
from ...storage.audit_append import audit_append
from ...storage.database import Database
from ...storage.transaction import Tx

MINUTE_US: Final = 60_000_000
LAG_MINUTES: Final = 2
"""A minute is written once it is certainly over, on whichever thread something was noted."""

FLUSH_EVERY_S: Final = 15.0
AT_ONCE: Final = 200
MOST_KEPT: Final = 100_000
OTHERS: Final = "*"
"""The target of uses beyond so many different ones in a process."""

Use = tuple[str, str, str, str, int]
"""Tenant, actor, action, target, minute since the epoch."""


class UseLedger:
    """See the module's docstring, and `kernel.uses`."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._meters: dict[Use, Meter] = {}
        self._unwritten: Counter[Use] = Counter()
        self._lock = threading.Lock()

    def note(self, tenant: str, actor: str, action: str, target: str) -> None:
        """One use."""
        self.meter(tenant, actor, action, target).hit()

    def meter(self, tenant: str, actor: str, action: str, target: str) -> Meter:
        """See `Uses.meter`: it counts for the minute that it is asked for in."""
        minute = self._runtime.clock.wall_us() // MINUTE_US
        use = (tenant, actor, action, target, minute)
        found = self._meters.get(use)
        if found is not None:
            return found
        with self._lock:
            if len(self._meters) + len(self._unwritten) >= MOST_KEPT and use not in self._meters:
                use = (tenant, actor, action, OTHERS, minute)
            return self._meters.setdefault(use, Meter((minute + 1) * MINUTE_US))

    def rounds(self, database: Database) -> Rounds:
        """What writes what is over, now and then; to be finished, not stopped: of a write that is cut off nobody knows."""
        return Rounds(self._runtime, partial(self.flush, database), "uses of secrets could not be written", FLUSH_EVERY_S, at_once=False)

    async def flush(self, database: Database, *, whole: bool = False) -> None:
        """Write the minutes that are over, or everything; what is not written, for whatever reason, is kept for the next time."""
        over = self._runtime.clock.wall_us() // MINUTE_US - LAG_MINUTES
        with self._lock:
            due, self._unwritten = +self._unwritten, Counter()
            for use in [use for use in self._meters if whole or use[4] <= over]:
                if count := self._meters.pop(use).read():
                    due[use] += count
        try:
            for actor, uses in groupby(sorted(due, key=_actor), key=_actor):
                mine = sorted(uses)
                for first in range(0, len(mine), AT_ONCE):
                    await self._write(database, actor, mine[first : first + AT_ONCE], due)
        finally:
            with self._lock:
                self._unwritten.update(due)

    async def _write(self, database: Database, actor: str, uses: Sequence[Use], due: Counter[Use]) -> None:
        """Write some uses of one actor, and take them from what is due."""
        try:
            await database.write(_append, [(use, due[use]) for use in uses], scope=Scope(SYSTEM_TENANT, actor), lane="bulk")
        except NetraError as error:
            self._runtime.log.warning("uses of secrets could not be written to the audit trail yet: %s", error)
            return
        for use in uses:
            del due[use]


def _actor(use: Use) -> str:
    return use[1]


async def _append(tx: Tx, uses: Sequence[tuple[Use, int]]) -> None:
    for (tenant, _, action, target, minute), count in uses:
        await audit_append(tx, action, target, after={"count": count, "minute_us": minute * MINUTE_US}, tenant=tenant)
