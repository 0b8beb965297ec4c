"""Whose turn it is: which run gets the next free slot, and which partition gives its slot up. Pure decisions.

A higher priority goes first. Among equals the tenant goes first that has the least here by its weight, then the one that has
waited for longest; so one tenant with a thousand runs and another with one get a slot each. A slot is given up between two
chunks: to a run of a higher priority at once, and to a tenant that has none here by whoever has the most, or after a slice of
time where all have one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .model import ActiveRun

SLICE_S: Final = 1.0
"""For how long a partition is worked on before it gives way to a tenant that has none."""


@dataclass(frozen=True, slots=True)
class Held:
    """A slot that is in use: by whom, for which run's priority, since when (monotonic)."""

    tenant: str
    priority: int
    since: float


@dataclass(slots=True)
class Turns:
    """See the module's docstring. `weights` are shares of tenants; whoever is not named has 1."""

    weights: Mapping[str, float] = field(default_factory=dict)
    _served: dict[str, int] = field(default_factory=dict)
    _count: int = 0

    def first(self, runs: Sequence[ActiveRun], held: Sequence[Held]) -> ActiveRun:
        """The run that gets the next slot."""
        shares = self._shares(held)
        return min(runs, key=lambda run: (-run.priority, shares.get(run.tenant, 0.0), self._served.get(run.tenant, 0), run.place))

    def served(self, tenant: str) -> None:
        """The tenant has had its turn."""
        self._count += 1
        self._served[tenant] = self._count

    def gives_way(self, waiting: Sequence[ActiveRun], held: Sequence[Held], now: float) -> int | None:
        """Which of the slots is to be given up, if one is; `waiting` are runs for which there is something to do."""
        if not waiting or not held:
            return None
        most = max(run.priority for run in waiting)
        lowest = min(range(len(held)), key=lambda index: (held[index].priority, held[index].since))
        if held[lowest].priority < most:
            return lowest
        shares = self._shares(held)
        poor = [run for run in waiting if run.priority == most and run.tenant not in shares]
        equals = [index for index in range(len(held)) if held[index].priority == most]
        if not poor or not equals:
            return None
        richest = max(equals, key=lambda index: (shares[held[index].tenant], now - held[index].since))
        has_several = sum(1 for each in held if each.tenant == held[richest].tenant) > 1
        return richest if has_several or now - held[richest].since >= SLICE_S else None

    def _shares(self, held: Sequence[Held]) -> dict[str, float]:
        counted = Counter(each.tenant for each in held)
        return {tenant: count / self.weights.get(tenant, 1.0) for tenant, count in counted.items()}
