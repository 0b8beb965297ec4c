"""Opaque tokens: what their issuer says of them (RFC 7662), judged as strictly as what a signed one says of itself.

The answer is asked for each time: whoever keeps one keeps a revoked token alive for as long.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from ..errors import InvalidInput, Unavailable
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from ..resilience.egress_error import EgressError
from .answers import is_token
from .errors import TokenRejected
from .issuers import Issuers, json_object
from .model import US, Client
from .refresh import Refresher
from .validation import LEEWAY_S, check_audience, check_times

HINT: Final = "access_token"
LONGEST_LIFE_S: Final = 10 * 365 * 86400
"""An opaque token's life is its issuer's to end at any time, so its length is no danger in itself."""


class Introspector:
    """Asks the issuer of a registration about tokens."""

    def __init__(self, runtime: Runtime, refresher: Refresher, issuers: Issuers) -> None:
        self._runtime = runtime
        self._refresher = refresher
        self._issuers = issuers

    async def introspect(self, scope: Scope, client: Client, token: str, audience: str | Collection[str] | None) -> Mapping[str, Any]:
        """The members of an active token; `TokenRejected` for one that is not, `Unavailable` where the issuer does not say."""
        if not is_token(token):
            raise TokenRejected("malformed")
        endpoint = await self._endpoint(scope, client)
        members = {"token": token, "token_type_hint": HINT}
        try:
            reply = await self._refresher.ask_by_any(scope, client, endpoint, members)
        except EgressError as error:
            raise Unavailable(f"{endpoint} could not be asked: {error.kind}") from error
        found = json_object(reply)
        if found is None or not isinstance(found.get("active"), bool):
            raise Unavailable(f"{endpoint} answered with status {reply.status} and does not say whether the token is active")
        if not found["active"]:  # expired, revoked, never issued: RFC 7662 section 2.2 says no more than this
            raise TokenRejected("revoked", "its issuer does not call it active")
        self._check(found, client, audience)
        return found

    async def _endpoint(self, scope: Scope, client: Client) -> str:
        if client.issuer is None:
            raise InvalidInput(f"the client {client.name!r} has no issuer", fix="Register it with `issuer`, which publishes where to ask.")
        endpoint = (await self._issuers.metadata(scope, client.issuer)).get("introspection_endpoint")
        if not isinstance(endpoint, str):
            raise InvalidInput(f"{client.issuer} publishes no introspection endpoint", fix="Judge its signed tokens with `validate`.")
        return endpoint

    def _check(self, found: Mapping[str, Any], client: Client, audience: str | Collection[str] | None) -> None:
        """What the answer says beside `active`, where it says it: all of it is optional (RFC 7662 section 2.2)."""
        if "iss" in found and found["iss"] != client.issuer:
            raise TokenRejected("wrong_issuer")
        check_times(found, self._runtime.clock.wall_us() / US, LEEWAY_S, LONGEST_LIFE_S)
        if audience is not None:
            if "aud" not in found:
                raise TokenRejected("missing_claim", "aud")
            check_audience(found["aud"], frozenset([audience] if isinstance(audience, str) else audience))
