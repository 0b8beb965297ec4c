"""CSV files (RFC 4180) with a header, read from any row on by its offset in bytes.

`csv.reader` takes one line after another and no further than the row that it returns, so the bytes of the lines that it took
are where that row ends, also where a quoted field holds line breaks. For the same reason a file can be cut anywhere
between two rows: an offset stands outside quotes if an even number of them comes before it.
"""

from __future__ import annotations

import csv as standard
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, Final

from ..errors import InvalidInput
from .model import Cursor, Malformed, Part
from .readers import BLOCK, Read, Source, ranges

PLAIN: Final = '\n\r"'


@dataclass(frozen=True, slots=True)
class CsvReader:
    """See the module's docstring; made by `batch.csv`."""

    path: Path
    delimiter: str = ","
    encoding: str = "utf-8"

    async def split(self, source: Source, partitions: int) -> Sequence[Part]:
        """Ranges of bytes that begin and end between rows."""
        return await source.aside(self._cut, partitions)

    def _cut(self, partitions: int) -> list[Part]:
        with self.path.open("rb") as file:
            header = self._rows(file, 0)
            next(header.reader, None)
            begin, size = header.at, self.path.stat().st_size
            starts = [start for start, _ in ranges(begin, max(begin, size), partitions)]
            edges = sorted({begin, size, *_behind_rows(file, starts[1:])})
        return [Part([start, end]) for start, end in pairwise(edges)] or [Part([begin, begin])]

    def read(self, source: Source, spec: Any, cursor: Cursor) -> Iterator[Read]:
        """See `Reader.read`: each row as a dict of text by the header's names; the cursor is the next row's offset in bytes."""
        del source
        start, end = spec
        with self.path.open("rb") as file:
            names = self._names(file)
            rows = self._rows(file, start if cursor is None else cursor)
            while rows.at < end:
                before = rows.at
                try:
                    yield from _dicts(rows, names, end)
                except standard.Error as error:
                    yield rows.at, Malformed(f"a row between bytes {before} and {rows.at}", str(error))
                    rows.begin_again()
                else:
                    return

    def skip(self, source: Source, spec: Any, cursor: Cursor) -> Cursor:
        """See `readers.Skips`: to the next line break that stands outside quotes."""
        del source
        at = int(spec[0] if cursor is None else cursor)
        quotes = length = 0
        with self.path.open("rb") as file:
            file.seek(at)
            while piece := file.readline(BLOCK):
                at, quotes = at + len(piece), quotes + piece.count(b'"')
                length += len(piece.strip(b"\r\n"))
                if piece.endswith(b"\n") and not quotes % 2 and length:
                    break
        return at

    def _names(self, file: IO[bytes]) -> list[str]:
        try:
            header = next(self._rows(file, 0).reader, [])
        except standard.Error as error:
            raise InvalidInput(f"{self.path} has no header: {error}", fix="Give a file whose first line names the columns.") from error
        return [name.removeprefix("\ufeff") for name in header]

    def _rows(self, file: IO[bytes], at: int) -> _Rows:
        return _Rows(file, at, self.delimiter, self.encoding)


class _Rows:
    """The rows behind an offset; `at` is where the last one ended."""

    def __init__(self, file: IO[bytes], at: int, delimiter: str, encoding: str) -> None:
        file.seek(at)
        self.at = at
        self._file = file
        self._encoding = encoding
        self._delimiter = delimiter
        self.begin_again()

    def begin_again(self) -> None:
        """A new reader behind what the last one took: one that has raised is in the middle of a row."""
        self.reader = standard.reader(self._lines(), delimiter=self._delimiter, strict=True)

    def _lines(self) -> Iterator[str]:
        encoding = self._encoding
        for line in self._file:
            self.at += len(line)
            yield line.decode(encoding, errors="surrogateescape")


def _dicts(rows: _Rows, names: Sequence[str], end: int) -> Iterator[Read]:
    """The rows up to `end`; a million times the same, so without a call for each."""
    width = len(names)
    for row in rows.reader:
        if len(row) == width:
            yield rows.at, dict(zip(names, row, strict=False))
        elif row:  # an empty line is no row
            yield rows.at, _odd(row, names)
        if rows.at >= end:
            return


def _odd(row: Sequence[str], names: Sequence[str]) -> Malformed:
    return Malformed(",".join(row), f"the row has {len(row)} fields and the header {len(names)}")


def _behind_rows(file: IO[bytes], offsets: Sequence[int]) -> Iterator[int]:
    """For each offset, in order, the end of the row that it stands in: one pass over the file that counts quotes."""
    file.seek(0)
    at = quotes = 0
    for offset in offsets:
        while at < offset:
            block = file.read(min(BLOCK, offset - at))
            at, quotes = at + len(block), quotes + block.count(b'"')
        while line := file.readline():
            at, quotes = at + len(line), quotes + line.count(b'"')
            if not quotes % 2:
                break
        yield at


def csv(path: str | Path, *, delimiter: str = ",", encoding: str = "utf-8") -> CsvReader:
    """A CSV file with a header line: each row is a dict of text. A row with too few or too many fields becomes a dead letter.

    Can be cut into partitions. The file must stay as it is while the run lasts: cursors are offsets in bytes. Line breaks and quotes are
    found in these, so an encoding that writes them in another way than ASCII does (UTF-16, say) is `InvalidInput`.
    """
    try:
        plain = PLAIN.encode(encoding).endswith(PLAIN.encode())
    except (LookupError, UnicodeError):
        plain = False
    if not plain or len(delimiter.encode()) != 1:
        raise InvalidInput(f"a CSV file in {encoding!r} cut by {delimiter!r} cannot be read", fix="Convert it to UTF-8 first.")
    return CsvReader(Path(path), delimiter, encoding)
