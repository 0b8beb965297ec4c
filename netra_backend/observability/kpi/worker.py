"""The follower: one process, under a lease, counts what the log tells, what time changes, and looks at the alerts.

It looks whenever anything was committed, twice a second at most, and for deadlines once a second. Where nothing is defined it does
nothing but ask that. What a kill cuts off is undone whole: the cursor stands where it stood. Its rounds run beside each other, but each
transaction holds the lease's row to its end, so that two never judge one object at the same time.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import Final

from ...errors import NetraError
from ...kernel.rounds import Rounds
from ...kernel.runtime import Runtime
from ...kernel.scope import system_scope
from ...kernel.witnesses import Dependencies, Messages
from ...storage import log
from ...storage.database import Database
from ...storage.membership import Membership
from ...storage.transaction import Tx
from . import alerts, store
from .joining import Definitions
from .model import Definition

COUNT_EVERY_S: Final = 0.5
DEADLINES_EVERY_S: Final = 1.0
ALERTS_EVERY_S: Final = 5.0
FORGET_EVERY_S: Final = 60.0
ROWS_AT_ONCE: Final = 100
EVENTS_AT_ONCE: Final = 500
FORGET_AT_ONCE: Final = 500
LEASE: Final = "kpi"
OBJECTS: Final = "netra_kpi_objects_total"
_SCOPE: Final = system_scope("kpi")


class Follower:
    """See the module's docstring."""

    def __init__(self, database: Database, runtime: Runtime, membership: Membership, messages: Messages, troubles: Dependencies) -> None:
        self._database = database
        self._runtime = runtime
        self._membership = membership
        self._messages = messages
        self._troubles = troubles
        self._rounds = (
            Rounds(runtime, self.count, "KPIs could not be counted yet", COUNT_EVERY_S, changes=database.version),
            Rounds(runtime, self.pass_time, "what time has changed of KPIs could not be counted yet", DEADLINES_EVERY_S),
            Rounds(runtime, self.look_at_alerts, "the alerts of KPIs could not be looked at", ALERTS_EVERY_S),
            Rounds(runtime, self.forget, "what is old of KPIs could not be deleted yet", FORGET_EVERY_S),
        )

    def start(self) -> None:
        """Begin, in the background."""
        for rounds in self._rounds:
            rounds.start()

    async def stop(self) -> None:
        """End, and give the lease back so that another process need not wait."""
        for rounds in self._rounds:
            await rounds.stop()
        with contextlib.suppress(NetraError):
            await self._database.write(log.drop_lead, LEASE, self._membership.id, scope=_SCOPE)

    async def count(self) -> None:
        """Everything that is behind the cursors by now, if this process may."""
        while not self._membership.quiet and await self._database.read(_is_behind, scope=_SCOPE):
            seen = await self._database.read(store.look, self._messages, ROWS_AT_ONCE, EVENTS_AT_ONCE, scope=_SCOPE)
            if not await self._write(self._take, seen):
                return  # another process counts

    async def pass_time(self) -> None:
        """What time alone has changed by now."""
        while not self._membership.quiet and await self._database.read(store.has_due, scope=_SCOPE):
            if not await self._write(self._pass_time):
                return

    async def look_at_alerts(self) -> None:
        """Fire and clear what is to be."""
        for definition in await self._database.read(store.definitions, scope=_SCOPE):
            if not self._membership.quiet and await self._database.read(alerts.due, definition, scope=_SCOPE):
                await self._write(self._tell, definition)

    async def forget(self) -> None:
        """Delete what is not kept any longer."""
        while not self._membership.quiet and await self._write(store.forget, FORGET_AT_ONCE) >= FORGET_AT_ONCE:
            continue

    async def _write(self, fn: object, *args: object) -> int:
        return int(await self._database.write(fn, *args, scope=_SCOPE, lane="bulk"))  # type: ignore[arg-type]  # a store function

    async def _take(self, tx: Tx, seen: store.Look) -> bool:
        """Count what was seen; False where another living process has the lease."""
        if not await log.has_lead(tx, LEASE, self._membership.id):
            return False
        results = await store.take(tx, seen, self._messages, self._troubles)
        if results is not None:
            self._count(tx, results)
        return True

    async def _pass_time(self, tx: Tx) -> bool:
        if not await log.has_lead(tx, LEASE, self._membership.id):
            return False
        _, results = await store.pass_time(tx, Definitions(await store.definitions(tx)), self._messages, self._troubles)
        self._count(tx, results)
        return True

    async def _tell(self, tx: Tx, definition: Definition) -> bool:
        return await log.has_lead(tx, LEASE, self._membership.id) and bool(await alerts.tell(tx, definition))

    def _count(self, tx: Tx, results: Counter[tuple[str, str]]) -> None:
        """The metric counts how often an object came to a result, once that is committed."""

        def add() -> None:
            for (kpi, result), amount in results.items():
                self._runtime.metrics.count(OBJECTS, amount, kpi=kpi, result=result)

        if results:
            tx.after_commit(add)


async def _is_behind(tx: Tx) -> bool:
    """Whether there is something to count: nothing is where no KPI was ever defined, for then there is no cursor."""
    for stream, name in store.STREAMS.items():
        row = await tx.one(log.Q.get_cursor, name=name)
        if row is not None and await log.last_seq(tx, stream) > row[0]:
            return True
    return False
