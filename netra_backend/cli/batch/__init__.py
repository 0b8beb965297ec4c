"""`netra batch`: run jobs in this terminal, look at runs, and decide about them."""

from __future__ import annotations

from ..options import group

app = group("Run jobs, look at their runs, pause, resume and rerun them.")

from . import run, runs, schedules  # noqa: E402, F401  (each adds its commands to `app`)
