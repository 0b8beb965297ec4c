"""Routes of KPIs: what was promised, what became of it, why not. A tenant's figures are its own; the operator's are of all tenants."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response

from .routing import Caller, answer

router: Final = APIRouter(prefix="/api/v1", tags=["KPIs"])

Since = Annotated[str, Query(max_length=64, description="How long ago, `2h` for example, or a time (RFC 3339).")]
Month = Annotated[str, Query(max_length=7, description="Year and month in UTC, `2026-03`.")]


@router.get("/tenants/{tenant}/kpis", operation_id="netra.kpi.list")
async def list_kpis(caller: Caller, since: Since = "24h") -> Response:
    """Every KPI with the tenant's figures since then."""
    return answer({"data": await caller.edge.netra.kpi.list(since, tenant=caller.tenant.tenant)})


@router.get("/tenants/{tenant}/kpis/{kpi}", operation_id="netra.kpi.get")
async def get_kpi(caller: Caller, kpi: str, since: Since = "24h") -> Response:
    """One KPI with the tenant's figures since then, and why objects were missed."""
    return answer(await caller.edge.netra.kpi.impact(kpi, since, tenant=caller.tenant.tenant))


@router.get("/tenants/{tenant}/kpi-report", operation_id="netra.kpi.report")
async def report(caller: Caller, month: Month) -> Response:
    """A month of the tenant: promised, kept and missed, in objects and value."""
    return answer(await caller.edge.netra.kpi.report(caller.tenant.tenant, month))


@router.get("/kpis", operation_id="netra.kpi.list-installation")
async def list_all(caller: Caller, since: Since = "24h") -> Response:
    """Every KPI with the figures of all tenants since then."""
    return answer({"data": await caller.edge.netra.kpi.list(since)})


@router.get("/kpis/{kpi}", operation_id="netra.kpi.get-installation")
async def get_of_all(caller: Caller, kpi: str, since: Since = "24h") -> Response:
    """One KPI with the figures of all tenants since then, why objects were missed, how fast its error budget burns, which alerts fire."""
    return answer(await caller.edge.netra.kpi.impact(kpi, since))
