"""What machines ask: health, readiness, metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter, Response

from ..errors import Unavailable
from .metrics import CONTENT_TYPE
from .routing import Caller, answer, no_content

if TYPE_CHECKING:
    from .edge import Edge

router: Final = APIRouter(tags=["Probes"])


@router.get("/api/v1/health", operation_id="v1.health.get", status_code=204)
@router.head("/api/v1/health", include_in_schema=False)
@router.get("/api/v1/health/ping", operation_id="v1.health.ping", status_code=204)
async def health() -> Response:
    """The process answers; whether it takes work is `/ready`'s to say."""
    return no_content()


@router.get("/ready", operation_id="netra.ready")
async def ready(caller: Caller) -> Response:
    """200 if this process takes messages now, else 503 with the reasons."""
    reasons = reasons_against(caller.edge)
    return answer({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


@router.get("/metrics", operation_id="netra.metrics")
async def metrics(caller: Caller) -> Response:
    """Prometheus' text format, for an operator's key; open under `--dev`."""
    return Response(await caller.edge.gauges.exposition(), media_type=CONTENT_TYPE)


def reasons_against(edge: Edge) -> list[dict[str, Any]]:
    """Why this process should get no requests just now: codes only, for anybody may ask."""
    reasons = []
    try:
        edge.netra.database.check_intake()
    except Unavailable as error:
        reasons.append({"code": error.code, "title": error.title})
    if edge.netra.membership.quiet:
        reasons.append({"code": "quiet", "title": "This node's beat could not be written in time; it starts nothing new."})
    if edge.draining:
        reasons.append({"code": "draining", "title": "This process is shutting down."})
    return reasons
