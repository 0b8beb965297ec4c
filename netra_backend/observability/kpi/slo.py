"""Burn rates and what they alert: an SLO's error budget is spent faster than it lasts.

Multi-window, multi-burn-rate alerts as the SRE Workbook has them (B. Beyer et al., 2018, chapter 5): a share of the budget that is spent
within a long window, and still being spent in the short one of a twelfth, so that an alert clears soon after its cause. With the usual
window of 30 days the rates are 14.4, 6, 3 and 1. Where too few objects were judged a rate says nothing, and a number of missed ones alerts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .model import MINUTE_US, Slo

HOUR_US: Final = 60 * MINUTE_US
DAY_US: Final = 24 * HOUR_US
ABSOLUTE: Final = "bad_1h"


@dataclass(frozen=True, slots=True)
class Rule:
    """Alert where this share of the budget is spent within `long_us`. `severity` is `page` or `ticket`."""

    name: str
    long_us: int
    short_us: int
    budget: float
    severity: str

    def rate(self, slo: Slo) -> float:
        """The burn rate that is too fast."""
        return self.budget * slo.window_us / self.long_us


RULES: Final = (
    Rule("burn_1h", HOUR_US, 5 * MINUTE_US, 0.02, "page"),
    Rule("burn_6h", 6 * HOUR_US, 30 * MINUTE_US, 0.05, "page"),
    Rule("burn_1d", DAY_US, 2 * HOUR_US, 0.10, "ticket"),
    Rule("burn_3d", 3 * DAY_US, 6 * HOUR_US, 0.10, "ticket"),
)
WINDOWS: Final = tuple(sorted({window for rule in RULES for window in (rule.long_us, rule.short_us)}))

Judged = Mapping[int, tuple[int, int]]
"""Window in microseconds -> how many objects were judged well in it, and how many were missed."""


def burn(slo: Slo, judged: tuple[int, int]) -> float:
    """How many times faster than it lasts the budget is being spent; 0 where nothing was judged."""
    met, missed = judged
    return missed / (met + missed) / (1 - slo.target) if met + missed else 0.0


def firing(slo: Slo, judged: Judged) -> dict[str, float]:
    """The rules that alert now, each with its burn rate, or its number of missed objects."""
    found = {}
    for rule in RULES:
        rate = rule.rate(slo)
        enough = sum(judged[rule.long_us]) >= max(1, slo.min_events)
        if enough and burn(slo, judged[rule.long_us]) >= rate and burn(slo, judged[rule.short_us]) >= rate:
            found[rule.name] = burn(slo, judged[rule.long_us])
    met, missed = judged[HOUR_US]
    if slo.page_if_bad is not None and met + missed < slo.min_events and missed >= slo.page_if_bad:
        found[ABSOLUTE] = float(missed)
    return found


def severity_of(rule: str) -> str:
    """`page` or `ticket`."""
    return next((each.severity for each in RULES if each.name == rule), "page")
