"""`netra webhooks`: send, look at, resend and receive messages, over the database or over a server."""

from __future__ import annotations

from ..options import group

app = group("Send, look at, resend and receive messages.")

from . import endpoint, listen, messages, operate, portal, tail  # noqa: E402, F401  (each adds its commands to `app`)
