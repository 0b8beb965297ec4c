"""`netra oauth`: judge tokens."""

from __future__ import annotations

from ..options import group

app = group("Judge tokens.")
app.callback()(lambda: None)  # without it a group of one command would be that command

from . import validate  # noqa: E402, F401  (each adds its commands to `app`)
