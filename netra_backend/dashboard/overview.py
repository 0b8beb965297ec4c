"""The first page: is everything well, and if not, where to look."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter

from ..batch import store as batches
from ..batch.service import status_of
from ..batch.states import FINISHED
from ..storage import nodes
from ..storage.transaction import Tx
from ..webhooks import endpoints, health
from ..webhooks.health import with_health
from . import charts, choosing, counting
from .activity import ALL, activity
from .routing import page
from .visits import Visit

router: Final = APIRouter()
RUNS: Final = 5
ENDPOINTS: Final = 250


@page(router, "overview", "overview.html", "webhooks:view", of_tenant=False)
async def overview(visit: Visit) -> dict[str, Any]:
    """Of one tenant, or of the installation."""
    found = await _of_installation(visit) if visit.tenant is None else await _of_tenant(visit)
    return {**found, **await throughput(visit, visit.tenant.tenant if visit.tenant is not None else ALL)}


async def throughput(visit: Visit, whose: str) -> dict[str, Any]:
    """What came in and what became of it in the last hour, drawn."""
    seen = await activity(visit.netra)
    steps = seen.steps()
    delivered, failed, dead, messages = (seen.series(whose, name) for name in ("delivered", "failed", "dead", "message"))
    words = f"The last hour: {sum(delivered):,} delivered, {sum(failed):,} attempts failed, {sum(dead):,} given up"
    kinds = [("delivered", "good", delivered), ("failed", "warn", failed), ("dead", "bad", dead)]
    items = seen.series(whose, "item"), seen.series(whose, "item_failed")
    return {
        "throughput": charts.stacked(words, steps, [charts.Series(*each) for each in kinds]),
        "throughput_words": words,
        "messages_hour": sum(messages),
        "delivered_hour": sum(delivered),
        "failed_hour": sum(failed) + sum(dead),
        "others": [
            ("webhooks.messages", "Messages accepted", sum(messages), charts.spark("Messages by the minute", messages)),
            ("batch.items", "Items of batches", sum(items[0]), charts.spark("Items by the minute", items[0], "good")),
            ("batch.items_failed", "Items failed", sum(items[1]), charts.spark("Failed items by the minute", items[1], "bad")),
            *(
                (name, label, sum(seen.series(whose, kind)), charts.spark(f"{label} by the minute", seen.series(whose, kind), style))
                for name, label, kind, style in (
                    ("oauth.refreshed", "Tokens renewed", "refreshed", "good"),
                    ("oauth.refresh_failed", "Renewals failed", "refresh_failed", "bad"),
                    ("cache.invalidations", "Cache invalidations", "invalidated", "busy"),
                )
            ),
        ],
    }


async def _of_installation(visit: Visit) -> dict[str, Any]:
    netra = visit.netra
    queue = await counting.queue_of_all(visit)
    return {
        "queue": queue,
        "unwell": await visit.read_all(health.counts),
        "vault": netra.oauth.refresher.breakers.states(),
        "active": await visit.read_all(batches.count_under_way),
        "tiers": netra.cache.tiers(),
        "nodes": await visit.read_all(nodes.living),
        "tenants": (await choosing.listed(visit)).rows[:8],
        "intake": counting.intake(visit),
    }


async def _of_tenant(visit: Visit) -> dict[str, Any]:
    found: dict[str, Any] = await visit.read(_look, visit.shows("tenant"))
    if visit.shows("tenant"):
        with visit.netra.scope(visit.the_tenant.tenant, visit.access.principal.actor):
            found["connections"] = await visit.netra.oauth.connections(limit=100)
    found["intake"] = counting.intake(visit)
    return found


async def _look(tx: Tx, whole: bool) -> dict[str, Any]:  # noqa: FBT001  (positional, through `read`)
    listed = await with_health(tx, await endpoints.page(tx, (-1, b""), ENDPOINTS))
    found: dict[str, Any] = {
        "queue": await counting.queue_of_tenant(tx),
        "endpoints": listed,
        "troubled": [each for each in listed if each[0].disabled or each[1].breaker.phase != "closed" or each[1].failing_since_us],
        "connections": [],
        "runs": [],
    }
    if whole:
        found["runs"] = [status_of(run, totals, tx.now_us) for run, totals in await batches.runs(tx, None, RUNS)]
        found["active"] = sum(run["state"] not in FINISHED for run in found["runs"])
    return found
