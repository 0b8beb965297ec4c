"""Programs that are killed at a chosen line of the code that backs up and restores.

A failpoint stands where somebody thought of one. Here every line is one: the trace function counts the lines that run in
the modules below, and the nth ends the process as `kill -9` does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from ...kernel.runtime import Runtime
from ...storage import backup_digest, durable_files, sqlite_backup, sqlite_inspect, sqlite_presence, sqlite_restore

FILES = {module.__file__ for module in (backup_digest, durable_files, sqlite_backup, sqlite_inspect, sqlite_presence, sqlite_restore)}


def backing_up(channel: socket.socket, spec: dict[str, Any]) -> None:
    """`backup`, killed before the nth of its lines."""
    runtime = Runtime()
    _die_at(spec["line"])
    sqlite_backup.backup(Path(spec["database"]), Path(spec["file"]), runtime, driver=spec["driver"], replace=True)
    sys.settrace(None)


def restoring(channel: socket.socket, spec: dict[str, Any]) -> None:
    """`restore`, killed before the nth of its lines."""
    runtime = Runtime()
    _die_at(spec["line"])
    sqlite_restore.restore(Path(spec["file"]), Path(spec["database"]), runtime, driver=spec["driver"])
    sys.settrace(None)


def _die_at(number: int) -> None:
    left = number

    def local(_frame: Any, event: str, _argument: Any) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if not left:
                os.kill(os.getpid(), signal.SIGKILL)
        return local

    sys.settrace(lambda frame, _event, _argument: local if frame.f_code.co_filename in FILES else None)
