"""The life of a connection, as a table; and which columns are decisions."""

from __future__ import annotations

from typing import Final

from ..kernel.states import StateTable

CONNECTION: Final = StateTable(
    "connection",
    ("pending", "active", "at_risk", "reauth_required", "revoked", "failed"),
    {
        "grant": (("pending", "active", "at_risk", "reauth_required", "revoked", "failed"), "active"),
        "doubt": (("active",), "at_risk"),
        "reject": (("active", "at_risk"), "reauth_required"),
        "fail": (("pending",), "failed"),
        "revoke": (("pending", "active", "at_risk", "reauth_required", "failed"), "revoked"),
    },
)
"""`doubt`: a refresh token was sent and nobody knows what became of it. `reject`: the provider refused the current one, for good."""

REFRESHED: Final = ("active", "at_risk")
"""States in which a refresh token is sent."""

SUCCEEDED: Final = (*REFRESHED, "reauth_required")
"""States in which a successor of the current refresh token is taken: a late one brings back what was given up."""

DECISIONS: Final = {
    "netra_oauth_client": (
        "issuer",
        "token_endpoints",
        "authorize_endpoint",
        "revoke_endpoint",
        "client_id",
        "auth",
        "sealed",
        "scopes",
        "replay_window_s",
        "provider",
        "device_endpoint",
        "idle_s",
        "assertion",
        "assertion_key",
        "audit_id",
    ),
    "netra_connection": ("state", "deleted_us", "audit_id"),
}
"""Audited tables and the columns whose change needs an entry. A refresh changes tokens by itself, and is told by an event."""
