"""Before the transaction: read the next items and process them, outside any lock.

An item that `process` refuses becomes a dead letter; where the error is of a kind that may pass (`retry_on`) it is tried again
first, with growing pauses, together with the other ones of its chunk. What is synchronous runs in a thread, so that neither a slow
disk nor a long computation keeps this node from beating.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from ..kernel.backoff import Exponential
from ..kernel.runtime import Runtime
from .chunks import words
from .model import Again, Chunk, Cursor, Failure, Malformed
from .readers import Read
from .registry import Job

PAUSES: Final = Exponential(base_s=0.05, cap_s=5.0)

_Errors = list[tuple[int, Exception]]
"""(index, error) of each item that was refused; what was not refused stands in the chunk's values."""


async def prepare(source: Iterator[Read] | AsyncIterator[Read], job: Job, runtime: Runtime, start: int, before: Cursor, size: int) -> Chunk:
    """The next `size` items behind `before`, processed; fewer, and `last`, where the input ends."""
    pairs = await _take(source, size)
    items = [item for _, item in pairs]
    keys = [item.key for item in items if isinstance(item, Again)]
    if keys:
        items = [item.item for item in items]
    chunk = Chunk(start, before, items, [after for after, _ in pairs], [None] * len(items), {}, last=len(pairs) < size, keys=keys)
    await _process(chunk, job, runtime)
    return chunk


async def _take(source: Iterator[Read] | AsyncIterator[Read], size: int) -> list[Read]:
    if not isinstance(source, AsyncIterator):
        return await asyncio.to_thread(lambda: list(islice(source, size)))
    pairs: list[Read] = []
    while len(pairs) < size:
        try:
            pairs.append(await anext(source))
        except StopAsyncIteration:
            break
    return pairs


async def _process(chunk: Chunk, job: Job, runtime: Runtime) -> None:
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
        for index, error in await _try(chunk, waiting, job):
            if isinstance(error, job.retry_on) and tries < job.retry:
                again.append(index)
            else:
                chunk.failures[index] = Failure(words(error), tries)
        waiting = again
        if waiting:
            await runtime.clock.sleep(PAUSES.delay_s(tries, runtime.chance))


async def _try(chunk: Chunk, indexes: Sequence[int], job: Job) -> _Errors:
    call = job.process_chunk or job.process
    if call is None:
        chunk.values[:] = [None if index in chunk.failures else item for index, item in enumerate(chunk.items)]
        return []
    if inspect.iscoroutinefunction(call):
        return await (_whole_async if job.process_chunk else _each_async)(call, chunk, indexes)
    return await asyncio.to_thread(_whole if job.process_chunk else _each, call, chunk, indexes)


def _each(call: Callable[[Any], Any], chunk: Chunk, indexes: Sequence[int]) -> _Errors:
    items, values = chunk.items, chunk.values
    errors: _Errors = []
    for index in indexes:
        try:
            values[index] = call(items[index])
        except Exception as error:  # noqa: BLE001  (whatever it is, it is this item's)
            errors.append((index, error))
    return errors


async def _each_async(call: Callable[[Any], Any], chunk: Chunk, indexes: Sequence[int]) -> _Errors:
    errors: _Errors = []
    for index in indexes:
        try:
            chunk.values[index] = await call(chunk.items[index])
        except Exception as error:  # noqa: BLE001  (as above)
            errors.append((index, error))
    return errors


def _whole(call: Callable[[Sequence[Any]], Any], chunk: Chunk, indexes: Sequence[int]) -> _Errors:
    """All at once; where that fails, each half, down to the guilty item."""
    try:
        _keep(chunk, indexes, call([chunk.items[index] for index in indexes]))
    except Exception as error:  # noqa: BLE001  (as above)
        if len(indexes) == 1:
            return [(indexes[0], error)]
    else:
        return []
    middle = len(indexes) // 2
    return _whole(call, chunk, indexes[:middle]) + _whole(call, chunk, indexes[middle:])


async def _whole_async(call: Callable[[Sequence[Any]], Any], chunk: Chunk, indexes: Sequence[int]) -> _Errors:
    try:
        _keep(chunk, indexes, await call([chunk.items[index] for index in indexes]))
    except Exception as error:  # noqa: BLE001  (as above)
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
