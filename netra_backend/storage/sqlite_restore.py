"""Puts a backup in the place of a SQLite database, so that a kill at any moment leaves the old one whole or the new one.

Protocol. Alone (see `sqlite_presence`): 1. the file is copied to `DB.restoring`, checked there, and its past life is ended;
2. the former database is settled: its log is written back and gone, and it is locked as SQLite locks, which fails while
any program has it open; 3. it gets a second name, `DB.before-restore-<time>`; 4. `DB.restoring` is renamed to `DB`. The rename is the one
moment of change. There is a database under the name at every moment, so nobody who comes in between makes an empty one.

The danger is the former write-ahead log: SQLite would write it into whatever file stands under the name. So it is gone before
the rename, or, where the former database is too damaged to be opened (or there is only its log), moved beside the former one.

The former database is never deleted, and no second restore replaces it: each has its own time in its name. `netra restore`
of it is the way back.

The past life. Processes that were alive when the backup was made are not now, as nobody has the database open. Their rows
go, so that all they had leased is due at the first look. A new epoch is written for whoever keeps numbers of the
log elsewhere: after a restore, a number may mean another entry than it did.
"""

from __future__ import annotations

import os
import shutil
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from ..errors import UsageError
from ..kernel.runtime import Runtime
from . import backup_digest
from .durable_files import sync_folder, told_of
from .errors import Corrupt, DatabaseBusy, NotABackup
from .sqlite_backup import SIDES, remove_sides
from .sqlite_drivers import Connection, DriverName, claim, connect, release
from .sqlite_inspect import Inspection, damage_of, inspect
from .sqlite_presence import alone, in_use, lock_dir_of

STAGING: Final = ".restoring"
FORMER: Final = ".before-restore-"
CHUNK_BYTES: Final = 4 * 1024 * 1024
_SET_META: Final = "insert into netra_meta (name, value) values (:name, :value) on conflict (name) do update set value = excluded.value"


@dataclass(frozen=True, slots=True)
class Restored:
    """A restore that took place; `former` is where the database of before stands, if there was one."""

    former: Path | None
    bytes: int
    epoch: str
    found: Inspection
    has_checksum: bool
    was_interrupted: bool


def restore(file: Path, database: Path, runtime: Runtime, *, driver: DriverName, proc_root: Path = Path("/proc")) -> Restored:
    """Put a copy of `file`, once it has passed every check, in the database's place."""
    _check_file(file, database)
    database.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    staging = Path(f"{database}{STAGING}")
    with told_of(database), alone(database, proc_root):
        was_interrupted = _clear(database, staging)
        try:
            epoch = runtime.ids.new().hex()
            found, has_checksum = _stage(file, staging, database, epoch, runtime, driver)
            former = _swap(staging, database, _free_name(database, runtime), driver, proc_root)
        except BaseException:
            _remove(staging)
            raise
        _forget_locks(database)
        return Restored(former, database.stat().st_size, epoch, found, has_checksum, was_interrupted)


def interrupted_restore(database: Path) -> str:
    """What to tell whoever opens a database beside which a restore was killed; empty if none was."""
    staging = Path(f"{database}{STAGING}")
    if not staging.exists():
        return ""
    return f"a restore of {database} was interrupted before it took effect; repeat `netra restore FILE`, or delete {staging}"


def _check_file(file: Path, database: Path) -> None:
    if not file.is_file():
        raise UsageError(f"there is no file {file}", fix="Give a file that `netra backup` made.")
    if database.is_symlink():
        raise UsageError(f"{database} is a symbolic link", fix="Give the database's own path: another name would keep the former one.")
    for own in (database, Path(f"{database}{STAGING}")):
        if own.exists() and file.samefile(own):
            raise UsageError(f"{file} belongs to the database itself", fix="Give a file that `netra backup` made.")
    for side in ("-wal", "-journal"):
        beside = Path(f"{file}{side}")
        if beside.exists() and beside.stat().st_size:
            raise NotABackup(f"{beside} stands beside it: without that, {file} is not whole")


def _clear(database: Path, staging: Path) -> bool:
    """Remove what a killed restore has left: its copy, and a second name of a database that is still in its place."""
    found = staging.exists()
    _remove(staging)
    if not database.exists():
        return found
    for former in database.parent.iterdir():
        if former.name.startswith(f"{database.name}{FORMER}") and former.samefile(database) and not Path(f"{former}-wal").exists():
            former.unlink()
    return found


def _remove(staging: Path) -> None:
    staging.unlink(missing_ok=True)
    remove_sides(staging)


def _stage(file: Path, staging: Path, database: Path, epoch: str, runtime: Runtime, driver: DriverName) -> tuple[Inspection, bool]:
    """A durable copy that has been checked; the copy and not the file, so that what is checked is what is used."""
    descriptor = os.open(staging, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "r+b") as copy:
        with file.open("rb") as source:
            shutil.copyfileobj(source, copy, CHUNK_BYTES)
        copy.flush()
        with damage_of(file), closing(connect(driver, str(staging))) as connection:
            digest = backup_digest.stored(connection)
        if digest:
            backup_digest.verify(descriptor, digest, file)
        with damage_of(file), closing(connect(driver, str(staging))) as connection:
            found = inspect(connection, file)
            _end_past_life(connection, epoch, runtime)
        _own_as(database, descriptor)
        os.fsync(descriptor)
    return found, bool(digest)


def _end_past_life(connection: Connection, epoch: str, runtime: Runtime) -> None:
    if connection.run("pragma journal_mode = delete") != [("delete",)]:  # one file from here on, whatever it was before
        raise Corrupt("its copy cannot be closed as one file")
    connection.run("begin immediate")
    backup_digest.forget(connection)
    connection.run("delete from netra_node")
    connection.run(_SET_META, {"name": "epoch", "value": epoch})
    connection.run(_SET_META, {"name": "restored_us", "value": str(runtime.clock.wall_us())})
    connection.run("commit")


def _own_as(database: Path, descriptor: int) -> None:
    """Owner and mode of the former database: an operator's root account must not lock the service out."""
    if database.exists():
        status = database.stat()
        with suppress(PermissionError):  # only root may give files away; whoever else runs this owns both
            os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, status.st_mode & 0o777)


def _free_name(database: Path, runtime: Runtime) -> Path:
    moment = datetime.fromtimestamp(runtime.clock.wall_us() / 1e6, UTC)
    return database.with_name(f"{database.name}{FORMER}{moment:%Y%m%dT%H%M%S.%fZ}")


def _swap(staging: Path, database: Path, former: Path, driver: DriverName, proc_root: Path) -> Path | None:
    existed = database.exists()
    held = _settled(database, driver, proc_root) if existed else None
    try:
        if existed:
            former.hardlink_to(database)
        for side in SIDES:  # none is left of a database that could be settled
            with suppress(FileNotFoundError):
                Path(f"{database}{side}").rename(f"{former}{side}")
        sync_folder(database.parent)
        staging.replace(database)
        sync_folder(database.parent)
    finally:
        if held is not None:
            held.close()
    return former if existed else None


def _settled(database: Path, driver: DriverName, proc_root: Path) -> Connection | None:
    """The database without a log and locked against every program; None where it is too damaged for that."""
    claim(database, driver)
    try:
        connection = connect(driver, str(database))
    finally:
        release(database)  # this process opens it nowhere else, and its name is about to change hands
    try:
        connection.run("pragma synchronous = full")
        connection.run("pragma journal_mode = delete")
        connection.run("begin exclusive")
    except Corrupt:
        connection.close()
        return None
    except BaseException as error:
        connection.close()
        if isinstance(error, DatabaseBusy):
            raise in_use(database, proc_root) from error
        raise
    return connection


def _forget_locks(database: Path) -> None:
    """Lock files of processes whose rows are gone would never be looked at again."""
    for lock in (lock_dir_of(database) / "nodes").glob("*.lock"):
        lock.unlink(missing_ok=True)
