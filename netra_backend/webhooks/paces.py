"""Rate limits of endpoints: how many attempts may start now, by the limit per second that an endpoint has.

One bucket per limited endpoint in each process that sends (`resilience/rate_limit.py`). The limit is the fleet's: each of N senders has an
N-th of it, and of its burst, a fifth of a second's worth but at least one attempt in each sender. So in any second, in all processes
together, at most `limit + limit / 5 + N` attempts start; a sender that joins or dies changes the shares within a second.

A token is taken when an attempt starts, whatever it is (first, retry, probe, sent again by hand). What must wait stays due in the table:
it is claimed only when a token comes within `AHEAD_S`, which is as long as the look at the table takes; so nothing is leased and given
back, and no attempt is burned. The bucket is this process's memory: a process that is started anew begins with its burst.

Where an endpoint's limit is not known yet (its tenant's endpoints are not in memory) nothing starts: whoever asks loads them first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from ..kernel.clock import Clock
from ..resilience.rate_limit import Rate, capacity, decide
from ..storage.membership import Membership
from .model import Snapshot
from .store import Lane

AHEAD_S: Final = 0.25
UNKNOWN_S: Final = 1.0
UNLIMITED: Final = 1 << 30
MOST_BUCKETS: Final = 20_000
_BURST: Final = 5
_NS: Final = 1_000_000_000


class Paces:
    """See the module's docstring. `peek` is what is in memory of a tenant."""

    def __init__(self, clock: Clock, membership: Membership, peek: Callable[[str], Snapshot | None]) -> None:
        self._clock = clock
        self._membership = membership
        self._peek = peek
        self._buckets: dict[Lane, tuple[int, int]] = {}

    def knows(self, lane: Lane) -> bool:
        """Whether it is known if the endpoint has a limit."""
        return self._limit(lane) is not None

    def ready(self, lane: Lane) -> int:
        """How many attempts may start at once in `AHEAD_S` from now; a look that changes nothing, from any thread."""
        limit = self._limit(lane)
        if not limit:
            return UNLIMITED if limit == 0 else 0
        return capacity(self._rate(limit), self._tat(lane), self._now_ns() + int(AHEAD_S * _NS))

    def wait_s(self, lane: Lane) -> float:
        """How long the next attempt has to wait."""
        limit = self._limit(lane)
        if not limit:
            return 0.0 if limit == 0 else UNKNOWN_S
        return decide(self._rate(limit), self._tat(lane), self._now_ns()).retry_after_s

    def take(self, lane: Lane) -> None:
        """An attempt starts, which had not to wait."""
        limit = self._limit(lane)
        if limit:
            self._buckets[lane] = limit, decide(self._rate(limit), self._tat(lane), self._now_ns()).tat_ns
            if len(self._buckets) > MOST_BUCKETS:
                self._drop_full()

    def _limit(self, lane: Lane) -> int | None:
        """Attempts per second, 0 for no limit, None where it is not known. Between two readings the last known one holds."""
        snapshot = self._peek(lane[0])
        if snapshot is None:
            bucket = self._buckets.get(lane)
            return bucket[0] if bucket is not None else None
        endpoint = snapshot.endpoints.get(lane[1])
        return (endpoint.rate_limit or 0) if endpoint is not None else 0  # what is due for one that is gone is cancelled

    def _rate(self, limit: int) -> Rate:
        return _rate(limit, max(1, len(self._membership.senders)))

    def _tat(self, lane: Lane) -> int:
        bucket = self._buckets.get(lane)
        return bucket[1] if bucket is not None else 0

    def _now_ns(self) -> int:
        return math.floor(self._clock.monotonic() * _NS)

    def _drop_full(self) -> None:
        now_ns = self._now_ns()
        self._buckets = {lane: bucket for lane, bucket in self._buckets.items() if bucket[1] > now_ns}


@lru_cache(maxsize=4096)
def _rate(limit: int, senders: int) -> Rate:
    """One sender's share."""
    return Rate(limit, per_s=senders, burst=max(1, limit // (_BURST * senders)))
