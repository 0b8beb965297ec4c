"""Before the transaction: make a chunk of what was read and process it, outside any lock.

An item that `process` refuses becomes a dead letter; where the error is of a kind that may pass (`retry_on`) it is tried again
first, with growing pauses, together with the other ones of its chunk. What is synchronous runs in a thread, or at the job's executor,
so that a long computation does not keep this node from beating. `MemoryError` is no item's failure yet: it is raised, and whoever holds
the partition does less at once.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from typing import Any, Final, Protocol

from ..kernel.backoff import Exponential
from ..kernel.runtime import Runtime
from .elsewhere import Outcome
from .feed import Portion
from .model import Again, Chunk, Cursor, Failure, Malformed, words
from .raised import is_own
from .registry import Job

PAUSES: Final = Exponential(base_s=0.05, cap_s=5.0)

_Refused = list[tuple[int, str, bool]]
"""(index, the error's words, whether it may pass) of each item that was refused; the values of the others stand in the chunk."""


class Remote(Protocol):
    """Where `process` runs, if not here (`seam.Seam`)."""

    async def run(self, items: Sequence[Any]) -> list[Outcome | Failure]:
        """What became of each item, in order."""
        ...


def chunk_of(portion: Portion, start: int, before: Cursor) -> Chunk:
    """The portion as a chunk in which nothing is processed yet."""
    items = [item for _, item in portion.pairs]
    keys = [item.key for item in items if isinstance(item, Again)]
    if keys:
        items = [item.item for item in items]
    afters = [after for after, _ in portion.pairs]
    return Chunk(start, before, items, afters, [None] * len(items), {}, portion.last, keys, portion.item_bytes)


async def process(chunk: Chunk, job: Job, runtime: Runtime, remote: Remote | None = None, threads: Executor | None = None) -> None:
    """Fill the chunk's values and failures."""
    waiting: list[int] = []
    for index, item in enumerate(chunk.items):
        if isinstance(item, Malformed):
            chunk.failures[index] = Failure(item.error, 1)
        else:
            waiting.append(index)
    tries = 0
    while waiting:
        tries += 1
        again: list[int] = []
        for index, error, may_pass in await _try(chunk, waiting, job, remote, threads):
            if may_pass and tries < job.retry:
                again.append(index)
            else:
                chunk.failures[index] = Failure(error, tries)
        waiting = again
        if waiting:
            await runtime.clock.sleep(PAUSES.delay_s(tries, runtime.chance))


async def _try(chunk: Chunk, indexes: Sequence[int], job: Job, remote: Remote | None, threads: Executor | None) -> _Refused:
    call = job.process_chunk or job.process
    if call is None:
        chunk.values[:] = [None if index in chunk.failures else item for index, item in enumerate(chunk.items)]
        return []
    if remote is not None:
        return _told(chunk, indexes, await remote.run([chunk.items[index] for index in indexes]))
    if inspect.iscoroutinefunction(call):
        errors = await (_whole_async if job.process_chunk else _each_async)(call, chunk, indexes)
    else:
        here = _whole if job.process_chunk else _each
        heard = copy_context().run  # a debug session that listens to this chunk goes with it
        errors = await asyncio.get_running_loop().run_in_executor(threads, heard, here, call, chunk, indexes)
    return [(index, words(error), isinstance(error, job.retry_on)) for index, error in errors]


def _told(chunk: Chunk, indexes: Sequence[int], outcomes: Sequence[Outcome | Failure]) -> _Refused:
    refused: _Refused = []
    for index, outcome in zip(indexes, outcomes, strict=True):
        if isinstance(outcome, Failure):
            chunk.failures[index] = outcome
        elif outcome[0] == "ok":
            chunk.values[index] = outcome[1]
        elif outcome[0] == "error":
            refused.append((index, outcome[1], outcome[2]))
        else:
            chunk.failures[index] = Failure(outcome[1], 1, "oom")
    return refused


_Errors = list[tuple[int, BaseException]]


def _each(call: Callable[[Any], Any], chunk: Chunk, indexes: Sequence[int]) -> _Errors:
    items, values = chunk.items, chunk.values
    errors: _Errors = []
    for index in indexes:
        try:
            values[index] = call(items[index])
        except MemoryError:
            raise
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is this item's; see `raised`)
            errors.append((index, error))
    return errors


async def _each_async(call: Callable[[Any], Any], chunk: Chunk, indexes: Sequence[int]) -> _Errors:
    errors: _Errors = []
    for index in indexes:
        try:
            chunk.values[index] = await call(chunk.items[index])
        except MemoryError:
            raise
        except BaseException as error:
            if not is_own(error):
                raise
            errors.append((index, error))
    return errors


def _whole(call: Callable[[Sequence[Any]], Any], chunk: Chunk, indexes: Sequence[int]) -> _Errors:
    """All at once; where that fails, each half, down to the guilty item."""
    try:
        _keep(chunk, indexes, call([chunk.items[index] for index in indexes]))
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001  (as above)
        if len(indexes) == 1:
            return [(indexes[0], error)]
    else:
        return []
    middle = len(indexes) // 2
    return _whole(call, chunk, indexes[:middle]) + _whole(call, chunk, indexes[middle:])


async def _whole_async(call: Callable[[Sequence[Any]], Any], chunk: Chunk, indexes: Sequence[int]) -> _Errors:
    try:
        _keep(chunk, indexes, await call([chunk.items[index] for index in indexes]))
    except MemoryError:
        raise
    except BaseException as error:
        if not is_own(error):
            raise
        if len(indexes) == 1:
            return [(indexes[0], error)]
    else:
        return []
    middle = len(indexes) // 2
    return await _whole_async(call, chunk, indexes[:middle]) + await _whole_async(call, chunk, indexes[middle:])


def _keep(chunk: Chunk, indexes: Sequence[int], values: Sequence[Any]) -> None:
    if len(values) != len(indexes):
        raise ValueError(f"process_chunk returned {len(values)} values for {len(indexes)} items")
    for index, value in zip(indexes, values, strict=True):
        chunk.values[index] = value
