"""Checks of what stands outside the database: environment, modes of files, the disk, the file system."""

from __future__ import annotations

import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ...errors import NetraError
from ...kernel.runtime import Runtime
from ...kernel.settings import Settings
from ...kernel.sizes import GIB, format_size
from .checks import Check, judged

OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.sshfs", "fuse.glusterfs", "afs"}
)
"""Where POSIX locks or shared memory do not hold between hosts, which SQLite's WAL mode needs (SQLite, "Write-Ahead Logging")."""


def environment(strangers: Sequence[str]) -> Check:
    """Variables that look like settings and set nothing."""
    return judged(
        "environment",
        "; ".join(strangers) or "every NETRA_* variable is known",
        good=not strangers,
        fix="Correct or unset it.",
        otherwise="warning",
    )


def look(settings: Settings, runtime: Runtime) -> Iterator[Check]:
    """The files of this installation."""
    yield _root_keys(settings, runtime)
    if settings.engine != "sqlite":
        return
    database = Path(settings.database_url.removeprefix("sqlite:///")).absolute()
    folder = next(each for each in database.parents if each.exists())
    if database.exists():
        yield _database_file(database)
    free = shutil.disk_usage(folder).free
    yield judged(
        "disk space",
        f"{free / GIB:.1f} GiB are free at {folder}, the reserve is {format_size(settings.disk_reserve_bytes)}",
        good=free >= settings.disk_reserve_bytes,
        fix="Free space: below the reserve every intake answers 503.",
    )
    yield _file_system(settings, folder)


def _root_keys(settings: Settings, runtime: Runtime) -> Check:
    from ...storage.sealing import load_root_keys

    path = settings.root_keys
    if not path.exists():
        return Check(
            "root keys", "warning", f"{path} does not exist yet", "It is made at the first start; back it up apart from the database."
        )
    try:
        load_root_keys(path, runtime.chance)
    except (NetraError, OSError) as error:
        return Check("root keys", "failed", str(error), getattr(error, "fix", "") or "Make the file readable for this account.")
    mode = stat.S_IMODE(path.stat().st_mode)
    return judged(
        "root keys",
        f"{path} has mode {mode:04o}",
        good=not mode & OTHERS,
        fix=f"chmod 600 {path}: whoever reads it opens every tenant's secrets.",
    )


def _database_file(path: Path) -> Check:
    """A file that others may read is exposed only where they may also enter its folder."""
    mode, folder = stat.S_IMODE(path.stat().st_mode), stat.S_IMODE(path.parent.stat().st_mode)
    return judged(
        "database file",
        f"{path} has mode {mode:04o}, its folder {folder:04o}",
        good=not (mode & OTHERS and folder & OTHERS),
        fix=f"chmod 700 {path.parent}: whoever reads the database reads every tenant's data.",
        otherwise="warning",
    )


def _file_system(settings: Settings, folder: Path) -> Check:
    kind = _kind_of(settings.proc_root / "mounts", folder)
    return judged(
        "file system",
        f"{folder} is on {kind or 'a file system that the kernel does not name'}",
        good=kind not in NETWORK_FILE_SYSTEMS,
        fix="Move the data folder to a local disk: SQLite's locks do not hold there, and a shared file is corrupted.",
    )


def _kind_of(mounts: Path, folder: Path) -> str:
    """The type of the file system that `folder` is on: the longest mount point above it (proc(5), mounts)."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    points = [fields for line in lines if len(fields := line.split()) >= 3 and folder.is_relative_to(fields[1])]
    return max(points, key=lambda fields: len(fields[1]))[2] if points else ""
