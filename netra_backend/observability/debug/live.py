"""One live session in one process: whether it still listens, its ring, and what it has lost.

Appending to the ring and taking from it are single operations of the interpreter on a deque, without a lock: a request that records
waits for nobody, also where the flusher is dead, and a finalizer that records in the middle of a record finds no lock of its own.
Where the ring is full the oldest record goes (D6), and the flusher tells how many did.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from fnmatch import translate
from functools import lru_cache
from re import Pattern
from re import compile as compiled

import orjson

from ...kernel.clock import Clock
from ...kernel.debugging import Facts
from .model import AT_INGRESS_ONLY, US, Record, Session
from .quotas import Quotas
from .settings import DebugSettings


class Live:
    """See the module's docstring."""

    def __init__(self, session: Session, clock: Clock, settings: DebugSettings) -> None:
        self.session = session
        self.captures = frozenset(session.captures)
        self.quotas = Quotas(settings, clock.monotonic())
        self.closed = False
        self.writing = asyncio.Lock()
        """Whose turn it is to carry records to the table: they get there in order, and who has had it has left none on their way."""

        self._clock = clock
        self._until = self._granted_until(session)
        self._ring: deque[Record] = deque(maxlen=settings.ring)
        self._appended = itertools.count(1)
        self._last = 0
        self._taken = 0

    def renew(self, session: Session) -> None:
        """The session as it was read again. Only a new grant moves its end: a wall clock that steps back gives no time."""
        if session.expires_us != self.session.expires_us:
            self._until = self._granted_until(session)
        self.session = session

    def _granted_until(self, session: Session) -> float:
        left_us = min(session.expires_us - self._clock.wall_us(), session.granted_us)
        return self._clock.monotonic() + left_us / US

    def is_open(self, now: float) -> bool:
        """Whether it listens now (D5): its time is over as soon as either clock says so."""
        return not self.closed and now < self._until and self._clock.wall_us() < self.session.expires_us

    def matches(self, facts: Facts, marks: frozenset[bytes]) -> bool:
        """Whether it listens to work of which this is known; what only the work's beginning knew, its mark says."""
        return all(
            _holds(name, wanted, facts) or (name not in facts and name in AT_INGRESS_ONLY and self.session.id in marks)
            for name, wanted in self.session.predicates.items()
        )

    def needs_mark(self, facts: Facts) -> bool:
        """Whether rows of this work should name it: it chose the work by what nobody knows later."""
        asked = AT_INGRESS_ONLY & self.session.predicates.keys()
        return bool(asked) and all(_holds(name, self.session.predicates[name], facts) for name in asked)

    def keep(self, record: Record) -> None:
        """Put a record into the ring."""
        self._ring.append(record)
        self._last = next(self._appended)

    def take(self, most: int) -> list[Record]:
        """The ring's oldest records, for the flusher."""
        taken: list[Record] = []
        while self._ring and len(taken) < most:
            taken.append(self._ring.popleft())
        self._taken += len(taken)
        fallen = self._last - self._taken - len(self._ring)
        if fallen > 0:
            self.quotas.lost["ring"] += fallen
            self._taken += fallen
        return taken

    def take_losses(self, at_us: int) -> tuple[int, list[Record]]:
        """How many records were lost since this was last asked, and the record that tells why."""
        lost, self.quotas.lost = self.quotas.lost, type(self.quotas.lost)()
        count = sum(lost.values())
        if not count:
            return 0, []
        return count, [Record("dropped", at_us, "", orjson.dumps({"count": count, "why": dict(lost)}))]

    @property
    def has_records(self) -> bool:
        """Whether there is something to flush."""
        return bool(self._ring or self.quotas.lost)


def _holds(name: str, wanted: str, facts: Facts) -> bool:
    known = facts.get(name, ())
    values = (known,) if isinstance(known, str) else known
    if name != "route":
        return wanted in values
    return any(_pattern(wanted).match(value) for value in values)


@lru_cache(maxsize=1024)
def _pattern(glob: str) -> Pattern[str]:
    return compiled(translate(glob))
