"""Named places where a test may kill, raise or pause: one at every commit boundary, free when off.

The catalogue below is the whole list: `hit` of a name that is not in it is a programming error, and a test fails if
one of them was never exercised. Outside a test nothing can be armed: `arm_from_environment` refuses without
`NETRA_TEST_MODE=1`.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Mapping
from typing import Final

from ..errors import CannotStart, NetraError

CATALOGUE: Final[dict[str, str]] = {}
"""Name -> what has and has not happened when the process stops there. Filled by `declare` at import."""


class FailpointError(NetraError):
    """A failpoint was armed to raise here."""

    code = "failpoint"


def declare(name: str, meaning: str) -> str:
    """Add a failpoint to the catalogue and return its name, for the module that will hit it."""
    if name in CATALOGUE and CATALOGUE[name] != meaning:
        raise ValueError(f"failpoint {name} is declared twice")
    CATALOGUE[name] = meaning
    return name


def kill_this_process() -> None:
    """SIGKILL, as a power cut of the process: no handler, no flush, no goodbye."""
    os.kill(os.getpid(), signal.SIGKILL)


class Failpoints:
    """The armed failpoints of one process. Thread-safe: the writer thread and the event loop both hit them."""

    def __init__(self) -> None:
        self._armed: dict[str, tuple[int, Callable[[], None]]] = {}
        self._lock = threading.Lock()
        self.hits: dict[str, int] = {}

    def hit(self, name: str) -> None:
        """Stop here if this failpoint is armed; one falsy test of an empty dict otherwise."""
        if not self._armed:
            return
        self._hit_armed(name)

    def _hit_armed(self, name: str) -> None:
        with self._lock:
            self.hits[name] = self.hits.get(name, 0) + 1
            nth, action = self._armed.get(name, (0, _nothing))
            due = nth == self.hits[name]
        if due:
            action()

    def arm(self, name: str, action: str | Callable[[], None], nth: int = 1) -> None:
        """Do `action` (`kill`, `raise`, `pause`, or a callable) at the nth hit of `name`, counted from here on."""
        if name not in CATALOGUE:
            raise CannotStart(f"no failpoint is called {name!r}", fix="`netra failpoints --json` lists them all.")
        run = action if callable(action) else _action(name, action)
        with self._lock:
            self._armed[name] = (nth, run)
            self.hits[name] = 0

    def disarm(self) -> None:
        """Off again."""
        with self._lock:
            self._armed.clear()
            self.hits.clear()

    def arm_from_environment(self, environ: Mapping[str, str]) -> None:
        """Arm `NETRA_FAILPOINT=name[@nth]=kill|raise|pause` (comma-separated), which needs `NETRA_TEST_MODE=1`."""
        spec = environ.get("NETRA_FAILPOINT", "")
        if not spec:
            return
        if environ.get("NETRA_TEST_MODE") != "1":
            raise CannotStart("NETRA_FAILPOINT is set outside a test", fix="Unset it, or set NETRA_TEST_MODE=1 in a test.")
        for part in spec.split(","):
            place, _, action = part.strip().rpartition("=")
            name, _, nth = place.partition("@")
            if nth and not nth.isdigit():
                raise CannotStart(f"{part!r} is not name[@nth]=action", fix="Write, for example, NETRA_FAILPOINT=name@3=kill.")
            self.arm(name, action, int(nth or "1"))


def stop_this_process() -> None:
    """SIGSTOP, to the thread that calls: sent to the process, another thread may take it, and this one would run on until that has."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def _nothing() -> None:
    return


def _action(name: str, action: str) -> Callable[[], None]:
    def fail() -> None:
        raise FailpointError(f"failpoint {name}", failpoint=name)

    actions = {"kill": kill_this_process, "raise": fail, "pause": stop_this_process}
    if action not in actions:
        raise CannotStart(f"a failpoint cannot {action!r}", fix="Use kill, raise or pause.")
    return actions[action]
