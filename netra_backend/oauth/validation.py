"""Claims of a signed token (RFC 7519), judged strictly.

- `exp` is required. `exp = now` is expired. The leeway, at most two minutes, is applied once, to each time by itself.
- A time is a finite JSON number, whole or not, at most 2^53; a text, a boolean or null is a bad claim, not a missing one.
- A token may not be valid for longer than `max_lifetime_s` from `iat`, or from now where it does not say when it was issued: a key that
  once leaked must not have made a token for ever.
- `iss` is compared as it stands, without any folding. `aud` must name us; `azp`, where it is there, must too (OpenID Connect
  Core 3.1.3.7), unless the caller names another party.
- `typ` may be JWT or at+jwt (RFC 9068): a logout token, a DPoP proof or a security event is signed by the same keys and is
  none of these (RFC 8725 section 3.11).

Order: signature, form, issuer, audience, times, nonce, the rest.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Collection, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from ..errors import InvalidInput
from ..kernel.clock import SystemClock
from .errors import TokenRejected
from .jws import NotFinite, encoded, opened, strict_json
from .keys import KeySource

LEEWAY_S: Final = 30
MOST_LEEWAY_S: Final = 120
MAX_LIFETIME_S: Final = 24 * 3600
MOST_AUDIENCES: Final = 100
_LARGEST: Final = 2**53
_REQUIRED: Final = ("iss", "aud", "exp")
_TYPES: Final = frozenset({"jwt", "application/jwt", "at+jwt", "application/at+jwt"})
_TEXTS: Final = ("sub", "jti", "azp", "nonce", "at_hash", "client_id")
_HASHES: Final = {"256": hashlib.sha256, "384": hashlib.sha384, "512": hashlib.sha512}


class Claims(Mapping[str, Any]):
    """The claims of a token that was accepted: a mapping, with the registered ones as typed members."""

    __slots__ = ("_raw", "audience", "expires_at", "header", "issued_at", "issuer", "subject")

    def __init__(self, raw: Mapping[str, Any], header: Mapping[str, Any], audience: tuple[str, ...]) -> None:
        self._raw = MappingProxyType(raw)
        self.header = header
        self.issuer: str = raw["iss"]
        self.audience = audience
        self.expires_at: float = raw["exp"]
        self.issued_at: float | None = raw.get("iat")
        self.subject: str | None = raw.get("sub")

    def __getitem__(self, name: str) -> Any:
        return self._raw[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)

    def __repr__(self) -> str:
        """Whose token and for how long; nothing of the person."""
        return f"Claims(issuer={self.issuer!r}, expires_at={self.expires_at!r}, names={sorted(self._raw)})"


def validate(
    token: str | bytes,
    *,
    issuer: str,
    audience: str | Collection[str],
    keys: KeySource = None,
    algorithms: Collection[str] = ("RS256",),
    leeway_s: float = LEEWAY_S,
    now: float | None = None,
    nonce: str | None = None,
    access_token: str | None = None,
    authorized_party: str | None = None,
    max_lifetime_s: float = MAX_LIFETIME_S,
    required: Collection[str] = (),
) -> Claims:
    """The claims of a token that `issuer` made for `audience` and that holds at `now` (epoch seconds); else `TokenRejected(code)`.

    `keys` are the issuer's (see `Keys.of`; no network is asked), `algorithms` those that it signs by. Several audiences are names of
    one and the same receiver. `nonce` is the one that a login was begun with, `access_token` what came beside an ID token and is
    held against `at_hash`, `authorized_party` who else than the audience `azp` may name, `required` further claims that must
    be there. Raises nothing but `TokenRejected`, whatever the token; `InvalidInput` where the call itself is wrong.
    """
    if not 0 <= leeway_s <= MOST_LEEWAY_S:
        raise InvalidInput(f"a leeway of {leeway_s} s", fix=f"Allow 0 to {MOST_LEEWAY_S} seconds.")
    names = frozenset([audience] if isinstance(audience, str) else audience)
    at = SystemClock().wall_us() / 1_000_000 if now is None else now
    if not math.isfinite(at) or math.isnan(max_lifetime_s):
        raise InvalidInput("`now` and `max_lifetime_s` are numbers", fix="Give seconds: every comparison with NaN would let a token pass.")
    header, payload = opened(token, keys, algorithms)
    _check_type(header)
    raw = _object(payload)
    _require(raw, ("iss", "aud", "exp", *required) if required else _REQUIRED)
    audiences = _check_parties(raw, issuer, names, authorized_party)
    check_times(raw, at, leeway_s, max_lifetime_s)
    _check_texts(raw)
    if nonce is not None and not _same(raw.get("nonce", ""), nonce):
        raise TokenRejected("wrong_nonce")
    if access_token is not None and "at_hash" in raw:
        _check_access_token(raw["at_hash"], access_token, header["alg"])
    return Claims(raw, header, audiences)


def _check_type(header: Mapping[str, Any]) -> None:
    if header.get("typ", "JWT").lower() not in _TYPES:
        raise TokenRejected("forbidden_header", "typ")
    if "cty" in header:
        raise TokenRejected("forbidden_header", "cty")


def _object(payload: bytes) -> dict[str, Any]:
    try:
        raw = strict_json(payload)
    except NotFinite:
        raise TokenRejected("bad_claim", "a number is not finite") from None
    except (ValueError, RecursionError):
        raise TokenRejected("malformed", "the claims are not JSON that every reader reads alike") from None
    if not isinstance(raw, dict):
        raise TokenRejected("malformed", "the claims are no object")
    return raw


def _require(raw: Mapping[str, Any], names: Collection[str]) -> None:
    for name in names:
        if name not in raw:
            raise TokenRejected("missing_claim", name)


def _check_parties(raw: Mapping[str, Any], issuer: str, names: frozenset[str], authorized_party: str | None) -> tuple[str, ...]:
    if not isinstance(raw["iss"], str):
        raise TokenRejected("bad_claim", "iss")
    if raw["iss"] != issuer:
        raise TokenRejected("wrong_issuer")
    audiences = check_audience(raw["aud"], names)
    if "azp" in raw:
        if not isinstance(raw["azp"], str):
            raise TokenRejected("bad_claim", "azp")
        if raw["azp"] != authorized_party and raw["azp"] not in names:
            raise TokenRejected("wrong_audience", "azp")
    return audiences


def check_audience(value: Any, names: frozenset[str]) -> tuple[str, ...]:
    """Whom the token is for; raises unless one of `names` is among them."""
    audiences = (value,) if isinstance(value, str) else _listed(value)
    if names.isdisjoint(audiences):
        raise TokenRejected("wrong_audience")
    return audiences


def _listed(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MOST_AUDIENCES or not all(isinstance(each, str) for each in value):
        raise TokenRejected("bad_claim", "aud")
    return tuple(value)


def check_times(raw: Mapping[str, Any], now: float, leeway_s: float, max_lifetime_s: float) -> None:
    """Raise unless `exp`, `nbf` and `iat`, where they are there, allow the token at `now`."""
    expires = _time(raw, "exp") if "exp" in raw else None
    begins = _time(raw, "nbf") if "nbf" in raw else None
    issued = _time(raw, "iat") if "iat" in raw else None
    if expires is not None and now >= expires + leeway_s:
        raise TokenRejected("expired")
    if begins is not None and begins > now + leeway_s:
        raise TokenRejected("not_yet_valid")
    if issued is not None and issued > now + leeway_s:
        raise TokenRejected("issued_in_future")
    if expires is not None and expires > (now + leeway_s if issued is None else issued) + max_lifetime_s:
        raise TokenRejected("lifetime_too_long")


def _time(raw: Mapping[str, Any], name: str) -> float:
    value = raw[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > _LARGEST:
        raise TokenRejected("bad_claim", name)
    return value


def _check_texts(raw: Mapping[str, Any]) -> None:
    for name in _TEXTS:
        if name in raw and not isinstance(raw[name], str):
            raise TokenRejected("bad_claim", name)


def _check_access_token(at_hash: str, access_token: str, algorithm: str) -> None:
    """OpenID Connect Core 3.1.3.6: the left half of the hash of the signature's own size."""
    digest = _HASHES.get(algorithm.removesuffix("K")[-3:], hashlib.sha512)(access_token.encode(errors="surrogatepass")).digest()
    if not _same(at_hash, encoded(digest[: len(digest) // 2]).decode()):
        raise TokenRejected("bad_claim", "at_hash")


def _same(left: str, right: str) -> bool:
    return hmac.compare_digest(left.encode(errors="surrogatepass"), right.encode(errors="surrogatepass"))
