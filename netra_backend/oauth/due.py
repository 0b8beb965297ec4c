"""Whose turn it is to be renewed: of each tenant one connection in turn, its oldest first.

The oldest of all would be one tenant's where that has more than can be renewed in a second, or whose provider hangs: then nobody else's
would be renewed before they are asked for. So more are looked at than are taken, and one of each tenant is taken in turn. Where even those
that are looked at are not all that is due, a walk over the rest goes on with each look, and begins anew at its end: whoever is behind a
hundred thousand of another tenant's comes within fifty looks, and no look reads them all.

Rejected: a seek for each tenant that has connections (ten thousand seeks a second, in every process, for what is mostly nothing).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from ..kernel.scope import system_scope
from ..storage.database import Database
from . import store
from .model import Due

_SYSTEM: Final = system_scope("vault")
LOOKED_AT: Final = 20
"""So many times as many as are taken are looked at, and as many of the walk again."""


class DueConnections:
    """See the module's docstring; one for each process that renews."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._walked: Due | None = None

    async def take(self, limit: int) -> list[Due]:
        """Up to `limit` that are due by now."""
        most = LOOKED_AT * limit
        found: list[Due] = await self._database.read(store.due, None, most, scope=_SYSTEM)
        if len(found) < most:
            self._walked = None
            return fairly(found, limit)
        walked: list[Due] = await self._database.read(store.due, max(found[-1], self._walked or found[-1]), most, scope=_SYSTEM)
        self._walked = walked[-1] if len(walked) == most else None
        return fairly([*found, *walked], limit)


def fairly(found: Iterable[Due], limit: int) -> list[Due]:
    """Up to `limit` of these: the first of each tenant, then the second of each, and so on."""
    of_tenants: dict[str, deque[Due]] = {}
    for each in found:
        of_tenants.setdefault(each.tenant, deque()).append(each)
    taken: list[Due] = []
    turns = deque(of_tenants.values())
    while turns and len(taken) < limit:
        own = turns.popleft()
        taken.append(own.popleft())
        if own:
            turns.append(own)
    return taken
