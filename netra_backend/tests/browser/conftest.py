"""Fixtures of a server under test; with BROWSER=0 nothing here is collected, and the run's last line says so."""

from __future__ import annotations

import os

from ..support.server import app, netra, operator

__all__ = ["app", "netra", "operator"]

if os.environ.get("BROWSER") == "0":
    collect_ignore_glob = ["test_*.py"]
