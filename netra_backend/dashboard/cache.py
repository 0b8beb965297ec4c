"""The page of the cache: what each tier has counted, how far this process follows the log, and what is made from what."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter

from . import charts
from .activity import ALL, activity
from .routing import page
from .visits import Visit

router: Final = APIRouter()


@page(router, "cache", "cache.html")
async def cache(visit: Visit) -> dict[str, Any]:
    """Of the process that answers; each has its own."""
    own = visit.netra.cache
    graph = await own.graph(tenant=visit.the_tenant.tenant)
    nodes = [(node["name"], node["kept"]) for node in graph["nodes"]]
    edges = [(edge["from"], edge["to"]) for edge in graph["edges"]]
    words = f"What is made from what: {len(nodes)} names, {len(edges)} dependencies"
    seen = await activity(visit.netra)
    hits, misses = seen.series(ALL, "cache_hit"), seen.series(ALL, "cache_miss")
    ratios = [100 * hit / (hit + miss) if hit + miss else None for hit, miss in zip(hits, misses, strict=True)]
    return {
        "ratio": charts.curve("Hit ratio in memory by the minute, in percent", seen.steps(), ratios, 100, " %"),
        "has_ratio": any(each is not None for each in ratios),
        "tiers": own.tiers(),
        "position": await own.position(),
        "shared": own.shared is not None,
        "names": len(nodes),
        "edges": edges[: charts.MOST_NODES],
        "drawing": charts.graph(words, nodes, edges),
        "cut": len(nodes) > charts.MOST_NODES,
    }
