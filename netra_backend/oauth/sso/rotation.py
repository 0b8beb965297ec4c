"""Which of a tenant's providers new logins go to: decided purely, from the health of their issuers.

Invariants:

- F1 Nothing but a probe of our own calls an issuer down, and only one that is down is left (`health.py`).
- F2 Between two changes by itself lie at least `dwell_s`; in an hour there are at most `MOST_FLIPS`; then it holds, and says so.
- F3 The way back is for an issuer that has answered five times over `return_s`, and is taken in steps: a tenth of the logins, half, all.
- F4 A pin is somebody's decision, and nothing happens by itself until it is taken away.
- F5 Only new logins are led. No token, code, nonce or session goes from one issuer to another.

Time is seconds of a clock of the row itself, which advances by what its watcher measures on a monotonic clock. So no step of a wall
clock shortens a dwell or makes it endless, and whoever watches next goes on where the last one stopped; the time in between is not counted.

Rejected: comparing wall clocks of two hosts; weights by latency, which would lead people to and fro between two providers that are both
well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from .health import Health, Operations, of_plain, plain, worst
from .settings import SsoSettings

MOST_FLIPS: Final = 2
HOUR_S: Final = 3600.0
STEPS: Final = (10, 50, 100)
"""Per cent of the new logins that go to a provider which comes back."""

_USABLE: Final = frozenset({"up", "degraded"})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A provider that logins may go to, in the order of preference."""

    name: str
    issuer: str


@dataclass(frozen=True, slots=True)
class Rotation:
    """A tenant's. `returning` is the provider that comes back, with `share` per cent of the new logins since `step_at`."""

    active: str = ""
    pinned: str | None = None
    clock_s: float = 0.0
    since: float | None = None
    flips: tuple[float, ...] = ()
    returning: str | None = None
    share: int = 0
    step_at: float = 0.0
    held: bool = False
    health: Mapping[str, Operations] = field(default_factory=dict)

    def state_of(self, issuer: str) -> str:
        """How well an issuer is."""
        return worst(self.health.get(issuer, {}))

    def choose(self, draw: float) -> str:
        """The provider of a new login; `draw` is from 0 to 100."""
        return self.returning if self.returning is not None and draw < self.share else self.active

    def advanced(self, elapsed_s: float) -> Rotation:
        """The same, later."""
        at = self.clock_s + max(0.0, elapsed_s)
        return replace(self, clock_s=at, flips=tuple(flip for flip in self.flips if flip > at - HOUR_S))

    def with_health(self, issuer: str, operation: str, health: Health) -> Rotation:
        """The same, with what is known of one operation now."""
        return replace(self, health={**self.health, issuer: {**self.health.get(issuer, {}), operation: health}})

    def dwells(self, dwell_s: float) -> float:
        """Seconds until it may change by itself again."""
        return 0.0 if self.since is None else max(0.0, self.since + dwell_s - self.clock_s)

    @property
    def is_settled(self) -> bool:
        """Whether time alone changes nothing in it."""
        healths = [health for operations in self.health.values() for health in operations.values()]
        return not self.flips and self.since is None and self.returning is None and all(health == Health() for health in healths)

    def body(self) -> dict[str, Any]:
        """What stands in the row beside its columns, as JSON."""
        plain_health = {issuer: plain(operations) for issuer, operations in sorted(self.health.items())}
        names = ("clock_s", "since", "flips", "returning", "step_at", "held")
        return {**{name: getattr(self, name) for name in names}, "health": plain_health}

    @classmethod
    def of(cls, active: str, pinned: str | None, share: int, body: Mapping[str, Any]) -> Rotation:
        """From a row."""
        health = {issuer: of_plain(operations) for issuer, operations in body["health"].items()}
        rest = {name: body[name] for name in ("clock_s", "since", "returning", "step_at", "held")}
        return cls(active, pinned, share=share, flips=tuple(body["flips"]), health=health, **rest)


@dataclass(frozen=True, slots=True)
class Flip:
    """A change of where new logins go; `reason`: `down`, `recovered`, `ramp`, `failed_again`, `held`, `pinned`, `unpinned`, `settled`."""

    reason: str
    origin: str
    target: str
    share: int = 100


def decide(was: Rotation, candidates: Sequence[Candidate], settings: SsoSettings) -> tuple[Rotation, Flip | None]:
    """Where new logins go from now on, and what is to be told of it."""
    now = replace(was, health={each.issuer: was.health.get(each.issuer, {}) for each in candidates})
    by_name = {each.name: each for each in candidates}
    if now.pinned is not None or not candidates:
        return now, None
    if now.active not in by_name:  # the first provider, or the one in use was taken away: somebody's decision, not a failover
        first = candidates[0].name
        return replace(now, active=first, returning=None, share=0), Flip("settled", was.active, first)
    if now.returning is not None and now.returning in by_name:
        return _ramped(now, by_name[now.returning], settings)
    now = replace(now, returning=None, share=0)
    wanted, reason = _wanted(now, candidates, by_name[now.active])
    if wanted is None:
        return replace(now, held=False), None
    if now.dwells(settings.dwell_s) > 0:
        return now, None
    if len(now.flips) >= MOST_FLIPS:
        return replace(now, held=True), None if now.held else Flip("held", now.active, wanted)
    counted = replace(now, since=now.clock_s, flips=(*now.flips, now.clock_s), held=False)
    if reason == "down":
        return replace(counted, active=wanted), Flip(reason, now.active, wanted)
    return replace(counted, returning=wanted, share=STEPS[0], step_at=now.clock_s), Flip(reason, now.active, wanted, STEPS[0])


def _wanted(now: Rotation, candidates: Sequence[Candidate], active: Candidate) -> tuple[str | None, str]:
    """Where to go, and why: away from one that is down, or back to a better one that is up."""
    if now.state_of(active.issuer) == "down":
        others = [each for each in candidates if each.issuer != active.issuer and now.state_of(each.issuer) in _USABLE]
        return (others[0].name if others else None), "down"
    better = candidates[: candidates.index(active)]
    up = [each for each in better if now.state_of(each.issuer) == "up"]
    return (up[0].name if up else None), "recovered"


def _ramped(now: Rotation, back: Candidate, settings: SsoSettings) -> tuple[Rotation, Flip | None]:
    """One step further on the way back, or none, or off it."""
    state = now.state_of(back.issuer)
    if state not in _USABLE:
        ended = replace(now, returning=None, share=0, since=now.clock_s)
        return ended, Flip("failed_again", back.name, now.active, 0)
    if state == "degraded" or now.clock_s - now.step_at < settings.return_s:
        return now, None
    share = STEPS[STEPS.index(now.share) + 1]
    if share < STEPS[-1]:
        return replace(now, share=share, step_at=now.clock_s), Flip("ramp", now.active, back.name, share)
    whole = replace(now, active=back.name, returning=None, share=0, since=now.clock_s)
    return whole, Flip("ramp", now.active, back.name, share)


def pinned(was: Rotation, name: str | None) -> tuple[Rotation, Flip]:
    """Somebody's decision where new logins go, whatever the health; None takes it away, and nothing else changes then."""
    if name is None:
        return replace(was, pinned=None, since=was.clock_s), Flip("unpinned", was.active, was.active)
    return replace(was, pinned=name, active=name, returning=None, share=0, held=False), Flip("pinned", was.active, name)
