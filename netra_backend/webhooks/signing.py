"""Signatures of the Standard Webhooks specification: HMAC-SHA256 over `id.timestamp.body`, version `v1`.

The signed body is the exact bytes on the wire. Every live key signs, so that a receiver may change its secret at any
time within a rotation's overlap. Verification is constant in time per signature and accepts a timestamp within five
minutes of now.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final

from ..errors import InvalidInput
from ..kernel.clock import SystemClock

PREFIX: Final = "whsec_"
TOLERANCE_S: Final = 300
_MAX_TIMESTAMP: Final = 20  # digits; Python refuses to read an integer of thousands
_MIN_KEY_BYTES, _MAX_KEY_BYTES = 24, 64  # the specification's bounds on a symmetric secret


class SignatureRejected(InvalidInput):
    """The request is not signed by this secret, or not recently."""

    code = "signature_rejected"
    status = 401


def encode_secret(key: bytes) -> str:
    """A key as its owner gets it: `whsec_` and base64."""
    return PREFIX + base64.b64encode(key).decode()


def decode_secret(secret: str) -> bytes:
    """The key of `whsec_...`; `InvalidInput` if it is not 24 to 64 bytes of base64."""
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not _MIN_KEY_BYTES <= len(key) <= _MAX_KEY_BYTES:
        raise InvalidInput("the secret is not whsec_ and 24 to 64 bytes of base64", fix="Copy the secret whole, or let Netra make one.")
    return key


def signature_header(keys: Iterable[bytes], message_id: str, timestamp_s: int, body: bytes) -> str:
    """The value of `webhook-signature`: one `v1,...` per live key."""
    signed = f"{message_id}.{timestamp_s}.".encode(errors="surrogatepass") + body
    return " ".join(["v1," + base64.b64encode(_mac(key, signed)).decode() for key in keys])


def _mac(key: bytes, signed: bytes) -> bytes:
    """HMAC-SHA256. A copy of a keyed state keeps the interpreter for small bodies, where `hmac.digest` gives it up."""
    state = _keyed(key).copy()
    state.update(signed)
    return state.digest()


@lru_cache(maxsize=1024)
def _keyed(key: bytes) -> hmac.HMAC:
    return hmac.new(key, digestmod=hashlib.sha256)


def verify(headers: Mapping[str, str], body: bytes, secret: str, *, now_s: float | None = None) -> Any:
    """The payload of a request that this secret signed, else `SignatureRejected`.

    `headers` may spell names in any case and use Svix's `svix-` prefix; `body` is the raw request body; `now_s` is for
    tests.
    """
    found = {name.lower().removeprefix("webhook-").removeprefix("svix-"): value for name, value in headers.items()}
    message_id, timestamp, signatures = found.get("id", ""), found.get("timestamp", ""), found.get("signature", "")
    if not message_id or not signatures or not timestamp.isascii() or not timestamp.isdigit() or len(timestamp) > _MAX_TIMESTAMP:
        raise SignatureRejected("webhook-id, webhook-timestamp or webhook-signature is missing or malformed")
    now = SystemClock().wall_us() / 1_000_000 if now_s is None else now_s
    if abs(now - int(timestamp)) > TOLERANCE_S:
        raise SignatureRejected("the timestamp is more than five minutes off", fix="Check this machine's clock.")
    expected = signature_header([decode_secret(secret)], message_id, int(timestamp), body)
    if not any(hmac.compare_digest(expected.encode(), given.encode(errors="replace")) for given in signatures.split()):
        raise SignatureRejected("no signature matches", fix="Verify the raw body, before any JSON parsing, with the endpoint's secret.")
    return json.loads(body)  # not orjson: it turns integers beyond 64 bits into floats
