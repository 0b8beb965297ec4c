"""`netra debug`: look into one tenant's production for a while, and say why."""

from __future__ import annotations

from ..options import group

app = group("Look into one tenant's production for a while: logs, exchanges, variables.")

from . import sessions, watching  # noqa: E402, F401  (each adds its commands to `app`)
