"""Figures of queues without a count of a large table at each look.

A tenant's are counted up to a bound. The installation's are one pass over a partial index, at most every `FRESH_S` and in the background.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ..errors import Unavailable
from ..storage.transaction import Tx
from ..webhooks import search
from ..webhooks.quotas import waiting
from .lately import Lately
from .visits import Visit

MOST: Final = 10_000
_counted: Final[Lately[tuple[int, int | None]]] = Lately(fresh_s=2.0)


@dataclass(frozen=True, slots=True)
class Queue:
    """How many deliveries wait or are on their way, when the earliest of them is or was due, and when that was counted."""

    depth: int
    earliest_us: int | None
    at_us: int

    def oldest_s(self, now_us: int) -> float:
        """For how long the earliest has been due, 0 if none is."""
        return 0.0 if self.earliest_us is None else max(0, now_us - self.earliest_us) / 1_000_000


async def queue_of_all(visit: Visit) -> Queue:
    """The installation's."""
    at_us, (depth, earliest_us) = await _counted.get(visit.netra, lambda: visit.read_all(search.queue))
    return Queue(depth, earliest_us, at_us)


async def queue_of_tenant(tx: Tx) -> Queue:
    """One tenant's: what waits, counted up to `MOST` and one more."""
    depth, earliest_us = await waiting(tx, MOST + 1)
    return Queue(depth, earliest_us, tx.now_us)


def intake(visit: Visit) -> str:
    """Why nothing new is accepted just now, empty if it is."""
    try:
        visit.netra.database.check_intake()
    except Unavailable as error:
        return f"{error.title} {error.fix}".strip()
    return ""
