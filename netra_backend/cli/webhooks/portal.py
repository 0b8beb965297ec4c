"""`netra webhooks portal`: a link by which a tenant's people look at their webhooks in a browser."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ..options import TENANT, Place, command
from . import app
from .door import entered

WEEK_S: Final = 7 * 24 * 3600
HOUR_S: Final = 3600


@command(app, "portal", TENANT)
async def portal(
    place: Place,
    expiry: Annotated[int, typer.Option("--expiry", min=HOUR_S, max=WEEK_S, help="Seconds for which it opens.")] = WEEK_S,
    read_only: Annotated[bool, typer.Option("--read-only", help="Its key looks and changes nothing.")] = False,
    session: Annotated[str | None, typer.Option("--session", help="A name, by which its links can be ended together.")] = None,
) -> None:
    """Make a link into a tenant's own pages and print it, once."""
    async with entered(place) as door:
        made = await door.portal(expiry, session, read_only=read_only)
    place.output.document(made, made["url"])
