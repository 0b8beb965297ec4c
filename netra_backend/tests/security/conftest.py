"""Fixtures of a server under test."""

from __future__ import annotations

from ..support.server import app, netra, operator

__all__ = ["app", "netra", "operator"]
