"""A PostgreSQL server of one's own on loopback, for tests and demonstrations: a process, or an object.

    python -m netra_backend.testing.postgres --data some/folder

makes a server in that folder, or starts the one that is there on the same port with the same data, and prints one line
`{"event":"ready","url","pid","port"}` on stdout when it answers. `url` is the database `netra` as the role `netra_owner`, who
owns it and may make roles but is no superuser, as managed clouds give it: what NETRA_MIGRATE_URL wants. It ends at SIGTERM,
at SIGINT and after `--max-seconds`, with exit code 0.

The server never outlives the process that started it, however that dies (`postgres_process.py`), is never root
(`postgres_wheel.py`), and listens on 127.0.0.1 alone. It syncs what it commits unless `durable=False` is asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import asyncpg

from ..errors import CannotStart
from ..kernel.chance import SystemChance
from ..kernel.clock import SystemClock
from . import postgres_process, postgres_wheel

__all__ = ["LocalPostgres", "main", "remove"]

OWNER: Final = "netra_owner"
DATABASE: Final = "netra"
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # in the data folder, so that a killed server leaves nothing in /dev/shm
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "log_line_prefix": "%m [%p] %u@%d ",
}
_NOT_DURABLE: Final = {"fsync": "off", "full_page_writes": "off"}
_SIGNALS: Final = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_ANSWERS_WITHIN_S: Final = 30.0
_ENDS_WITHIN_S: Final = 30.0
_POLL_S: Final = 0.002
_PASSWORD_BYTES: Final = 16
_NOTES: Final = "server.json"
_KEEP: Final = "select set_config('netra.new_password', $1, true)"
_MAKE_OWNER: Final = """do $$ begin
  if to_regrole('netra_owner') is null then create role netra_owner login createrole; end if;
  execute format('alter role netra_owner password %L', current_setting('netra.new_password'));
end $$"""
_MISSING: Final = "select not exists (select from pg_database where datname = $1)"
_MAKE_DATABASE: Final = "create database netra owner netra_owner template template0"

remove = postgres_wheel.remove


class LocalPostgres:
    """The server in `folder`, started. `url` is the superuser's.

    `settings` are added to the server's own. With `throw_away` the folder goes with the server, also if this process is
    killed; without, the next one that names it goes on with the same data at the same port.
    """

    def __init__(
        self, folder: Path, *, settings: Mapping[str, str] | None = None, durable: bool = True, throw_away: bool = False, port: int = 0
    ) -> None:
        self._durable = durable
        self._settings = {**SETTINGS, **({} if durable else _NOT_DURABLE), **(settings or {})}
        self._account = postgres_wheel.account()
        postgres_wheel.installed()  # before anything is made
        self._folder = postgres_wheel.open_folder(folder)
        self._throw_away = throw_away
        self._data = self._folder / "data"
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self.pid = 0
        try:
            self._programs = postgres_wheel.programs(self._folder, self._account)
            self.port, self.password = self._known() or self._make(port)
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The database `postgres` as the superuser."""
        return self._url("postgres", "postgres")

    def start(self) -> None:
        """Start it on the same port and data, and wait until it answers."""
        spec = {
            "command": [str(self._programs / "postgres"), "-D", str(self._data), "-p", str(self.port), *self._options()],
            "uid": self._account.uid,
            "gid": self._account.gid,
            "log": str(self._log),
            "throw_away": str(self._folder) if self._throw_away else "",
        }
        self._process = subprocess.Popen(  # noqa: S603  (this interpreter, on a script of ours)
            [sys.executable, "-I", "-S", postgres_process.__file__, json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
        )
        self.pid = int(_pipe(self._process.stdout).readline() or 0)
        self._until_it_answers()

    def stop(self, mode: str = "fast") -> None:
        """End it by its pid and wait for its end: `smart` (waits for everybody), `fast`, or `immediate` (as a crash)."""
        os.kill(self.pid, _SIGNALS[mode])
        self._buried()

    def close(self) -> None:
        """Let go of the tie, so that the server ends; the folder stays unless it was to be thrown away."""
        if self._process is not None:
            if self._process.poll() is None:
                _pipe(self._process.stdin).close()
            self._buried()
        if self._throw_away:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def owned_database(self) -> str:
        """The URL of the database `netra` as its owner, both made if they are missing."""
        connection = await asyncpg.connect(self.url, timeout=10)
        try:
            async with connection.transaction():
                await connection.execute(_KEEP, self.password)
                await connection.execute(_MAKE_OWNER)
            if await connection.fetchval(_MISSING, DATABASE):
                await connection.execute(_MAKE_DATABASE)
        finally:
            await connection.close()
        return self._url(OWNER, DATABASE)

    def _url(self, user: str, database: str) -> str:
        return f"postgresql://{user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def _options(self) -> list[str]:
        return list(itertools.chain.from_iterable(("-c", f"{name}={value}") for name, value in self._settings.items()))

    def _known(self) -> tuple[int, str] | None:
        """Port and password of a server that was made here before."""
        notes = self._folder / _NOTES
        if not notes.exists():
            return None
        known: dict[str, Any] = json.loads(notes.read_text(encoding="utf-8"))
        return int(known["port"]), str(known["password"])

    def _make(self, port: int) -> tuple[int, str]:
        """Its data, and the notes by which it is known; they come last, so that what is half made is not taken for whole."""
        made = (port or _free_port(), SystemChance().token(_PASSWORD_BYTES).hex())
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        password = self._folder / "password"
        password.touch(mode=0o600)
        password.write_text(made[1], encoding="ascii")
        self._account.give(self._data, password)
        options = ["--username=postgres", f"--pwfile={password}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        options += [] if self._durable else ["--no-sync"]
        self._account.run([str(self._programs / "initdb"), "-D", str(self._data), *options], self._folder)
        password.unlink()
        notes = self._folder / _NOTES
        notes.touch(mode=0o600)
        notes.write_text(json.dumps({"port": made[0], "password": made[1]}), encoding="ascii")
        return made

    def _until_it_answers(self) -> None:
        assert self._process is not None
        clock = SystemClock()
        ends = clock.monotonic() + _ANSWERS_WITHIN_S
        while not self._answers():
            if self._process.poll() is not None or clock.monotonic() > ends:
                words = self._log.read_text(encoding="utf-8", errors="replace")[-1500:] if self._log.exists() else ""
                raise CannotStart(f"PostgreSQL did not start: {words}", fix=f"Read {self._log}.")
            time.sleep(_POLL_S)

    def _answers(self) -> bool:
        """Its status file says that it does (PostgreSQL's miscadmin.h: the last line is the postmaster's state)."""
        status = self._data / "postmaster.pid"
        lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def _buried(self) -> None:
        assert self._process is not None
        self._process.wait(timeout=_ENDS_WITHIN_S)
        _pipe(self._process.stdin).close()
        _pipe(self._process.stdout).close()


def _pipe(pipe: Any) -> Any:
    assert pipe is not None
    return pipe


def _free_port() -> int:
    """Below the ports that outgoing connections get: nobody takes it while the server is down."""
    chance = SystemChance()
    while True:
        port = int(chance.uniform(20_000, 32_000))
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m netra_backend.testing.postgres", description="A PostgreSQL server of one's own.")
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="the server's folder, made if it is not there")
    parser.add_argument("--port", type=int, default=0, help="for a new server; 0 takes a free one")
    parser.add_argument("--max-seconds", type=float, default=3600.0, help="end by itself after this time")
    options = parser.parse_args(arguments)
    try:
        with LocalPostgres(options.data, port=options.port) as server:
            return _serve(server, options.max_seconds)
    except CannotStart as error:
        sys.stderr.write(json.dumps(error.as_dict()) + "\n")
        return 4


def _serve(server: LocalPostgres, seconds: float) -> int:
    ends = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # behind the start: the server would inherit it
    ready = {"event": "ready", "url": asyncio.run(server.owned_database()), "pid": server.pid, "port": server.port}
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    met = signal.sigtimedwait(ends, seconds)
    return 1 if met is not None and met.si_signo == signal.SIGCHLD else 0


if __name__ == "__main__":
    sys.exit(main())
