"""Webhooks, delivered at least once: what `send` accepted is received, or recorded as dead, skipped or cancelled."""

from __future__ import annotations

from .signing import SignatureRejected, verify

__all__ = ["SignatureRejected", "verify"]
