"""`netra webhooks endpoint add | list | secret | rotate`: enough to use webhooks from the command line alone."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ...webhooks.keys import KeyKind
from ...webhooks.model import Ordering
from ..options import TENANT, Place, command, group
from . import app
from .door import NewEndpoint, entered

endpoints = group("Add and list endpoints, show and rotate what they sign by.")
app.add_typer(endpoints, name="endpoint")

DAY_S: Final = 24 * 3600


@command(endpoints, "add", TENANT)
async def add(
    place: Place,
    url: Annotated[str, typer.Argument(metavar="URL", help="Where messages are sent.")],
    uid: Annotated[str | None, typer.Option("--uid", help="A name of your own for it.")] = None,
    event_type: Annotated[list[str] | None, typer.Option("--type", metavar="X", help="Only this event type; may be repeated.")] = None,
    secret: Annotated[str | None, typer.Option("--secret", metavar="WHSEC", help="whsec_... or whsk_...; made, if left out.")] = None,
    key_kind: Annotated[KeyKind, typer.Option("--key-kind", help="What it signs by, if no secret is given.")] = "hmac",
    ordering: Annotated[Ordering, typer.Option("--ordering", help="What comes in one line, if anything.")] = "none",
    filter_: Annotated[str | None, typer.Option("--filter", metavar="EXPR", help="Only messages such as data.amount > 9.")] = None,
    schedule: Annotated[str | None, typer.Option("--schedule", metavar="S", help="Its own retries: 5s,5m,1h, or a preset's name.")] = None,
    connection: Annotated[str | None, typer.Option("--connection", metavar="NAME", help="Send with this connection's token.")] = None,
) -> None:
    """Add an endpoint and print what a receiver verifies by: its secret, or its public key."""
    async with entered(place) as door:
        made = await door.add_endpoint(NewEndpoint(url, uid, event_type or (), secret, key_kind, ordering, filter_, schedule, connection))
    place.output.document(made, f"{made['id']} takes messages; it verifies them with {made['secret']}")


@command(endpoints, "secret", TENANT)
async def secret_(place: Place, endpoint: Annotated[str, typer.Argument(metavar="EP", help="Its id or uid.")]) -> None:
    """Print what a receiver verifies by; that it was read is written to the audit trail."""
    async with entered(place) as door:
        found = await door.secret(endpoint)
    place.output.document(found, found["key"])


@command(endpoints, "rotate", TENANT)
async def rotate(
    place: Place,
    endpoint: Annotated[str, typer.Argument(metavar="EP", help="Its id or uid.")],
    secret: Annotated[str | None, typer.Option("--secret", metavar="WHSEC", help="whsec_... or whsk_...; made, if left out.")] = None,
    key_kind: Annotated[KeyKind | None, typer.Option("--key-kind", help="Of a key that is made; as the former one, if left out.")] = None,
    overlap: Annotated[int, typer.Option("--overlap", min=0, max=7 * 24 * 3600, help="Seconds for which the former signs too.")] = DAY_S,
    revoke: Annotated[bool, typer.Option("--revoke", help="The former ones sign no more at all: somebody else knows one.")] = False,
) -> None:
    """Give an endpoint a new key and print what a receiver verifies by.

    The former key signs beside it for a day, or as you say.
    """
    async with entered(place) as door:
        made = await door.rotate(endpoint, secret, key_kind, 0 if revoke else overlap)
    place.output.document(made, f"{endpoint} signs by a new key; verify with {made['key']}")


@command(endpoints, "list", TENANT)
async def list_(place: Place, limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most this many.")] = 1000) -> None:
    """List endpoints, the oldest first."""
    async with entered(place) as door:
        found = await door.endpoints(limit)
    columns = {"id": "endpoint", "uid": "uid", "url": "URL", "disabled": "disabled", "breakerState": "breaker", "filterTypes": "types"}
    shown = [{**each, "breakerState": each["breaker"]["state"]} for each in found]
    place.output.rows("endpoints", shown, columns, "There is no endpoint; `netra webhooks endpoint add URL` adds one.")
