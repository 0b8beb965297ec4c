"""One file with all of a SQLite database, made while any number of processes write: consistent, checked, durable.

The copy is SQLite's own page by page copy (its Online Backup API), inside a read transaction of the source. That is one
snapshot of the write-ahead log, so writers are not stopped and everything acknowledged before the copy began is in
it. Without that transaction each step would take the newest state, and begin anew whenever another process had
written meanwhile: beside a busy one it would never end. The price is the log, which cannot be restarted before the copy is
over and grows by what is written until then; the check afterwards reads the copy and holds nobody.

`vacuum into` was rejected: it holds the snapshot for longer, because it builds every index anew, and it changes the row ids
of a user's tables that have no integer key. A copy of the file by other means lacks the log, or tears.

The copy grows under `FILE.netra-partial`, is closed as one plain file without a log of its own, checked, stamped with a
checksum, synced, and only then gets its name; so whatever is killed, under the name stands a whole backup or nothing. A
`flock` on the partial file says whose it is.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import CannotStart, Conflict, UsageError
from ..kernel.runtime import Runtime
from . import backup_digest
from .durable_files import sync_folder, told_of
from .errors import Corrupt, DiskFull
from .sqlite_drivers import Connection, DriverName, connect
from .sqlite_inspect import Inspection, damage_of, inspect
from .sqlite_presence import lock_dir_of, present

STEP_PAGES: Final = 1024
SIDES: Final = ("-wal", "-shm", "-journal")
"""What SQLite may keep beside a database, each named after it. One that is left beside another database destroys that."""

Progress = Callable[[int, int], None]
"""Called with the pages left and the pages in all, after each step."""


@dataclass(frozen=True, slots=True)
class Backup:
    """A finished backup."""

    file: Path
    bytes: int
    found: Inspection


def backup(
    database: Path,
    file: Path,
    runtime: Runtime,
    *,
    driver: DriverName,
    replace: bool = False,
    reserve_bytes: int = 0,
    progress: Progress = lambda _left, _of: None,
    vfs: str | None = None,
) -> Backup:
    """Copy the database to `file`; an existing one is replaced only if asked, and only by a whole one.

    `reserve_bytes` is what must stay free on the database's own disk, below which its processes refuse intake.
    """
    file = file.parent.resolve() / file.name
    _check_names(database, file, replace=replace)
    _check_room(database, file, reserve_bytes)
    with told_of(file), present(database, driver), _draft(file) as draft:
        word, found = _copy(database, draft, runtime, driver, progress, vfs)
        backup_digest.stamp(draft.descriptor, word)
        os.fsync(draft.descriptor)
        _check_names(database, file, replace=replace)
        draft.path.replace(file)
        sync_folder(file.parent)
        return Backup(file, file.stat().st_size, found)


def remove_sides(file: Path) -> None:
    """Delete what SQLite has left beside a file of ours that nothing has open."""
    for side in SIDES:
        Path(f"{file}{side}").unlink(missing_ok=True)


def _check_names(database: Path, file: Path, *, replace: bool) -> None:
    if not database.is_file():
        raise CannotStart(f"there is no database at {database}", fix="Give --data DIR or --database-url URL.")
    if not file.parent.is_dir():
        raise UsageError(f"there is no folder {file.parent}", fix="Make it, or give another FILE.")
    if file.is_symlink() or (file.exists() and not file.is_file()):
        raise UsageError(f"{file} is no regular file", fix="Give the name of a file to make.")
    own = [database, lock_dir_of(database), *(Path(f"{database}{side}") for side in SIDES)]
    if any(file == each.resolve() or (file.exists() and each.exists() and file.samefile(each)) for each in own):
        raise UsageError(f"{file} belongs to the database itself", fix="Give another FILE, on another disk if there is one.")
    if file.exists() and not replace:
        raise Conflict(f"{file} exists already", fix="Give another FILE, or --force to replace it once the new one is whole.")


def _check_room(database: Path, file: Path, reserve_bytes: int) -> None:
    """On the database's own disk, a copy that takes the reserve would stop everybody's intake."""
    if file.parent.stat().st_dev != database.stat().st_dev:
        return
    free, size = shutil.disk_usage(file.parent).free, database.stat().st_size
    if free - size < reserve_bytes:
        raise DiskFull(
            f"{size} bytes beside the database would leave less than the reserve of {reserve_bytes} bytes: {free} are free",
            fix="Give a FILE on another disk, which is the better place anyway, or free space.",
        )


@dataclass(frozen=True, slots=True)
class _Draft:
    path: Path
    descriptor: int


@contextmanager
def _draft(file: Path) -> Iterator[_Draft]:
    """`FILE.netra-partial`, empty, for this process alone; gone at the end, unless it was renamed."""
    path = file.with_name(f"{file.name}.netra-partial")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _lock(path, descriptor)
        os.fchmod(descriptor, 0o600)
        os.ftruncate(descriptor, 0)
        remove_sides(path)
        try:
            yield _Draft(path, descriptor)
        finally:
            path.unlink(missing_ok=True)
            remove_sides(path)
    finally:
        os.close(descriptor)


def _lock(path: Path, descriptor: int) -> None:
    """Own the draft, or `Conflict`: also where it got its final name between our opening and our locking of it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor)):
            return
    except BlockingIOError:
        pass
    raise Conflict(f"another backup is writing {path}", fix="Wait until it has ended, or give another FILE.")


def _copy(
    database: Path, draft: _Draft, runtime: Runtime, driver: DriverName, progress: Progress, vfs: str | None
) -> tuple[str, Inspection]:
    """Fill the draft and check it; the word in whose place its checksum goes, and what is in it."""
    with damage_of(database), closing(connect(driver, str(draft.path), vfs)) as target:
        target.run("pragma journal_mode = off")  # what is torn is thrown away, so nothing needs to be undone
        target.run("pragma synchronous = off")  # the file is synced once, at its end
        with closing(connect(driver, str(database))) as source:
            _copy_snapshot(source, target, progress)
        if target.run("pragma journal_mode = delete") != [("delete",)]:
            raise Corrupt("its copy cannot be closed as one file")
        found = inspect(target, database)
        return backup_digest.reserve(target, runtime.chance), found


def _copy_snapshot(source: Connection, target: Connection, progress: Progress) -> None:
    source.run("pragma busy_timeout = 5000")  # whoever opens the file first after a crash keeps others waiting
    source.run("begin")
    source.run("select name from sqlite_master limit 1")  # the snapshot begins with the first read
    source.copy_to(target, STEP_PAGES, progress)
    source.run("commit")
