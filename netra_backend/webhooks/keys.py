"""The keys that sign: a shared secret for HMAC-SHA256 (`v1`), or an Ed25519 pair (`v1a`), of Standard Webhooks.

A key is bytes wherever it is kept, sealed or passed on: 24 to 64 of them are a shared secret, and a pair is `_PAIR`, its
32-byte seed and its 32-byte public key (RFC 8032 section 5.1.5), which no shared secret is as long as. So a column, a
snapshot and a rotation need not know which it is, and what was stored before pairs were there stays valid.

As text a secret is `whsec_`, a pair `whsk_` and its public half `whpk_`, each before standard base64.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from functools import lru_cache
from typing import Final, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ..errors import InvalidInput
from ..kernel.chance import Chance

KeyKind = Literal["hmac", "ed25519"]
SECRET_PREFIX: Final = "whsec_"  # noqa: S105  (what stands before a secret)
PAIR_PREFIX: Final = "whsk_"
PUBLIC_PREFIX: Final = "whpk_"
SECRET_BYTES: Final = 24
_SEED_BYTES: Final = 32
_PUBLIC_BYTES: Final = 32
_PAIR: Final = b"ed25519:"
_MIN_SECRET_BYTES, _MAX_SECRET_BYTES = 24, 64  # the specification's bounds on a symmetric secret


def new_key(chance: Chance, kind: KeyKind) -> bytes:
    """A fresh key."""
    return _pair(chance.token(_SEED_BYTES)) if kind == "ed25519" else chance.token(SECRET_BYTES)


def kind_of(key: bytes) -> KeyKind:
    """Which of the two it is."""
    return "ed25519" if key.startswith(_PAIR) and len(key) == len(_PAIR) + _SEED_BYTES + _PUBLIC_BYTES else "hmac"


def decode_secret(secret: str) -> bytes:
    """The key of `whsec_...` (24 to 64 bytes) or `whsk_...` (a seed, or a seed and its public key); else `InvalidInput`."""
    if secret.startswith(PAIR_PREFIX):
        return _decode_pair(secret)
    key = _unbase64(secret.removeprefix(SECRET_PREFIX))
    if not _MIN_SECRET_BYTES <= len(key) <= _MAX_SECRET_BYTES:
        raise InvalidInput("the secret is not whsec_ and 24 to 64 bytes of base64", fix="Copy the secret whole, or let Netra make one.")
    return key


def encode_secret(key: bytes) -> str:
    """A key whole, as its owner may bring it: `whsec_...`, or `whsk_...`."""
    if kind_of(key) == "ed25519":
        return PAIR_PREFIX + base64.b64encode(key[len(_PAIR) :]).decode()
    return SECRET_PREFIX + base64.b64encode(key).decode()


def told(key: bytes) -> str:
    """What a receiver needs of a key: the shared secret, or the public half of a pair, whose private half nobody is told."""
    return encode_public(public_of(key)) if kind_of(key) == "ed25519" else encode_secret(key)


def public_of(key: bytes) -> bytes:
    """The public half of a pair, 32 bytes."""
    return key[-_PUBLIC_BYTES:]


def encode_public(public: bytes) -> str:
    """A public key as text: `whpk_...`."""
    return PUBLIC_PREFIX + base64.b64encode(public).decode()


def decode_public(text: str) -> bytes:
    """The 32 bytes of `whpk_...`; else `InvalidInput`."""
    public = _unbase64(text.removeprefix(PUBLIC_PREFIX))
    if len(public) != _PUBLIC_BYTES:
        raise InvalidInput("the public key is not whpk_ and 32 bytes of base64", fix="Copy it whole from the endpoint's secret.")
    return public


def sign(key: bytes, signed: bytes) -> str:
    """One entry of `webhook-signature`: `v1,...` or `v1a,...`."""
    if kind_of(key) == "ed25519":
        return "v1a," + base64.b64encode(_private(key).sign(signed)).decode()
    return "v1," + base64.b64encode(_mac(key, signed)).decode()


def is_signed(public: bytes, signed: bytes, signature: bytes) -> bool:
    """Whether the pair of this public key made the signature (RFC 8032 section 5.1.7)."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def jwk(key: bytes) -> dict[str, str]:
    """The public half of a pair as a JSON Web Key (RFC 8037 section 2); `kid` is its thumbprint (RFC 7638 section 3)."""
    x = _base64url(public_of(key))
    thumbprint = hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest()
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "use": "sig", "alg": "EdDSA", "kid": _base64url(thumbprint)}


def _decode_pair(secret: str) -> bytes:
    given = _unbase64(secret.removeprefix(PAIR_PREFIX))
    if len(given) in {_SEED_BYTES, _SEED_BYTES + _PUBLIC_BYTES}:
        pair = _pair(given[:_SEED_BYTES])
        if pair.endswith(given[_SEED_BYTES:]):
            return pair
    raise InvalidInput(
        "the key pair is not whsk_ and base64 of an Ed25519 seed, alone or with its own public key",
        fix="Copy it whole, or let Netra make one.",
    )


def _pair(seed: bytes) -> bytes:
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    return _PAIR + seed + public


@lru_cache(maxsize=1024)
def _private(key: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(key[len(_PAIR) : len(_PAIR) + _SEED_BYTES])


def _mac(key: bytes, signed: bytes) -> bytes:
    """HMAC-SHA256. A copy of a keyed state keeps the interpreter for small bodies, where `hmac.digest` gives it up."""
    state = _keyed(key).copy()
    state.update(signed)
    return state.digest()


@lru_cache(maxsize=1024)
def _keyed(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod=hashlib.sha256)


def _unbase64(text: str) -> bytes:
    """The bytes, or none where the text is not base64."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
