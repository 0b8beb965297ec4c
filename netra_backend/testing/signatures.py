"""A receiver's view of Standard Webhooks signatures, written from the specification and sharing no line with the sender.

What is signed is `{webhook-id}.{webhook-timestamp}.{body}`; the secret is base64 behind `whsec_`; `webhook-signature`
lists `v1,<base64 of HMAC-SHA256>` entries separated by spaces, of which one must match; the timestamp is seconds and
may be five minutes off (Standard Webhooks 1.0, "Signature scheme" and "Verifying the timestamp").
"""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

TOLERANCE_S: Final = 300


class SignatureCheck:
    """The secrets that a receiver holds; several while one is being rotated."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._keys = [base64.b64decode(secret.removeprefix("whsec_"), validate=True) for secret in secrets]

    def __call__(self, headers: Mapping[str, str], body: bytes, now_s: int) -> bool | None:
        """Whether a live secret signed exactly this; None where the receiver holds none and cannot say."""
        if not self._keys:
            return None
        message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
        if not message_id or not timestamp.isascii() or not timestamp.isdigit() or abs(now_s - int(timestamp)) > TOLERANCE_S:
            return False
        signed = f"{message_id}.{timestamp}.".encode() + body
        expected = [b"v1," + base64.b64encode(hmac.digest(key, signed, "sha256")) for key in self._keys]
        offered = headers.get("webhook-signature", "").encode().split(b" ")
        return any(hmac.compare_digest(one, other) for one in expected for other in offered)
