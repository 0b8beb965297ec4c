"""Signatures of the Standard Webhooks specification over `id.timestamp.body`, and the receiver's check of them.

The signed body is the exact bytes on the wire. Every live key signs, so that a receiver may change its secret at any
time within a rotation's overlap. A check compares in constant time, never takes a signature of one version for a key of
the other, and accepts a timestamp within five minutes of now.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from ..errors import InvalidInput
from ..kernel.clock import SystemClock
from .keys import PUBLIC_PREFIX, decode_public, decode_secret, is_signed, kind_of, public_of, sign

TOLERANCE_S: Final = 300
MOST_SIGNATURES: Final = 64
"""Entries of `webhook-signature` that are looked at: far more than keys overlap, and a bound on what a stranger can cost."""
LONGEST_ID: Final = 256
_SIGNATURE_BYTES: Final = 64
_MAX_TIMESTAMP: Final = 20  # digits; Python refuses to read an integer of thousands


class SignatureRejected(InvalidInput):
    """The request is not signed by this secret, or not recently."""

    code = "signature_rejected"
    status = 401


class SignatureMissing(SignatureRejected):
    """A header of the signature is missing or malformed."""

    code = "signature_missing"
    fix = "Hand on the request's own headers, webhook-* or svix-* as they came."


class SignatureOutdated(SignatureRejected):
    """The request was signed too long ago, or in the future."""

    code = "signature_outdated"


class SignatureMismatch(SignatureRejected):
    """None of the signatures was made by this secret over this body."""

    code = "signature_mismatch"


class PayloadUnreadable(InvalidInput):
    """The request is signed, and its body is not JSON."""

    code = "payload_unreadable"
    fix = "Ask the sender: it has signed what is no JSON."


def signature_header(keys: Iterable[bytes], message_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of `webhook-signature`: one `v1,...` or `v1a,...` per live key."""
    signed = _signed(message_id, str(timestamp_s), body)
    return " ".join([sign(key, signed) for key in keys])


def verify(headers: Mapping[str, str], body: bytes | str, secret: str | Sequence[str], *, now_s: float | None = None) -> Any:
    """The payload of a request that this secret signed.

    `headers` may spell names in any case and use Svix's `svix-` prefix; `body` is the raw request body. `secret` is
    `whsec_...`, or `whpk_...` of an endpoint that signs by Ed25519, or several of them while one is being changed. `now_s`
    is the time of the check in epoch seconds, now if left out. Raises `SignatureMissing`, `SignatureOutdated` or
    `SignatureMismatch`, each a `SignatureRejected`; `PayloadUnreadable` where a signed body is not JSON; `InvalidInput` where a
    secret is none.
    """
    _, payload = verified(headers, body, secret, SystemClock().wall_us() / 1_000_000 if now_s is None else now_s)
    return payload


def verified(headers: Mapping[str, str], body: bytes | str, secret: str | Sequence[str], now_s: float) -> tuple[str, Any]:
    """The message's id and its payload; see `verify`."""
    raw = body.encode() if isinstance(body, str) else body
    secrets = [secret] if isinstance(secret, str) else list(secret)
    if not secrets:
        raise InvalidInput("no secret was given", fix="Give the endpoint's secret, whsec_... or whpk_....")
    checks = [_check_of(each) for each in secrets]
    message_id, timestamp, signatures = _read(headers)
    if abs(now_s - int(timestamp)) > TOLERANCE_S:
        raise SignatureOutdated("the timestamp is more than five minutes off", fix="Check this machine's clock.")
    signed = _signed(message_id, timestamp, raw)
    offered = signatures.split()[:MOST_SIGNATURES]
    if not any(_matches(key, public, signed, offered) for key, public in checks):
        raise SignatureMismatch("no signature matches", fix="Verify the raw body, before any JSON parsing, with the endpoint's secret.")
    try:
        return message_id, json.loads(raw)  # not orjson: it turns integers beyond 64 bits into floats
    except (ValueError, RecursionError):
        raise PayloadUnreadable("the signed body is not JSON") from None


def _read(headers: Mapping[str, str]) -> tuple[str, str, str]:
    found = {name.lower().removeprefix("webhook-").removeprefix("svix-"): value for name, value in headers.items()}
    message_id, timestamp, signatures = found.get("id", ""), found.get("timestamp", ""), found.get("signature", "")
    named = 1 <= len(message_id) <= LONGEST_ID and message_id.isprintable()
    if not named or not signatures or not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > _MAX_TIMESTAMP:
        raise SignatureMissing("webhook-id, webhook-timestamp or webhook-signature is missing or malformed")
    return message_id, timestamp, signatures


def _check_of(secret: str) -> tuple[bytes, bytes]:
    """The shared key, or the public key; the other one is empty."""
    if secret.startswith(PUBLIC_PREFIX):
        return b"", decode_public(secret)
    key = decode_secret(secret)
    return (b"", public_of(key)) if kind_of(key) == "ed25519" else (key, b"")


def _matches(key: bytes, public: bytes, signed: bytes, offered: Sequence[str]) -> bool:
    """Whether one of the signatures of the key's own version is the key's."""
    if public:
        return any(is_signed(public, signed, _signature(one)) for one in offered if one.startswith("v1a,"))
    expected = sign(key, signed).encode()
    return any(hmac.compare_digest(expected, one.encode(errors="replace")) for one in offered)


def _signature(entry: str) -> bytes:
    try:
        found = base64.b64decode(entry.removeprefix("v1a,"), validate=True)
    except (binascii.Error, ValueError):
        return b""
    return found if len(found) == _SIGNATURE_BYTES else b""


def _signed(message_id: str, timestamp: str, body: bytes) -> bytes:
    return f"{message_id}.{timestamp}.".encode(errors="surrogatepass") + body
