"""Files that must be whole and durable, or absent: their folder is synced too, and the disk's errors are told in words."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import CannotStart
from .errors import DatabaseIoError, DiskFull


def sync_folder(folder: Path) -> None:
    """Make what was renamed, linked and deleted in the folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def told_of(file: Path) -> Iterator[None]:
    """Turn an error of the disk into one of ours that names what was written and says what to do."""
    try:
        yield
    except DiskFull as error:
        raise _full(file) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _full(file) from error
        if error.errno == errno.EIO:
            raise DatabaseIoError(f"writing {file} failed: {error}", fix="Check the disk (kernel log), or use another one.") from error
        raise CannotStart(f"{file} could not be made: {error}", fix="Check the rights and the file system of what is named.") from error


def _full(file: Path) -> DiskFull:
    return DiskFull(f"the disk is full: {file} does not fit", fix="Free space there, or use another disk; nothing was changed.")
