"""Readers made of readers: several files as one input, and an input that is cut by a key of its items."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

from ..errors import InvalidInput
from .csv_reader import csv
from .errors import CannotSkip
from .model import Cursor, Malformed, Part, words
from .readers import Read, Reader, Source, ranges

Paths = str | Path | Sequence[str | Path]
Key = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class FilesReader:
    """See `files`. A partition is a list of pieces, each a path and what its reader planned; a cursor is a piece's number and one in it."""

    paths: Paths | Callable[[Mapping[str, Any]], Paths]
    of: Callable[[Path], Reader]

    async def split(self, source: Source, partitions: int) -> Sequence[Part]:
        """Whole files where there are enough of them, else pieces of files."""
        paths = await source.aside(self._found, source.params)
        each = max(1, partitions // max(1, len(paths)))
        pieces = [(str(path), part) for path in paths for part in await self.of(path).split(source, each)]
        return [_together(pieces[first:last]) for first, last in ranges(0, len(pieces), partitions)]

    def _found(self, params: Mapping[str, Any]) -> list[Path]:
        paths = self.paths(params) if callable(self.paths) else self.paths
        if isinstance(paths, str | Path):
            pattern = str(paths)
            paths = sorted(glob(pattern))  # noqa: PTH207  (it may begin anywhere)
            if not paths:
                raise InvalidInput(f"no file is named {pattern}", fix="Look at the pattern, and at the folder in which the workers run.")
        return [Path(path) for path in paths]

    def read(self, source: Source, spec: Any, cursor: Cursor) -> Iterator[Read]:
        """See `Reader.read`."""
        first, within = (0, None) if cursor is None else cursor
        for number in range(first, len(spec)):
            path, piece = spec[number]
            for after, item in self.of(Path(path)).read(source, piece, within if number == first else None):  # type: ignore[union-attr]
                yield [number, after], item

    def skip(self, source: Source, spec: Any, cursor: Cursor) -> Cursor:
        """See `readers.Skips`; for readers whose pieces are `[start, end]`, as those of files are."""
        number, within = (0, None) if cursor is None else cursor
        while number + 1 < len(spec) and (spec[number][1][0] if within is None else within) >= spec[number][1][1]:
            number, within = number + 1, None
        path, piece = spec[number]
        skip = getattr(self.of(Path(path)), "skip", None)
        if skip is None:
            raise CannotSkip(f"an item of {path} cannot be read")
        return [number, skip(source, piece, within)]


def _together(pieces: Sequence[tuple[str, Part]]) -> Part:
    totals = [part.total for _, part in pieces]
    known = [total for total in totals if total is not None]
    return Part([[path, part.spec] for path, part in pieces], sum(known) if len(known) == len(totals) else None)


def files(paths: Paths | Callable[[Mapping[str, Any]], Paths], read: Callable[[Path], Reader] = csv) -> FilesReader:
    """Several files, one after the other: a pattern such as `in/*.csv`, a list, or a function of the run's parameters that gives either.

    `read` makes each one's reader: `batch.csv`, `batch.ndjson`, `batch.parquet`, or a function of the path. Which files there are is
    settled when the run is planned. Can be cut into partitions: by files, and where these are few, within them.
    """
    return FilesReader(paths, read)


@dataclass(frozen=True, slots=True)
class HashedReader:
    """See `hashed`."""

    reader: Reader
    key: Key

    async def split(self, source: Source, partitions: int) -> Sequence[Part]:
        """All of the input for each, which takes the items whose key falls to it."""
        (whole,) = await self.reader.split(source, 1)
        return [Part([number, partitions, whole.spec], whole.total if partitions == 1 else None) for number in range(partitions)]

    def read(self, source: Source, spec: Any, cursor: Cursor) -> Iterator[Read] | AsyncIterator[Read]:
        """See `Reader.read`; the cursor is the inner reader's."""
        number, count, whole = spec
        found = self.reader.read(source, whole, cursor)
        if isinstance(found, AsyncIterator):
            return self._chosen_later(found, number, count)
        return self._chosen(found, number, count)

    def _chosen(self, found: Iterator[Read], number: int, count: int) -> Iterator[Read]:
        for after, item in found:
            place, told = self._placed(item, count)
            if place == number:
                yield after, told

    async def _chosen_later(self, found: AsyncIterator[Read], number: int, count: int) -> AsyncIterator[Read]:
        async for after, item in found:
            place, told = self._placed(item, count)
            if place == number:
                yield after, told

    def _placed(self, item: Any, count: int) -> tuple[int, Any]:
        """In which partition an item is; one that has no key is a dead letter of the first."""
        if isinstance(item, Malformed):
            return 0, item
        try:
            key = str(self.key(item))
        except Exception as error:  # noqa: BLE001  (the program's own, about this item)
            return 0, Malformed(str(item), words(error))
        return zlib.crc32(key.encode(errors="surrogatepass")) % count, item


def hashed(reader: Reader, key: Key) -> HashedReader:
    """An input cut by a key: all items of one key are in one partition, in their order. `key` is a function of the item.

    Each partition reads all of the input and passes by what is not its own: worth it where `process` is the work, or the order counts. An
    item that is too large to be read fails the run, for nobody knows whose it is.
    """
    return HashedReader(reader, key)
