"""The one handle on everything that is not data: clock, chance, ids, failpoints, log, metrics, tracer, debug hook.

Bound once in `netra.py` and handed to each service's constructor. Nothing below reads a global instead, so a test
replaces time by passing another `Runtime`, not by patching a module.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Protocol

from .chance import Chance, SystemChance
from .clock import Clock, SystemClock
from .debugging import DebugHook, NoDebug
from .failpoints import Failpoints
from .ids import Ids, Uuid7
from .spans import Span
from .uses import NoUses, Uses


class Metrics(Protocol):
    """Counters and gauges by name and labels; the names of `interfaces.md`."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        ...

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        ...

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Add one duration to a histogram, whose name ends in `_seconds`."""
        ...


class Tracer(Protocol):
    """Where finished spans go."""

    def span(self, span: Span) -> None:
        """Record one finished span; costs an append. Any thread."""
        ...


class NoMetrics:
    """Metrics that nobody reads."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Nothing."""

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Nothing."""

    def observe(self, name: str, seconds: float, **labels: str) -> None:
        """Nothing."""


class NoTracer:
    """Spans that nobody reads."""

    def span(self, span: Span) -> None:
        """Nothing."""


_CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Runtime:
    """See the module's docstring. The defaults are the real machine, silent."""

    clock: Clock = _CLOCK
    chance: Chance = field(default_factory=SystemChance)
    ids: Ids = field(default_factory=lambda: Uuid7(_CLOCK))
    failpoints: Failpoints = field(default_factory=Failpoints)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("netra"))
    metrics: Metrics = field(default_factory=NoMetrics)
    tracer: Tracer = field(default_factory=NoTracer)
    debug: DebugHook = field(default_factory=NoDebug)
    uses: Uses = field(default_factory=NoUses)
