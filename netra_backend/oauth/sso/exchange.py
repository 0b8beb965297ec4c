"""Token exchange (RFC 8693): a tenant's service trades a token that somebody has given it for a narrower and shorter one.

- The requester authenticates with an API key of its tenant. `token:exchange` lets it act for somebody, and be seen to (delegation: an
  `actor_token` says who acts, and stands in `act`). `token:impersonate` is another right: without an actor's token the new one looks as if
  the subject itself had come. Nobody has the second by having the first.
- A chain of `act` is kept as it came, with the new actor outermost (section 4.1); it is never cut, and `MOST_ACTORS` long at most.
  `may_act` of the subject's token is obeyed (section 4.4).
- Audience and scope only shrink, and the life ends with the subject's at the latest. What the subject's token does not have cannot be
  asked for.
- A subject's token is traded once by each requester for each audience. Who repeats is refused: the first answer went to somebody.
- Errors are those of section 2.2.2: `invalid_request` for a token that is not accepted, whatever is wrong with it, `invalid_target`,
  `invalid_scope`. What is wrong with a token is not told in detail: it may not be the requester's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ...errors import NetraError
from ...kernel.failpoints import declare
from ...storage.statements import Statements
from ...storage.transaction import Tx

Q = Statements(__package__)
GRANT: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105  (the name of a type)
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
TYPES: Final = frozenset({ACCESS_TOKEN, JWT})
LIFE_S: Final = 300
MOST_ACTORS: Final = 8
EXCHANGE: Final = "token:exchange"
IMPERSONATE: Final = "token:impersonate"
TRADED: Final = declare("sso.traded_before_commit", "a trade is noted, nothing is committed, and no token was made")
FORGOTTEN: Final = declare("sso.trades_forgotten_before_commit", "trades of tokens that have ended are deleted, nothing is committed")


class ExchangeRefused(NetraError):
    """The token endpoint says no, in the words of RFC 6749 section 5.2 and RFC 8693 section 2.2.2."""

    code = "exchange_refused"
    status = 400

    def __init__(self, error: str, detail: str = "") -> None:
        """`error` is one of the standards' codes; `detail` says nothing of a token's content."""
        super().__init__(detail or error, error=error)
        self.error = error
        self.status = 401 if error == "invalid_client" else 400  # type: ignore[misc]  # RFC 6749 section 5.2


@dataclass(frozen=True, slots=True)
class Requester:
    """Who asks: a tenant's API key."""

    tenant: str
    key: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for."""

    audience: tuple[str, ...]
    scope: tuple[str, ...] | None


def narrowed(requester: Requester, subject: Mapping[str, Any], actor: Mapping[str, Any] | None, wanted: Wanted, now: int) -> dict[str, Any]:
    """The claims of the new token, without those that its issuer adds; `ExchangeRefused` for what is more than the subject has."""
    _check_right(requester, subject, actor)
    has = _audiences(subject)
    audience = wanted.audience or has
    if not set(audience) <= set(has):
        raise ExchangeRefused("invalid_target", "the subject's token is not for this audience")
    granted = _scopes(subject)
    scope = granted if wanted.scope is None else wanted.scope
    if not set(scope) <= set(granted):
        raise ExchangeRefused("invalid_scope", "the subject's token has not this scope")
    found: dict[str, Any] = {
        "sub": subject["sub"],
        "aud": list(audience) if len(audience) > 1 else audience[0],
        "exp": min(int(subject["exp"]), now + LIFE_S),
        "tenant": requester.tenant,
        "client_id": requester.key,
    }
    if scope:
        found["scope"] = " ".join(scope)
    if (act := acting(subject, actor)) is not None:
        found["act"] = act
    return found


def acting(subject: Mapping[str, Any], actor: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """The chain of actors, the present one outermost; the subject's own chain where nobody is added."""
    before = subject.get("act")
    if actor is None:
        return dict(before) if before is not None else None
    now = {"iss": actor["iss"], "sub": actor["sub"]}
    return now if before is None else {**now, "act": before}


def _check_right(requester: Requester, subject: Mapping[str, Any], actor: Mapping[str, Any] | None) -> None:
    for claims in (subject, actor):
        if claims is not None and not isinstance(claims.get("sub"), str):
            raise ExchangeRefused("invalid_request", "a token names no subject")
    needed = IMPERSONATE if actor is None else EXCHANGE
    if needed not in requester.scopes:
        raise ExchangeRefused("unauthorized_client", f"this key does not have the scope {needed}")
    chain = _chain(subject)
    if actor is None:
        if "may_act" in subject:
            raise ExchangeRefused("invalid_request", "this token names who may act for its subject, so an actor's token is needed")
        return
    if "act" in actor:
        raise ExchangeRefused("invalid_request", "the actor's token is itself somebody else's acting")
    if len(chain) >= MOST_ACTORS:
        raise ExchangeRefused("invalid_request", "the chain of actors is too long")
    allowed = subject.get("may_act")
    if allowed is not None and not (isinstance(allowed, Mapping) and _is_allowed(allowed, actor)):
        raise ExchangeRefused("invalid_request", "this actor may not act for the subject")


def _is_allowed(allowed: Mapping[str, Any], actor: Mapping[str, Any]) -> bool:
    """RFC 8693 section 4.4: whoever is identified by all of its claims. Without `iss` the subject's own issuer is not assumed."""
    return "sub" in allowed and all(actor.get(name) == value for name, value in allowed.items())


def _chain(subject: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    act = subject.get("act")
    while act is not None:
        if not isinstance(act, Mapping) or not isinstance(act.get("sub"), str) or len(found) >= MOST_ACTORS:
            raise ExchangeRefused("invalid_request", "the chain of actors cannot be read")
        found.append(act)
        act = act.get("act")
    return found


def _audiences(claims: Mapping[str, Any]) -> tuple[str, ...]:
    value = claims["aud"]
    return (value,) if isinstance(value, str) else tuple(value)


def _scopes(claims: Mapping[str, Any]) -> tuple[str, ...]:
    value = claims.get("scope", "")
    if not isinstance(value, str):
        raise ExchangeRefused("invalid_request", "the scope of a token cannot be read")
    return tuple(value.split())


def trace_of(token: str, claims: Mapping[str, Any], requester: Requester, audience: Sequence[str]) -> bytes:
    """What stands for this very trade. Not the signature: some algorithms have many for one text."""
    jti = claims.get("jti")
    what = f"{claims['iss']}\0{jti}" if isinstance(jti, str) and jti else token.rpartition(".")[0]
    parts = (what, requester.key, *sorted(audience))
    return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).digest()


async def take(tx: Tx, trace: bytes, expires_us: int) -> bool:
    """Note a trade, once; False where it was made before."""
    taken = bool(await tx.execute(Q.insert_exchange, trace=trace, expires_us=expires_us))
    tx.runtime.failpoints.hit(TRADED)
    return taken


async def forget_expired(tx: Tx, limit: int) -> int:
    """Forget trades whose tokens have ended, of every tenant."""
    gone = await tx.execute(Q.trim_exchanges, before_us=tx.now_us, limit=limit)
    tx.runtime.failpoints.hit(FORGOTTEN)
    return gone
