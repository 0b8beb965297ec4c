"""A circuit breaker in two halves: `Health` measures, `Breaker` changes state, and both are values.

    closed --(sick)--> open --(its time is over: one probe)--> half_open --(answered)--> closed, slow start
                        ^---------------(probe failed, twice as long)---------'

Invariants: an open breaker admits nothing; half-open admits one attempt in the fleet; the open time doubles from
`open_s` to `open_cap_s` until a slow start has come to its end; results of attempts that began before the breaker
opened change nothing.

Every function is pure: it takes a state and returns the next one. A row can hold a `Breaker` (scalar columns), so that
several processes share it by compare-and-swap: whoever swaps `open` for `half_open` owns the probe. `Health` is each
process's own and never stored; at a restart it starts afresh, which costs at most ten attempts.

Danger: rows are shared, so instants here are wall time. A clock that steps back must not keep an endpoint parked: an
opening that lies in the future counts as over, save by as little as two hosts' clocks differ (`SKEW_US`), or the slower host
would probe at once what the faster one has just opened. A prober that dies is replaced after `probe_s`.

Sources: M. Nygard, "Release It!", chapter 5; the split into measurement and transitions as in Polly's breaker;
slow start as in RFC 5681, section 3.1. Rejected: a token bucket of failures, which says nothing about recovery.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, Literal

from ..kernel.chance import Chance
from ..kernel.clock import Clock

_US: Final = 1_000_000
_BUCKETS: Final = 12
SKEW_US: Final = 60 * _US
"""How far apart the clocks of two processes may be without one taking the other's instant for a clock that stepped."""

Phase = Literal["closed", "open", "half_open"]


class Outcome(Enum):
    """What an attempt says about the other side."""

    SUCCESS = "success"
    FAILURE = "failure"  # no connection, time-out, 5xx, 429
    ANSWERED = "answered"  # alive, though it refused: other 4xx. Neither good nor bad health, but a probe has passed
    NOT_SENT = "not_sent"  # our own fault: says nothing, and gives the probe back


@dataclass(frozen=True, slots=True)
class Policy:
    """When to open and for how long; the defaults are those of webhooks. Times in seconds."""

    failures: int = 10
    ratio: float = 0.5
    ratio_least: int = 20
    window_s: float = 60.0
    open_s: float = 30.0
    open_cap_s: float = 1800.0
    jitter: float = 0.2
    probe_s: float = 30.0
    ceiling: int = 10


@dataclass(frozen=True, slots=True)
class Health:
    """What one process has seen: failures in a row, and counts per twelfth of the window as (bucket, all, failed)."""

    in_a_row: int = 0
    buckets: tuple[tuple[int, int, int], ...] = ()

    def after(self, policy: Policy, outcome: Outcome, now: float) -> Health:
        """With one more outcome at `now`, seconds of a clock that never steps."""
        if outcome not in {Outcome.SUCCESS, Outcome.FAILURE}:
            return self
        failed = int(outcome is Outcome.FAILURE)
        bucket = int(now * _BUCKETS / policy.window_s)
        kept = tuple(entry for entry in self.buckets if entry[0] > bucket - _BUCKETS)
        last = kept[-1] if kept and kept[-1][0] == bucket else (bucket, 0, 0)
        others = kept[:-1] if last in kept else kept
        return Health((self.in_a_row + 1) * failed, (*others, (bucket, last[1] + 1, last[2] + failed)))

    def is_sick(self, policy: Policy) -> bool:
        """Whether the breaker should open."""
        seen = sum(entry[1] for entry in self.buckets)
        failed = sum(entry[2] for entry in self.buckets)
        return self.in_a_row >= policy.failures or (seen >= policy.ratio_least and failed >= policy.ratio * seen)


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state, as a row holds it.

    `since_us` and `until_us` span the opening (open) or the probe (half-open); in a slow start `since_us` is when it began.
    `openings` counts those in a row, for the doubling. `limit` is how many attempts slow start allows in flight, 0 for no
    limit; `credit` counts its successes.
    """

    phase: Phase = "closed"
    since_us: int = 0
    until_us: int = 0
    openings: int = 0
    limit: int = 0
    credit: int = 0

    def is_waiting(self, now_us: int) -> bool:
        """Whether the opening or the probe still runs by the wall clock `now_us`."""
        return self.since_us - SKEW_US <= now_us < self.until_us


CLOSED: Final = Breaker()


def admit(state: Breaker, policy: Policy, now_us: int, in_flight: int, wanted: int) -> tuple[Breaker, int]:
    """How many of `wanted` attempts may start, with the state to swap in first if it differs from `state`."""
    if state.phase == "closed":
        room = wanted if state.limit == 0 else state.limit - in_flight
        return state, max(0, min(wanted, room))
    if wanted < 1 or state.is_waiting(now_us):
        return state, 0
    probe_us = round(policy.probe_s * _US)
    return replace(state, phase="half_open", since_us=now_us, until_us=now_us + probe_us), 1


def record(state: Breaker, health: Health, policy: Policy, outcome: Outcome, now_us: int, chance: Chance) -> Breaker:
    """The state after an attempt's `outcome`, `health` having counted it already. A new phase starts a new `Health`."""
    if state.phase == "half_open":
        return _after_probe(state, policy, outcome, now_us, chance)
    if state.phase == "open" or outcome in {Outcome.ANSWERED, Outcome.NOT_SENT}:
        return state
    if outcome is Outcome.SUCCESS:
        return _faster(state, policy)
    return opened(state, policy, now_us, chance) if health.is_sick(policy) else _slower(state)


def opened(state: Breaker, policy: Policy, now_us: int, chance: Chance) -> Breaker:
    """Open: 30 s, 60 s, ... to half an hour by default, each spread by the jitter."""
    open_s = min(policy.open_s * 2.0 ** min(state.openings, 32), policy.open_cap_s)
    spread_us = round(open_s * (1 + chance.uniform(-policy.jitter, policy.jitter)) * _US)
    return Breaker("open", now_us, now_us + spread_us, state.openings + 1)


def _after_probe(state: Breaker, policy: Policy, outcome: Outcome, now_us: int, chance: Chance) -> Breaker:
    if outcome is Outcome.FAILURE:
        return opened(state, policy, now_us, chance)
    if outcome is Outcome.NOT_SENT:
        return replace(state, phase="open", until_us=now_us)
    return Breaker(since_us=now_us, openings=state.openings, limit=1)


def _faster(state: Breaker, policy: Policy) -> Breaker:
    """Slow start doubles the limit after as many successes; past the ceiling it is over, and the doubling forgotten."""
    if state.limit == 0:
        return state
    if state.credit + 1 < state.limit:
        return replace(state, credit=state.credit + 1)
    if state.limit * 2 > policy.ceiling:
        return CLOSED
    return replace(state, limit=state.limit * 2, credit=0)


def _slower(state: Breaker) -> Breaker:
    return replace(state, limit=max(1, state.limit // 2), credit=0) if state.limit else state


class CircuitBreaker:
    """A breaker of one process for one peer: holds the two values and asks the clock. For one event loop."""

    def __init__(self, clock: Clock, chance: Chance, policy: Policy | None = None) -> None:
        self._clock = clock
        self._chance = chance
        self.policy = policy or Policy()
        self.state = CLOSED
        self.health = Health()
        self.in_flight = 0

    def try_begin(self) -> bool:
        """Whether an attempt may start now; if so it must end with `finish`."""
        self.state, allowed = admit(self.state, self.policy, self._clock.wall_us(), self.in_flight, 1)
        self.in_flight += allowed
        return allowed == 1

    def open(self) -> None:
        """Open it, for a reason that no single outcome shows: answers that are too slow."""
        self.state = opened(self.state, self.policy, self._clock.wall_us(), self._chance)
        self.health = Health()

    def finish(self, outcome: Outcome, began_us: int | None = None) -> None:
        """Count what became of an attempt. With `began_us`, its wall clock, one from before the present phase frees its place alone."""
        self.in_flight -= 1
        before = self.state
        if began_us is not None and began_us < before.since_us <= self._clock.wall_us():
            return
        self.health = self.health.after(self.policy, outcome, self._clock.monotonic())
        self.state = record(before, self.health, self.policy, outcome, self._clock.wall_us(), self._chance)
        if self.state.phase != before.phase:
            self.health = Health()
