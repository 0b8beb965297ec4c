"""The threshold monitor: how the cache did over the last window, and an alert where that changes from good to bad or back.

A window is 10 s. Too few questions say nothing: such a window leaves the state as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from .stats import Stats

WINDOW_S: Final = 10.0
LEAST_QUESTIONS: Final = 100
LEAST_LOADS: Final = 5

Tell = Callable[[str, dict[str, Any]], None]
"""Called with the measure and `{"measure","state","value","threshold"}`, when its state changes and at no other time."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Beyond which value a measure is degraded; one at its extreme never is. Times in seconds."""

    hit_ratio_least: float = 0.0
    error_ratio_most: float = 1.0
    load_p99_most_s: float = 0.0


class Monitor:
    """See the module's docstring."""

    def __init__(self, stats: Stats, thresholds: Thresholds, tell: Tell) -> None:
        self.degraded: set[str] = set()
        self._stats = stats
        self._thresholds = thresholds
        self._tell = tell
        self._before = (0, 0, 0, 0)

    def close_window(self) -> dict[str, float]:
        """Judge what was counted since the last call; the measures that could be taken."""
        stats, limits = self._stats, self._thresholds
        now = (stats.l1.hits, stats.l1.misses, stats.loads, stats.load_errors)
        hits, misses, loads, errors = (new - old for new, old in zip(now, self._before, strict=True))
        self._before = now
        times = sorted(stats.load_times_s)
        stats.load_times_s.clear()
        measured: dict[str, float] = {}
        if hits + misses >= LEAST_QUESTIONS:
            measured["hit_ratio"] = hits / (hits + misses)
            self._judge("hit_ratio", measured["hit_ratio"], limits.hit_ratio_least, bad=measured["hit_ratio"] < limits.hit_ratio_least)
        if loads >= LEAST_LOADS:
            measured["error_ratio"] = errors / loads
            self._judge(
                "error_ratio", measured["error_ratio"], limits.error_ratio_most, bad=measured["error_ratio"] > limits.error_ratio_most
            )
        if len(times) >= LEAST_LOADS:
            measured["load_p50_s"], measured["load_p99_s"] = times[len(times) // 2], times[min(len(times) - 1, len(times) * 99 // 100)]
            late = 0 < limits.load_p99_most_s < measured["load_p99_s"]
            self._judge("load_p99_s", measured["load_p99_s"], limits.load_p99_most_s, bad=late)
        return measured

    def _judge(self, measure: str, value: float, threshold: float, *, bad: bool) -> None:
        if bad == (measure in self.degraded):
            return
        (self.degraded.add if bad else self.degraded.discard)(measure)
        state = "degraded" if bad else "ok"
        self._tell(measure, {"measure": measure, "state": state, "value": round(value, 6), "threshold": threshold})
