"""The health of one operation of an issuer, as a table; the roles of people; and which columns are decisions."""

from __future__ import annotations

from typing import Final

from ...kernel.states import StateTable

HEALTH: Final = StateTable(
    "provider",
    ("up", "degraded", "down", "returning"),
    {
        "doubt": (("up", "degraded"), "degraded"),
        "fail": (("up", "degraded", "returning"), "down"),
        "answer": (("down",), "returning"),
        "recover": (("degraded", "returning"), "up"),
    },
)
"""`doubt`: half of its traffic fails, or a probe did. `fail`: probes say so. `answer`: the first good probe. `recover`: enough of them."""

WORST: Final = ("down", "returning", "degraded", "up")
"""An issuer is as well as the worst of its operations."""

OPERATIONS: Final = ("metadata", "keys", "token")
"""What a login needs of an issuer beside the user's own browser."""

ROLES: Final = ("viewer", "admin")
"""Of a tenant's people, the lesser first. Whoever logs in at a provider of the installation itself is an operator."""

DECISIONS: Final = {
    "netra_sso_provider": ("client", "rank", "enabled", "options", "audit_id"),
    "netra_sso_identity": ("role", "linked", "audit_id"),
    "netra_sso_rotation": ("active", "pinned", "share", "audit_id"),
}
"""Audited tables and the columns whose change needs an entry. Health changes by itself, and is no decision."""


def least(*roles: str | None) -> str | None:
    """The least of some roles; none where one of them is."""
    if None in roles:
        return None
    return min((role for role in roles if role is not None), key=ROLES.index)
