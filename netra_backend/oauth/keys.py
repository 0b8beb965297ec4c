"""The keys of an issuer, parsed once.

A key set is somebody else's document: a key of a kind that is not known here, or one that is broken, is passed by as RFC 7517
section 5 asks, and the rest serves. What a key may be used for stands in the key (`use`, `key_ops`, `alg`, its kind and curve) and is
asked of the key, never of the token.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, JWKRegistry, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ..errors import InvalidInput

ALGORITHMS: Final = {name: model for name, model in JWSRegistry.algorithms.items() if name != "none"}
"""Every algorithm that can be configured."""

RSA_BITS: Final = (2048, 16384)
"""RFC 7518 section 3.3 asks for 2048; beyond the upper bound one signature costs more than a request should."""

_SECRET_BYTES: Final = {"HS256": 32, "HS384": 48, "HS512": 64}
"""RFC 7518 section 3.2: as long as the hash."""

_MOST_KEYS: Final = 256
_BROKEN: Final = (JoseError, UnsupportedAlgorithm, ValueError, TypeError, KeyError, AttributeError, OverflowError)
"""What joserfc and cryptography raise for a key that is none."""

KeySource = Any
"""`Keys`, a key set or key as JSON or as parsed JSON, a list of keys, or a public key or certificate-free PEM text."""


class Keys:
    """An issuer's public keys (or shared secrets), ready for use. Immutable; make it once and pass it to every `validate`."""

    __slots__ = ("_by_kid", "_fitting", "_nameless", "ignored")

    def __init__(self, keys: Sequence[Key], ignored: int = 0) -> None:
        self.ignored = ignored
        """How many members of the set could not be used."""
        self._nameless = tuple(key for key in keys if not key.kid)
        by_kid: dict[str, tuple[Key, ...]] = {}
        for key in keys:
            if key.kid:
                by_kid[key.kid] = (*by_kid.get(key.kid, ()), key)
        self._by_kid = by_kid
        self._fitting: dict[tuple[str | None, str], tuple[Key, ...]] = {}

    def __len__(self) -> int:
        return len(self._nameless) + sum(map(len, self._by_kid.values()))

    @classmethod
    def of(cls, source: KeySource) -> Keys:
        """The keys of a JSON Web Key Set, one JSON Web Key, a list of them, or a PEM text; `InvalidInput` if it is none of these."""
        if isinstance(source, Keys):
            return source
        if hasattr(source, "as_dict"):  # a key or key set of joserfc
            source = source.as_dict(private=False) if not isinstance(source, OctKey) else source.as_dict(private=True)
        if isinstance(source, str | bytes):
            text = source.encode() if isinstance(source, str) else bytes(source)
            return _of_pem(text) if text.lstrip().startswith(b"-----BEGIN") else _of_json(text)
        try:
            return _of_json(orjson.dumps(source))
        except (TypeError, ValueError) as error:
            raise _no_key_set() from error

    def fitting(self, kid: str | None, algorithm: str) -> tuple[Key, ...] | None:
        """Those of the candidates that may verify by this algorithm; None where there is no candidate at all."""
        found = self._fitting.get((kid, algorithm))
        if found is None:
            candidates = self.candidates(kid)
            if not candidates:
                return None
            found = tuple(key for key in candidates if fits(key, algorithm))
            if kid is None or kid in self._by_kid:  # other ids are a stranger's to invent, and are not remembered
                self._fitting[kid, algorithm] = found
        return found

    def candidates(self, kid: str | None) -> tuple[Key, ...]:
        """The keys that may have signed under this id; without one, all. A key without an id may be any."""
        if kid is None:
            return (*self._nameless, *(key for keys in self._by_kid.values() for key in keys))
        return (*self._by_kid.get(kid, ()), *self._nameless)


def fits(key: Key, algorithm: str) -> bool:
    """Whether this key may verify signatures of this algorithm."""
    try:
        ALGORITHMS[algorithm].check_key(key)
        key.check_key_op("verify")
    except (JoseError, AssertionError):
        return False
    if isinstance(key, RSAKey):
        return RSA_BITS[0] <= key.public_key.key_size <= RSA_BITS[1]
    if isinstance(key, OctKey):
        return len(key.raw_value) >= _SECRET_BYTES[algorithm]
    return algorithm != "EdDSA" or key.curve_name in {"Ed25519", "Ed448"}


@lru_cache(maxsize=64)
def _of_json(text: bytes) -> Keys:
    try:
        value = orjson.loads(text)
    except ValueError as error:
        raise _no_key_set() from error
    if isinstance(value, dict):
        value = value.get("keys", [value])
    if not isinstance(value, list) or len(value) > _MOST_KEYS or not all(isinstance(each, dict) for each in value):
        raise _no_key_set()
    found = [key for each in value if (key := _imported(each)) is not None]
    return Keys(found, len(value) - len(found))


def _imported(member: Mapping[str, Any]) -> Key | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SecurityWarning)  # a short secret is refused by `fits`, with its own verdict
            return JWKRegistry.import_key(dict(member)) if isinstance(member.get("kid", ""), str) else None
    except _BROKEN:
        return None


def _of_pem(text: bytes) -> Keys:
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            return Keys([kind.import_key(text)])
        except _BROKEN:
            continue
    raise InvalidInput("the PEM text is no public key", fix="Give a public key (BEGIN PUBLIC KEY) or a JSON Web Key Set.")


def _no_key_set() -> InvalidInput:
    return InvalidInput(
        "these are no keys", fix='Give a JSON Web Key Set ({"keys": [...]}, RFC 7517), one of its keys, or a PEM public key.'
    )
