"""While a write lock is held, threads that burn the interpreter give it up sooner.

CPython lets a running thread keep the interpreter for `sys.getswitchinterval()`, 5 ms by default, before another one
that waits may have it. A writer gives it up at each statement, so that beside one busy thread a group of six statements
holds the database's lock for 30 ms and more: an inversion, for everybody else's writes, in other processes too, wait
for work that needs no lock at all. So the interval is short for as long as some group is open, and only then: the
process pays a few hundred switches per second of held lock, and its own interval otherwise.

It is one number for the whole process, hence the count: the first who hurries sets it, the last puts it back, unless
somebody else has changed it meanwhile.
"""

from __future__ import annotations

import sys
import threading
from typing import Final

HURRY_S: Final = 0.0002


class Hurry:
    """See the module's docstring. One object for the process, `hurry` below; each `begin` is followed by one `end`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = 0
        self._former_s = 0.0

    def begin(self) -> None:
        """A lock is held from now on."""
        with self._lock:
            self._open += 1
            if self._open == 1:
                self._former_s = sys.getswitchinterval()
                sys.setswitchinterval(min(HURRY_S, self._former_s))

    def end(self) -> None:
        """It is held no longer."""
        with self._lock:
            self._open -= 1
            if not self._open and sys.getswitchinterval() == min(HURRY_S, self._former_s):
                sys.setswitchinterval(self._former_s)


hurry: Final = Hurry()
