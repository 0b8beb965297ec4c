"""Parquet files through pyarrow, an extra."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from ..errors import InvalidInput
from .model import Cursor, Part
from .readers import Read, Source, ranges

BATCH_ROWS: Final = 4096


@dataclass(frozen=True, slots=True)
class ParquetReader:
    """Rows as dicts; the cursor is the next row's number in the file."""

    path: Path

    async def split(self, source: Source, partitions: int) -> Sequence[Part]:
        """Ranges of rows that begin with a row group."""
        return await source.aside(self._cut, partitions)

    def _cut(self, partitions: int) -> list[Part]:
        with self._opened() as file:
            edges = [0, *accumulate(file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))]
        cuts = [(edges[first], edges[last]) for first, last in ranges(0, len(edges) - 1, partitions)]
        return [Part([start, end], end - start) for start, end in cuts]

    def read(self, source: Source, spec: Any, cursor: Cursor) -> Iterator[Read]:
        """See `Reader.read`."""
        del source
        start, end = spec
        at, group_begin = start if cursor is None else cursor, 0
        with self._opened() as file:
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if group_begin + count > at and group_begin < end:
                    yield from _rows(file, group, group_begin, at)
                    at = group_begin + count
                group_begin += count

    def skip(self, source: Source, spec: Any, cursor: Cursor) -> Cursor:
        """See `readers.Skips`."""
        del source
        return (spec[0] if cursor is None else cursor) + 1

    def _opened(self) -> Any:
        return _pyarrow().ParquetFile(self.path)


def _rows(file: Any, group: int, number: int, at: int) -> Iterator[Read]:
    for batch in file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group]):
        if number + batch.num_rows > at:
            skipped = max(0, at - number)
            yield from enumerate(batch.slice(skipped).to_pylist(), number + skipped + 1)
        number += batch.num_rows


def _pyarrow() -> Any:
    try:
        return import_module("pyarrow.parquet")
    except ImportError as error:
        raise InvalidInput("Parquet files need pyarrow", fix="pip install netra-backend[pyarrow]") from error


def parquet(path: str | Path) -> ParquetReader:
    """A Parquet file: each row is a dict. Cut into partitions between row groups."""
    return ParquetReader(Path(path))
