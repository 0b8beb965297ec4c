"""What an answer of a token endpoint means for the refresh token that was sent (RFC 6749 sections 5.1 and 5.2).

Five classes, by what is known of the token that was sent:

- SUCCESS: it was taken, and here is what it was traded for.
- REJECTED: it, the client or the request was refused, in the words of the standard. It was not traded.
- THROTTLED: it was not looked at (429, `temporarily_unavailable`, `slow_down`).
- NOT_SENT: it never left this host.
- AMBIGUOUS: anything else. It may have been traded, and the answer is lost: a time-out, a cut, any 5xx, a redirect, a success that
  cannot be read, an error that is not in the words of the standard.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from ..resilience.egress import Reply
from ..resilience.egress_error import EgressError
from .model import LONGEST_RETRY_AFTER_S, US, Client, Grant

DEFAULT_LIFETIME_S: Final = 600
"""RFC 6749 only recommends `expires_in`; where it is missing and the registration says nothing, this is what we dare."""

LONGEST_LIFETIME_S: Final = 10 * 365 * 86400
MOST_TOKEN_CHARS: Final = 16 * 1024
_LATER: Final = frozenset({"temporarily_unavailable", "slow_down"})
_OF_THE_SERVER: Final = frozenset({"server_error"})
_DEAD_GRANT: Final = frozenset({"bad_refresh_token", "invalid_refresh_token"})
"""What GitHub and Slack say where the standard says `invalid_grant` (RFC 6749 section 5.2)."""

_OF_THE_CLIENT: Final = frozenset({"invalid_client", "unauthorized_client"})


class Kind(Enum):
    """See the module's docstring."""

    SUCCESS = "success"
    REJECTED = "rejected"
    THROTTLED = "throttled"
    NOT_SENT = "not_sent"
    AMBIGUOUS = "ambiguous"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one request.

    `cause` is an OAuth error code or one of ours (`timeout`, `status_503`); `members` are those of a success, `endpoint` is which one
    was asked.
    """

    kind: Kind
    cause: str = ""
    retry_after_s: float | None = None
    members: Mapping[str, Any] | None = None
    endpoint: int = 0

    @property
    def is_the_clients(self) -> bool:
        """Whether our registration was refused, so that another secret may help and the grant is well."""
        return self.kind is Kind.REJECTED and self.cause in _OF_THE_CLIENT


def failed(error: EgressError) -> Outcome:
    """What a request without an answer comes to."""
    return Outcome(Kind.AMBIGUOUS if error.sent else Kind.NOT_SENT, error.kind)


def classify(reply: Reply) -> Outcome:
    """What an answer comes to."""
    members = None if reply.truncated else _members(reply)
    said = members.get("error") if members is not None else None
    error = said if isinstance(said, str) else ""  # some answer with an object of their own, which is no word of the standard
    later = _retry_after(reply)
    if reply.status == 429 or (400 <= reply.status < 500 and error in _LATER):
        return Outcome(Kind.THROTTLED, error or "status_429", later)
    if reply.status >= 500 or reply.status < 200 or 300 <= reply.status < 400:
        return Outcome(Kind.AMBIGUOUS, f"status_{reply.status}", later)
    if error and error not in _OF_THE_SERVER:
        return Outcome(Kind.REJECTED, "invalid_grant" if error in _DEAD_GRANT else error[:64])
    if 200 <= reply.status < 300 and members is not None and is_token(members.get("access_token")):
        return Outcome(Kind.SUCCESS, members=members)
    return Outcome(Kind.AMBIGUOUS, "unreadable" if reply.status < 300 else f"status_{reply.status}", later)


def grant_of(members: Mapping[str, Any], client: Client, sent_us: int) -> Grant:
    """The tokens of a success. Their life is counted from when the request began, for that is when the provider may have begun."""
    refresh = members.get("refresh_token")
    lifetime = _seconds(members.get("expires_in"))
    if lifetime is None:
        lifetime = float(client.default_lifetime_s or DEFAULT_LIFETIME_S)
    expires_us = sent_us + int(max(0.0, min(lifetime, LONGEST_LIFETIME_S)) * US)
    kept = refresh if is_token(refresh) else None
    return Grant(members["access_token"], kept, sent_us, expires_us, _seconds(members.get("refresh_in")))


def is_token(value: Any) -> bool:
    """Whether it is a text that can be stored and sent as a token: printable ASCII (RFC 6749 appendix A)."""
    return isinstance(value, str) and 0 < len(value) <= MOST_TOKEN_CHARS and value.isascii() and value.isprintable()


def _members(reply: Reply) -> dict[str, Any] | None:
    """The members of the answer; some providers answer in the form of a query whatever is accepted."""
    kind = next((value for name, value in reply.headers if name.lower() == "content-type"), "")
    try:
        if kind.lower().startswith("application/x-www-form-urlencoded"):
            return dict(parse_qsl(reply.body.decode("ascii"), strict_parsing=True))
        found = orjson.loads(reply.body)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _seconds(value: Any) -> float | None:
    """A number of seconds, also one that came as text; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        seconds = float(value)
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def _retry_after(reply: Reply) -> float | None:
    text = next((value for name, value in reply.headers if name.lower() == "retry-after"), "")
    return min(float(text), LONGEST_RETRY_AFTER_S) if text.isascii() and text.isdigit() and len(text) < 8 else None
