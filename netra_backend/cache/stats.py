"""Counts of both tiers, as plain integers: a hit adds one and calls nothing; whoever scrapes reads them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

COUNTED: Final = ("hits", "misses", "fills", "fills_refused", "evictions", "bytes", "errors", "stale_probe")


@dataclass(slots=True)
class TierStats:
    """One tier. `stale_probe` counts hits that the consistency probe found older than the bound allows.

    `asked` and `answer_times_s` are of questions to the shared tier, also those that got no answer; a question to this process's own is a
    look into a dictionary, which nobody times.
    """

    hits: int = 0
    misses: int = 0
    fills: int = 0
    fills_refused: int = 0
    evictions: int = 0
    bytes: int = 0
    errors: int = 0
    stale_probe: int = 0
    asked: int = 0
    answer_times_s: deque[float] = field(default_factory=lambda: deque(maxlen=4096))

    def as_dict(self) -> dict[str, int]:
        """For JSON."""
        return {name: getattr(self, name) for name in COUNTED}


@dataclass(slots=True)
class Stats:
    """All that this process counts. `bypassed`: what is kept was not served, for want of a lease or with an event pending."""

    l1: TierStats = field(default_factory=TierStats)
    l2: TierStats = field(default_factory=TierStats)
    loads: int = 0
    load_errors: int = 0
    joined: int = 0
    stale_served: int = 0
    bypassed: int = 0
    invalidated: int = 0
    cut_off: int = 0
    look_failed: int = 0
    load_times_s: deque[float] = field(default_factory=lambda: deque(maxlen=4096))
    load_p50_s: float | None = None
    """Median time of a load in the last window that had some."""

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        names = ("loads", "load_errors", "joined", "stale_served", "bypassed", "invalidated", "cut_off", "look_failed")
        return {"l1": self.l1.as_dict(), "l2": self.l2.as_dict(), **{name: getattr(self, name) for name in names}}
