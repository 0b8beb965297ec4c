"""Retry schedules of one's own: the message's, else its endpoint's, else its event type's, else the installation's.

A schedule is kept as the text that `Schedule.parse` reads: a preset's name, a list of delays, or `none`. Whatever it says, the
jitter of the settings spreads it, Retry-After is never undercut, and the message's deadline ends it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Final

from ..errors import InvalidInput
from ..kernel.backoff import LONGEST_SCHEDULE, NO_RETRY, PRESETS, Schedule
from .model import Delivery, Endpoint

FIX: Final = (
    f"Give a list of seconds such as [5, 300, 1800], at most {LONGEST_SCHEDULE} of them, or one of {', '.join(sorted(PRESETS))}; "
    "an empty list means one attempt."
)


def check(given: Any) -> str:
    """The text that is kept of a schedule as people give it: a preset, `5s,5m`, or a list of seconds or durations; else raise."""
    if not isinstance(given, str) and not (isinstance(given, Sequence) and not isinstance(given, bytes)):
        raise InvalidInput(f"{str(given)[:80]!r} is no retry schedule", fix=FIX)
    try:
        if isinstance(given, str):
            text = given.strip()
            return text if text in PRESETS else str(Schedule.parse(text))
        return str(Schedule.parse(",".join(map(_delay, given)) if given else NO_RETRY))
    except InvalidInput as error:
        raise InvalidInput(f"the retry schedule cannot be kept: {error.detail}", fix=FIX) from error


def _delay(given: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int | float) or (isinstance(given, str) and "," in given):
        raise InvalidInput(f"{str(given)[:80]!r} is not a number of seconds", fix=FIX)
    return str(given) if isinstance(given, str) else f"{given:.6f}"


def shown(kept: str | None) -> str | list[float] | None:
    """As the API answers it: a preset's name, or seconds."""
    return kept if kept is None or kept in PRESETS else list(Schedule.parse(kept).delays_s)


def of_delivery(default: Schedule, by_type: Mapping[str, str], endpoint: Endpoint, delivery: Delivery) -> Schedule:
    """The schedule that a delivery follows."""
    message = delivery.message
    own = message.schedule or endpoint.schedule or by_type.get(message.event_type)
    return default if own is None else replace(_parsed(own), jitter=default.jitter)


@lru_cache(maxsize=1024)
def _parsed(kept: str) -> Schedule:
    return Schedule.parse(kept)
