"""A small file system of a test's own, which can be full."""

from __future__ import annotations

import os
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def mounted(size):
    """A tmpfs of that size, or None where this process may not mount."""
    with tempfile.TemporaryDirectory(prefix="netra-disk-") as folder:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "netra-test", folder]
        if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
            yield None
            return
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], capture_output=True)


class RealDisk:
    """A small file system, filled by another program's file."""

    def __init__(self, folder):
        self.folder, self.options = folder, {}
        self._filler = folder / "filler"

    def fill(self, leave=0):
        with self._filler.open("ab") as file:
            while (wanted := self._room() - leave) > 0:
                with suppress(OSError):  # somebody took of it just now
                    os.posix_fallocate(file.fileno(), file.seek(0, os.SEEK_END), wanted)

    def _room(self):
        room = os.statvfs(self.folder)
        return room.f_bavail * room.f_frsize

    def free(self):
        self._filler.unlink()

    def close(self):
        pass
