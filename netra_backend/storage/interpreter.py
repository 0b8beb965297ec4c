"""While a writer has work, threads that burn the interpreter give it up sooner.

CPython lets a running thread keep the interpreter for `sys.getswitchinterval()`, 5 ms by default, before another one
that waits may have it. The writer gives it up at each statement, so that beside one busy thread a group of six
statements holds the database's lock for 30 ms and more. That is an inversion: everybody else's writes, in other
processes too, wait for work that needs no lock at all. It is worse beside an event loop that gives the interpreter up
for an instant in each of its turns: the waiting writer is woken each time, comes too late, and its 5 ms begin anew.
So the interval is short while a writer has something to do, and only then.

It is one number for the whole process, hence the set of writers: the first who hurries sets it, the last puts it back,
unless somebody else has changed it meanwhile.
"""

from __future__ import annotations

import sys
import threading
from typing import Final

HURRY_S: Final = 0.0002
_HALF_STEP_S: Final = 0.5e-6  # the interpreter cuts off what is below a microsecond: without this, 100 us would be put back as 99


class Hurry:
    """See the module's docstring. Both methods may be called by any thread, and again without harm."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._who: set[object] = set()
        self._former_s = 0.0
        self._set_s = 0.0

    def begin(self, who: object) -> None:
        """`who` has work from now on."""
        with self._lock:
            if not self._who:
                self._former_s = sys.getswitchinterval()
                sys.setswitchinterval(min(HURRY_S, self._former_s) + _HALF_STEP_S)
                self._set_s = sys.getswitchinterval()  # as the interpreter rounds it
            self._who.add(who)

    def end(self, who: object) -> None:
        """`who` has nothing to do, or is gone."""
        with self._lock:
            if who not in self._who:
                return
            self._who.remove(who)
            if not self._who and sys.getswitchinterval() == self._set_s:
                sys.setswitchinterval(self._former_s + _HALF_STEP_S)


hurry: Final = Hurry()
