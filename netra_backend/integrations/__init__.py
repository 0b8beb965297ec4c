"""Guests: what fits Netra to the frameworks around it. None is imported before it is asked for."""

from __future__ import annotations

from typing import Final

PREFIX: Final = "netra_"
"""Everything of Netra's in a database begins with it."""
