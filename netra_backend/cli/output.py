"""What a command says, and to whom: answers on stdout, words and progress on stderr, the end as an exit code.

With `--json` stdout carries one document, or one per line where the answer is a stream. Errors go to stderr as
`{"code","title","detail","fix"}`; a person at a terminal who did not ask for JSON gets the same in words.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ..errors import CannotStart, NetraError, Unavailable, UsageError

OK: Final = 0
NO: Final = 1
USAGE: Final = 2
DEAD_LETTERS: Final = 3
UNREACHABLE: Final = 4
INTERRUPTED: Final = 130

LATER: Final = frozenset({429, 502, 503, 504})
"""Statuses of what may go well another time: nobody has said no."""

Columns = Mapping[str, str]
"""Member of a row -> heading of its column."""


class Output:
    """Where one command's answers go."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def document(self, value: Any, words: str) -> None:
        """The answer: `value` for programs, `words` for people."""
        self._print(_json(value) if self.as_json else words)

    def rows(self, name: str, rows: Sequence[Mapping[str, Any]], columns: Columns, empty: str) -> None:
        """A list: `{name: rows}` for programs, a table for people."""
        if self.as_json:
            self._print(_json({name: rows}))
        elif not rows:
            self.note(empty)
        else:
            _table(rows, columns)

    def event(self, value: Mapping[str, Any], words: str) -> None:
        """One piece of a stream, at once."""
        self._print(_json(value) if self.as_json else words)

    def line(self, value: Mapping[str, Any]) -> None:
        """One JSON line for whoever started this process, whatever form was asked for."""
        self._print(_json(value))

    def note(self, words: str) -> None:
        """Progress, a warning, or advice."""
        sys.stderr.write(words + "\n")
        sys.stderr.flush()

    def failed(self, error: NetraError) -> int:
        """Tell the error and return its exit code."""
        if self.as_json or not sys.stderr.isatty():
            self.note(_json(error.as_dict()))
        else:
            self.note(f"netra: {error.detail}" + (f"\n       {error.fix}" if error.fix else ""))
        return exit_code(error)

    def _print(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()


def exit_code(error: NetraError) -> int:
    """2 where the call is wrong, 4 where nothing could be reached, 1 where the answer is no."""
    if isinstance(error, UsageError):
        return USAGE
    unreachable = isinstance(error, CannotStart | Unavailable) or error.status in LATER
    return UNREACHABLE if unreachable else NO


def iso(at_us: int) -> str:
    """A time as people and JSON Schema's `date-time` write it, in UTC."""
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=at_us)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _json(value: Any) -> str:
    import orjson

    return orjson.dumps(value).decode()


def _table(rows: Sequence[Mapping[str, Any]], columns: Columns) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if row[name] is None else str(row[name])) for name in columns))
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200).print(table)
