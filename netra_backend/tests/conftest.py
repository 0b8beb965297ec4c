"""Fixtures that every test may ask for."""

from __future__ import annotations

import os
import sys

import pytest

from .support.postgres import postgres_database, postgres_server
from .support.storage import database, engine, pair, prepared, templates

__all__ = ["database", "engine", "pair", "postgres_database", "postgres_server", "prepared", "templates"]


def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line of a run without the browser says so."""
    if os.environ.get("BROWSER") == "0" and not hasattr(config, "workerinput"):
        sys.stdout.write("BROWSER=0: the browser tests did not run.\n")
