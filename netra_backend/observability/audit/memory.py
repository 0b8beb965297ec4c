"""The last signed checkpoint of each log, kept outside the database.

A backup that is put back knows less than the world does: it would give indices away once more, and the log would have two roots for one
size. What tells it from a log that goes on is this directory, which must not be restored with it (docs/backup.md). So a checkpoint is
remembered here, durably, before it may be seen, and a log is signed on only where it continues what is remembered.

One file for a log, replaced whole. Several processes may share the directory, on one host or on a shared disk; a lock file makes the
look and the writes of a round one step.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...storage.durable_files import sync_folder, told_of
from .note import Checkpoint, MalformedNote, read_note

SUFFIX: Final = ".checkpoint"


@dataclass(frozen=True, slots=True)
class Remembered:
    """What the directory says of one log; `is_damaged` where a file is there that is no checkpoint."""

    checkpoint: Checkpoint | None
    is_damaged: bool = False

    @property
    def epoch(self) -> int:
        """The number of the epoch in its origin, 0 where there is none."""
        return epoch_of(self.checkpoint.origin) if self.checkpoint is not None else 0


def epoch_of(origin: str) -> int:
    """The number in the last part of an origin, `<number>-<token>`; 0 where it has none."""
    number = origin.rpartition("/")[2].partition("-")[0]
    return int(number) if number.isascii() and number.isdigit() else 0


class Memory:
    """See the module's docstring. `folder` is the installation's own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def recall(self, tenant: str) -> Remembered:
        """What is known of a tenant's log."""
        try:
            text = self._file(tenant).read_text(encoding="utf-8")
        except FileNotFoundError:
            return Remembered(None)
        except UnicodeDecodeError:
            return Remembered(None, is_damaged=True)
        try:
            return Remembered(read_note(text))
        except MalformedNote:
            return Remembered(None, is_damaged=True)

    def remember(self, notes: Sequence[tuple[str, Remembered, str]]) -> list[bool]:
        """Replace what is known of each tenant's log by its note, durably, if what is known is still what was seen; of which that was so.

        Blocking: for a thread of its own. The folder is synced once for all of them.
        """
        with told_of(self.folder), self._locked():
            done = [self._replace(*each) for each in notes]
            sync_folder(self.folder)
        return done

    def _replace(self, tenant: str, seen: Remembered, note: str) -> bool:
        if self.recall(tenant) != seen:
            return False
        draft = self._file(tenant).with_suffix(".draft")
        with draft.open("w", encoding="utf-8", newline="") as file:
            file.write(note)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._file(tenant))
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _file(self, tenant: str) -> Path:
        """A name of letters, digits and a dash, whatever the tenant is called: `..` is one, and so is one of 256 letters."""
        readable = "".join(each if each.isalnum() else "-" for each in tenant[:60])
        return self.folder / f"{readable}-{hashlib.sha256(tenant.encode()).hexdigest()[:16]}{SUFFIX}"
