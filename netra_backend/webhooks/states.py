"""The life of a delivery (one message to one endpoint), as a table; and which columns are decisions."""

from __future__ import annotations

from typing import Final

from ..kernel.states import StateTable

DELIVERY: Final = StateTable(
    "delivery",
    ("due", "leased", "delivered", "skipped", "dead", "cancelled"),
    {
        "claim": (("due",), "leased"),
        "release": (("leased",), "due"),
        "acknowledge": (("leased",), "delivered"),
        "retry": (("leased",), "due"),
        "dead_letter": (("leased", "due"), "dead"),
        "skip": (("leased", "due"), "skipped"),
        "cancel": (("leased", "due"), "cancelled"),
        "resend": (("delivered", "skipped", "dead", "cancelled", "due"), "due"),
    },
)
"""`resend` of one that is leased is refused: an attempt is on its way already."""

BREAKER: Final = StateTable(
    "breaker",
    ("closed", "open", "half_open"),
    {
        "open": (("closed", "half_open"), "open"),
        "probe": (("open", "half_open"), "half_open"),
        "give_up": (("half_open",), "open"),
        "close": (("half_open",), "closed"),
        "reset": (("open", "half_open", "closed"), "closed"),
    },
)
"""An endpoint's breaker (`resilience.circuit_breaker` says when). `probe` from `half_open` replaces a prober whose time is
over; `reset` is somebody's change of the endpoint."""

TASK: Final = StateTable(
    "task",
    ("running", "finished", "cancelled", "failed"),
    {
        "finish": (("running",), "finished"),
        "cancel": (("running",), "cancelled"),
        "fail": (("running",), "failed"),
    },
)
"""A walk over many messages (`tasks.py`); what it has changed when it is cancelled or fails stays changed."""

DECISIONS: Final = {
    "netra_endpoint": (
        "uid",
        "url",
        "description",
        "event_types",
        "channels",
        "disabled",
        "rate_limit",
        "metadata",
        "headers",
        "ordering",
        "filter",
        "schedule",
        "auth",
        "deleted_us",
    ),
    "netra_endpoint_secret": ("endpoint_id", "sealed", "expires_us", "deleted_us"),
    "netra_event_type": ("description", "archived", "deprecated", "group_name", "schemas", "schedule", "deleted_us"),
    "netra_delivery": ("audit_id",),
    "netra_webhook_task": ("state", "audit_id"),
}
"""Audited tables and the columns whose change needs an entry. A delivery's states are its own ledger, save where
somebody decided: then its `audit_id` is set, and only with an entry."""
