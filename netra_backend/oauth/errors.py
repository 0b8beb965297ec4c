"""What can be wrong with a token, a connection or a client registration."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Final

from ..errors import Conflict, InvalidInput, NetraError, NotFound, Unavailable

VERDICTS: Final = MappingProxyType(
    {
        "too_large": "it is longer than 16 KiB",
        "malformed": "it is not a compact JWS of three base64url parts with a JSON header and, for claims, a JSON object",
        "forbidden_algorithm": "its algorithm is none of those that were configured",
        "forbidden_header": "its header asks for something that a token may not decide (jku, jwk, x5u, x5c, crit, b64, a foreign typ)",
        "unknown_key": "no key of the issuer has its key id",
        "key_misuse": "the issuer's key is of another kind, for another use, or too short for this algorithm",
        "bad_signature": "the signature is not by the issuer's key over these bytes",
        "missing_claim": "a claim that must be there is not",
        "bad_claim": "a claim has a value that it cannot have",
        "expired": "it has expired",
        "not_yet_valid": "it is not valid yet",
        "issued_in_future": "it says that it was issued in the future",
        "lifetime_too_long": "it would be valid for longer than is allowed",
        "wrong_issuer": "another issuer made it",
        "wrong_audience": "it was made for somebody else",
        "wrong_nonce": "it does not answer this login",
        "revoked": "it was revoked",
    }
)
"""Verdict -> what it says about the token. The whole list; each cause has its own."""


class TokenRejected(NetraError):
    """The token is not acceptable."""

    status = 401

    def __init__(self, code: str, detail: str = "", **facts: Any) -> None:
        """`code` is one of `VERDICTS`. No part of the token is in the words, for they go to logs."""
        words = VERDICTS[code]
        super().__init__(f"{words}: {detail}" if detail else words, **facts)
        self.code = code  # type: ignore[misc]  # one class, a code per cause: the caller's `except` is one, its decision is by code


class UnknownConnection(NotFound):
    """There is no such connection."""

    code = "unknown_connection"
    fix = "`netra oauth list` shows those that there are; import one, or connect it."


class UnknownClient(NotFound):
    """There is no such client registration."""

    code = "unknown_client"
    fix = "Register it: `netra oauth client set NAME --file F`."


class IssuerInUse(Conflict):
    """A registration cannot move to another issuer while it has connections, or users who are on their way to one."""

    code = "issuer_in_use"
    fix = "Register the other issuer under a name of its own, or revoke the connections first."


class GrantInUse(Conflict):
    """Another connection holds this very refresh token."""

    code = "grant_in_use"
    fix = "Use that connection: two that refresh one grant would take it from each other."


class ReauthRequired(Conflict):
    """The provider has refused the grant for good; the user must connect again."""

    code = "reauth_required"
    fix = "Connect again: `netra oauth connect`, or import new tokens under the same name."


ASSERTION_FIX: Final = (
    "Check what the registration signs (key, issuer, subject, audience) and this host's clock, then connect again by `jwt-bearer`."
)
"""What helps where no user is to connect again."""


class ConnectionRevoked(Conflict):
    """The connection was revoked."""

    code = "connection_revoked"
    fix = "Connect again, or import new tokens under the same name."


class ConnectionPending(Conflict):
    """Nobody has finished connecting yet."""

    code = "connection_pending"
    fix = "Send the user to the provider (`netra oauth connect CLIENT --name NAME`), and ask again when he came back."


class RefreshFailed(Unavailable):
    """There is no access token that lives, and none could be got at the moment."""

    code = "refresh_failed"
    fix = "Repeat later. Check the client registration and the provider where it lasts; `detail` tells each endpoint's cause."


class UnknownState(NotFound):
    """Nobody was sent to a provider with this state."""

    code = "unknown_state"
    fix = "Begin again where you came from."


class LinkUsed(NotFound):
    """The link was opened before, or its time is over."""

    code = "link_used"
    fix = "Ask for a new link from whoever sent it."


class ConnectFailed(Conflict):
    """Connecting led nowhere."""

    code = "connect_failed"
    fix = "Connect again."


class ExchangeRejected(Conflict):
    """The provider refuses to trade the token."""

    code = "exchange_rejected"
    fix = "`error` is the provider's word (RFC 8693 section 2.2.2): invalid_target, invalid_scope, invalid_request, ..."


class IssuerUnreachable(Unavailable):
    """An issuer's keys are not known, or too old, and it cannot be asked."""

    code = "issuer_unreachable"
    fix = "Repeat later. Where it lasts, check the issuer's address, and NETRA_EGRESS_ALLOW where it is in a private network."


class IssuerUnknown(InvalidInput):
    """The issuer publishes no metadata of its own."""

    code = "issuer_unknown"
    fix = "Check `issuer`, exactly as its tokens have it, or give `endpoints` with `token`."
