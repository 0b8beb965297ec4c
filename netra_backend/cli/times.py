"""Times as people give them: `2h` for two hours ago, or RFC 3339, `2026-03-01T12:00:00Z`."""

from __future__ import annotations

from datetime import datetime

from ..errors import InvalidInput
from ..kernel.clock import SystemClock
from ..kernel.durations import parse_duration


def parse_time(text: str) -> datetime:
    """The time; one without a zone is UTC."""
    from ..server.render import microseconds, moment

    try:
        return moment(SystemClock().wall_us() - int(parse_duration(text) * 1_000_000))
    except InvalidInput:
        pass
    try:
        return moment(microseconds(datetime.fromisoformat(text)))
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{text[:40]!r} is no time", fix="Write how long ago, 90m or 2h for example, or a time as 2026-03-01T12:00:00Z."
        ) from None
