"""`netra cache`: invalidate, and look at a server's cache.

Counts, graph and probe are a process's own. Without `--server` they are those of this command's process, which keeps nothing.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .options import TENANT, Place, command, group
from .output import NO, OK
from .rest import connected
from .session import opened, scope_of

app = group("Invalidate what is cached, and look at a server's cache.")


@command(app, "stats", TENANT)
async def stats(place: Place) -> None:
    """Show hits, misses, fills and bytes of each tier, and how far the process has followed the log."""
    found = {**await _ask(place, "GET", "stats"), "position": await _ask(place, "GET", "position")}
    lines = [f"{part}: " + ", ".join(f"{name} {value}" for name, value in found[part].items()) for part in ("l1", "l2", "position")]
    place.output.document(found, "\n".join(lines))


@command(app, "graph", TENANT)
async def graph(place: Place) -> None:
    """Show what depends on what."""
    found = await _ask(place, "GET", "graph")
    lines = [f"{edge['from']} -> {edge['to']}" for edge in found["edges"]]
    place.output.document(found, "\n".join(lines) or "Nothing that is kept depends on anything.")


@command(app, "probe", TENANT)
async def probe(place: Place) -> int:
    """Load some of what is kept once more and compare; exit 1 if something is older than it may be."""
    found = await _ask(place, "POST", "probe")
    lines = [f"{each['key']} is stale, {each['age_s']:.1f} s old" for each in found["stale"]]
    place.output.document(found, "\n".join([f"{found['sampled']} sampled, {len(lines)} stale", *lines]))
    return NO if lines else OK


@command(app, "invalidate", TENANT)
async def invalidate(place: Place, deps: Annotated[list[str], typer.Argument(metavar="DEP...", help="Keys and dependencies.")]) -> None:
    """Invalidate these, and all that was made from them, in every process."""
    found = await _ask(place, "POST", "invalidate", {"deps": deps})
    number = "has no number yet" if found["seq"] is None else f"has the number {found['seq']}"
    place.output.document(found, f"invalidated; the event {number}")


async def _ask(place: Place, method: str, what: str, body: dict[str, Any] | None = None) -> Any:
    tenant = place.the_tenant()
    if place.server:
        async with connected(place) as client:
            path = ("tenants", tenant, "cache", what)
            return await (client.get(*path) if method == "GET" else client.post(*path, body=body or {}))
    async with opened(place) as netra:
        scope = await scope_of(netra, place)
        if what == "invalidate" and body is not None:
            return {"seq": await netra.cache.invalidate_now(scope, body["deps"])}
        if what == "position":
            return await netra.cache.position()
        place.output.note(
            "This is the cache of this command itself, which keeps nothing: ask a server for its own with --server and --key."
        )
        if what == "stats":
            return netra.cache.tiers()
        return await (netra.cache.graph if what == "graph" else netra.cache.probe)(tenant=scope.tenant)
