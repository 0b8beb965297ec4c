"""A receiver's view of Standard Webhooks signatures, written from the specification and sharing no line with the sender.

What is signed is `{webhook-id}.{webhook-timestamp}.{body}`; a secret is base64 behind `whsec_`, a public key base64 behind
`whpk_`; `webhook-signature` lists `v1,<base64 of HMAC-SHA256>` and `v1a,<base64 of Ed25519>` entries separated by spaces,
of which one must match; the timestamp is seconds and may be five minutes off (Standard Webhooks 1.0, "Signature scheme"
and "Verifying the timestamp").
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

TOLERANCE_S: Final = 300


class SignatureCheck:
    """The secrets and public keys that a receiver holds; several while one is being rotated."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._checks = [_check(secret) for secret in secrets]

    def __call__(self, headers: Mapping[str, str], body: bytes, now_s: int) -> bool | None:
        """Whether a live key signed exactly this; None where the receiver holds none and cannot say."""
        if not self._checks:
            return None
        message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not message_id or not timestamp.isascii() or not timestamp.isdigit() or abs(now_s - int(timestamp)) > TOLERANCE_S:
            return False
        signed = f"{message_id}.{timestamp}.".encode() + body
        offered = headers.get("webhook-signature", "").encode().split(b" ")
        return any(check(signed, one) for check in self._checks for one in offered)


def _check(secret: str) -> Callable[[bytes, bytes], bool]:
    if secret.startswith("whpk_"):
        return _PublicKey(base64.b64decode(secret.removeprefix("whpk_"), validate=True))
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    return lambda signed, one: hmac.compare_digest(b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256")), one)


class _PublicKey:
    def __init__(self, public: bytes) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(public)

    def __call__(self, signed: bytes, one: bytes) -> bool:
        try:
            self._key.verify(base64.b64decode(one.removeprefix(b"v1a,"), validate=True), signed)
        except (InvalidSignature, binascii.Error):
            return False
        return one.startswith(b"v1a,")
