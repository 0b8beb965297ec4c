"""How long to wait after the n-th failure: a list for work that outlives the process, a curve for work that does not.

Jitter exists to spread those that failed together. A list is spread by a fraction to both sides, so that an operator
can still say when the next attempt comes; a curve is spread over its whole length (full jitter), because a herd inside
one process has nobody who waits for a given second. A server's `Retry-After` is not known here: it is a floor that the
caller puts under the result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Protocol

from ..errors import InvalidInput
from .chance import Chance
from .durations import format_duration, parse_duration

LONGEST_SCHEDULE: Final = 100
DEFAULT_JITTER: Final = 0.2
NO_RETRY: Final = "none"


class Backoff(Protocol):
    """What a retrying loop asks."""

    def delay_s(self, attempt_number: int, chance: Chance) -> float | None:
        """Seconds to wait after failed attempt `attempt_number` (the first is 1); None when there is no next one."""
        ...


@dataclass(frozen=True, slots=True)
class Schedule:
    """A finite list: `delays_s[n - 1]` follows failed attempt n, so there are `len(delays_s) + 1` attempts.

    `jitter` is the fraction by which a delay may be shorter or longer, from 0 (none) to below 1.
    """

    delays_s: tuple[float, ...]
    jitter: float = DEFAULT_JITTER

    def __post_init__(self) -> None:
        if len(self.delays_s) > LONGEST_SCHEDULE:
            raise InvalidInput(
                f"the schedule has {len(self.delays_s)} delays", fix=f"Give at most {LONGEST_SCHEDULE}; the last may be long."
            )
        if not 0 <= self.jitter < 1:
            raise InvalidInput(f"jitter {self.jitter!r} is not a fraction", fix="Give a number from 0 to below 1, such as 0.2.")
        for delay in self.delays_s:
            parse_duration(delay)

    @classmethod
    def parse(cls, text: str, jitter: float = DEFAULT_JITTER) -> Schedule:
        """Read `5s,30s,2m`, the name of a preset (`netra`, `svix`, `standard`), or `none`: one attempt and no more."""
        if text.strip() in PRESETS:
            return cls(PRESETS[text.strip()].delays_s, jitter)
        if text.strip() == NO_RETRY:
            return cls((), jitter)
        return cls(tuple(parse_duration(part) for part in text.split(",")), jitter)

    @property
    def attempts(self) -> int:
        """How many attempts there are in all, the first included."""
        return len(self.delays_s) + 1

    def delay_s(self, attempt_number: int, chance: Chance) -> float | None:
        """See `Backoff.delay_s`."""
        _check_number(attempt_number)
        if attempt_number > len(self.delays_s):
            return None
        return self.delays_s[attempt_number - 1] * (1 + chance.uniform(-self.jitter, self.jitter))

    def __str__(self) -> str:
        """The text that `parse` reads."""
        return ",".join(format_duration(delay) for delay in self.delays_s) or NO_RETRY


@dataclass(frozen=True, slots=True)
class Exponential:
    """An endless curve: after failure n, anything from 0 to `base_s * factor ** (n - 1)`, at most `cap_s`."""

    base_s: float = 0.1
    factor: float = 2.0
    cap_s: float = 30.0

    def __post_init__(self) -> None:
        finite = all(math.isfinite(number) for number in (self.base_s, self.factor, self.cap_s))
        if not finite or self.base_s <= 0 or self.factor < 1 or self.cap_s < self.base_s:
            raise InvalidInput(f"{self} does not grow", fix="Give a base above 0, a factor of at least 1 and a cap of at least the base.")

    def ceiling_s(self, attempt_number: int) -> float:
        """The longest wait after this failure, in seconds."""
        _check_number(attempt_number)
        growth = (attempt_number - 1) * math.log(self.factor)
        if growth >= math.log(self.cap_s / self.base_s):
            return self.cap_s
        return self.base_s * math.exp(growth)

    def delay_s(self, attempt_number: int, chance: Chance) -> float:
        """See `Backoff.delay_s`; there is always a next one, the loop's deadline ends it."""
        return chance.uniform(0, self.ceiling_s(attempt_number))


def _check_number(attempt_number: int) -> None:
    if attempt_number < 1:
        raise InvalidInput(f"there is no attempt {attempt_number}", fix="Count attempts from 1.")


_SECOND, _MINUTE, _HOUR = 1.0, 60.0, 3600.0

WEBHOOKS: Final = Schedule(
    (
        5 * _SECOND,
        30 * _SECOND,
        2 * _MINUTE,
        10 * _MINUTE,
        30 * _MINUTE,
        1 * _HOUR,
        3 * _HOUR,
        6 * _HOUR,
        12 * _HOUR,
        24 * _HOUR,
        24 * _HOUR,
    )
)
"""Ours: 12 attempts in about three days, dense at the start, where a restart or a deployment is the usual cause."""

SVIX: Final = Schedule((5 * _SECOND, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 10 * _HOUR))
"""The documented schedule of the Svix service (docs.svix.com/retries): at once, then these; 8 attempts in about 28 hours."""

STANDARD: Final = Schedule((5 * _SECOND, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 5 * _HOUR, 10 * _HOUR, 14 * _HOUR, 20 * _HOUR, 24 * _HOUR))
"""The example of the Standard Webhooks specification (spec/standard-webhooks.md, "Deliverability and reliability"): at once, then
these; 10 attempts in about 3 days."""

PRESETS: Final[dict[str, Schedule]] = {"netra": WEBHOOKS, "svix": SVIX, "standard": STANDARD, "default": WEBHOOKS}
"""`default` is the older name of `netra`."""
