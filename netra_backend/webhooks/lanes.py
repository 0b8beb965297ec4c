"""What waits in this process, lane by lane: one lane per endpoint, so that a hung one delays nobody else.

A lane has at most its allowance of attempts on their way. What waits in it comes from two sides, taken in turn: `fresh`,
handed over by a commit of ours (at most 100), and `claimed`, taken from the table: at most the free slots, or what a
quick lane gets through in a tenth of a second, so that a claim's commit is not paid for every ten deliveries. Without
the turns a lane that is fed steadily would never come to its retries.

When a lane's next attempt may start is the pace's business (`paces.py`): one that has to wait rests, out of the ring, until the sender
wakes it. No more is let in than may start soon; the rest is due in the table.

How many attempts a lane may have is asked anew at each turn, because its breaker, its receiver's wishes and the number of
senders change it. What waits in a lane that may have none is blocked: it is given back, not kept.

Ready lanes stand in one ring per tenant, and the tenants in a ring: when the total is the limit, the turn goes from
tenant to tenant, not from message to message. And no tenant takes the total whole: see `SHARE`.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from .model import Delivery
from .store import Key, Lane

WAITING_PER_LANE: Final = 100
WAITING_IN_ALL: Final = 10_000
AHEAD_S: Final = 0.1
PACE_WEIGHT: Final = 0.1
SHARE: Final = 9
"""A tenant takes more only while it has at most this many times what is still free: alone it comes to nine tenths, and
however many tenants flood this process, something is left for the next one."""


class Pace(Protocol):
    """When attempts may start; see `paces.Paces`."""

    def ready(self, lane: Lane) -> int:
        """How many may start soon."""
        ...

    def wait_s(self, lane: Lane) -> float:
        """How long the next one has to wait."""
        ...

    def take(self, lane: Lane) -> None:
        """One starts."""
        ...


class _NoLimit:
    def ready(self, _lane: Lane) -> int:
        return WAITING_IN_ALL

    def wait_s(self, _lane: Lane) -> float:
        return 0.0

    def take(self, _lane: Lane) -> None:
        return


@dataclass(slots=True)
class LaneState:
    """One endpoint's share of this process.

    `backlog` says that the table has more than was claimed; `pace_s` is how long its attempts take, smoothed.
    """

    fresh: deque[Delivery] = field(default_factory=deque)
    claimed: deque[Delivery] = field(default_factory=deque)
    in_flight: int = 0
    reserved: int = 0
    backlog: bool = False
    turn: bool = False
    pace_s: float | None = None

    def pop(self) -> Delivery:
        """The next delivery, from each side in turn."""
        self.turn = not self.turn
        first, second = (self.claimed, self.fresh) if self.turn else (self.fresh, self.claimed)
        return (first or second).popleft()

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self.fresh) + len(self.claimed)

    @property
    def idle(self) -> bool:
        """Whether nothing is known of it any more."""
        return not (self.waiting or self.in_flight or self.reserved or self.backlog)


class Lanes:
    """Every lane with work, and every delivery that this process answers for."""

    def __init__(self, allowance: Callable[[Lane], int], in_flight_total: int, pace: Pace | None = None) -> None:
        self._allowance = allowance
        self._pace: Pace = pace or _NoLimit()
        self.resting: dict[Lane, float] = {}
        self._total_limit = in_flight_total
        self._lanes: dict[Lane, LaneState] = {}
        self._ready: OrderedDict[str, OrderedDict[bytes, None]] = OrderedDict()
        self._blocked: set[Lane] = set()
        self.held: dict[Key, Delivery] = {}
        self.expected: dict[Key, int] = {}
        self.in_flight = 0
        self.waiting = 0
        self._flying: Counter[str] = Counter()
        self._queued: Counter[str] = Counter()

    def reserve(self, lane: Lane) -> bool:
        """Keep a place for a delivery that is about to be committed; False where there is no room."""
        if not self.has_room(lane, 1):
            return False
        self._lanes.setdefault(lane, LaneState()).reserved += 1
        return True

    def has_room(self, lane: Lane, more: int) -> bool:
        """Whether `more` deliveries fit and would be sent; a look that changes nothing, from any thread."""
        state = self._lanes.get(lane)
        taken = 0 if state is None else len(state.fresh) + state.reserved
        fits = taken + more <= WAITING_PER_LANE and self._queued[lane[0]] + more <= SHARE * (WAITING_IN_ALL - self.waiting)
        if not fits or self._allowance(lane) <= 0:
            return False
        return taken + (len(state.claimed) if state is not None else 0) + more <= self._pace.ready(lane)

    def expect(self, keys: Iterable[Key]) -> None:
        """Count these as held while their commit is under way, so that the release check leaves them alone."""
        for key in keys:
            self.expected[key] = self.expected.get(key, 0) + 1

    def settle(self, keys: Iterable[Key]) -> None:
        """Their commit is over, whichever way; give the kept places back."""
        for key in keys:
            left = self.expected.get(key, 0) - 1
            if left > 0:
                self.expected[key] = left
            else:
                self.expected.pop(key, None)
            state = self._lanes.get((key[0], key[2]))
            if state is not None and state.reserved:
                state.reserved -= 1
                self._tidy((key[0], key[2]), state)

    def add(self, delivery: Delivery, *, claimed: bool) -> None:
        """Take over a delivery that is leased to this process."""
        tenant, _, endpoint = delivery.key
        state = self._lanes.setdefault((tenant, endpoint), LaneState())
        (state.claimed if claimed else state.fresh).append(delivery)
        self.held[delivery.key] = delivery
        self.waiting += 1
        self._queued[tenant] += 1
        self._mark(tenant, endpoint, state)

    def next(self) -> Delivery | None:
        """The delivery whose attempt may start now, or None; counts it as in flight."""
        while (lane := self._next_lane()) is not None:
            state = self._lanes[lane]
            if state.in_flight < self._allowance(lane):
                if not (wait_s := self._pace.wait_s(lane)):
                    self._pace.take(lane)
                    return self._start(lane, state)
                self.resting[lane] = wait_s
            else:
                self._mark(*lane, state)  # less is allowed than when it was marked ready
        return None

    def _next_lane(self) -> Lane | None:
        """The ready lane whose turn it is, taken out of its ring."""
        free = self._total_limit - self.in_flight
        tenant = next((tenant for tenant in self._ready if self._flying[tenant] <= SHARE * free), None) if free > 0 else None
        if tenant is None:
            return None
        endpoints = self._ready.pop(tenant)
        endpoint, _ = endpoints.popitem(last=False)
        if endpoints:
            self._ready[tenant] = endpoints
        return tenant, endpoint

    def _start(self, lane: Lane, state: LaneState) -> Delivery:
        tenant, endpoint = lane
        delivery = state.pop()
        state.in_flight += 1
        self.in_flight += 1
        self._flying[tenant] += 1
        self.waiting -= 1
        self._queued[tenant] -= 1
        self._mark(tenant, endpoint, state)
        return delivery

    def landed(self, delivery: Delivery, took_s: float | None = None) -> bool:
        """An attempt is over: its slot is free again. True if the lane should be claimed for."""
        tenant, _, endpoint = delivery.key
        state = self._lanes[tenant, endpoint]
        state.in_flight -= 1
        self.in_flight -= 1
        self._flying[tenant] -= 1
        if not self._flying[tenant]:
            del self._flying[tenant]
        self._mark(tenant, endpoint, state)
        if took_s is not None:
            state.pace_s = took_s if state.pace_s is None else state.pace_s + (took_s - state.pace_s) * PACE_WEIGHT
        limit = self._allowance((tenant, endpoint))
        low = state.in_flight + len(state.claimed) <= limit // 2 or len(state.claimed) < _ahead(state, limit) // 2
        wants = state.backlog and low
        self._tidy((tenant, endpoint), state)
        return wants

    def drop(self, delivery: Delivery) -> None:
        """The table knows what became of it (or this process is not answerable for it any more)."""
        if self.held.get(delivery.key) is delivery:
            del self.held[delivery.key]

    def free(self, lane: Lane) -> int:
        """How many deliveries a claim may take for this lane."""
        limit = self._allowance(lane)
        if not limit or self._queued[lane[0]] >= SHARE * (WAITING_IN_ALL - self.waiting):
            return 0
        ready = self._pace.ready(lane)
        state = self._lanes.get(lane)
        if state is None:
            return min(limit, ready)
        # Where fresh ones wait, every slot is taken again at once: the table's get their turns only if some wait here.
        turns = min(len(state.fresh), (limit + 1) // 2)
        most = max(limit - state.in_flight, _ahead(state, limit), turns)
        return max(0, min(most - len(state.claimed), ready - state.waiting))

    def note_backlog(self, lane: Lane, *, more: bool) -> None:
        """Remember whether the table has more for this lane."""
        state = self._lanes.setdefault(lane, LaneState())
        state.backlog = more
        self._tidy(lane, state)

    def touch(self, lane: Lane) -> None:
        """The lane's allowance has changed."""
        state = self._lanes.get(lane)
        if state is not None:
            self._mark(*lane, state)

    def take_blocked(self) -> list[Delivery]:
        """What waits in lanes that may send nothing, taken out of them."""
        blocked, self._blocked = self._blocked, set()
        taken: list[Delivery] = []
        for lane in blocked:
            state = self._lanes.get(lane)
            if state is None:
                continue
            if self._allowance(lane):
                self._mark(*lane, state)
            else:
                taken += self._empty(lane, state)
        return taken

    def _empty(self, lane: Lane, state: LaneState) -> list[Delivery]:
        taken = [*state.claimed, *state.fresh]
        state.claimed.clear()
        state.fresh.clear()
        state.backlog = False
        self.waiting -= len(taken)
        self._queued[lane[0]] -= len(taken)
        self._unmark(lane)
        self._tidy(lane, state)
        return taken

    def waiting_deliveries(self) -> list[Delivery]:
        """Empty every lane of what has not started, and return it."""
        taken = [delivery for lane, state in [*self._lanes.items()] for delivery in self._empty(lane, state)]
        self._blocked.clear()
        return taken

    def _mark(self, tenant: str, endpoint: bytes, state: LaneState) -> None:
        if not state.waiting:
            return
        allowed = self._allowance((tenant, endpoint))
        if not allowed:
            self._blocked.add((tenant, endpoint))
        elif state.in_flight < allowed:
            self._ready.setdefault(tenant, OrderedDict())[endpoint] = None

    def _unmark(self, lane: Lane) -> None:
        endpoints = self._ready.get(lane[0])
        if endpoints is not None:
            endpoints.pop(lane[1], None)
            if not endpoints:
                del self._ready[lane[0]]

    def _tidy(self, lane: Lane, state: LaneState) -> None:
        if state.idle:
            self._lanes.pop(lane, None)


def _ahead(state: LaneState, limit: int) -> int:
    """How many more the lane gets through in `AHEAD_S` at its pace: what waits here waits nowhere else."""
    if state.pace_s is None:
        return 0
    return int(min(WAITING_PER_LANE, limit * AHEAD_S / max(state.pace_s, 0.001)))
