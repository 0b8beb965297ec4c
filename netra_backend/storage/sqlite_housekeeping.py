"""What a SQLite file needs beside its writer: checkpoints, and a look at the disk before it is full.

Checkpoints run on a thread of their own, so that no commit pays for them; the writer never checkpoints by itself. One
process per file does it, under a file lock, because SQLite 3.7.0 to 3.51.2 can corrupt a log that one process resets
while another checkpoints. Passive ones do not disturb anybody; a log that has grown past `RESTART_BYTES` because a
reader or a busy writer was always in the way is restarted with a short wait for the lock.

A full disk is met before it is full: below the reserve, intake is refused while acknowledgements, heartbeats and reads
go on. The ballast file is given up at that moment, so that they have room even if another program takes the rest.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ..errors import NetraError
from .errors import DiskFull
from .sqlite_drivers import Connection

CHECKPOINT_BYTES: Final = 4 * 1024 * 1024
RESTART_BYTES: Final = 64 * 1024 * 1024
BALLAST_BYTES: Final = 8 * 1024 * 1024
LOOK_EVERY_S: Final = 0.2

_log: Final = logging.getLogger("netra.storage")


class Housekeeping:
    """See the module's docstring."""

    def __init__(self, connect: Callable[[], Connection], path: Path, lock_dir: Path, reserve_bytes: int) -> None:
        self._connect = connect
        self._path = path
        self._wal = Path(f"{path}-wal")
        self._ballast = lock_dir / "ballast"
        self._lock_file = lock_dir / "checkpoint.lock"
        self._reserve_bytes = reserve_bytes
        self._stop = threading.Event()
        self._connection: Connection | None = None
        self._lock: int | None = None
        self.disk_full: DiskFull | None = None
        self._thread = threading.Thread(target=self._run, name="netra-housekeeping", daemon=True)

    def start(self) -> None:
        """Take a first look, then go on in the background."""
        self._look_at_disk()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and give the checkpoint lock back."""
        self._stop.set()
        self._thread.join()
        if self._connection is not None:
            self._connection.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _run(self) -> None:
        while not self._stop.wait(LOOK_EVERY_S):
            try:
                self._look_at_disk()
                self._checkpoint()
            except (NetraError, OSError) as error:
                _log.warning("housekeeping of %s failed, it will be tried again: %s", self._path, error)

    def _look_at_disk(self) -> None:
        free = shutil.disk_usage(self._path.parent).free
        if free < self._reserve_bytes:
            self._ballast.unlink(missing_ok=True)
            self.disk_full = DiskFull(f"{free} bytes are free, the reserve is {self._reserve_bytes}", free=free)
        elif free > self._reserve_bytes + BALLAST_BYTES:
            self.disk_full = None
            self._load_ballast()

    def _load_ballast(self) -> None:
        if not self._reserve_bytes or self._ballast.exists():
            return
        try:
            with self._ballast.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, min(BALLAST_BYTES, self._reserve_bytes))
        except OSError:
            self._ballast.unlink(missing_ok=True)  # the next look tries again

    def _checkpoint(self) -> None:
        size = self._wal.stat().st_size if self._wal.exists() else 0
        if size < CHECKPOINT_BYTES or not self._is_checkpointer():
            return
        if self._connection is None:
            self._connection = self._connect()
            self._connection.run("pragma busy_timeout = 100")
        self._connection.run("pragma wal_checkpoint(restart)" if size > RESTART_BYTES else "pragma wal_checkpoint(passive)")

    def _is_checkpointer(self) -> bool:
        if self._lock is not None:
            return True
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._lock = descriptor
        return True
