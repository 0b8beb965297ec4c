"""The threshold monitor: how each tier and the loads did over the last window, and an alert where that changes from good to bad or back.

A window is 10 s. Too few questions say nothing: such a window leaves the state as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .stats import Stats

WINDOW_S: Final = 10.0
LEAST_QUESTIONS: Final = 100
LEAST_LOADS: Final = 5
NEVER: Final = float("inf")

Tell = Callable[[str, dict[str, Any]], None]
"""Called with the measure and `{"measure","state","value","threshold"}`, when its state changes and at no other time."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Beyond which value a measure is degraded; one at its extreme never is. Times in seconds, 0 is no threshold."""

    hit_ratio_least: float = 0.0
    error_ratio_most: float = 1.0
    load_p99_most_s: float = 0.0
    l2_error_ratio_most: float = 1.0
    l2_p99_most_s: float = 0.0


class Monitor:
    """See the module's docstring. `measured` is what the last windows said, each measure's newest."""

    def __init__(self, stats: Stats, thresholds: Thresholds, tell: Tell) -> None:
        self.degraded: set[str] = set()
        self.measured: dict[str, float] = {}
        self._stats = stats
        self._thresholds = thresholds
        self._tell = tell
        self._before = dict.fromkeys(self._counts(), 0)

    def close_window(self) -> dict[str, float]:
        """Judge what was counted since the last call; the measures that could be taken."""
        now = self._counts()
        new = {name: now[name] - self._before[name] for name in now}
        self._before = now
        found = self._ratios(new)
        found |= _quantiles("load", _taken(self._stats.load_times_s))
        found |= _quantiles("l2", _taken(self._stats.l2.answer_times_s))
        self._stats.load_p50_s = found.get("load_p50_s", self._stats.load_p50_s)
        self.measured |= found
        limits = self._thresholds
        self._judge_least("hit_ratio", limits.hit_ratio_least, found)
        self._judge_most("error_ratio", limits.error_ratio_most, found)
        self._judge_most("l2_error_ratio", limits.l2_error_ratio_most, found)
        self._judge_most("load_p99_s", limits.load_p99_most_s or NEVER, found)
        self._judge_most("l2_p99_s", limits.l2_p99_most_s or NEVER, found)
        return found

    def _counts(self) -> dict[str, int]:
        stats = self._stats
        tiers = {"l1_hits": stats.l1.hits, "l1_misses": stats.l1.misses, "l2_hits": stats.l2.hits, "l2_misses": stats.l2.misses}
        return {**tiers, "loads": stats.loads, "load_errors": stats.load_errors, "l2_asked": stats.l2.asked, "l2_errors": stats.l2.errors}

    def _ratios(self, new: dict[str, int]) -> dict[str, float]:
        found: dict[str, float] = {}
        for tier, name in (("l1", "hit_ratio"), ("l2", "l2_hit_ratio")):
            questions = new[f"{tier}_hits"] + new[f"{tier}_misses"]
            if questions >= LEAST_QUESTIONS:
                found[name] = new[f"{tier}_hits"] / questions
        if new["loads"] >= LEAST_LOADS:
            found["error_ratio"] = new["load_errors"] / new["loads"]
        if new["l2_asked"] >= LEAST_LOADS:
            found["l2_error_ratio"] = new["l2_errors"] / new["l2_asked"]
        return found

    def _judge_least(self, measure: str, threshold: float, found: dict[str, float]) -> None:
        if measure in found:
            self._judge(measure, found[measure], threshold, bad=found[measure] < threshold)

    def _judge_most(self, measure: str, threshold: float, found: dict[str, float]) -> None:
        if measure in found:
            self._judge(measure, found[measure], threshold, bad=found[measure] > threshold)

    def _judge(self, measure: str, value: float, threshold: float, *, bad: bool) -> None:
        if bad == (measure in self.degraded):
            return
        (self.degraded.add if bad else self.degraded.discard)(measure)
        state = "degraded" if bad else "ok"
        self._tell(measure, {"measure": measure, "state": state, "value": round(value, 6), "threshold": threshold})


def _taken(times_s: Any) -> list[float]:
    found = sorted(times_s)
    times_s.clear()
    return found


def _quantiles(name: str, times_s: Sequence[float]) -> dict[str, float]:
    if len(times_s) < LEAST_LOADS:
        return {}
    return {f"{name}_p50_s": quantile(times_s, 0.50), f"{name}_p99_s": quantile(times_s, 0.99)}


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which this share of the ordered values lies."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
