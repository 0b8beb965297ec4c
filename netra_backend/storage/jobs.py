"""What waits for a transaction together with others, and how the waiter hears of the end.

On SQLite a job's outcome is decided on the writer thread and delivered on the loop of whoever asked, all jobs of one commit in
one callback. What must happen because of the commit (`after_commit`) runs there first, whether or not the caller still
waits: a cancelled caller changes nothing.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ..kernel.failpoints import declare
from ..kernel.scope import Scope

BatchVerb = Callable[[Any, Sequence[Any]], Coroutine[Any, Any, Sequence[Any]]]
"""A verb over a list: one result per item, in order; an exception instance as a result is raised for that item alone."""

BEFORE_COMMIT: Final = declare("storage.before_commit", "the group's rows are written, nothing is committed")
AFTER_COMMIT: Final = declare("storage.after_commit_before_ack", "the group is committed, no caller knows it yet")

UNIT_WEIGHT: Final = 256

_log: Final = logging.getLogger("netra.storage")


@dataclass(slots=True, eq=False)
class Job:
    """One function to run in a transaction, or one item of a batched verb, and who waits for it.

    `weight` is 0 for a function, else how many rows the item stands for.
    """

    fn: Callable[..., Coroutine[Any, Any, Any]]
    args: tuple[Any, ...]
    scope: Scope
    loop: asyncio.AbstractEventLoop | None
    future: asyncio.Future[Any] | concurrent.futures.Future[Any]
    weight: int = 0
    value: Any = None
    error: BaseException | None = None
    callbacks: list[Callable[[], None]] = field(default_factory=list)

    def settle(self) -> None:
        """Run what follows the commit, then tell the caller if there still is one. On the caller's loop.

        The callbacks are the unit's: they stand at its first item, even where that item itself was refused.
        """
        run_callbacks(self.callbacks)
        if self.future.done():
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)


def run_callbacks(callbacks: Iterable[Callable[[], None]]) -> None:
    """Run what follows a commit."""
    for callback in callbacks:
        try:
            callback()
        except Exception:  # noqa: BLE001  (the commit stands, whatever its followers do)
            _log.exception("an after-commit callback failed; the commit stands")


def settle_all(jobs: Iterable[Job]) -> None:
    """Settle each job on its own loop, one callback per loop."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[Job]] = {}
    for job in jobs:
        by_loop.setdefault(job.loop, []).append(job)
    for loop, group in by_loop.items():
        if loop is None:
            _settle(group)
            continue
        try:
            loop.call_soon_threadsafe(_settle, group)
        except RuntimeError:
            # That loop is closed: nobody is left to tell, and rows under this node's lease fall to the sweep.
            _log.warning("%d writes ended after their event loop was closed", len(group))


def _settle(jobs: Sequence[Job]) -> None:
    for job in jobs:
        try:
            job.settle()
        except Exception:  # noqa: BLE001  (the neighbours' callers still wait)
            _log.exception("a caller could not be told of the end of its write")


def units(jobs: Sequence[Job], most: int = UNIT_WEIGHT) -> list[list[Job]]:
    """Merge the items of each batched verb into units of about `most` rows at most, at the first item's place."""
    open_units: dict[Any, tuple[list[Job], int]] = {}
    result: list[list[Job]] = []
    for job in jobs:
        unit, weight = open_units.get(job.fn, ([], 0)) if job.weight else ([], 0)
        if not unit:
            result.append(unit)
        unit.append(job)
        if job.weight and weight + job.weight < most:
            open_units[job.fn] = (unit, weight + job.weight)
        else:
            open_units.pop(job.fn, None)
    return result
