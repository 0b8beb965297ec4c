"""Fixtures that every test may ask for."""

from __future__ import annotations

from .support.postgres import postgres_database, postgres_server
from .support.storage import database, engine, pair, prepared, templates

__all__ = ["database", "engine", "pair", "postgres_database", "postgres_server", "prepared", "templates"]
