"""A log as a folder of files that verifies by itself: what `netra audit verify`, and any verifier of C2SP tlog-tiles, reads.

The source is anything that gives the log's files by their paths: a database, or a server's routes. The folder is made beside its place
and takes its name when it is whole and durable, so that a killed export leaves none that could be taken for one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...errors import Conflict
from ...storage.durable_files import sync_folder, told_of
from . import note, tiles
from .merkle import TILE
from .note import Checkpoint
from .verifying import CHECKPOINT, MINIMUM, NDJSON, VKEY

Source = Callable[[str], Awaitable[bytes]]

DRAFT: Final = ".exporting"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, under which checkpoint; `minimum` is the index of the first entry that is in it."""

    folder: Path
    checkpoint: Checkpoint
    minimum: int
    bytes: int


async def export(source: Source, folder: Path) -> Exported:
    """Write the log of that source to a folder that does not exist yet, or is empty. It blocks its loop between two files: for commands."""
    with told_of(folder):
        draft = _Draft(folder)
        try:
            checkpoint, minimum = await _fill(draft, source)
            draft.finish()
        finally:
            draft.close()
    return Exported(folder, checkpoint, minimum, draft.bytes)


async def _fill(draft: _Draft, source: Source) -> tuple[Checkpoint, int]:
    minimum = int(await source(MINIMUM))  # before the checkpoint, under which the log's own word for it must stand
    text = await source(CHECKPOINT)
    checkpoint = note.read_note(text.decode())
    draft.put(CHECKPOINT, text)
    draft.put(VKEY, await source(VKEY))
    if minimum:
        draft.put(MINIMUM, f"{minimum}\n".encode())
    for resource in tiles.resources_of(checkpoint.size, minimum // TILE):
        data = await source(resource.path)
        draft.put(resource.path, data)
        if resource.level is None:
            draft.add_lines(tiles.unbundle(data) or ())
    return checkpoint, minimum


class _Draft:
    """The folder under another name, until it is whole."""

    def __init__(self, folder: Path) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise Conflict(f"{folder} exists and is not an empty folder", fix="Name a new folder: an export is made whole or not at all.")
        self.bytes = 0
        self._folder = folder
        self._draft = folder.with_name(folder.name + DRAFT)
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(parents=True, mode=0o700)
        self._lines = (self._draft / NDJSON).open("wb")

    def put(self, path: str, data: bytes) -> None:
        """Write a file, durably."""
        file = self._draft / path
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        self.bytes += len(data)

    def add_lines(self, entries: Sequence[bytes]) -> None:
        """Add entries to `entries.ndjson`."""
        self.bytes += self._lines.write(b"".join([each + b"\n" for each in entries]))

    def finish(self) -> None:
        """Give it its name."""
        self._lines.flush()
        os.fsync(self._lines.fileno())
        if self._folder.exists():
            self._folder.rmdir()
        self._draft.rename(self._folder)
        sync_folder(self._folder.parent)

    def close(self) -> None:
        """Leave no draft behind."""
        self._lines.close()
        shutil.rmtree(self._draft, ignore_errors=True)
