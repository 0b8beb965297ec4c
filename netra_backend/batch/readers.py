"""Readers: where items come from, and how to go on behind a given one.

A reader is asked twice. `split` plans a run: it cuts the input into partitions and fixes their bounds, so that what is added to
the input later belongs to no run that was planned before. `read` gives the items of one partition behind a cursor, each with
the cursor behind itself. Both may run again in another process: what they need stands in the run's parameters and in `spec`.

Synchronous readers run in a thread, so a slow disk delays nobody's heartbeat; and so does what `split` does there by `Source.aside`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar, runtime_checkable

import orjson

from ..kernel.scope import Scope
from ..storage.database import Database
from .model import Cursor, Malformed, Part

T = TypeVar("T")
Read = tuple[Cursor, Any]
"""The cursor behind an item, and the item."""

BLOCK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Source:
    """What a reader may use: the run's parameters, the database in the run's scope, and threads for what waits for a disk."""

    params: Mapping[str, Any]
    database: Database
    scope: Scope
    threads: Executor | None = None

    async def aside(self, work: Callable[..., T], *args: Any) -> T:
        """What `work(*args)` returns, in a thread: a long file or a slow disk delays nobody's heartbeat."""
        return await asyncio.get_running_loop().run_in_executor(self.threads, copy_context().run, partial(work, *args))


@runtime_checkable
class Reader(Protocol):
    """See the module's docstring. `splits` says whether it can cut its input at all."""

    async def split(self, source: Source, partitions: int) -> Sequence[Part]:
        """The partitions, at most so many; at least one."""
        ...

    def read(self, source: Source, spec: Any, cursor: Cursor) -> Iterator[Read] | AsyncIterator[Read]:
        """The items of the partition `spec` behind `cursor` (None: from its beginning), each with the cursor behind it."""
        ...


class Skips(Protocol):
    """What a reader may have besides: the cursor behind the next item, found without holding that item whole.

    Asked for an item that is too large for the memory there is, which becomes a dead letter.
    """

    def skip(self, source: Source, spec: Any, cursor: Cursor) -> Cursor:
        """The cursor behind the item that comes behind `cursor`."""
        ...


def ranges(start: int, end: int, parts: int) -> list[tuple[int, int]]:
    """`start` to `end` as at most `parts` half-open ranges of nearly the same length, none of them empty; one if all is empty."""
    count = max(1, min(parts, end - start))
    edges = [start + (end - start) * index // count for index in range(count + 1)]
    return list(pairwise(edges))


@dataclass(frozen=True, slots=True)
class SequenceReader:
    """A list in memory, the same in each process."""

    items: Sequence[Any] | Callable[[Mapping[str, Any]], Sequence[Any]]

    async def split(self, source: Source, partitions: int) -> Sequence[Part]:
        """Ranges of indexes."""
        count = await source.aside(lambda: len(self._all(source)))
        return [Part([start, end], end - start) for start, end in ranges(0, count, partitions)]

    def read(self, source: Source, spec: Any, cursor: Cursor) -> Iterator[Read]:
        """See `Reader.read`; the cursor is the next index."""
        start, end = spec
        items = self._all(source)
        for index in range(start if cursor is None else cursor, end):
            yield index + 1, items[index]

    def skip(self, source: Source, spec: Any, cursor: Cursor) -> Cursor:
        """See `Skips`."""
        del source
        return (spec[0] if cursor is None else cursor) + 1

    def _all(self, source: Source) -> Sequence[Any]:
        return self.items(source.params) if callable(self.items) else self.items


def sequence(items: Sequence[Any] | Callable[[Mapping[str, Any]], Sequence[Any]]) -> SequenceReader:
    """A list, or a function of the run's parameters that makes it: the same list in every process and after every restart."""
    return SequenceReader(items)


@dataclass(frozen=True, slots=True)
class NdjsonReader:
    """One JSON value a line."""

    path: Path

    async def split(self, source: Source, partitions: int) -> Sequence[Part]:
        """Ranges of bytes that begin and end between lines."""
        return await source.aside(self._cut, partitions)

    def _cut(self, partitions: int) -> list[Part]:
        with self.path.open("rb") as file:
            edges = [_line_behind(file, start) if start else 0 for start, _ in ranges(0, self.path.stat().st_size, partitions)]
        edges = sorted({*edges, self.path.stat().st_size})
        return [Part([start, end]) for start, end in pairwise(edges)] or [Part([0, 0])]

    def read(self, source: Source, spec: Any, cursor: Cursor) -> Iterator[Read]:
        """See `Reader.read`; the cursor is the offset of the next line in bytes. Empty lines are no items."""
        del source
        start, end = spec
        at = start if cursor is None else cursor
        with self.path.open("rb") as file:
            file.seek(at)
            while at < end and (line := file.readline()):
                at += len(line)
                if line.strip():
                    yield at, _parsed(line)

    def skip(self, source: Source, spec: Any, cursor: Cursor) -> Cursor:
        """See `Skips`."""
        del source
        at = int(spec[0] if cursor is None else cursor)
        with self.path.open("rb") as file:
            file.seek(at)
            while (start := file.read(BLOCK)) and not start.partition(b"\n")[0].strip() and b"\n" in start:  # empty lines are no items
                at += start.index(b"\n") + 1
                file.seek(at)
            file.seek(at)
            return at + _skip_line(file)


def _skip_line(file: Any) -> int:
    """How many bytes the next line has, never holding more than a block of it."""
    length = 0
    while piece := file.readline(BLOCK):
        length += len(piece)
        if piece.endswith(b"\n"):
            break
    return length


def _line_behind(file: Any, offset: int) -> int:
    file.seek(offset - 1)
    file.readline()  # to the end of the line that the offset stands in, or of the one that ends just there
    return int(file.tell())


def _parsed(line: bytes) -> Any:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return Malformed(line.decode(errors="replace").rstrip("\r\n"), str(error))


def ndjson(path: str | Path) -> NdjsonReader:
    """A file with one JSON value a line; a line that is none becomes a dead letter. Can be cut into partitions."""
    return NdjsonReader(Path(path))


@dataclass(frozen=True, slots=True)
class IterateReader:
    """Anything that can begin behind a cursor."""

    begin: Callable[[Mapping[str, Any], Cursor], Iterable[Read] | AsyncIterator[Read]]

    async def split(self, source: Source, partitions: int) -> Sequence[Part]:
        """One partition: nobody else knows how to cut it."""
        del source, partitions
        return [Part(None)]

    def read(self, source: Source, spec: Any, cursor: Cursor) -> Iterator[Read] | AsyncIterator[Read]:
        """See `Reader.read`."""
        del spec
        begun = self.begin(source.params, cursor)
        return begun if isinstance(begun, AsyncIterator) else iter(begun)


def iterate(begin: Callable[[Mapping[str, Any], Cursor], Iterable[Read] | AsyncIterator[Read]]) -> IterateReader:
    """Any iterable or async iterable with a cursor.

    `begin(params, cursor)` yields pairs `(cursor behind the item, item)` and starts behind `cursor`, None being the beginning. A
    cursor is whatever JSON can say.
    """
    return IterateReader(begin)
