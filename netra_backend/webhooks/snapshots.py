"""Tenants' endpoints in memory, each set as of one version number.

A snapshot may be old: whoever writes by it checks its version in the transaction. Whoever only sends by it may be old
by `LOOK_EVERY_S` at most, which is how long a change made by another process takes to be seen here.

They are read in the system's scope, not in the tenant's: the sender asks for many tenants' in one round, and a tenant that has
long lists read must not make everybody wait until it is its turn to be read for (`storage/turns.py`).
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from typing import Final

from ..errors import NetraError
from ..kernel.scope import system_scope
from ..storage.database import Database
from ..storage.sealing import Sealer
from . import endpoints
from .model import Snapshot

LOOK_EVERY_S: Final = 0.5
MOST_TENANTS: Final = 10_000

_SCOPE: Final = system_scope("webhooks")
_log: Final = logging.getLogger("netra.webhooks")


class Snapshots:
    """A bounded cache of snapshots, the least recently used out first."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._known: OrderedDict[str, Snapshot] = OrderedDict()
        self._version = -1

    async def get(self, tenant: str) -> Snapshot:
        """The tenant's snapshot, from memory if it is there."""
        known = self._known.get(tenant)
        if known is None:
            return await self.refresh(tenant)
        self._known.move_to_end(tenant)
        return known

    async def current(self, tenant: str) -> Snapshot:
        """The tenant's snapshot, compared with the table just now: for decisions that are final."""
        known = await self.get(tenant)
        stale = await self._database.read(endpoints.changed, [(tenant, known.version)], scope=_SCOPE)
        return await self.refresh(tenant) if stale else known

    def peek(self, tenant: str) -> Snapshot | None:
        """The tenant's snapshot if it is in memory."""
        return self._known.get(tenant)

    async def refresh(self, tenant: str) -> Snapshot:
        """Read the tenant's endpoints anew."""
        fresh: Snapshot = await self._database.read(endpoints.snapshot, self._sealer, tenant, scope=_SCOPE)
        known = self._known.get(tenant)
        if known is not None and known.version > fresh.version:
            return known
        self._known[tenant] = fresh
        self._known.move_to_end(tenant)
        while len(self._known) > MOST_TENANTS:
            self._known.popitem(last=False)
        return fresh

    def forget(self, tenant: str) -> None:
        """Read this tenant's endpoints anew the next time."""
        self._known.pop(tenant, None)

    async def look(self) -> None:
        """Read anew what others have changed. A tenant that cannot be read keeps nobody else's change from being seen."""
        known = [(snapshot.tenant, snapshot.version) for snapshot in self._known.values()]
        version = self._database.version()
        if not known or version == self._version:
            return
        self._version = version
        for tenant in await self._database.read(endpoints.changed, known, scope=_SCOPE):
            try:
                await self.refresh(tenant)
            except NetraError as error:
                self.forget(tenant)  # whoever needs it next asks again, and gets the error
                _log.warning("the endpoints of %s could not be read anew: %s", tenant, error)
