"""`netra audit`: look at the trail, prove an entry, export a log, judge an export, erase personal data."""

from __future__ import annotations

from ..options import group

app = group("Look at the audit trail, prove it, export it, judge an export.")

from . import files, look  # noqa: E402, F401  (each adds its commands to `app`)
