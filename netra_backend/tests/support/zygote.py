"""Processes under test, forked in milliseconds from one that has imported everything already.

A fresh interpreter needs more than a second to import Netra; a fork of a warm one needs six milliseconds, so that a
test can afford to kill hundreds. `Zygote` (the test's side) starts the warm process once and asks it over a unix
socket to fork; each child gets a socket of its own, on which it takes commands and whose end tells of its death.

Bounds: a child ends with its zygote (PR_SET_PDEATHSIG), the zygote with the socket of whoever started it, and a child
that is not stopped in `seconds` is ended by SIGALRM. Nobody is ended but by a pid that only we wait for.
"""

from __future__ import annotations

import array
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[3]
PROGRAMS = "netra_backend.tests.support.programs"
DEADLINE_S = 45.0
POLL_S = 0.002
LATE = ("netra_backend.resilience.pinning", "netra_backend.resilience.look_ups", "netra_backend.storage.postgres", "asyncpg", "aiodns")
"""What Netra imports with its first request or connection: in each child anew it would cost more than all the rest of its start."""

_PR_SET_PDEATHSIG = 1


class Died(Exception):
    """The process ended while it was asked something."""


def until(condition: Callable[[], Any], what: str, within_s: float = DEADLINE_S) -> Any:
    """The condition's first true value; fails after `within_s`."""
    ends = time.monotonic() + within_s
    while not (outcome := condition()):
        assert time.monotonic() < ends, f"not within {within_s:g} s: {what}"
        time.sleep(POLL_S)
    return outcome


class Zygote:
    """The warm process, from the outside. `with Zygote() as zygote: child = zygote.fork("platform", {...})`."""

    def __init__(self, programs: str = PROGRAMS) -> None:
        self._programs = programs

    def __enter__(self) -> Self:
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", __spec__.name, str(theirs.fileno()), self._programs]
        self._process = subprocess.Popen(command, cwd=ROOT, pass_fds=[theirs.fileno()])
        theirs.close()
        self._socket = ours
        self._lines = ours.makefile("rb")
        ours.settimeout(60)
        assert self._lines.readline() == b"warm\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()
        self._process.wait(timeout=10)

    def fork(self, program: str, spec: dict[str, Any], *, log: Path, seconds: int = 300) -> Child:
        """Start a child that runs `programs.<program>(its socket, spec)`; what it prints goes to `log`."""
        ours, theirs = socket.socketpair()
        request = {"program": program, "spec": spec, "log": str(log), "seconds": seconds}
        answer = self._ask(request, theirs)
        theirs.close()
        return Child(self, answer["pid"], ours, log)

    def status(self, pid: int) -> int | None:
        """The child's wait status, None while nothing has happened to it since the last look."""
        return self._ask({"status": pid})["status"]

    def _ask(self, request: dict[str, Any], *sockets: socket.socket) -> dict[str, Any]:
        data = json.dumps(request).encode() + b"\n"
        if sockets:
            socket.send_fds(self._socket, [data], [each.fileno() for each in sockets])
        else:
            self._socket.sendall(data)
        return json.loads(self._lines.readline())


class Child:
    """One process under test. `ask` is a command and its answer; `tell` a command whose answer comes later."""

    def __init__(self, zygote: Zygote, pid: int, channel: socket.socket, log: Path) -> None:
        self.pid = pid
        self.log = log
        self.ledger = Path()
        self.gone = False
        self._zygote = zygote
        self._channel = channel
        self._lines = channel.makefile("rb")
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0

    def ask(self, op: str, within_s: float = DEADLINE_S, **arguments: Any) -> Any:
        """The answer to a command; `Died` if the process ends first."""
        return self.answer(self.tell(op, **arguments), within_s)

    def tell(self, op: str, **arguments: Any) -> int:
        """Send a command; its number, for `answer`."""
        self._number += 1
        try:
            self._channel.sendall(json.dumps({"n": self._number, "op": op, **arguments}).encode() + b"\n")
        except OSError as error:
            raise Died(self.last_words()) from error
        return self._number

    def answer(self, number: int, within_s: float = DEADLINE_S) -> Any:
        """The answer to that command, whatever else is answered before it."""
        ends = time.monotonic() + within_s
        while number not in self._answers:
            self._channel.settimeout(max(0.001, ends - time.monotonic()))
            try:
                line = self._lines.readline()
            except ConnectionError:
                line = b""
            if not line:
                raise Died(self.last_words())
            found = json.loads(line)
            self._answers[found["n"]] = found
        return self._answers.pop(number)["answer"]

    def died(self, within_s: float = DEADLINE_S) -> int:
        """Wait for its own end; the signal that ended it, or 0."""
        ends = time.monotonic() + within_s
        self._channel.settimeout(within_s)
        try:
            while self._lines.readline():
                assert time.monotonic() < ends, f"pid {self.pid} still talks"
        except ConnectionError:
            pass
        except TimeoutError:
            raise AssertionError(f"pid {self.pid} did not end within {within_s:g} s\n{self.last_words()}") from None
        return self._reap()

    def kill(self) -> int:
        """SIGKILL, and wait for its end."""
        if not self.gone:
            os.kill(self.pid, signal.SIGKILL)
            self._reap()
        return signal.SIGKILL

    def has_ended(self) -> bool:
        """Whether it has ended by itself; a look that does not wait."""
        status = self._zygote.status(self.pid)
        if status is None or os.WIFSTOPPED(status):
            return False
        self._forget()
        return True

    def stop(self) -> None:
        """End it as a deployment does: drained."""
        self.ask("stop", within_s=40)
        assert self.died() == 0, self.last_words()

    def freeze(self) -> None:
        """SIGSTOP, and wait until it stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        self.frozen()

    def frozen(self) -> None:
        """Wait until it stands still, by its own failpoint or by `freeze`."""
        until(lambda: (status := self._zygote.status(self.pid)) is not None and os.WIFSTOPPED(status), f"pid {self.pid} stopped")

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def last_words(self) -> str:
        """The end of its log, for the message of a failed test."""
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def _reap(self, within_s: float = DEADLINE_S) -> int:
        ends = time.monotonic() + within_s
        while (status := self._zygote.status(self.pid)) is None or os.WIFSTOPPED(status):
            if time.monotonic() > ends:
                os.kill(self.pid, signal.SIGABRT)  # faulthandler writes every thread's stack to the log
                until(lambda: self._zygote.status(self.pid) is not None, "it ends", 5)
                self._forget()
                raise AssertionError(f"pid {self.pid} did not end within {within_s:g} s\n{self.last_words()}")
            time.sleep(POLL_S)
        self._forget()
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

    def _forget(self) -> None:
        self.gone = True
        self._lines.close()
        self._channel.close()


def serve(channel: socket.socket, programs_name: str) -> None:
    """The zygote's side: import, say so, then fork on request until the socket ends."""
    programs = importlib.import_module(programs_name)
    for name in LATE:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # a child's collector that looked at all modules would copy the pages that it shares with this process
    assert threading.active_count() == 1, "a child would have its threads' locks without the threads"
    channel.sendall(b"warm\n")
    buffer, descriptors = b"", array.array("i")
    while True:
        data, found, _, _ = socket.recv_fds(channel, 65536, 4)
        if not data:
            return
        buffer += data
        descriptors.extend(found)
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            request = json.loads(line)
            answer = _status(request) if "status" in request else {"pid": _fork(programs, request, channel, descriptors.pop(0))}
            channel.sendall(json.dumps(answer).encode() + b"\n")


def _status(request: dict[str, Any]) -> dict[str, Any]:
    pid, status = os.waitpid(request["status"], os.WUNTRACED | os.WNOHANG)
    return {"status": status if pid else None}


def _fork(programs: Any, request: dict[str, Any], channel: socket.socket, descriptor: int) -> int:
    pid = os.fork()
    if pid:
        os.close(descriptor)
        return pid
    code = 1
    try:
        channel.close()
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.alarm(request["seconds"])
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(log, 1)
        os.dup2(log, 2)
        faulthandler.enable()
        getattr(programs, request["program"])(socket.socket(fileno=descriptor), request["spec"])
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)
    return 0


if __name__ == "__main__":
    serve(socket.socket(fileno=int(sys.argv[1])), sys.argv[2])
