"""Netra as an issuer: tokens of its own, traded, told about (RFC 7662) and published keys.

One issuer serves all tenants: each token names its tenant, and is one for that tenant's services alone. Its name is the server's public
address (`NETRA_PUBLIC_URL`), or what the request says where that is not set.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from ...errors import InvalidInput, NetraError, Unavailable
from ...kernel.failpoints import declare
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, system_scope
from ...storage.audit_append import audit_append
from ...storage.database import Database
from ...storage.sealing import Sealer
from ...storage.transaction import Tx
from ..errors import TokenRejected
from ..jws import MOST_BYTES, decoded, strict_json
from ..validation import Claims, validate
from ..validator import Judges, Question
from . import exchange, signing, store
from .exchange import ExchangeRefused, Requester, Wanted
from .model import Provider, is_subject
from .signing import US, Ring

BEARER: Final = "Bearer"
RING_S: Final = 60.0
LONGEST_S: Final = 3600
NOTED: Final = declare("sso.traded_before_answer", "a trade is committed, no token was made for it")
_SCOPE: Final = system_scope("issuer")


class Issuing:
    """Signs, trades and judges our own tokens."""

    def __init__(self, database: Database, runtime: Runtime, sealer: Sealer, judges: Judges) -> None:
        self._database = database
        self._runtime = runtime
        self._sealer = sealer
        self._judges = judges
        self._ring: Ring | None = None
        self._ring_until = 0.0

    async def ring(self) -> Ring:
        """The signing keys, at most a minute old: a new one is published for an hour before it signs."""
        now = self._runtime.clock.monotonic()
        if self._ring is None or now >= self._ring_until:
            self._ring = await self._database.write(signing.ring, self._sealer, scope=_SCOPE)
            self._ring_until = now + RING_S
        return self._ring

    async def rotate(self) -> None:
        """Make the next key; it signs in an hour."""
        self._ring = await self._database.write(signing.rotate, self._sealer, scope=_SCOPE)

    async def look(self) -> None:
        """Make the next key if it is time, and forget trades whose tokens have ended."""
        if (await self.ring()).is_old(self._runtime.clock.wall_us()):
            await self.rotate()
        while await self._database.write(exchange.forget_expired, 500, scope=_SCOPE, lane="bulk") == 500:
            continue

    async def published(self) -> list[dict[str, Any]]:
        """The public keys."""
        return (await self.ring()).published(self._runtime.clock.wall_us())

    async def issue(
        self, scope: Scope, issuer: str, subject: str, audience: Collection[str], scopes: Collection[str], lives_s: float, **more: Any
    ) -> str:
        """A first token, for a program that knows whom it speaks for; see `Sso.issue`."""
        if not is_subject(subject) or not audience or not 0 < lives_s <= LONGEST_S:
            raise InvalidInput(
                "a token is for somebody, for some audience, for a while",
                fix=f"Give a subject, an audience and a life of at most {LONGEST_S} s.",
            )
        now = self._runtime.clock.wall_us() // US
        claims = {"sub": subject, "aud": list(audience), "tenant": scope.tenant, "exp": now + int(lives_s), **more}
        if scopes:
            claims["scope"] = " ".join(scopes)
        text = await self._signed(claims, issuer, now)
        self._runtime.uses.note(scope.tenant, scope.actor, "signing_key.use", subject)
        return text

    async def exchange(self, scope: Scope, requester: Requester, issuer: str, form: Mapping[str, Any]) -> dict[str, Any]:
        """The answer of the token endpoint to a trade (RFC 8693 section 2.2); `ExchangeRefused` otherwise."""
        wanted = _wanted(form)
        subject = await self._accepted(scope, issuer, form.get("subject_token"), form.get("subject_token_type"))
        actor = None
        if "actor_token" in form or "actor_token_type" in form:
            actor = await self._accepted(scope, issuer, form.get("actor_token"), form.get("actor_token_type"))
        now = self._runtime.clock.wall_us() // US
        claims = exchange.narrowed(requester, subject, actor, wanted, now)
        if claims["exp"] <= now:
            raise ExchangeRefused("invalid_request", "the subject's token has ended")
        trace = exchange.trace_of(form["subject_token"], subject, requester, _list(claims["aud"]))
        action = "token.impersonate" if actor is None else "token.exchange"

        async def take(tx: Tx) -> bool:
            taken = await exchange.take(tx, trace, (int(subject["exp"]) + 300) * US)
            if taken:
                facts = {"subject": claims["sub"], "audience": claims["aud"], "scope": claims.get("scope", ""), "act": claims.get("act")}
                await audit_append(tx, action, trace[:16], after=facts)
            return taken

        if not await self._database.write(take, scope=scope):
            raise ExchangeRefused("invalid_request", "this token was traded before for this audience")
        self._runtime.failpoints.hit(NOTED)
        answer = {
            "access_token": await self._signed(claims, issuer, now),
            "issued_token_type": exchange.ACCESS_TOKEN,
            "token_type": BEARER,
            "expires_in": claims["exp"] - now,
        }
        return {**answer, "scope": claims["scope"]} if "scope" in claims else answer

    async def introspect(self, scope: Scope, issuer: str, token: str) -> dict[str, Any]:
        """What we say of a token of ours to a service of its tenant (RFC 7662 section 2.2); of any other that it is not active."""
        try:
            claims = await self._own(scope, issuer, token, _said(token))
        except TokenRejected:
            return {"active": False}
        return {"active": True, "token_type": BEARER, **claims}

    async def _accepted(self, scope: Scope, issuer: str, token: Any, kind: Any) -> Claims:
        """A token's claims, if it is ours or by an issuer whose tokens the tenant trades."""
        if not isinstance(token, str) or kind not in exchange.TYPES:
            raise ExchangeRefused("invalid_request", f"a token is missing, or its type is none of {', '.join(sorted(exchange.TYPES))}")
        try:
            said = _said(token)
            if said.get("iss") == issuer:
                return await self._own(scope, issuer, token, said)
            provider = await self._provider(scope, said.get("iss"))
            question = Question.of(provider.issuer, provider.audiences, provider.algorithms, required=("sub",))
            return await self._judges.get(scope, question).validate(token, once=True)  # no second trade asks again
        except TokenRejected as error:
            raise ExchangeRefused("invalid_request", "a token is not accepted") from error
        except Unavailable:
            raise
        except NetraError as error:
            raise ExchangeRefused("invalid_request", "a token is not accepted") from error

    async def _own(self, scope: Scope, issuer: str, token: str, said: Mapping[str, Any]) -> Claims:
        audience = said.get("aud")
        names = [audience] if isinstance(audience, str) else audience
        if not isinstance(names, list) or not all(isinstance(each, str) for each in names):
            raise TokenRejected("bad_claim", "aud")
        now_us = self._runtime.clock.wall_us()
        keys = (await self.ring()).verifying(now_us)
        required = ("sub", "tenant")
        claims = validate(
            token, issuer=issuer, audience=names, keys=keys, algorithms=(signing.ALGORITHM,), now=now_us / US, leeway_s=0, required=required
        )
        if claims["tenant"] != scope.tenant:
            raise TokenRejected("wrong_audience")
        return claims

    async def _provider(self, scope: Scope, issuer: Any) -> Provider:
        found: list[Provider] = await self._database.read(store.providers, scope=scope)
        for each in found:
            if each.enabled and each.audiences and each.issuer == issuer:
                return each
        raise TokenRejected("wrong_issuer")

    async def _signed(self, claims: Mapping[str, Any], issuer: str, now: int) -> str:
        whole = {"iss": issuer, **claims, "iat": now, "jti": self._runtime.chance.token(16).hex()}
        return (await self.ring()).sign(whole, self._runtime.clock.wall_us())


def _said(token: str) -> Mapping[str, Any]:
    """What a token says of itself, which proves nothing; needed to know whom to ask."""
    if len(token) > MOST_BYTES:
        raise TokenRejected("too_large")
    try:
        _, body, _ = token.encode("ascii").split(b".")
        found = strict_json(decoded(body))
    except (ValueError, RecursionError):
        raise TokenRejected("malformed") from None
    if not isinstance(found, dict):
        raise TokenRejected("malformed")
    return found


def _wanted(form: Mapping[str, Any]) -> Wanted:
    if form.get("requested_token_type", exchange.ACCESS_TOKEN) not in exchange.TYPES:
        raise ExchangeRefused("invalid_request", "only access tokens are made here, as JWTs")
    if form.get("resource"):
        raise ExchangeRefused("invalid_target", "resources are not known here; name an audience")
    if bool(form.get("actor_token")) != bool(form.get("actor_token_type")):
        raise ExchangeRefused("invalid_request", "actor_token and actor_token_type come together (RFC 8693 section 2.1)")
    scope = form.get("scope")
    return Wanted(tuple(form.get("audience", ())), tuple(scope.split()) if isinstance(scope, str) else None)


def _list(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


__all__ = ["Issuing"]
