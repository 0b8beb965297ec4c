"""Tokens made byte by byte, so that they can be wrong in every way; and the keys that sign them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from functools import cache

from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

ISSUER = "https://id.example"
AUDIENCE = "shop"
NOW = 1_900_000_000


def b64(raw):
    return base64.urlsafe_b64encode(raw if isinstance(raw, bytes) else raw.encode()).rstrip(b"=").decode()


@cache
def rsa(kid="r1", bits=2048):
    return RSAKey.generate_key(bits, {"kid": kid})


@cache
def elliptic(curve="P-256", kid="e1"):
    return ECKey.generate_key(curve, {"kid": kid})


@cache
def edwards(kid="o1", curve="Ed25519"):
    return OKPKey.generate_key(curve, {"kid": kid})


@cache
def secret(kid="s1", size=512):
    return OctKey.generate_key(size, {"kid": kid})


def public(*keys, **members):
    """A key set of these; `members` are added to each."""
    return {"keys": [{**key.as_dict(private=isinstance(key, OctKey)), **members} for key in keys]}


def sign(header, payload, key, algorithm=None):
    """A token of exactly these texts (or values), signed by `key`."""
    head = b64(header if isinstance(header, str | bytes) else json.dumps(header))
    body = b64(payload if isinstance(payload, str | bytes) else json.dumps(payload))
    return signed_parts(head, body, key, algorithm or header["alg"])


def signed_parts(head, body, key, algorithm):
    return f"{head}.{body}.{b64(JWSRegistry.algorithms[algorithm].sign(f'{head}.{body}'.encode(), key))}"


def by_hmac(header, payload, raw):
    """A token under HMAC-SHA256 with any bytes as the secret, those of a public key included."""
    signed = f"{b64(json.dumps(header))}.{b64(json.dumps(payload))}"
    return f"{signed}.{b64(hmac.new(raw, signed.encode(), hashlib.sha256).digest())}"


def claims(**changes):
    """Good claims, changed; None takes one away."""
    found = {"iss": ISSUER, "aud": AUDIENCE, "sub": "u1", "iat": NOW - 10, "exp": NOW + 300, **changes}
    return {name: value for name, value in found.items() if value is not None}


def token(header=None, key=None, **changes):
    return sign({"alg": "RS256", "kid": "r1", "typ": "JWT", **(header or {})}, claims(**changes), key or rsa())
