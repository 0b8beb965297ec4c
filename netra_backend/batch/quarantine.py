"""A chunk whose worker has died twice, worked on in a process of its own, so that whatever is in it kills nobody else.

The child reads (where the reader is synchronous: one that asks the database reads in the worker) and processes; the worker writes
and commits what comes back. As it goes, the child notes in a file which item it is at. Where it dies at item i, those in front of i go
first, then i alone, then the rest; where it says nothing, as with `process_chunk`, the chunk is halved. An item that kills two
children by itself is the guilty one: a dead letter of the cause `crash`, or `oom` where memory was the reason. One is not enough,
for a child may die by somebody's SIGKILL. A child that dies before it begins to read what it is to read is no item's failure.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Final, cast

from ..errors import InvalidInput
from ..kernel.runtime import Runtime
from ..resilience.memory_pressure import Level
from . import registry
from .elsewhere import processes
from .errors import CannotSkip, ExecutorLost
from .feed import Feed, Portion
from .ladder import LOOK_AGAIN_S, Ladder
from .model import Chunk, Cursor, Failure, Lease, words
from .prepare import chunk_of, process
from .readers import Read, Reader, Source
from .registry import Job
from .seam import DEATHS, TRIES, kill_children

CRASHES: Final = 2
"""After how many owners that died in a row a chunk is worked on so."""
HOPELESS: Final = 5
"""How often a chunk that was processed in quarantine begins to be written: then the run fails, for it is the writer that kills.
An owner that died elsewhere does not count: in a storm of kills a partition may lose many before its next commit."""

_READING, _PROCESSING = b"r", b"p"


@dataclass(frozen=True, slots=True)
class _Order:
    """What the child is told. `pairs` are the items, where the worker has read them."""

    job: str
    modules: tuple[str, ...]
    params: Mapping[str, Any]
    spec: Any
    start: int
    before: Cursor
    size: int
    pairs: Sequence[Read] | None
    notes: str


class _Died(Exception):
    """A child is gone: while it was at item `at`, which was `read` whole or not. None: before it had begun."""

    def __init__(self, words: str, cause: str, at: int | None, *, read: bool) -> None:
        super().__init__(words)
        self.cause = cause
        self.at = at
        self.read = read


class Quarantine:
    """See the module's docstring. It is over when the partition's position has come to `until`."""

    def __init__(self, job: Job, modules: Sequence[str], reader: Reader, source: Source, lease: Lease, ladder: Ladder) -> None:
        self.until = lease.position + max(1, lease.chunk_size)
        self._job = job
        self._modules = tuple(dict.fromkeys([*modules, *registry.homes(job)]))
        self._reader = reader
        self._source = source
        self._ladder = ladder
        self._sizes: deque[int] = deque()
        self._deaths = 0
        self._unbegun = 0
        self._feed: Feed | None = None
        self._pairs: list[Read] = []

    async def next(self, lease: Lease) -> Chunk:
        """The next chunk behind the lease's cursor, or the dead letter of an item that kills."""
        while True:
            size = self._sizes.popleft() if self._sizes else max(1, min(lease.chunk_size, self.until - lease.position))
            try:
                chunk = await self._attempt(lease, size)
            except _Died as died:
                if died.at is None and not self._pairs:  # it was given no item that could have killed it
                    self._unbegun += 1
                    if self._unbegun >= TRIES:
                        raise ExecutorLost(f"{died} before it had begun, {TRIES} times") from died
                    self._sizes.appendleft(size)
                    continue
                if size > 1:
                    self._sizes.extendleft(reversed(_parts(size, died.at)))
                    continue
                self._deaths += 1
                if self._deaths < DEATHS:
                    self._sizes.appendleft(1)
                    continue
                chunk = await self._letter(lease, died)
            self._deaths = self._unbegun = 0
            del self._pairs[: len(chunk)]
            return chunk

    async def close(self) -> None:
        """Let go of what was read."""
        if self._feed is not None:
            await self._feed.close()

    async def _attempt(self, lease: Lease, size: int) -> Chunk:
        pairs = await self._read_here(lease, size)
        with tempfile.TemporaryDirectory(prefix="netra-quarantine-") as folder:
            notes = str(Path(folder) / "notes")
            order = _Order(self._job.name, self._modules, self._source.params, lease.spec, lease.position, lease.cursor, size, pairs, notes)
            return await self._in_a_child(order)

    async def _read_here(self, lease: Lease, size: int) -> Sequence[Read] | None:
        if self._feed is None:
            items = self._reader.read(self._source, lease.spec, lease.cursor)
            if not isinstance(items, AsyncIterator):
                return None
            self._feed = Feed(items)
        while len(self._pairs) < size:
            portion = await self._feed.take(size - len(self._pairs))
            self._pairs += portion.pairs
            if portion.last:
                break
        return self._pairs[:size]

    async def _in_a_child(self, order: _Order) -> Chunk:
        await self._ladder.calmed()
        alone = processes(1).make()
        starved = self._ladder.oom_kills()
        killed = False
        try:
            waited = asyncio.wrap_future(alone.submit(prepare_here, order))
            while not waited.done():
                await asyncio.wait([waited], timeout=LOOK_AGAIN_S)
                if not waited.done() and self._ladder.look() >= Level.ABORT:
                    killed = True
                    kill_children(alone)
            return waited.result()
        except MemoryError as error:
            at, read = _noted(order)
            raise _Died(f"MemoryError: {error}", "oom", at, read=read) from error
        except BrokenExecutor as error:
            at, read = _noted(order)
            cause = "oom" if killed or self._ladder.oom_kills() > starved else "crash"
            raise _Died("its process died" if cause == "crash" else "its process ran out of memory", cause, at, read=read) from error
        except asyncio.CancelledError:
            kill_children(alone)
            raise
        except (TypeError, AttributeError) as error:
            raise InvalidInput(
                f"what `process` returned cannot be sent from one process to another: {error}",
                fix="Return plain data: dicts, lists, texts, numbers.",
            ) from error
        finally:
            alone.shutdown(wait=False, cancel_futures=True)

    async def _letter(self, lease: Lease, died: _Died) -> Chunk:
        failure = Failure(f"{died}, in each of {DEATHS} tries alone", DEATHS, died.cause)
        if self._pairs:
            chunk = chunk_of(Portion(self._pairs[:1]), lease.position, lease.cursor)
            chunk.failures[0] = failure
            return chunk
        return await letter_of(self._reader, self._source, lease, failure, readable=died.read)


async def letter_of(reader: Reader, source: Source, lease: Lease, failure: Failure, *, readable: bool) -> Chunk:
    """A chunk of one item that cannot be processed. The item itself only where it can be read: it is too large otherwise."""
    if readable:
        items = reader.read(source, lease.spec, lease.cursor)
        feed = Feed(items)
        try:
            portion = await feed.take(1)
        except MemoryError:
            pass
        else:
            chunk = chunk_of(portion, lease.position, lease.cursor)
            chunk.failures.update({0: failure} if portion.pairs else {})
            return chunk
        finally:
            await feed.close()
    skip = cast("Callable[[Source, Any, Cursor], Cursor] | None", getattr(reader, "skip", None))
    if skip is None:
        raise CannotSkip(f"the item at {lease.position} of {lease.words} cannot be read: {failure.error}")
    after = await asyncio.to_thread(skip, source, lease.spec, lease.cursor)
    return Chunk(lease.position, lease.cursor, [None], [after], [None], {0: failure}, last=False)


def _parts(size: int, at: int | None) -> list[int]:
    if at is None or not 0 <= at < size:
        return [size // 2, size - size // 2]
    return [part for part in (at, 1, size - at - 1) if part]


def _noted(order: _Order) -> tuple[int | None, bool]:
    """At which item the child was, and whether that was read whole; None where it had not begun."""
    try:
        note = Path(order.notes).read_bytes()
    except OSError:
        note = b""
    if len(note) != 9:
        return None, False
    return int.from_bytes(note[1:], "big"), note[:1] == _PROCESSING


# In the child


def prepare_here(order: _Order) -> Chunk:
    """Read and process; what the child does. Errors go back as words: one that cannot be unpickled would pass for a death."""
    try:
        return _prepare(order)
    except MemoryError:
        raise
    except BaseException as error:  # noqa: BLE001  (whatever it is, the run is told of it)
        raise RuntimeError(words(error)) from None


def _prepare(order: _Order) -> Chunk:
    registry.load(order.modules)
    job = registry.named(order.job)
    note = _notes(order.notes)
    items = iter(order.pairs) if order.pairs is not None else _read(job, order)
    pairs = [pair for index, pair in enumerate(_telling(items, note)) if index < order.size]
    chunk = chunk_of(Portion(pairs, len(pairs) < order.size), order.start, order.before)
    if job.process is not None and not asyncio.iscoroutinefunction(job.process):
        job = replace(job, process=_noting(job.process, note))
    else:
        note(_PROCESSING, len(pairs))  # all are read; which of them kills is not seen
    asyncio.run(process(chunk, job, Runtime()))
    return chunk


def _read(job: Job, order: _Order) -> Iterator[Read]:
    source = cast("Source", _NoDatabase(order.params))
    return islice(cast("Iterable[Read]", job.reader(order.params).read(source, order.spec, order.before)), order.size)


@dataclass(frozen=True, slots=True)
class _NoDatabase:
    """A source for readers that ask no database."""

    params: Mapping[str, Any]


def _notes(path: str) -> Callable[[bytes, int], None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    return lambda phase, index: void(os.pwrite(descriptor, phase + index.to_bytes(8, "big"), 0))


def void(_: object) -> None:
    """Nothing of it is wanted."""


def _telling(items: Iterator[Read], note: Callable[[bytes, int], None]) -> Iterator[Read]:
    index = 0
    while True:
        note(_READING, index)
        try:
            pair = next(items)
        except StopIteration:
            return
        yield pair
        index += 1


def _noting(call: Callable[[Any], Any], note: Callable[[bytes, int], None]) -> Callable[[Any], Any]:
    index = -1

    def noting(item: Any) -> Any:
        nonlocal index
        index += 1
        note(_PROCESSING, index)
        return call(item)

    return noting
