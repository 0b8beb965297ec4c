"""The hot verbs on PostgreSQL: callers that wait together are one call of a verb that takes a list, in one transaction.

While a transaction of a verb is on its way, new items gather for the next one, so that the list grows with the load and a
lone caller waits for nobody. Two transactions of a verb are on their way at most: one computes while the other syncs.

S1 here: a transaction that fails before its commit has stored nothing, so each of its items is run once more alone, and one
bad item fails alone. An unknown outcome is everybody's, and is never repeated. So is a server that is not there: each alone
would wait for it once more.

A lock that a caller's own transaction holds, however long (a place in a line, a key), is waited for by those alone who want it. All
tenants' items would wait with the one that does: so a transaction of many waits for a lock no longer than `TOGETHER_S`, one item
by itself for `ALONE_S`, and then that item is set aside, where it waits as long as a statement may: of each tenant one at a time, and
never on more than a few connections.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from ..errors import NetraError, OutcomeUnknown
from ..kernel import debugging
from .errors import Contended, DatabaseUnreachable
from .jobs import UNIT_WEIGHT, BatchVerb, Job, settle_all
from .postgres_errors import LOCKED
from .turns import Turns

AT_ONCE: Final = 2
TOGETHER_S: Final = 0.25
ALONE_S: Final = 0.02
ASIDE_S: Final = 30.0
"""How long an item that was set aside waits for its turn."""

RunVerb = Callable[[BatchVerb, list[Any], float | None], Awaitable[tuple[Sequence[Any], list[Callable[[], None]]]]]
"""Call a verb in a transaction of its own that waits for a lock for so many seconds (None: as long as a statement may last); its
results, and what follows the commit."""


class Coalescing:
    """See the module's docstring. `aside` is how many items at most wait for locks at once."""

    def __init__(self, run: RunVerb, aside: int) -> None:
        self._run = run
        self._turns = Turns(aside)
        self._waiting: dict[BatchVerb, deque[Job]] = {}
        self._running: dict[BatchVerb, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def submit(self, job: Job) -> None:
        """Queue one item; its future is settled by the commit."""
        self._waiting.setdefault(job.fn, deque()).append(job)
        running = self._running.get(job.fn, 0)
        if running < AT_ONCE:
            self._running[job.fn] = running + 1
            task = asyncio.create_task(self._work(job.fn))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def drain(self) -> None:
        """Wait until nothing waits."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _work(self, verb: BatchVerb) -> None:
        debugging.unwatched()  # it was begun by one caller and serves all
        waiting = self._waiting[verb]
        while unit := _take(waiting):
            await self._unit(verb, unit)
        self._running[verb] -= 1
        if not self._running[verb]:
            del self._running[verb], self._waiting[verb]

    async def _unit(self, verb: BatchVerb, unit: list[Job]) -> None:
        error = await self._attempt(verb, unit, TOGETHER_S)
        if error is None:
            return
        if isinstance(error, OutcomeUnknown | DatabaseUnreachable):
            _fail(unit, error)
        elif len(unit) == 1:
            self._failed(verb, unit[0], error)
        else:
            for job in unit:
                if (alone := await self._attempt(verb, [job], ALONE_S)) is not None:
                    self._failed(verb, job, alone)

    def _failed(self, verb: BatchVerb, job: Job, error: BaseException) -> None:
        """One item's own error is its caller's; where it was only in somebody's way it is tried once more, beside the others."""
        if not (isinstance(error, NetraError) and error.facts.get("sqlstate") == LOCKED):
            _fail([job], error)
            return
        task = asyncio.create_task(self._aside(verb, job))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _aside(self, verb: BatchVerb, job: Job) -> None:
        debugging.unwatched()
        try:
            async with asyncio.timeout(ASIDE_S) as limit, self._turns.of(_whose(job.args[0])):
                limit.reschedule(None)
                error = await self._attempt(verb, [job], None)
        except TimeoutError:
            error = Contended("others wait for the same lock, and it was not given back in time")
        if error is not None:
            _fail([job], error)

    async def _attempt(self, verb: BatchVerb, unit: list[Job], lock_s: float | None) -> BaseException | None:
        """One transaction; why nothing of it is stored, if so."""
        try:
            results, callbacks = await self._run(verb, [job.args[0] for job in unit], lock_s)
        except BaseException as error:  # noqa: BLE001  (whatever a verb raises is its callers', and ends nobody else)
            return error
        for job, result in zip(unit, results, strict=True):
            job.value, job.error = (None, result) if isinstance(result, BaseException) else (result, None)
        unit[0].callbacks = callbacks
        settle_all(unit)
        return None


def _whose(item: Any) -> str:
    """The tenant of an item, or of the first of a list of them; empty where it does not say."""
    return str(getattr(item[0] if isinstance(item, list) and item else item, "tenant", ""))


def _take(waiting: deque[Job]) -> list[Job]:
    unit: list[Job] = []
    weight = 0
    while waiting and (not unit or weight + waiting[0].weight <= UNIT_WEIGHT):
        unit.append(waiting.popleft())
        weight += unit[-1].weight
    return unit


def _fail(unit: Sequence[Job], error: BaseException) -> None:
    for job in unit:
        job.error, job.value, job.callbacks = error, None, []
    settle_all(unit)
