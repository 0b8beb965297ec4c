"""The life of a debug session, as a table; and which columns are decisions."""

from __future__ import annotations

from typing import Final

from ...kernel.states import StateTable

SESSION: Final = StateTable(
    "debug session",
    ("active", "ended"),
    {
        "extend": (("active",), "active"),
        "end": (("active",), "ended"),
        "expire": (("active",), "ended"),
    },
)

DECISIONS: Final = {"netra_debug_session": ("state", "reason", "predicates", "captures", "logpoints", "expires_us", "audit_id")}
"""What somebody decided; the number of the last record and the counts are the session's own ledger."""
