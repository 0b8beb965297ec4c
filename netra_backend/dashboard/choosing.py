"""The page on which an operator chooses whose data to look at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from ..storage import tenants
from ..storage.tenants import Tenant
from ..storage.transaction import Tx
from . import places
from .visits import Visit

TEMPLATE: Final = "choose.html"
_FIRST: Final = (-1, b"")
_LAST: Final = (2**62, b"\xff" * 16)


async def show(visit: Visit) -> dict[str, Any]:
    """The tenants, the newest first."""
    return {"listed": await listed(visit)}


async def listed(visit: Visit) -> places.Listed[Tenant]:
    """One page of the tenants."""

    async def fetch(at: Any, limit: int, back: bool) -> Sequence[Tenant]:  # noqa: FBT001  (as `places` asks)
        found: Sequence[Tenant] = await visit.read_all(_tenants, at, limit, not back)
        return found

    return await places.page(visit, "ib", fetch, lambda tenant: (tenant.created_us, tenant.id))


async def _tenants(tx: Tx, at: tuple[int, bytes] | None, limit: int, descending: bool) -> list[Tenant]:  # noqa: FBT001  (positional, through `read`)
    return await tenants.page(tx, at or (_LAST if descending else _FIRST), limit, back=descending)
