"""Judging tokens while a program runs: an issuer's keys are fetched by themselves, and a verdict is remembered.

A `Judge` is one question, made once: whose token, for whom, by which algorithms. It remembers tokens that it has accepted, by their hash,
so that the next request with the same token costs no signature.

What makes a remembered verdict no longer hold, exactly:

- its token's end, by the wall clock or by the monotonic one, whichever comes first: a wall clock that is set back revives nothing that was
  once accepted and has lived its time;
- any change of the issuer's keys: a verdict carries their generation, and another one is no verdict;
- `flush`: whoever revokes or logs out calls it.

Rejections are not remembered: a stranger can make any number of them, and would push the good ones out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, NamedTuple
from weakref import WeakSet

from ..errors import InvalidInput
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from .errors import TokenRejected
from .issuers import Issuers, Known
from .keys import Keys, KeySource
from .validation import LEEWAY_S, MAX_LIFETIME_S, Claims, validate

MOST_VERDICTS: Final = 20_000
MOST_JUDGES: Final = 256
US: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Question:
    """What a token must be; see `validation.validate` for each."""

    issuer: str
    audience: tuple[str, ...]
    algorithms: tuple[str, ...] = ("RS256",)
    leeway_s: float = LEEWAY_S
    authorized_party: str | None = None
    max_lifetime_s: float = MAX_LIFETIME_S
    required: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        issuer: str,
        audience: str | Collection[str],
        algorithms: Collection[str] = ("RS256",),
        leeway_s: float = LEEWAY_S,
        authorized_party: str | None = None,
        max_lifetime_s: float = MAX_LIFETIME_S,
        required: Collection[str] = (),
    ) -> Question:
        """From the arguments of a call."""
        return cls(issuer, _texts(audience), _texts(algorithms), leeway_s, authorized_party, max_lifetime_s, _texts(required))


class Verdict(NamedTuple):
    """An accepted token: until when on each clock, and under which generation of the issuer's keys."""

    claims: Claims
    until_us: int
    until: float
    generation: int


class Judge:
    """One question, asked of any number of tokens. With `keys` it asks no network; else the issuer's own are fetched."""

    def __init__(self, runtime: Runtime, issuers: Issuers, scope: Scope, question: Question, keys: KeySource = None) -> None:
        self._clock = runtime.clock
        self._issuers = issuers
        self._scope = scope
        self._question = question
        self._fixed = Known(keys=Keys.of(keys)) if keys is not None else None
        self._verdicts: dict[bytes, Verdict] = {}

    def __len__(self) -> int:
        return len(self._verdicts)

    def remembered(self, token: str | bytes) -> Claims | None:
        """The claims of a token that was accepted before and still holds; None where it must be judged; `TokenRejected` at its end."""
        known = self._fixed or self._issuers.peek(self._scope.tenant, self._question.issuer)
        return None if known is None else self._recalled(_digest(token), known)

    async def validate(
        self, token: str | bytes, *, nonce: str | None = None, access_token: str | None = None, once: bool = False
    ) -> Claims:
        """The token's claims, or `TokenRejected`; `IssuerUnreachable` where no keys are there to judge by.

        A call with `nonce` or `access_token` is a login's: it is judged anew each time. So is one that comes `once`, by its caller's word.
        """
        login = once or nonce is not None or access_token is not None
        if not login and (claims := self.remembered(token)) is not None:
            return claims
        known = self._fixed or await self._issuers.known(self._scope, self._question.issuer)
        digest = _digest(token)
        if not login and (claims := self._recalled(digest, known)) is not None:  # its keys are not fresh, and still those
            return claims
        try:
            claims = self._judged(token, known, nonce, access_token)
        except TokenRejected as error:
            if error.code != "unknown_key" or self._fixed is not None:
                raise
            newer = await self._issuers.search(self._scope, self._question.issuer)
            if newer is None:
                raise
            claims, known = self._judged(token, newer, nonce, access_token), newer
        if not login:
            self._remember(digest, claims, known)
        return claims

    def flush(self) -> None:
        """Remember nothing: something that was accepted may have been revoked."""
        self._verdicts.clear()

    def _judged(self, token: str | bytes, known: Known, nonce: str | None, access_token: str | None) -> Claims:
        asked = self._question
        return validate(
            token,
            issuer=asked.issuer,
            audience=asked.audience,
            keys=known.keys,
            algorithms=asked.algorithms,
            leeway_s=asked.leeway_s,
            now=self._clock.wall_us() / US,
            nonce=nonce,
            access_token=access_token,
            authorized_party=asked.authorized_party,
            max_lifetime_s=asked.max_lifetime_s,
            required=asked.required,
        )

    def _recalled(self, digest: bytes, known: Known) -> Claims | None:
        found = self._verdicts.get(digest)
        if found is None or found.generation != known.generation:
            return None
        if self._clock.monotonic() >= found.until:
            raise TokenRejected("expired")
        return found.claims if self._clock.wall_us() < found.until_us else None

    def _remember(self, digest: bytes, claims: Claims, known: Known) -> None:
        was = self._verdicts.pop(digest, None)
        until_us = int((claims.expires_at + self._question.leeway_s) * US)
        until = self._clock.monotonic() + (until_us - self._clock.wall_us()) / US
        if was is not None:  # the keys have changed since; its time goes on from when it was first seen
            until = min(until, was.until)
        elif len(self._verdicts) >= MOST_VERDICTS:
            del self._verdicts[next(iter(self._verdicts))]
        self._verdicts[digest] = Verdict(claims, until_us, until, known.generation)
        if self._clock.monotonic() >= until:
            raise TokenRejected("expired")


class Judges:
    """All questions that were asked of late, so that a call with the same arguments meets what it remembers."""

    def __init__(self, runtime: Runtime, issuers: Issuers) -> None:
        self._runtime = runtime
        self._issuers = issuers
        self._known: dict[tuple[str, Question], Judge] = {}
        self._all: WeakSet[Judge] = WeakSet()

    def get(self, scope: Scope, question: Question) -> Judge:
        """The judge of this question for this tenant."""
        found = self._known.get((scope.tenant, question))
        if found is None:
            if len(self._known) >= MOST_JUDGES:
                del self._known[next(iter(self._known))]
            found = self._known[scope.tenant, question] = self.new(scope, question)
        return found

    def new(self, scope: Scope, question: Question, keys: KeySource = None) -> Judge:
        """A judge of its own, for as long as somebody has it."""
        if not question.issuer or not question.audience:
            raise InvalidInput("a token is judged for an issuer and an audience", fix="Name both.")
        made = Judge(self._runtime, self._issuers, scope, question, keys)
        self._all.add(made)
        return made

    def flush(self) -> None:
        """Have all of them remember nothing, those too that were handed out."""
        for judge in self._all:
            judge.flush()


def _texts(value: str | Collection[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _digest(token: object) -> bytes:
    """What stands for a token; for what is none, something that stands for nothing."""
    raw = token.encode(errors="surrogatepass") if isinstance(token, str) else token
    return hashlib.sha256(raw).digest() if isinstance(raw, bytes) else b""
