"""`netra oauth import | list | token | refresh | revoke`: connections and their tokens."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..options import TENANT, Place, command
from ..output import iso
from . import app
from .clients import File, read_object
from .door import entered

Name = Annotated[str, typer.Argument(metavar="NAME", help="The connection's name.")]


@command(app, "import", TENANT)
async def import_(
    place: Place,
    client: Annotated[str, typer.Argument(metavar="CLIENT", help="The registration that the tokens were got with.")],
    file: File,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="The connection's name; the client's if left out.")] = None,
) -> None:
    """Take over tokens that were got elsewhere.

    The file is a JSON object with `access_token`, `refresh_token` and `expires_in`, as a token endpoint answers it. From then on nobody
    else may refresh that grant.
    """
    tokens = read_object(file)
    async with entered(place) as door:
        shown = await door.import_(name or client, client, tokens)
    place.output.document(shown, _words(shown))


@command(app, "list", TENANT)
async def list_(place: Place) -> None:
    """List connections and how they stand."""
    async with entered(place) as door:
        found = await door.connections()
    columns = {"name": "name", "client": "client", "state": "state", "generation": "generation", "reason": "reason"}
    place.output.rows("connections", found, columns, "There is no connection.")


@command(app, "token", TENANT)
async def token(
    place: Place,
    name: Name,
    min_valid: Annotated[float, typer.Option("--min-valid", metavar="S", help="Seconds that it must live at least.")] = 0,
) -> None:
    """Print an access token that lives, refreshed first if it does not. The reading is audited."""
    async with entered(place) as door:
        found = await door.token(name, min_valid)
    if found["stale"]:
        place.output.note("the token could not be renewed and is near its end")
    place.output.document(found, found["access_token"])


@command(app, "refresh", TENANT)
async def refresh(place: Place, name: Name) -> None:
    """Renew the token now."""
    async with entered(place) as door:
        found = await door.refresh(name)
    place.output.document(found, _words(found))


@command(app, "revoke", TENANT)
async def revoke(place: Place, name: Name) -> None:
    """Forget the tokens for good, and tell the provider."""
    async with entered(place) as door:
        found = await door.revoke(name)
    place.output.document(found, _words(found))


def _words(shown: dict[str, Any]) -> str:
    until = f", until {iso(int(shown['expires_at'] * 1_000_000))}" if shown["expires_at"] is not None else ""
    reason = f" ({shown['reason']})" if shown["reason"] else ""
    return f"{shown['name']} is {shown['state']}{reason}, generation {shown['generation']}{until}"
