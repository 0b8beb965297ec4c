"""`netra oauth`: registrations, connections and their tokens, over the database or over a server; and tokens of others."""

from __future__ import annotations

from ..options import group

app = group("Keep tokens of other services, and judge tokens of others.")

from . import clients, connections, providers, validate  # noqa: E402, F401  (each adds its commands to `app`)
