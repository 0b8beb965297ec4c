"""The demo's own ledgers, and a look at those of the receivers while they grow."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Self

import orjson


class Book:
    """An NDJSON file that is appended to; each line has left this process when `add` returns."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.fsync(self._file.fileno())
        self._file.close()

    def add(self, *records: dict[str, Any]) -> None:
        """Append records."""
        self._file.write(b"".join(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE) for record in records))


class Watch:
    """Counts the messages that a receiver has accepted, by reading what its ledger has grown by."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0
        self.accepted: set[str] = set()

    def look(self) -> int:
        """How many different messages were accepted by now."""
        with self._path.open("rb") as file:
            file.seek(self._read)
            grown = file.read()
        whole = grown[: grown.rfind(b"\n") + 1]
        self._read += len(whole)
        for line in map(orjson.loads, whole.splitlines()):
            if line["status"] is not None and 200 <= line["status"] < 300:
                self.accepted.add(line["webhook_id"])
        return len(self.accepted)
