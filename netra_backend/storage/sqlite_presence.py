"""Who has a SQLite database open: a lock on its folder of locks, shared by all who do and taken alone by a restore.

A restore puts another file under the database's name. Whoever had opened the former one before that moment would go
on writing into a file that nobody looks at any more, and acknowledge it. SQLite's own locks do not help there, since
they belong to the file and not to its name. So every process of ours holds a shared `flock` on the folder for as long
as it has the database open, and a restore needs it alone: it begins when nobody is there, and who comes meanwhile is
told to come later. The kernel gives the lock back at any death, and names its holders.

The folder itself is locked, not a file in it: no file of one account's making is in the way of another's. Programs that
open the file without Netra hold no such lock; for them a restore looks at SQLite's own (see `sqlite_restore`).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .errors import DatabaseInUse, RestoreUnderWay
from .lock_holder import lock_holders
from .sqlite_drivers import DriverName, claim, release


def lock_dir_of(path: Path) -> Path:
    """The folder of locks of the database at `path`."""
    return Path(f"{path}-locks")


@contextmanager
def present(path: Path, driver: DriverName) -> Iterator[None]:
    """Have the database open: no restore begins, and no other SQLite library of this process opens the file."""
    descriptor = _locked(lock_dir_of(path), fcntl.LOCK_SH)
    if descriptor is None:
        raise RestoreUnderWay(f"a restore of {path} is under way{_by(lock_holders([lock_dir_of(path)]))}")
    try:
        claim(path, driver)
        try:
            yield
        finally:
            release(path)
    finally:
        os.close(descriptor)


@contextmanager
def alone(path: Path, proc_root: Path) -> Iterator[None]:
    """Be the only one: `DatabaseInUse` if anybody has the database open, and nobody opens it until the end."""
    descriptor = _locked(lock_dir_of(path), fcntl.LOCK_EX)
    if descriptor is None:
        raise in_use(path, proc_root)
    try:
        if lock_holders([path], proc_root):  # a program without Netra, or a Netra from before these locks
            raise in_use(path, proc_root)
        yield
    finally:
        os.close(descriptor)


def in_use(path: Path, proc_root: Path) -> DatabaseInUse:
    """The refusal, with every pid that the kernel names."""
    holders = lock_holders([lock_dir_of(path), path], proc_root)
    return DatabaseInUse(f"{path} is open{_by(holders)}", pids=holders)


def _by(pids: list[int]) -> str:
    if not pids:
        return " in a process that the kernel does not name (`netra doctor` lists those it knows)"
    return f" in process {pids[0]}" if len(pids) == 1 else f" in processes {', '.join(map(str, pids))}"


def _locked(folder: Path, kind: int) -> int | None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
