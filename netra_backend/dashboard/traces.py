"""The pages of traces: find one by its id, and see what it went through, whatever parts and processes those were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import APIRouter

from . import charts
from .routing import page
from .visits import Visit

router: Final = APIRouter()
BAD: Final = frozenset({"error", "failed", "dead", "refused"})
STYLES: Final = {"webhooks": "busy", "oauth": "warn", "batch": "good", "cache": "accent", "audit": "wait"}


@page(router, "traces", "traces.html", of_tenant=False)
async def traces(visit: Visit) -> dict[str, Any]:
    """Where a trace is asked for; with `?id=` the trace."""
    asked = visit.asked("id").strip()
    return {"asked": asked, **(await _found(visit, asked) if asked else {"spans": None})}


@page(router, "traces/{trace}", "traces.html", of_tenant=False)
async def trace(visit: Visit) -> dict[str, Any]:
    """One trace."""
    return {"asked": visit.named("trace"), **await _found(visit, visit.named("trace"))}


async def _found(visit: Visit, trace_id: str) -> dict[str, Any]:
    tenant = visit.tenant.tenant if visit.tenant is not None else None
    found = await visit.netra.traces.get(trace_id, tenant=tenant)
    spans = found["spans"]
    depths = _depths(spans)
    bars = [
        charts.Bar(f"{span['part']}: {span['name']}", depths[span["id"]], span["start_us"], span["end_us"], _style(span)) for span in spans
    ]
    took_s = (max(span["end_us"] for span in spans) - min(span["start_us"] for span in spans)) / 1_000_000
    words = f"{len(spans)} spans of the parts {', '.join(sorted({span['part'] for span in spans}))}"
    return {"spans": spans, "drawing": charts.waterfall(words, bars), "words": words, "took_s": took_s}


def _bar(span: Mapping[str, Any], depth: int) -> charts.Bar:
    return charts.Bar(f"{span['part']}: {span['name']}", depth, span["start_us"], span["end_us"], _style(span))


def _style(span: Mapping[str, Any]) -> str:
    return "bad" if span["status"] in BAD else STYLES.get(span["part"], "busy")


def _depths(spans: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many of a span's ancestors are in the trace; one that names itself ends the count."""
    parents = {span["id"]: span["parent"] for span in spans}
    depths: dict[str, int] = {}
    for each, parent in parents.items():
        seen, at = set[str](), parent
        while at in parents and at not in seen:
            seen.add(at)
            at = parents[at]
        depths[each] = len(seen)
    return depths
