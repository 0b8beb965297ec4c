"""A PostgreSQL server that ends with whoever started it. Run as a script, for standard library and nothing else of ours.

    python postgres_process.py '{"command": [...], "uid": 101, "gid": 104, "log": "...", "throw_away": "..."}'

It starts the server as its child, prints the child's pid and waits for one of two ends:

* the server's own (it was signalled by that pid): then this process ends too, and the data stays for the next start;
* the end of standard input, which the starter holds open and which the kernel closes however the starter dies: then the
  server is stopped, in bounded time, and the folder `throw_away`, if one is named, removed.

So a killed starter leaves no server behind. Should this process itself be killed, the server is ended by the kernel
(PR_SET_PDEATHSIG). A session of its own keeps the terminal's Ctrl-C away from the server: the starter's clean-up needs it still.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import sys
from typing import Any

_PR_SET_PDEATHSIG = 1
_PATIENCE_S = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
"""Ever less polite signals (PostgreSQL's fast and immediate shutdown, then none), and how long each is waited for."""


def become_server(spec: dict[str, Any], starter: int) -> None:
    """Turn this (forked) process into the server: as root under another account, because PostgreSQL refuses to be root."""
    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(spec["gid"])
        os.setuid(spec["uid"])
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)  # behind setuid, which takes it back
    if os.getppid() == starter:
        os.execv(spec["command"][0], spec["command"])  # noqa: S606  (a list of our starter's making, and no shell)


def end(pid: int, ended: int) -> None:
    """Stop the server, whatever it is doing."""
    for number, seconds in _PATIENCE_S:
        os.kill(pid, number)
        if select.select([ended], [], [], seconds)[0]:
            return


def main(spec: dict[str, Any]) -> None:
    """See the module's docstring."""
    os.setsid()
    this = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            become_server(spec, this)
        finally:
            os._exit(127)
    ended = os.pidfd_open(pid)
    sys.stdout.write(f"{pid}\n")
    sys.stdout.flush()
    deserted = 0 in select.select([0, ended], [], [])[0]
    if deserted:
        end(pid, ended)
    os.waitpid(pid, 0)
    if deserted and spec["throw_away"]:
        shutil.rmtree(spec["throw_away"], ignore_errors=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
