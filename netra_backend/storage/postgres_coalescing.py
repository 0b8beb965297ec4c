"""The hot verbs on PostgreSQL: callers that wait together are one call of a verb that takes a list, in one transaction.

While a transaction of a verb is on its way, new items gather for the next one, so that the list grows with the load and a
lone caller waits for nobody. Two transactions of a verb are on their way at most: one computes while the other syncs.

S1 here: a transaction that fails before its commit has stored nothing, so each of its items is run once more alone, and one
bad item fails alone. An unknown outcome is everybody's, and is never repeated. So is a server that is not there: each alone
would wait for it once more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from ..errors import OutcomeUnknown
from ..kernel import debugging
from .errors import DatabaseUnreachable
from .jobs import UNIT_WEIGHT, BatchVerb, Job, settle_all

AT_ONCE: Final = 2

RunVerb = Callable[[BatchVerb, list[Any]], Awaitable[tuple[Sequence[Any], list[Callable[[], None]]]]]
"""Call a verb in a transaction of its own; its results, and what follows the commit."""


class Coalescing:
    """See the module's docstring."""

    def __init__(self, run: RunVerb) -> None:
        self._run = run
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
        error = await self._attempt(verb, unit)
        if error is None:
            return
        if len(unit) == 1 or isinstance(error, OutcomeUnknown | DatabaseUnreachable):
            _fail(unit, error)
            return
        for job in unit:
            await self._unit(verb, [job])

    async def _attempt(self, verb: BatchVerb, unit: list[Job]) -> BaseException | None:
        """One transaction; why nothing of it is stored, if so."""
        try:
            results, callbacks = await self._run(verb, [job.args[0] for job in unit])
        except BaseException as error:  # noqa: BLE001  (whatever a verb raises is its callers', and ends nobody else)
            return error
        for job, result in zip(unit, results, strict=True):
            job.value, job.error = (None, result) if isinstance(result, BaseException) else (result, None)
        unit[0].callbacks = callbacks
        settle_all(unit)
        return None


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
