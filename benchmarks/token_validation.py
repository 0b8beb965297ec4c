"""Tokens judged per second: RS256, ES256, EdDSA and HS256, each token anew and through the verdict cache.

Peers do less than we do, and are given keys that are parsed already: joserfc (the signature by the library that we compute with, and its
registry of claims), PyJWT (signature, issuer, audience, expiry), and `cryptography` alone (one signature over bytes that are there). Every
token of a run is another one, so that nobody's cache helps; `remembered` asks for the same thousand again and again. Per second of
processor time: a judgement waits for nothing, and what else the machine does is not its doing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import jwt
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from joserfc import jwt as jose
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from measure import RUNS, Row, interleaved

from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.oauth import Keys, validate
from netra_backend.oauth.jws import decoded
from netra_backend.oauth.validator import Judge, Question

ISSUER, AUDIENCE = "https://id.example", "shop"
KEYS = {
    "RS256": RSAKey.generate_key(2048, {"kid": "k"}),
    "ES256": ECKey.generate_key("P-256", {"kid": "k"}),
    "EdDSA": OKPKey.generate_key("Ed25519", {"kid": "k"}),
    "HS256": OctKey.generate_key(512, {"kid": "k"}),
}
AIMS = {("RS256", "uncached"): 25_000, ("RS256", "remembered"): 500_000}
RATIOS = {("RS256", "joserfc"): 25 / 22, ("RS256", "cryptography"): 25 / 49}
"""The aim over what the peers reached on the machine that it was set for (thousands a second)."""

NOW = 1_900_000_000
SAME = 1000


def rows(*, quick: bool) -> list[Row]:
    """One row for each algorithm and peer, and one for what is remembered."""
    count = 300 if quick else 3000
    found = []
    for algorithm in KEYS:
        tokens = made(algorithm, count)
        ways = {name: way(algorithm) for name, way in WAYS.items()}
        runs = interleaved(list(ways), 1 if quick else RUNS, lambda name, ways=ways, tokens=tokens: per_second(ways[name], tokens))
        for peer in ("joserfc", "PyJWT", "cryptography"):
            aim = AIMS.get((algorithm, "uncached")) if peer == "joserfc" else None
            ratio = RATIOS.get((algorithm, peer))
            found.append(Row(f"{algorithm} uncached", "-", "tokens/s", "none", runs["netra"], runs[peer], peer, aim, ratio_budget=ratio))
        again = [remembered_per_second(algorithm, tokens[:SAME], 20 if quick else 300) for _ in range(1 if quick else RUNS)]
        found.append(Row(f"{algorithm} remembered", "-", "tokens/s", "none", again, budget=AIMS.get((algorithm, "remembered"))))
    return found


def made(algorithm: str, count: int) -> list[str]:
    """As many different good tokens."""
    claims = {"iss": ISSUER, "aud": AUDIENCE, "iat": NOW - 10, "exp": NOW + 300}
    names = [algorithm]
    return [
        jose.encode({"alg": algorithm, "kid": "k"}, {**claims, "sub": f"u{n}"}, KEYS[algorithm], algorithms=names) for n in range(count)
    ]


def per_second(judge: Callable[[str], Any], tokens: Sequence[str]) -> float:
    """How many of them are judged in a second."""
    judge(tokens[0])
    began = time.process_time()
    for token in tokens:
        judge(token)
    return len(tokens) / (time.process_time() - began)


def by_netra(algorithm: str) -> Callable[[str], Any]:
    """The whole strict judgement."""
    keys = Keys.of(KEYS[algorithm])
    names = (algorithm,)
    return lambda token: validate(token, issuer=ISSUER, audience=AUDIENCE, keys=keys, algorithms=names, now=NOW)


def by_joserfc(algorithm: str) -> Callable[[str], Any]:
    """Signature and its registry of claims."""
    key, names = KEYS[algorithm], [algorithm]
    registry = jose.JWTClaimsRegistry(now=lambda: NOW, iss={"essential": True, "value": ISSUER}, aud={"essential": True, "value": AUDIENCE})

    def judge(token: str) -> Any:
        found = jose.decode(token, key, algorithms=names)
        registry.validate(found.claims)
        return found

    return judge


def by_pyjwt(algorithm: str) -> Callable[[str], Any]:
    """Signature, issuer, audience, expiry; it reads the machine's clock, which is before these tokens' time, so `iat` is let pass."""
    key = KEYS[algorithm]
    raw = key.raw_value if isinstance(key, OctKey) else key.public_key
    names, options = [algorithm], {"verify_iat": False}
    return lambda token: jwt.decode(token, raw, algorithms=names, issuer=ISSUER, audience=AUDIENCE, options=options)


def by_cryptography(algorithm: str) -> Callable[[str], Any]:
    """One signature over bytes that are there."""
    key = KEYS[algorithm]

    def judge(token: str) -> None:
        signed, _, tail = token.encode().rpartition(b".")
        signature = decoded(tail)
        if isinstance(key, RSAKey):
            key.public_key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(key, ECKey):
            pair = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
            key.public_key.verify(encode_dss_signature(*pair), signed, ec.ECDSA(hashes.SHA256()))
        elif isinstance(key, OKPKey):
            key.public_key.verify(signature, signed)
        else:
            mac = hmac.HMAC(key.raw_value, hashes.SHA256())
            mac.update(signed)
            mac.verify(signature)

    return judge


def remembered_per_second(algorithm: str, tokens: Sequence[str], rounds: int) -> float:
    """The same tokens again and again, through a judge that has accepted them."""
    runtime = Runtime(clock=_At())
    question = Question.of(ISSUER, AUDIENCE, (algorithm,))
    judge = Judge(runtime, None, Scope("bench", "bench"), question, KEYS[algorithm])  # type: ignore[arg-type]  # keys are given

    async def ask() -> float:
        for token in tokens:
            await judge.validate(token)
        began = time.process_time()
        for _ in range(rounds):
            for token in tokens:
                judge.remembered(token)
        return rounds * len(tokens) / (time.process_time() - began)

    return asyncio.run(ask())


class _At:
    """The machine's clocks, the wall's moved to these tokens' time."""

    def __init__(self) -> None:
        self._ahead_us = NOW * 1_000_000 - time.time_ns() // 1000

    def wall_us(self) -> int:
        """See `Clock.wall_us`."""
        return time.time_ns() // 1000 + self._ahead_us

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(seconds)


WAYS: dict[str, Callable[[str], Callable[[str], Any]]] = {
    "netra": by_netra,
    "joserfc": by_joserfc,
    "PyJWT": by_pyjwt,
    "cryptography": by_cryptography,
}

if __name__ == "__main__":
    from measure import show

    show([{"table": "token_validation", **row.as_json()} for row in rows(quick=True)])
