"""What a receiver says beyond success and failure: how it bears on its health, when to come again, and what it wants no more.

* Retry-After (RFC 9110, section 10.2.3) counts with any failure, as seconds or as a date, and is capped at 24 hours. A date is
  taken by our clock and by the answer's own `Date`, and the later instant holds: the receiver's clock need not be ours.
  What is neither form, or negative, says nothing. With 429 and 503 it is about the whole endpoint.
* 410, or `webhook-delivery: disable` with any status, disables the endpoint. `webhook-delivery: abort-message` ends a message
  that failed. (Both headers as the Svix service defines them, "Delivery Control".)
* Health: no connection, no answer in time, a broken answer, 5xx and 429 are failures; other answers show that the receiver lives.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

from ..resilience.circuit_breaker import Outcome
from ..resilience.egress import EgressError, Reply

RETRY_AFTER_CAP_S: Final = 24 * 3600.0
NOT_SENT: Final = frozenset({"egress_denied", "bad_url", "bad_header"})
"""Kinds of refusal that are about the configuration on our side: no byte was sent, no attempt is burned."""

_SECONDS: Final = re.compile(r"([0-9]{1,15})(\.[0-9]{1,9})?\Z")
_DIGITS: Final = re.compile(r"[0-9]+\Z")
_LONGEST_DATE: Final = 64
_CONTROL: Final = "webhook-delivery"
_GATED: Final = frozenset({429, 503})
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Said:
    """See the module's docstring. `floor_s` is 0 where nothing was asked; `gates` says that it is about the whole endpoint."""

    health: Outcome
    floor_s: float = 0.0
    gates: bool = False
    disable: str = ""
    abort: bool = False


def parked(again_s: float) -> Said:
    """Nothing was asked, for something on our side is missing that every attempt needs: the endpoint waits."""
    return Said(Outcome.NOT_SENT, again_s, gates=True)


def read_error(error: EgressError) -> Said:
    """What a request without an answer says."""
    return Said(Outcome.NOT_SENT if error.kind in NOT_SENT else Outcome.FAILURE)


def read(reply: Reply, now_us: int) -> Said:
    """What an answer says, heard at `now_us`."""
    status = reply.status
    wish = _wish(reply.headers)
    disable = f"the receiver answered {status}" if status == 410 else f"the receiver sent {_CONTROL}: disable" if wish == "disable" else ""
    if 200 <= status < 300:
        return Said(Outcome.SUCCESS, disable=disable)
    floor_s = retry_after_s(reply.headers, now_us)
    health = Outcome.FAILURE if status >= 500 or status == 429 else Outcome.ANSWERED
    return Said(health, floor_s, gates=floor_s > 0 and status in _GATED, disable=disable, abort=wish == "abort-message")


def _wish(headers: Sequence[tuple[str, str]]) -> str:
    for name, value in headers:
        if name.lower() == _CONTROL:
            return value.strip().lower()
    return ""


def retry_after_s(headers: Sequence[tuple[str, str]], now_us: int) -> float:
    """Seconds from `now_us` on in which nothing is wanted; the longest where several were sent, 0 where none is valid."""
    values = [value.strip() for name, value in headers if name.lower() == "retry-after"]
    if not values:
        return 0.0
    dates = [value for name, value in headers if name.lower() == "date"]
    clocks_us = [now_us, *(at_us for at_us in map(_instant_us, dates) if at_us is not None)]
    return min(RETRY_AFTER_CAP_S, max(_floor_s(value, clocks_us) for value in values))


def _floor_s(value: str, clocks_us: Sequence[int]) -> float:
    if _SECONDS.match(value):
        return float(value)
    if _DIGITS.match(value):  # longer than any number that is meant
        return RETRY_AFTER_CAP_S
    at_us = _instant_us(value)
    return 0.0 if at_us is None else max(0.0, (at_us - min(clocks_us)) / _US)


def _instant_us(date: str) -> int | None:
    """An HTTP date in any of its three forms (RFC 9110, section 5.6.7); the one without a zone is UTC as well."""
    try:
        at = parsedate_to_datetime(date[:_LONGEST_DATE])
    except (ValueError, OverflowError, TypeError, IndexError):
        return None
    return int((at if at.tzinfo is not None else at.replace(tzinfo=UTC)).timestamp()) * _US
