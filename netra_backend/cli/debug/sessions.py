"""Starting, extending, listing and ending sessions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from ...errors import InvalidInput
from ..options import TENANT, Place, command
from . import app
from .door import entered

SessionRef = Annotated[str, typer.Argument(metavar="SESSION", help="A debug session's id, dbg_...")]
Ttl = Annotated[str | None, typer.Option("--ttl", metavar="30m", help="For how long from now; 4h at most.")]


@command(app, "start", TENANT)
async def start(
    place: Place,
    reason: Annotated[str, typer.Option("--reason", metavar="WORDS", help="Why you look; it stands in the tenant's audit trail.")],
    ttl: Ttl = None,
    user: Annotated[str | None, typer.Option("--user", metavar="ACTOR", help="Only this actor's work.")] = None,
    trace: Annotated[str | None, typer.Option("--trace", metavar="ID", help="Only this trace.")] = None,
    route: Annotated[str | None, typer.Option("--route", metavar="GLOB", help="Only these requests: 'POST /orders/*', or a path.")] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", metavar="EP", help="Only deliveries to this endpoint.")] = None,
    provider: Annotated[
        str | None, typer.Option("--provider", metavar="NAME", help="Only what this OAuth client asks its provider.")
    ] = None,
    job: Annotated[str | None, typer.Option("--job", metavar="NAME", help="Only chunks of this batch job.")] = None,
    capture: Annotated[
        str | None, typer.Option("--capture", metavar="KINDS", help="Of log,span,http,snapshot; the first three if left out.")
    ] = None,
    logpoint: Annotated[
        list[str] | None, typer.Option("--logpoint", metavar="PLACE", help="module:function or file.py:LINE; show its variables there.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option("--where", metavar="EXPR", help="For each --logpoint, in order: only if this holds, `order_id == 42`."),
    ] = None,
) -> None:
    """Start a session. Every process listens within a second, and stops when its time is over."""
    asked: dict[str, Any] = {"reason": reason, "ttl": ttl, "user": user, "trace": trace, "route": route, "endpoint": endpoint}
    asked |= {"provider": provider, "job": job, "logpoints": _points(logpoint or [], where or [])}
    asked["capture"] = capture.split(",") if capture is not None else None
    async with entered(place) as door:
        made = await door.start(asked)
    place.output.document(made, f"{made['session']} listens to {made['tenant']} until {made['expires_at']}")
    place.output.note(f"Follow it: netra debug watch {made['session']} --tenant {made['tenant']}")


def _points(places: Sequence[str], conditions: Sequence[str]) -> list[dict[str, Any]]:
    """Each place with its condition; one condition alone is every place's."""
    if conditions and len(conditions) not in {1, len(places)}:
        raise InvalidInput(
            f"{len(conditions)} conditions for {len(places)} logpoints", fix="Give one --where for all, or one for each --logpoint."
        )
    chosen: Sequence[str | None] = [*conditions] * len(places) if len(conditions) == 1 else conditions or [None] * len(places)
    return [{"at": at, "where": condition} for at, condition in zip(places, chosen, strict=True)]


@command(app, "extend", TENANT)
async def extend(place: Place, session: SessionRef, ttl: Ttl = None) -> None:
    """Let a live session last longer."""
    async with entered(place) as door:
        changed = await door.extend(session, ttl)
    place.output.document(changed, f"{changed['session']} listens until {changed['expires_at']}")


@command(app, "list", TENANT)
async def list_(place: Place, ended: Annotated[bool, typer.Option("--all", help="Those that have ended too.")] = False) -> None:
    """List the tenant's live sessions, the newest first."""
    async with entered(place) as door:
        found = await door.sessions(ended=ended)
    columns = {"session": "session", "state": "state", "actor": "by", "reason": "reason", "expires_at": "until", "records": "records"}
    place.output.rows("sessions", found, columns, "Nobody looks into this tenant's production.")


@command(app, "end", TENANT)
async def end(place: Place, session: SessionRef) -> None:
    """End a session; what it has recorded can still be read."""
    async with entered(place) as door:
        ended = await door.end(session)
    place.output.document(ended, f"{ended['session']} has ended with {ended['records']} records, {ended['dropped']} dropped")
