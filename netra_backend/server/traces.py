"""The route of traces: an operator sees all of one, a tenant's key what is its own."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response

from .routing import Caller, answer

router: Final = APIRouter(prefix="/api/v1", tags=["Traces"])


@router.get("/traces/{trace}", operation_id="netra.trace.get")
async def get_trace(caller: Caller, trace: str) -> Response:
    """One trace across all parts, from the store: its spans by time, with their parents, and links where one trace came of another."""
    if not caller.principal.is_operator:
        caller.require("tenant")
    tenant = None if caller.principal.is_operator else caller.principal.tenant
    return answer(await caller.edge.netra.traces.get(trace, tenant=tenant))
