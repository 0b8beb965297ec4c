"""The query parameters by which Svix's lists of messages and attempts are filtered."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from fastapi import Depends, Query

from ..webhooks.search import AttemptFilter, MessageFilter
from .errors import InvalidMembers, problem
from .render import CANCELED, FAIL, PENDING, SENDING, SUCCESS, microseconds

_LABEL: Final = r'^[^\x00-\x1f\x7f",\\]{1,128}$'
_OUTCOMES: Final[dict[int, tuple[str, ...]]] = {
    SUCCESS: ("delivered",),
    PENDING: (),
    FAIL: ("failed", "refused"),
    SENDING: (),
    CANCELED: (),
}
"""Which attempts have a status; what is pending, under way or cancelled has made none."""


def _message_filter(
    channel: Annotated[str | None, Query(pattern=_LABEL)] = None,
    tag: Annotated[str | None, Query(pattern=_LABEL)] = None,
    before: Annotated[datetime | None, Query(description="Created before then.")] = None,
    after: Annotated[datetime | None, Query(description="Created after then.")] = None,
    event_types: Annotated[list[str] | None, Query(description="Comma-separated or repeated.")] = None,
) -> MessageFilter:
    types = tuple(name for given in event_types or () for name in given.split(",") if name)
    found = MessageFilter(types, channel or "", tag or "")
    return MessageFilter(
        found.event_types,
        found.channel,
        found.tag,
        found.after_us if after is None else epoch_us(after, "after"),
        found.before_us if before is None else epoch_us(before, "before"),
    )


def epoch_us(at: datetime, name: str) -> int:
    """A time of the query in microseconds, or a 422 that names it."""
    try:
        return microseconds(at)
    except OverflowError:
        raise InvalidMembers([problem(["query", name], "this time is out of range")]) from None


Messages = Annotated[MessageFilter, Depends(_message_filter)]


def _attempt_filter(
    message: Messages,
    status: Annotated[int | None, Query(ge=0, le=4, description="0 success, 1 pending, 2 fail, 3 sending, 4 canceled.")] = None,
    status_code_class: Annotated[int | None, Query(description="0 for no answer, or 100, 200, 300, 400, 500.")] = None,
) -> AttemptFilter:
    if status_code_class not in {None, 0, 100, 200, 300, 400, 500}:
        raise InvalidMembers([problem(["query", "status_code_class"], "one of 0, 100, 200, 300, 400 and 500")])
    outcomes = None if status is None else _OUTCOMES[status]
    least, above = (0, 1000) if status_code_class is None else (status_code_class, status_code_class + (100 if status_code_class else 1))
    return AttemptFilter(message, outcomes, None, least, above)


Attempts = Annotated[AttemptFilter, Depends(_attempt_filter)]
