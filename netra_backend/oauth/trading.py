"""Token exchange as a client (RFC 8693): one request that left this host, at the first endpoint that could be reached."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import OutcomeUnknown, Unavailable
from ..kernel.scope import Scope
from .answers import Kind, Outcome
from .breakers import EXCHANGE
from .errors import ExchangeRejected
from .model import Client
from .refresh import Refresher

GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  (the name of a type)


async def traded(
    refresher: Refresher, scope: Scope, client: Client, subject: str, actor: str | None, parameters: Mapping[str, str]
) -> Mapping[str, Any]:
    """The members of the answer. A subject's token may be good for one trade, so what may have arrived is not sent again."""
    outcome = Outcome(Kind.NOT_SENT, "no_endpoint")
    tried: list[str] = []
    members = {"grant_type": GRANT, "subject_token": subject, "subject_token_type": ACCESS_TOKEN}
    if actor is not None:
        members |= {"actor_token": actor, "actor_token_type": ACCESS_TOKEN}
    members |= parameters
    for endpoint in client.token_endpoints:
        for _, secret in client.credentials():
            outcome, _ = await refresher.post(scope, client, secret, endpoint, members, EXCHANGE)
            tried.append(f"{endpoint}: {outcome.cause or outcome.kind.value}")
            if not outcome.is_the_clients:
                break
        if outcome.kind is not Kind.NOT_SENT:
            break
    words = "; ".join(tried) or outcome.cause
    match outcome.kind:
        case Kind.SUCCESS if outcome.members is not None:
            return outcome.members
        case Kind.REJECTED:
            raise ExchangeRejected(f"the token was not traded: {words}", error=outcome.cause)
        case Kind.AMBIGUOUS:
            raise OutcomeUnknown(f"nobody knows whether the token was traded: {words}")
        case _:
            raise Unavailable(f"the token could not be traded: {words}")
