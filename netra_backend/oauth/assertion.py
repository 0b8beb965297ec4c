"""What a client signs (RFC 7523): to prove who it is instead of by a secret, and to be given a token.

The first is section 2.2, `private_key_jwt` of OpenID Connect. The registration's secrets are its private keys, sealed like every secret:
PEM (PKCS 8 or the traditional form) or a JSON Web Key, whose `kid` goes into the header. Two of them, A and B, serve while one is being
changed, as with shared secrets.

Each request has an assertion of its own: a fresh `jti`, five minutes to live, and for an audience the issuer where it is known, else the
endpoint that is asked; the former is what the standard's revision asks for, since an assertion for one server must be good at no other.

The second is section 2.1, the grant: service accounts of Google, the JWT flow of Salesforce. It has a key of its own and says what the
registration has it say (`registration.py`). A server takes each `jti` once, so a request that is repeated has a new one.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from ..errors import InvalidInput
from .jws import encoded
from .keys import ALGORITHMS, RSA_BITS
from .model import Assertion

PRIVATE_KEY_JWT: Final = "private_key_jwt"
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
LIVES_S: Final = 300
_CURVES: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_BROKEN: Final = (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, AttributeError, OverflowError)
"""What joserfc and cryptography raise for a key that is none."""
_FIX: Final = "Give an RSA (2,048 bits or more), EC or Ed25519 private key without a password, as PEM or as a JSON Web Key."


def is_key(secret: str) -> bool:
    """Whether a client's secret is a key to sign with: no shared secret looks like one."""
    return secret.startswith(("-----BEGIN ", "{"))


def check_key(secret: str) -> None:
    """Raise `InvalidInput` unless it can sign."""
    try:
        _key(secret)
    except _BROKEN as error:  # none of their words, for they may quote the key
        raise InvalidInput("a client's key cannot be used", fix=_FIX) from error


def assertion(secret: str, client_id: str, audience: str, now_s: int, jti: str) -> str:
    """One assertion; `secret` is the client's private key."""
    claims = {"iss": client_id, "sub": client_id, "aud": audience, "jti": jti, "iat": now_s, "exp": now_s + LIVES_S}
    return _signed(secret, claims)


def granting(given: Assertion, endpoint: str, now_s: int, jti: str) -> str:
    """One assertion that a token is asked for by, at `endpoint` (RFC 7523 section 3)."""
    subject = {"sub": given.subject} if given.subject else {}
    times = {"jti": jti, "iat": now_s, "exp": now_s + given.lifetime_s}
    return _signed(given.key, {**given.claims, "iss": given.issuer, **subject, "aud": given.audience or endpoint, **times}, given.key_id)


def _signed(secret: str, claims: dict[str, Any], key_id: str | None = None) -> str:
    key, algorithm, kid = _key(secret)
    kid = key_id or kid
    header = {"alg": algorithm, "typ": "JWT"} | ({"kid": kid} if kid else {})
    signed = b".".join(encoded(orjson.dumps(part)) for part in (header, claims))
    return b".".join((signed, encoded(ALGORITHMS[algorithm].sign(signed, key)))).decode()


@lru_cache(maxsize=256)
def _key(secret: str) -> tuple[Key, str, str | None]:
    """The key, its algorithm, and its id. Parsed once; the cache holds what the process holds anyway while it refreshes."""
    given: Any = orjson.loads(secret) if secret.startswith("{") else secret
    for kind, match in ((RSAKey, "RSA"), (ECKey, "EC"), (OKPKey, "OKP")):
        if isinstance(given, dict) and given.get("kty") != match:
            continue
        try:
            key: Any = kind.import_key(given)
        except _BROKEN:  # a PEM does not say of which kind it is: the next one is tried
            continue
        if not key.is_private:
            break
        return key, _algorithm(key, given), key.kid
    raise InvalidInput("a client's key cannot be used", fix=_FIX)


def _algorithm(key: Key, given: Any) -> str:
    if isinstance(key, RSAKey):
        if key.raw_value.key_size < RSA_BITS[0]:
            raise InvalidInput("a client's key is too short", fix=_FIX)
        named = given.get("alg") if isinstance(given, dict) else None
        return named if named in {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"} else "RS256"
    if isinstance(key, ECKey) and key.curve_name in _CURVES:
        return _CURVES[key.curve_name]
    if isinstance(key, OKPKey) and key.curve_name == "Ed25519":
        named = given.get("alg") if isinstance(given, dict) else None
        return "EdDSA" if named == "EdDSA" else "Ed25519"  # its name since RFC 9864; the old one did not say which curve
    raise InvalidInput("a client's key is on a curve that nobody signs tokens by", fix=_FIX)
