"""Where a part gets another service's access token from without knowing the vault."""

from __future__ import annotations

from typing import Protocol

from ..errors import Unavailable
from .scope import Scope


class Bearers(Protocol):
    """Access tokens of a tenant's connections."""

    async def bearer(self, scope: Scope, connection: str) -> str:
        """An access token that lives. `Unavailable` where none can be had for the moment, else an error that says who must act."""
        ...


class NoBearers:
    """There is no vault here."""

    async def bearer(self, scope: Scope, connection: str) -> str:
        """Nothing."""
        raise Unavailable(f"this process has no vault to take {scope.tenant}'s token of {connection!r} from")
