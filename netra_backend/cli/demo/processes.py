"""The demo's children: real processes, each ended by its own pid, whatever happens to the demo."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from ...errors import CannotStart

READY_WITHIN_S: Final = 60.0
ENDS_WITHIN_S: Final = 40.0
"""The server drains for at most 30 s."""


async def answer_of(module: str, arguments: Sequence[str], environ: Mapping[str, str]) -> dict[str, Any]:
    """The JSON document of `python -m MODULE ... --json`, run to its end; its own error as `CannotStart`."""
    command = [sys.executable, "-m", module, *arguments]
    process = await asyncio.create_subprocess_exec(*command, stdout=PIPE, stderr=PIPE, env=dict(environ))
    try:
        async with asyncio.timeout(READY_WITHIN_S):
            out, words = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    if process.returncode:
        raise _its_error(f"{module} {' '.join(arguments)}", process.returncode, words)
    document: dict[str, Any] = orjson.loads(out)
    return document


def _its_error(command: str, code: int, words: bytes) -> CannotStart:
    told = words.decode(errors="replace").strip().rpartition("\n")[2]
    try:
        error = orjson.loads(told)
        return CannotStart(f"{command} ended with {code}: {error['detail']}", fix=error["fix"])
    except (ValueError, KeyError, TypeError):
        return CannotStart(f"{command} ended with {code}: {told[:500]}", fix="Run that command by itself and read what it says.")


class Child:
    """`python -m MODULE ...` that says on stdout when it is ready; `async with` ends it. stderr goes to `log`."""

    def __init__(self, module: str, arguments: Sequence[str], log: Path, environ: Mapping[str, str]) -> None:
        self._command = [sys.executable, "-m", module, *arguments]
        self._log = log
        self._environ = dict(environ)
        self._process: Process | None = None
        self.said: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(*self._command, stdout=PIPE, stderr=log, env=self._environ)
        try:
            async with asyncio.timeout(READY_WITHIN_S):
                await self._until_ready()
        except BaseException as error:
            await self.kill()
            if isinstance(error, TimeoutError):
                raise CannotStart(f"{self._command[2]} was not ready in {READY_WITHIN_S:g} s", fix=f"Read {self._log}.") from error
            raise
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.kill()

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._running.pid

    def check(self) -> None:
        """Raise if it has ended by itself."""
        if (code := self._running.returncode) is not None:
            raise CannotStart(f"{self._command[2]} ended with {code}", fix=f"Read {self._log}.")

    def signal(self, number: signal.Signals) -> None:
        """Send one signal, if it is still there."""
        if self._running.returncode is None:
            self._running.send_signal(number)

    async def stop(self) -> int:
        """SIGTERM, and its exit code; SIGKILL if it does not end."""
        self.signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self._running.wait(), ENDS_WITHIN_S)
        except TimeoutError:
            await self.kill()
            return self._running.returncode or 0

    async def kill(self) -> None:
        """SIGKILL, and wait until the kernel has buried it."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    @property
    def _running(self) -> Process:
        assert self._process is not None
        return self._process

    async def _until_ready(self) -> None:
        assert self._running.stdout is not None
        while line := await self._running.stdout.readline():
            self.said.append(orjson.loads(line))
            if self.said[-1].get("event") == "ready":
                return
        code = await self._running.wait()
        raise CannotStart(f"{self._command[2]} ended with {code} before it was ready", fix=f"Read {self._log}.")
