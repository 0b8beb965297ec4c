"""`netra trace ID`: one trace across all parts, as a tree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from .options import TENANT, Place, command, single
from .rest import connected
from .session import opened, scope_of

app = single()


@command(app, None, TENANT)
async def trace(place: Place, trace_id: Annotated[str, typer.Argument(metavar="ID", help="The trace's 32 hexadecimal digits.")]) -> None:
    """Show one trace across all parts: requests, messages, attempts, runs, invalidations, refreshes, audit entries, by cause and time.

    With --tenant only what is that tenant's. Exit 1 if there is no such trace.
    """
    if place.server:
        async with connected(place) as client:
            found = await client.get("traces", trace_id, tenant=place.tenant or None)
    else:
        async with opened(place) as netra:
            tenant = (await scope_of(netra, place)).tenant if place.tenant else None
            found = await netra.traces.get(trace_id, tenant=tenant)
    place.output.document(found, "\n".join([f"trace {found['trace_id']}", *_lines(found["spans"])]))


def _lines(spans: list[Mapping[str, Any]]) -> Iterator[str]:
    """The spans as a tree: each under its parent, the earlier first; one whose parent is elsewhere begins a tree."""
    known = {span["id"] for span in spans}
    begins = spans[0]["start_us"] if spans else 0
    children: dict[str | None, list[Mapping[str, Any]]] = {}
    for span in spans:
        parent = span["parent"] if span["parent"] in known and span["parent"] != span["id"] else None
        children.setdefault(parent, []).append(span)
    waiting = [(span, 1) for span in reversed(children.get(None, []))]
    seen: set[str] = set()
    while waiting:
        span, depth = waiting.pop()
        if span["id"] in seen:
            continue
        seen.add(span["id"])
        at_ms, took_ms = (span["start_us"] - begins) / 1000, (span["end_us"] - span["start_us"]) / 1000
        linked = f" (linked to {span['links'][0]['trace_id']})" if span["links"] else ""
        failed = " FAILED" if span["status"] != "ok" else ""
        yield f"{'  ' * depth}{span['part']}: {span['name']}{failed}  +{at_ms:.1f} ms, {took_ms:.1f} ms  {span['ref']}{linked}"
        waiting += [(child, depth + 1) for child in reversed(children.get(span["id"], []))]
