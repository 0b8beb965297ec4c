"""Which process holds a SQLite database's write lock: read from the kernel's lock table.

In WAL mode the write lock is byte 120 of the `-shm` file (SQLite's "WAL-mode File Format", section 2.3.1: eight lock
bytes from 120 on, the first is WAL_WRITE_LOCK). The file itself must not be opened to ask (`F_GETLK`): closing that
descriptor would drop this process's own locks on it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

WRITE_LOCK_BYTE: Final = 120


def write_lock_holder(database: Path, proc_root: Path = Path("/proc")) -> int | None:
    """The pid that holds the write lock, or None where the kernel does not tell."""
    try:
        status = Path(f"{database}-shm").stat()
        lines = (proc_root / "locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    wanted = (os.major(status.st_dev), os.minor(status.st_dev), status.st_ino)
    return next((pid for line in lines if (pid := _holder(line, wanted))), None)


def _holder(line: str, wanted: tuple[int, int, int]) -> int | None:
    """The pid of one line of /proc/locks (proc_locks(5)) if it is an exclusive lock over the write byte."""
    fields = line.split()
    if len(fields) < 8 or fields[1] != "POSIX" or fields[3] != "WRITE":
        return None
    major, minor, inode = fields[5].split(":")
    first, last = int(fields[6]), fields[7]
    covers = first <= WRITE_LOCK_BYTE and (last == "EOF" or int(last) >= WRITE_LOCK_BYTE)
    same = (int(major, 16), int(minor, 16), int(inode)) == wanted
    return int(fields[4]) if covers and same else None
