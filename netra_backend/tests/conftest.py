"""Fixtures that every test may ask for."""

from __future__ import annotations

from .support.storage import database, engine

__all__ = ["database", "engine"]
