"""Which processes hold a SQLite database's write lock, or any lock on a file: read from the kernel's lock table.

In WAL mode the write lock is byte 120 of the `-shm` file (SQLite's "WAL-mode File Format", section 2.3.1: eight lock
bytes from 120 on, the first is WAL_WRITE_LOCK). The file itself must not be opened to ask (`F_GETLK`): closing that
descriptor would drop this process's own locks on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

WRITE_LOCK_BYTE: Final = 120


def write_lock_holder(database: Path, proc_root: Path = Path("/proc")) -> int | None:
    """The pid that holds the write lock, or None where the kernel does not tell."""
    wanted = _identities([Path(f"{database}-shm")])
    return next((int(fields[4]) for fields in _locks(proc_root) if _identity(fields) in wanted and _covers_write_byte(fields)), None)


def lock_holders(files: Iterable[Path], proc_root: Path = Path("/proc")) -> list[int]:
    """Every other process's pid that holds a lock of any kind on one of the files; empty where the kernel does not tell.

    A connection in WAL mode has a shared lock on the database's file for as long as it is open.
    """
    wanted = _identities(files)
    pids = {int(fields[4]) for fields in _locks(proc_root) if _identity(fields) in wanted}
    return sorted(pid for pid in pids if pid > 0 and pid != os.getpid())  # -1: the lock belongs to no process


def _locks(proc_root: Path) -> list[list[str]]:
    """The fields of /proc/locks (proc_locks(5)): number, kind, mode, READ or WRITE, pid, device:inode, first, last."""
    try:
        lines = (proc_root / "locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    return [fields for line in lines if len(fields := line.split()) == 8]  # a lock that is waited for has one more


def _identities(files: Iterable[Path]) -> set[tuple[int, int, int]]:
    found = [file.stat() for file in files if file.exists()]
    return {(os.major(status.st_dev), os.minor(status.st_dev), status.st_ino) for status in found}


def _identity(fields: list[str]) -> tuple[int, int, int]:
    major, minor, inode = fields[5].split(":")
    return int(major, 16), int(minor, 16), int(inode)


def _covers_write_byte(fields: list[str]) -> bool:
    first, last = int(fields[6]), fields[7]
    covers = first <= WRITE_LOCK_BYTE and (last == "EOF" or int(last) >= WRITE_LOCK_BYTE)
    return covers and fields[1] == "POSIX" and fields[3] == "WRITE"
