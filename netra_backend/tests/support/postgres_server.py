"""The PostgreSQL server of a test run: our own, gone with the run however that ends, or somebody else's."""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from ...testing import postgres_wheel
from ...testing.postgres import LocalPostgres
from ...testing.postgres_wheel import is_reachable

SETTINGS: Final = {
    "synchronous_commit": "on",  # what a statement reports must be what it reports in earnest
    "max_wal_size": "256MB",
    "autovacuum_naptime": "5s",
}
SETTINGS_SINCE: Final = {16: {"scram_iterations": "1"}}  # a password is asked for; what it costs to guess is not the subject
ROOM_IN_MEMORY: Final = 2 << 30


class Server(ABC):
    """A server that tests may use; `url` is the superuser's."""

    url: str
    pid: int

    @abstractmethod
    def start(self) -> None:
        """Start it and wait until it answers."""

    @abstractmethod
    def stop(self, mode: str) -> None:
        """End it and wait for its end."""

    @abstractmethod
    def leftovers(self, databases: Iterable[str]) -> Iterable[str]:
        """Which of the databases must be removed one by one at the end."""

    @abstractmethod
    def close(self) -> None:
        """End what is ours."""


class StandingServer(Server):
    """Somebody else's server: used, never stopped."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.pid = 0

    def start(self) -> None:
        raise AssertionError("this test stops the server, and that server is not ours: run it without NETRA_TEST_POSTGRES_URL")

    def stop(self, mode: str) -> None:
        self.start()

    def leftovers(self, databases: Iterable[str]) -> Iterable[str]:
        return databases

    def close(self) -> None:
        return


class OwnServer(LocalPostgres, Server):
    """A server from the wheel's programs that syncs nothing, in a folder that goes with it."""

    def __init__(self) -> None:
        folder = _folder()
        release = postgres_wheel.release(folder, postgres_wheel.account())
        more = {name: value for since, found in SETTINGS_SINCE.items() if release >= since for name, value in found.items()}
        super().__init__(folder, settings=SETTINGS | more, durable=False, throw_away=True)

    def leftovers(self, databases: Iterable[str]) -> Iterable[str]:
        """They go with the folder."""
        return ()


def _folder() -> Path:
    """A fresh folder that the server's account can reach: in memory where there is room, where a database is copied in 11 ms.

    On the disk of a small machine the same took 200 ms, the most of a test's time (measured).
    """
    candidates = [Path("/dev/shm"), Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    if not _has_room(candidates[0]):
        del candidates[0]
    made = Path(tempfile.mkdtemp(prefix="netra-postgres-", dir=next(filter(is_reachable, candidates))))
    made.chmod(0o711)
    return made


def _has_room(memory: Path) -> bool:
    """Containers often have 64 MB there; where nothing may be executed, programs copied there could not run."""
    if not memory.is_dir():
        return False
    found = os.statvfs(memory)
    return found.f_bavail * found.f_frsize >= ROOM_IN_MEMORY and not found.f_flag & os.ST_NOEXEC
