"""Fixtures that every test may ask for."""

from __future__ import annotations

from .support.storage import database, engine, pair, prepared, templates

__all__ = ["database", "engine", "pair", "prepared", "templates"]
