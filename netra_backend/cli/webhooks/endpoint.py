"""`netra webhooks endpoint add | list`: enough to use webhooks from the command line alone."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import TENANT, Place, command, group
from . import app
from .door import entered

endpoints = group("Add and list endpoints.")
app.add_typer(endpoints, name="endpoint")


@command(endpoints, "add", TENANT)
async def add(
    place: Place,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where messages are sent.")],
    uid: Annotated[str | None, typer.Option("--uid", help="A name of your own for it.")] = None,
    event_type: Annotated[list[str] | None, typer.Option("--type", metavar="X", help="Only this event type; may be repeated.")] = None,
    secret: Annotated[str | None, typer.Option("--secret", metavar="WHSEC", help="whsec_...; made, if left out.")] = None,
) -> None:
    """Add an endpoint and print its signing secret."""
    async with entered(place) as door:
        made = await door.add_endpoint(url, uid, event_type or (), secret)
    place.output.document(made, f"{made['id']} takes messages; it verifies them with {made['secret']}")


@command(endpoints, "list", TENANT)
async def list_(place: Place, limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most this many.")] = 1000) -> None:
    """List endpoints, the oldest first."""
    async with entered(place) as door:
        found = await door.endpoints(limit)
    columns = {"id": "endpoint", "uid": "uid", "url": "URL", "disabled": "disabled", "breakerState": "breaker", "filterTypes": "types"}
    shown = [{**each, "breakerState": each["breaker"]["state"]} for each in found]
    place.output.rows("endpoints", shown, columns, "There is no endpoint; `netra webhooks endpoint add URL` adds one.")
