"""The page of KPIs: what was promised, what became of it, in objects and money, and how fast the error budget burns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter

from . import charts
from .routing import page
from .visits import Visit

router: Final = APIRouter()
SPANS: Final = ("1h", "24h", "7d", "30d")


@page(router, "kpis", "kpis.html", of_tenant=False)
async def kpis(visit: Visit) -> dict[str, Any]:
    """Of a tenant, or of all."""
    asked = visit.asked("since")
    since = asked if asked in SPANS else "24h"
    tenant = visit.tenant.tenant if visit.tenant is not None else None
    found = await visit.netra.kpi.list(since, tenant=tenant)
    return {"kpis": [{"alerts": (), "burn": {}, "slo": None, **each, "bar": _bar(each)} for each in found], "since": since, "spans": SPANS}


def _bar(kpi: Mapping[str, Any]) -> Any:
    words = f"{kpi['good']:,} kept, {kpi['late']:,} late, {kpi['lost']:,} lost, {kpi['pending']:,} open of {kpi['total']:,} {kpi['unit']}"
    return charts.progress(words, [(kpi["good"], "good"), (kpi["late"], "warn"), (kpi["lost"], "bad")], kpi["total"])
