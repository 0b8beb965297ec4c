"""The route of traces: an operator sees all of one, a tenant's key what is its own."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from .access import no_tenant
from .routing import Caller, answer

router: Final = APIRouter(prefix="/api/v1", tags=["Traces"])


@router.get("/traces/{trace}", operation_id="netra.trace.get")
async def get_trace(
    caller: Caller, trace: str, tenant: Annotated[str | None, Query(max_length=256, description="Only what is this tenant's.")] = None
) -> Response:
    """One trace across all parts, from the store: its spans by time, with their parents, and links where one trace came of another."""
    if not caller.principal.is_operator:
        caller.require("tenant")
    whose = None if caller.principal.is_operator else caller.principal.tenant
    if tenant is not None:
        found = await caller.edge.directory.get(tenant)
        if found is None or whose not in {None, found.tenant}:
            raise no_tenant(tenant)
        whose = found.tenant
    return answer(await caller.edge.netra.traces.get(trace, tenant=whose))
