"""An append-only file that is durable before anybody is told: the evidence of a receiver that may be compared later.

Lines that arrive while one fsync runs share the next one, so that durability costs a few milliseconds of latency and
not a fsync per request. A line's `then` runs only after the bytes are on the disk (or, without fsync, in the kernel).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path


class Ledger:
    """NDJSON at `path`, or nothing at all where `path` is None. One per event loop."""

    def __init__(self, path: Path | None, *, fsync: bool = True) -> None:
        self._file = None if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._fsync = fsync
        self._lines: list[bytes] = []
        self._waiting: list[Callable[[], None]] = []
        self._flushing: asyncio.Task[None] | None = None

    def append(self, line: bytes, then: Callable[[], None]) -> None:
        """Write one line (with its newline) and call `then` when it is durable."""
        if self._file is None:
            then()
            return
        self._lines.append(line)
        self._waiting.append(then)
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush(self._file))

    async def close(self) -> None:
        """Wait for the last line. An error of writing is raised here, and no `then` of its batch has run."""
        if self._flushing is not None:
            await self._flushing
        if self._file is not None:
            os.close(self._file)
            self._file = None

    async def _flush(self, file: int) -> None:
        """Batches until none is waiting. After an error the task stays, so that nothing is acknowledged any more."""
        while self._lines:
            batch, self._lines = b"".join(self._lines), []
            waiting, self._waiting = self._waiting, []
            if self._fsync:
                await asyncio.get_running_loop().run_in_executor(None, _write_and_sync, file, batch)
            else:
                os.write(file, batch)
            for then in waiting:
                then()
        self._flushing = None


def _write_and_sync(file: int, batch: bytes) -> None:
    view = memoryview(batch)
    while view:
        view = view[os.write(file, view) :]
    os.fsync(file)
