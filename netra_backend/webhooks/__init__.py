"""Webhooks, delivered at least once: what `send` accepted is received, or recorded as dead, skipped or cancelled."""

from __future__ import annotations

from .inbox import Received
from .signing import PayloadUnreadable, SignatureMismatch, SignatureMissing, SignatureOutdated, SignatureRejected, verify

__all__ = [
    "PayloadUnreadable",
    "Received",
    "SignatureMismatch",
    "SignatureMissing",
    "SignatureOutdated",
    "SignatureRejected",
    "verify",
]
