"""How often something may happen: the generic cell rate algorithm, one integer per key.

The state is the theoretical arrival time (tat): when the bucket would be full again. A request at `now` conforms if
tat <= now + tolerance, and moves tat one interval on. Invariant: in any span of W seconds at most
`burst + W * limit / per_s` requests are allowed; refused ones cost nothing.

Source: ITU-T I.371, annex A, the virtual scheduling form. Integers of nanoseconds, the interval rounded up, so that no
rounding ever allows one too many. Rejected: fixed windows (twice the limit at the border), logs of instants (memory).
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, TypeVar

from ..errors import InvalidInput
from ..kernel.clock import Clock

K = TypeVar("K", bound=Hashable)

_NS: Final = 1_000_000_000
MAX_KEYS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Rate:
    """`limit` requests per `per_s` seconds, `burst` of them at once (by default all)."""

    limit: int
    per_s: float = 1.0
    burst: int = 0

    def __post_init__(self) -> None:
        if self.limit < 1 or self.burst < 0 or not 0 < self.per_s < math.inf:
            raise InvalidInput(f"{self} allows nothing", fix="Give a limit of at least 1 and a positive number of seconds.")

    @property
    def interval_ns(self) -> int:
        """Nanoseconds that one request takes from the bucket, rounded up."""
        return math.ceil(self.per_s * _NS / self.limit)

    @property
    def tolerance_ns(self) -> int:
        """How far tat may lie ahead when a request comes: the burst but one."""
        return self.interval_ns * ((self.burst or self.limit) - 1)


class Decision(NamedTuple):
    """Whether it may happen, the state to keep, and otherwise after how many seconds to ask again."""

    allowed: bool
    tat_ns: int
    retry_after_s: float


def decide(rate: Rate, tat_ns: int, now_ns: int) -> Decision:
    """Judge one request at `now_ns` on a clock that never steps; a tat of 0 is a full bucket."""
    wait_ns = tat_ns - now_ns - rate.tolerance_ns
    if wait_ns > 0:
        return Decision(allowed=False, tat_ns=tat_ns, retry_after_s=wait_ns / _NS)
    return Decision(allowed=True, tat_ns=max(tat_ns, now_ns) + rate.interval_ns, retry_after_s=0.0)


def capacity(rate: Rate, tat_ns: int, now_ns: int) -> int:
    """How many requests at `now_ns` would be allowed one after the other."""
    room_ns = rate.tolerance_ns - max(0, tat_ns - now_ns)
    return room_ns // rate.interval_ns + 1 if room_ns >= 0 else 0


class RateLimiter(Generic[K]):
    """One rate for many keys, in bounded memory. Thread-safe.

    A key whose bucket is full again needs no entry. When all `max_keys` are in use, further keys share one bucket:
    whoever floods us with keys slows newcomers down, but frees nobody who is being limited.
    """

    def __init__(self, clock: Clock, rate: Rate, max_keys: int = MAX_KEYS) -> None:
        self._clock = clock
        self._rate = rate
        self._max_keys = max_keys
        self._tats: OrderedDict[K, int] = OrderedDict()
        self._shared_tat = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._tats)

    def try_take(self, key: K) -> Decision:
        """Let one request of `key` pass, or say when it may."""
        now_ns = math.floor(self._clock.monotonic() * _NS)
        with self._lock:
            self._drop_full(now_ns)
            if key not in self._tats and len(self._tats) >= self._max_keys:
                decision = decide(self._rate, self._shared_tat, now_ns)
                self._shared_tat = decision.tat_ns
                return decision
            decision = decide(self._rate, self._tats.get(key, 0), now_ns)
            if decision.allowed:
                self._tats[key] = decision.tat_ns
                self._tats.move_to_end(key)
            return decision

    def take_up_to(self, key: K, count: int) -> tuple[int, float]:
        """How many of `count` requests pass at once, and after how many seconds to ask for the next, 0 where all did."""
        for taken in range(count):
            decision = self.try_take(key)
            if not decision.allowed:
                return taken, decision.retry_after_s
        return count, 0.0

    def take_all(self, key: K, count: int) -> Decision:
        """Let all `count` requests pass at once, or none. More than the burst never do."""
        now_ns = math.floor(self._clock.monotonic() * _NS)
        with self._lock:
            self._drop_full(now_ns)
            is_shared = key not in self._tats and len(self._tats) >= self._max_keys
            tat_ns = self._shared_tat if is_shared else self._tats.get(key, 0)
            missing_ns = (count - capacity(self._rate, tat_ns, now_ns)) * self._rate.interval_ns
            if missing_ns > 0:
                return Decision(allowed=False, tat_ns=tat_ns, retry_after_s=missing_ns / _NS)
            tat_ns = max(tat_ns, now_ns) + count * self._rate.interval_ns
            if is_shared:
                self._shared_tat = tat_ns
            else:
                self._tats[key] = tat_ns
                self._tats.move_to_end(key)
            return Decision(allowed=True, tat_ns=tat_ns, retry_after_s=0.0)

    def _drop_full(self, now_ns: int) -> None:
        """Forget a few of the longest unused whose buckets are full: more than one per call, so the map shrinks."""
        for _ in range(4):
            oldest = next(iter(self._tats), None)
            if oldest is None or self._tats[oldest] > now_ns:
                return
            del self._tats[oldest]
