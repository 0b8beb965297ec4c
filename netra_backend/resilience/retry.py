"""Retries inside one process: bounded by a deadline, spread by jitter, and only for what may succeed the second time.

Invariants: a `Retry-After` is never undercut; nothing sleeps past the deadline only to fail there; what `classify` does
not know is not retried; the last error is raised itself, with a note, so that its type and traceback stay the caller's.

Retries that outlive the process are rows with a due time (`webhooks`), which share `next_delay_s` and `retry_after_s`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, TypeVar

from ..kernel.backoff import Backoff, Exponential
from ..kernel.chance import Chance
from ..kernel.clock import Clock

T = TypeVar("T")

RETRY_AFTER_CAP_S: Final = 86_400.0
"""A day. A server that asks for more is not believed: a typing error there must not park work for a year."""


@dataclass(frozen=True, slots=True)
class Again:
    """The verdict "try again", in no less than `floor_s` seconds."""

    floor_s: float = 0.0


Classify = Callable[[Exception], Again | None]
"""Says of an error whether trying again may help; None means that it will not."""


async def retry(
    attempt: Callable[[int], Awaitable[T]],
    *,
    clock: Clock,
    chance: Chance,
    classify: Classify,
    backoff: Backoff | None = None,
    deadline: float | None = None,
    attempts: int | None = None,
) -> T:
    """The result of `attempt(n)`, n = 1, 2, ..., repeated while `classify` says `Again`.

    `deadline` is an instant of `clock.monotonic()`; it bounds the waiting, not a running attempt, which carries its own
    time-out. `attempts` bounds the count. Cancellation passes through at once.
    """
    curve = backoff or Exponential()
    number = 0
    while True:
        number += 1
        try:
            return await attempt(number)
        except Exception as error:
            verdict = classify(error)
            delay_s = next_delay_s(curve, number, chance, verdict.floor_s) if verdict else None
            reason = _why_not(delay_s, clock, deadline, is_last=attempts is not None and number >= attempts)
            if delay_s is None or reason:
                if verdict is not None:
                    error.add_note(f"Gave up after {number} attempts: {reason}.")
                raise
        await clock.sleep(delay_s)


def next_delay_s(backoff: Backoff, attempt_number: int, chance: Chance, floor_s: float = 0.0) -> float | None:
    """Seconds to wait after failed attempt `attempt_number`, at least `floor_s`; None when the schedule is exhausted."""
    delay_s = backoff.delay_s(attempt_number, chance)
    return None if delay_s is None else max(delay_s, floor_s)


def retry_after_s(header: str | None, wall_us: int) -> float | None:
    """Seconds of a `Retry-After` header in both forms (RFC 9110, section 10.2.3), from 0 to a day; None if unreadable."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text[:12]), RETRY_AFTER_CAP_S)
    try:
        instant = parsedate_to_datetime(text)
    except ValueError:
        return None
    seconds = instant.replace(tzinfo=instant.tzinfo or UTC).timestamp() - wall_us / 1_000_000
    return min(max(seconds, 0.0), RETRY_AFTER_CAP_S)


def _why_not(delay_s: float | None, clock: Clock, deadline: float | None, *, is_last: bool) -> str:
    """Why there is no next attempt; empty if there is one."""
    if delay_s is None:
        return "the schedule is exhausted"
    if is_last:
        return "no more are allowed"
    if deadline is not None and clock.monotonic() + delay_s >= deadline:
        return "the deadline comes before the next one"
    return ""
