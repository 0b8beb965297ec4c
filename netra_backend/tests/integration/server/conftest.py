"""Fixtures of a server under test."""

from __future__ import annotations

from ...support.server import app, every_server_engine, netra, operator

__all__ = ["app", "every_server_engine", "netra", "operator"]
