"""The logpoints of this process: armed while some session wants them, by the means of this interpreter.

Places whose module is not imported yet are tried again at each look. What cannot be armed has its reason in `states`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from typing import Final, Protocol

from ..errors import BadLogpoint
from ..model import Logpoint
from . import places
from .places import Found
from .snapshot import Point

ARMED: Final = "armed"
WAITS: Final = "its module is not imported"


class Means(Protocol):
    """How this interpreter watches code."""

    def settle(self, wanted: Sequence[tuple[Found, Point]]) -> None:
        """Have exactly these places watched."""
        ...


def _means() -> Means:
    if sys.version_info >= (3, 12):
        from .monitoring import Monitoring

        return Monitoring()
    from .rewriting import Rewriting

    return Rewriting()


class Engine:
    """See the module's docstring. `arm` may be called from any thread."""

    def __init__(self, means: Means | None = None) -> None:
        self.states: dict[Logpoint, str] = {}
        self._means = means
        self._wanted: dict[int, frozenset[Logpoint]] = {}
        self._planted: dict[Logpoint, list[tuple[Found, Point]]] = {}
        self._refused: set[Logpoint] = set()
        self._lock = threading.RLock()

    def arm(self, owner: int, points: set[Logpoint]) -> None:
        """Have the owner's logpoints watched, beside those of others, and none of his former ones."""
        if not points and owner not in self._wanted:
            return
        with self._lock:
            if points:
                self._wanted[owner] = frozenset(points)
            else:
                self._wanted.pop(owner, None)
            self._settle()

    def _settle(self) -> None:
        wanted: frozenset[Logpoint] = frozenset().union(*self._wanted.values())
        gone = [point for point in self._planted if point not in wanted]
        self._refused &= wanted
        fresh = {point: found for point in wanted - self._planted.keys() - self._refused if (found := self._find(point))}
        for point in gone:
            del self._planted[point]
        for point in self.states.keys() - wanted:
            del self.states[point]
        if gone or fresh:
            self._plant(fresh)

    def _plant(self, fresh: dict[Logpoint, list[tuple[Found, Point]]]) -> None:
        """Watch what is wanted; what this interpreter cannot watch is left out, and the rest is watched all the same."""
        self._means = self._means or _means()
        standing = [each for found in self._planted.values() for each in found]
        try:
            self._means.settle([*standing, *(each for found in fresh.values() for each in found)])
        except Exception as error:  # noqa: BLE001  (told where the session is shown)
            for point in fresh:
                self._refuse(point, f"it cannot be watched: {error}")
            self._means.settle(standing)
        else:
            self._planted |= fresh
            self.states.update(dict.fromkeys(fresh, ARMED))

    def _find(self, point: Logpoint) -> list[tuple[Found, Point]]:
        try:
            found = places.find(point)
        except BadLogpoint as error:
            self._refuse(point, error.detail)
            return []
        if not found:
            self.states[point] = WAITS
            return []
        made = Point(point)
        return [(each, made) for each in found]

    def _refuse(self, point: Logpoint, why: str) -> None:
        """Not to be tried again as long as somebody wants it."""
        self._refused.add(point)
        self.states[point] = why

    def reset(self) -> None:
        """In a forked child: another thread of the parent may have held the lock."""
        self._lock = threading.RLock()


_engine: Final = Engine()
arm: Final = _engine.arm
states: Final = _engine.states
reset: Final = _engine.reset
