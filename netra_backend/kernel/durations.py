"""Durations as people write them: `250ms`, `5s`, `10m`, `1h`, `3d`, or a bare number of seconds.

One number and one unit, so that `1h30m` is refused rather than half understood. Seconds are floats here and nowhere
stored: rows hold integer microseconds.
"""

from __future__ import annotations

import math
import re
from typing import Final

from ..errors import InvalidInput

UNITS_US: Final = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000, "us": 1}
"""Unit -> microseconds, the largest first, which is the order `format_duration` tries them in."""

LONGEST_S: Final = 10 * 365 * 86_400.0
"""Ten years. Anything above is a slip of units, and would leave the range of the clocks."""

_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*(d|h|ms|m|us|s|)\Z")
_FIX = "Write a number and one unit of us, ms, s, m, h and d, for example 250ms, 5s or 10m."


def parse_duration(value: str | float) -> float:
    """Seconds of `value`: text as in the module's docstring, or a number of seconds; `InvalidInput` otherwise."""
    if isinstance(value, str):
        return _in_range(_read(value), value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _refused(value)
    return _in_range(value, value)


def format_duration(seconds: float) -> str:
    """The shortest text that `parse_duration` reads back as the same whole number of microseconds."""
    total_us = round(seconds * 1_000_000)
    for unit, unit_us in UNITS_US.items():
        if total_us and total_us % unit_us == 0:
            return f"{total_us // unit_us}{unit}"
    return "0s"


def _read(text: str) -> float:
    match = _DURATION.match(text.strip())
    if match is None:
        raise _refused(text)
    return float(match[1]) * UNITS_US[match[2] or "s"] / 1_000_000


def _in_range(seconds: float, value: object) -> float:
    if not (math.isfinite(seconds) and 0 <= seconds <= LONGEST_S):
        raise _refused(value)
    return float(seconds)


def _refused(value: object) -> InvalidInput:
    shown = repr(value)[:80]
    return InvalidInput(f"{shown} is not a duration between 0 and {format_duration(LONGEST_S)}", fix=_FIX)
