"""Signatures over bytes (RFC 7515, compact form), judged strictly.

joserfc computes; what is asked of it is decided here, because a header is written by whoever sends the token:

- The algorithm is one of the caller's, whatever the header says. `none` can never be configured.
- The key is one of the caller's: `jku`, `jwk`, `x5u` and `x5c` are refused, not ignored, for a token that carries one expects to be
  believed. `crit` is refused as a whole: no extension is understood here, `b64` (RFC 7797) included.
- One text, one meaning: base64url without padding, spare bits or foreign characters, UTF-8 without a byte order mark, JSON
  without duplicate members, NaN or lone surrogates. Two readers of one token must not see two tokens.
- At most 16 KiB, before anything is parsed.

Every refusal is `TokenRejected`. Order: size, form, algorithm, header, key, signature.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Collection, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, NamedTuple, NoReturn

from joserfc.errors import JoseError

from ..errors import InvalidInput
from .errors import TokenRejected
from .keys import ALGORITHMS, Keys, KeySource

MOST_BYTES: Final = 16 * 1024
MOST_TRIED: Final = 8
"""Keys that are tried for a token without a key id."""

_FORBIDDEN: Final = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "enc", "zip"})
_TO_STANDARD: Final = bytes.maketrans(b"-_+/=", b"+/!!!")
"""Base64url to base64; what is the one's and not the other's, and padding, to what is neither's."""
_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_PADDING: Final = (b"", None, b"==", b"=")
_LAST: Final = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")
"""What a text may end with, by the length of its last group: the other characters have bits that no byte takes."""


class Signed(NamedTuple):
    """A JWS whose signature holds."""

    header: Mapping[str, Any]
    payload: bytes


class _Head(NamedTuple):
    """A checked header and what is asked of it for each token."""

    header: Mapping[str, Any]
    algorithm: str
    key_id: str | None
    forbidden: str


class NotFinite(ValueError):
    """A JSON number that no float can hold."""


def verify_jws(token: str | bytes, *, keys: KeySource, algorithms: Collection[str]) -> bytes:
    """The payload of a compact JWS that one of `keys` signed by one of `algorithms`; else `TokenRejected`.

    `keys` is what `Keys.of` takes. The payload may be any bytes; for claims use `validate`, which judges them too.
    """
    return opened(token, keys, algorithms).payload


def opened(token: str | bytes, keys: KeySource, algorithms: Collection[str]) -> Signed:
    """Header and payload of a token whose signature holds."""
    allowed = _allowed(algorithms)
    known = Keys.of(keys) if keys is not None else Keys([])
    signed, head, body, tail = _parts(token)
    header, algorithm, key_id, forbidden = _head(head)
    if algorithm not in allowed:
        raise TokenRejected("forbidden_algorithm")
    if forbidden:
        raise TokenRejected("forbidden_header", forbidden)
    payload, signature = decoded(body), decoded(tail)
    _check_signature(known, key_id, algorithm, signed, signature)
    return Signed(header, payload)


def strict_json(raw: bytes) -> Any:
    """The value of a JSON text that every reader reads alike; ValueError otherwise, `NotFinite` among them."""
    text = raw.decode("utf-8")
    value = _DECODER.decode(text)
    if b"\\u" in raw:  # an escape may be half of a pair, which is no text
        json.dumps(value, ensure_ascii=False).encode()
    return value


def decoded(part: bytes) -> bytes:
    """The bytes of a base64url text that is exactly how these bytes are written."""
    rest = len(part) & 3
    padding = _PADDING[rest]
    if padding is None:
        raise TokenRejected("malformed", "a part is not base64url")
    try:
        raw = binascii.a2b_base64(part.translate(_TO_STANDARD) + padding, strict_mode=True)
    except binascii.Error:
        raise TokenRejected("malformed", "a part is not base64url") from None
    if rest and part[-1] not in _LAST[rest]:
        raise TokenRejected("malformed", "a part is not canonical base64url")
    return raw


def encoded(raw: bytes) -> bytes:
    """Base64url without padding."""
    return binascii.b2a_base64(raw, newline=False).rstrip(b"=").translate(_TO_URL)


def _allowed(algorithms: Collection[str]) -> frozenset[str]:
    return _configured(algorithms if isinstance(algorithms, str) else tuple(algorithms))


@lru_cache(maxsize=256)
def _configured(algorithms: str | tuple[str, ...]) -> frozenset[str]:
    allowed = frozenset([algorithms] if isinstance(algorithms, str) else algorithms)
    if not allowed or not allowed <= ALGORITHMS.keys():
        raise InvalidInput("these algorithms cannot be configured", fix=f"Name some of {', '.join(ALGORITHMS)}.")
    return allowed


def _parts(token: str | bytes) -> tuple[bytes, bytes, bytes, bytes]:
    """What is signed; header, payload, signature."""
    if not isinstance(token, str | bytes):
        raise TokenRejected("malformed")
    if len(token) > MOST_BYTES:
        raise TokenRejected("too_large")
    try:
        raw = token.encode("ascii") if isinstance(token, str) else bytes(token)
        head, body, tail = raw.split(b".")
    except ValueError:  # UnicodeEncodeError is one
        raise TokenRejected("malformed") from None
    return raw[: -len(tail) - 1], head, body, tail


@lru_cache(maxsize=1024)
def _head(head: bytes) -> _Head:
    """An issuer's tokens share their header, so it is read once."""
    try:
        header = strict_json(decoded(head))
    except (ValueError, RecursionError):
        raise TokenRejected("malformed", "the header is not JSON") from None
    if not isinstance(header, dict) or not isinstance(header.get("alg"), str):
        raise TokenRejected("malformed", "the header names no algorithm")
    if not all(isinstance(header.get(name, ""), str) for name in ("kid", "typ", "cty")):
        raise TokenRejected("malformed", "a member of the header is not a text")
    forbidden = ", ".join(sorted(header.keys() & _FORBIDDEN))
    return _Head(MappingProxyType(header), header["alg"], header.get("kid"), forbidden)


def _check_signature(keys: Keys, kid: str | None, algorithm: str, signed: bytes, signature: bytes) -> None:
    usable = keys.fitting(kid, algorithm)
    if usable is None:
        raise TokenRejected("unknown_key")
    if not usable:
        raise TokenRejected("key_misuse")
    model = ALGORITHMS[algorithm]
    for key in usable[:MOST_TRIED]:
        try:
            if model.verify(signed, signature, key):
                return
        except (JoseError, ValueError):  # a signature of a form that the algorithm cannot even read
            continue
    raise TokenRejected("bad_signature")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member stands twice")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise NotFinite(text[:20])
    return value


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_constant, parse_float=_finite)
