"""How well an operation of an issuer is: decided purely, from probes of our own and from what authenticated traffic met.

Only what we ask by ourselves can call an issuer down. Traffic, that is refreshes of grants which somebody has proven before, brings it
into doubt: in doubt one failed probe is enough, without doubt three in a row are needed. Logins that have not succeeded are no
traffic: whoever wants a failover may send as many of them as he likes.

`at` is seconds of a clock that only grows, and is the same for whoever decides next (`rotation.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from .states import HEALTH, OPERATIONS, WORST

FAILED_PROBES: Final = 3
GOOD_PROBES: Final = 5
LEAST_SAMPLES: Final = 10
FAILED_SHARE: Final = 0.5
MOST_REASON: Final = 200


@dataclass(frozen=True, slots=True)
class Health:
    """One operation. `failed` probes in a row; `good` ones since it was down, the first at `good_since`; `suspect`: by its traffic."""

    state: str = "up"
    failed: int = 0
    suspect: bool = False
    good: int = 0
    good_since: float = 0.0
    reason: str = ""

    def probed(self, reason: str, at: float, return_s: float) -> Health:
        """After a probe; `reason` is why it failed, empty if it did not."""
        return self._good(at, return_s) if not reason else self._failed(reason[:MOST_REASON])

    def doubted(self, reason: str) -> Health:
        """After too many failures of its traffic."""
        if self.state not in HEALTH.sources("doubt"):
            return self
        return replace(self, state=HEALTH.after("doubt", self.state), suspect=True, reason=reason[:MOST_REASON])

    def _good(self, at: float, return_s: float) -> Health:
        if self.state == "down":
            return Health(HEALTH.after("answer", self.state), good=1, good_since=at, reason=self.reason)
        if self.state == "returning":
            more = replace(self, good=self.good + 1)
            enough = more.good >= GOOD_PROBES and at - more.good_since >= return_s
            return Health(HEALTH.after("recover", self.state)) if enough else more
        return Health()

    def _failed(self, reason: str) -> Health:
        failed = self.failed + 1
        if self.state == "down":
            return replace(self, failed=failed, reason=reason)
        if self.state == "returning" or self.suspect or failed >= FAILED_PROBES:
            return Health(HEALTH.after("fail", self.state), failed=failed, reason=reason)
        return replace(self, state=HEALTH.after("doubt", self.state), failed=failed, reason=reason)


Operations = Mapping[str, Health]
"""Of one issuer, by operation."""


def worst(operations: Operations) -> str:
    """How well the issuer is."""
    return min((operations.get(name, Health()).state for name in OPERATIONS), key=WORST.index)


def plain(operations: Operations) -> dict[str, Any]:
    """As JSON."""
    return {name: asdict(health) for name, health in operations.items()}


def of_plain(value: Mapping[str, Any]) -> dict[str, Health]:
    """From JSON."""
    return {name: Health(**facts) for name, facts in value.items()}


class Window:
    """What this process's traffic met at one issuer of late: monotonic instants, and whether each was a failure."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, bool]] = deque(maxlen=1000)

    def add(self, at: float, *, failed: bool) -> bool:
        """Count one; whether the issuer is in doubt now. Then it begins anew, so that one bad time is told once."""
        self._samples.append((at, failed))
        while self._samples[0][0] <= at - self._window_s:
            self._samples.popleft()
        failures = sum(failed for _, failed in self._samples)
        if len(self._samples) < LEAST_SAMPLES or failures < FAILED_SHARE * len(self._samples):
            return False
        self._samples.clear()
        return True
