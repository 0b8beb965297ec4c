"""`netra webhooks tail`: the tenant's events as they are committed, from the log's `events` stream.

A reader that remembers the last `seq` misses nothing: `--after SEQ` goes on there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any, Final

import typer

from ..options import TENANT, Place, command
from . import app

LOOK_EVERY_S: Final = 0.05
ASK_EVERY_S: Final = 0.5

Look = Callable[[int | None], Awaitable[dict[str, Any]]]
"""`{"data", "after", "done"}`, as the server answers it."""


@command(app, "tail", TENANT)
async def tail(
    place: Place,
    after: Annotated[
        int | None, typer.Option("--after", metavar="SEQ", min=0, help="Go on after this number; from now on, if left out.")
    ] = None,
    count: Annotated[int, typer.Option("--count", min=0, help="End after this many; 0 goes on until interrupted.")] = 0,
) -> None:
    """Follow what happens: messages stored, deliveries made, failed and given up."""
    from ...kernel.clock import SystemClock

    tenant = place.the_tenant()
    async with (_there if place.server else _here)(place) as (look, pause_s):
        if after is None:
            after = (await look(None))["after"]
        place.output.note(f"Following {tenant} after {after}; Ctrl-C ends it.")
        shown = 0
        while True:
            seen = await look(after)
            for event in seen["data"]:
                place.output.event(event, _words(event))
                shown += 1
                if shown == count:
                    return
            after = seen["after"]
            if seen["done"]:
                await SystemClock().sleep(pause_s)


@asynccontextmanager
async def _here(place: Place) -> AsyncIterator[tuple[Look, float]]:
    """Over the database, which is looked into only when somebody has written."""
    from ...observability.events import following
    from ...server.events import event_out
    from ..session import opened, operator, scope_of

    async with opened(place) as netra:
        tenant = (await scope_of(netra, place)).tenant
        version = -1

        async def look(after: int | None) -> dict[str, Any]:
            nonlocal version
            now = netra.database.version()
            if now == version:
                return {"data": [], "after": after, "done": True}
            seen = await netra.database.read(following.look, tenant, after, scope=operator())
            version = now if seen.done and after is not None else version
            return {"data": [event_out(each) for each in seen.events], "after": seen.after, "done": seen.done}

        yield look, LOOK_EVERY_S


@asynccontextmanager
async def _there(place: Place) -> AsyncIterator[tuple[Look, float]]:
    """Through a server."""
    from ..rest import connected

    async with connected(place) as client:

        async def look(after: int | None) -> dict[str, Any]:
            found: dict[str, Any] = await client.get("tenants", place.the_tenant(), "events", after=after)
            return found

        yield look, ASK_EVERY_S


def _words(event: dict[str, Any]) -> str:
    where = f" to {event['endpoint']}, attempt {event['number']}" if "endpoint" in event and "number" in event else ""
    return f"{event['at']}  {event['type']}  {event.get('message', '')}{where}"
