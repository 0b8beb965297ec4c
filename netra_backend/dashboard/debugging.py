"""The pages of debug sessions: what is listened to, and one session's records as they come. Operators only, as in REST.

Every view is an entry of the tenant's trail, so these pages are not sent again by themselves: the records are followed through the
REST API's own stream, which writes one entry for a while of looking.
"""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter

from ..kernel.scope import Scope
from .routing import page
from .visits import Visit

router: Final = APIRouter()
SESSIONS: Final = 50
LAST_RECORDS: Final = 100


@page(router, "debug", "debug.html", "operator", live=False)
async def debug(visit: Visit) -> dict[str, Any]:
    """A tenant's sessions, live and ended, and the form that starts one."""
    with visit.netra.scope(visit.the_tenant.tenant, visit.access.principal.actor, trace=visit.access.trace):
        return {"sessions": await visit.netra.debug.sessions(limit=SESSIONS, ended=True)}


@page(router, "debug/{session}", "debug_session.html", "operator", live=False)
async def session(visit: Visit) -> dict[str, Any]:
    """One session and what it has recorded."""
    scope = Scope(visit.the_tenant.tenant, visit.access.principal.actor, visit.access.trace)
    with visit.netra.scope(scope.tenant, scope.actor, trace=scope.trace):
        found = await visit.netra.debug.get(visit.named("session"))
    return {"session": found, "records": (await visit.netra.debug.page_in(scope, visit.named("session"), 0, LAST_RECORDS))["data"]}
