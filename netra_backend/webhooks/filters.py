"""Payload filters: which of the endpoints that take a message's type and channels want this one.

An endpoint's filter is an expression over the message (`kernel/expression.py`): `type`, `data` (the payload), `channels`,
`tags`. It is judged against the snapshot like the event types, before anything is stored, once per message and filter. What cannot be
decided (a payload too large for the budget, or nested too deeply to be read) goes there: a superfluous message does less harm
than a lost one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import orjson

from ..kernel.expression import Expression
from .model import Endpoint, NewMessage


def check_filter(source: str) -> str:
    """Return an expression that can be read, else raise `ExpressionError`, which says where and how to mend it."""
    _parsed(source)
    return source


def wanting(endpoints: Sequence[Endpoint], new: NewMessage) -> Sequence[Endpoint]:
    """Those without a filter, and those whose filter holds for the message."""
    if all(endpoint.filter is None for endpoint in endpoints):
        return endpoints
    values = _values(new)
    if values is None:
        return endpoints
    holds = {source: _parsed(source).evaluate(values, if_too_costly=True) for each in endpoints if (source := each.filter) is not None}
    return [endpoint for endpoint in endpoints if endpoint.filter is None or holds[endpoint.filter]]


def _values(new: NewMessage) -> dict[str, Any] | None:
    try:
        data = orjson.loads(new.payload)
    except ValueError:
        return None
    return {"type": new.event_type, "data": data, "channels": list(new.channels or ()), "tags": list(new.tags or ())}


@lru_cache(maxsize=4096)
def _parsed(source: str) -> Expression:
    return Expression.parse(source)
