"""Pages of the vault: connections, one of them with what became of it, and the providers that tokens come from. No token is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from fastapi import APIRouter

from ..oauth.service import OAuth
from .activity import activity
from .places import Listed, read, write
from .routing import page
from .visits import Visit

router: Final = APIRouter()
ROWS: Final = 50


@page(router, "connections", "connections.html")
async def connections(visit: Visit) -> dict[str, Any]:
    """A tenant's connections by name, its registrations, and how its providers are, as this process finds them."""
    after = visit.asked("after")
    start = str(read(after, "s")[0]) if after else ""
    with _vault(visit) as vault:
        found = await vault.connections(after=start, limit=ROWS + 1)
        clients = await vault.clients(limit=ROWS)
    shown = found[:ROWS]
    older = write((shown[-1]["name"],)) if len(found) > ROWS else None
    return {"listed": Listed(shown, older, None), "clients": clients, "breakers": _breakers(visit)}


@page(router, "connections/{connection}", "connection.html")
async def connection(visit: Visit) -> dict[str, Any]:
    """One connection."""
    with _vault(visit) as vault:
        found = await vault.status(None, visit.named("connection"))
    seen = await activity(visit.netra)
    return {"connection": found, "history": seen.history(visit.the_tenant.tenant, found["name"])}


def _breakers(visit: Visit) -> list[dict[str, str]]:
    """The tenant's token endpoints that this process has asked, and how their breakers stand."""
    found = visit.netra.oauth.refresher.breakers.of_tenant(visit.the_tenant.tenant)
    return [{"endpoint": endpoint, "operation": operation, "state": state} for endpoint, operation, state in found]


@contextmanager
def _vault(visit: Visit) -> Iterator[OAuth]:
    """The vault, in the name of who looks."""
    with visit.netra.scope(visit.the_tenant.tenant, visit.access.principal.actor, trace=visit.access.trace):
        yield visit.netra.oauth
