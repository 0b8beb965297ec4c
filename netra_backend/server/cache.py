"""Routes of the cache: invalidate, and look at this process's counts, graph and position."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from .models import Name
from .routing import Caller, answer

router: Final = APIRouter(prefix="/api/v1", tags=["Cache"])


class InvalidateIn(BaseModel):
    """Names of keys and dependencies."""

    model_config = ConfigDict(extra="forbid")

    deps: Annotated[list[Name], Field(min_length=1, max_length=1000)]


@router.post("/tenants/{tenant}/cache/invalidate", operation_id="netra.cache.invalidate")
async def invalidate(caller: Caller, body: InvalidateIn) -> Response:
    """Invalidate these and all that was made from them. `seq` is the event's number, null where it has none yet: it holds all the same."""
    seq = await caller.edge.netra.cache.invalidate_now(caller.scope, body.deps)
    return answer({"seq": seq}, 200 if seq is not None else 202)


@router.get("/tenants/{tenant}/cache/stats", operation_id="netra.cache.stats")
async def stats(caller: Caller) -> Response:
    """What this process's cache has counted, for all tenants together, per tier."""
    caller.tenant  # noqa: B018  (404 where there is none)
    return answer(caller.edge.netra.cache.tiers())


@router.get("/tenants/{tenant}/cache/graph", operation_id="netra.cache.graph")
async def graph(caller: Caller) -> Response:
    """The tenant's part of this process's dependency graph, for drawing."""
    return answer(await caller.edge.netra.cache.graph(tenant=caller.tenant.tenant))


@router.get("/tenants/{tenant}/cache/position", operation_id="netra.cache.position")
async def position(caller: Caller) -> Response:
    """How far this process has followed the log."""
    caller.tenant  # noqa: B018  (404 where there is none)
    return answer(await caller.edge.netra.cache.position())


@router.post("/tenants/{tenant}/cache/probe", operation_id="netra.cache.probe")
async def probe(caller: Caller) -> Response:
    """Load some of what this process keeps for the tenant once more, and tell which of it is older than it may be."""
    return answer(await caller.edge.netra.cache.probe(tenant=caller.tenant.tenant))
