"""`netra tenant`: make and list tenants (Svix: applications)."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from .options import ANYWHERE, Place, command, group
from .rest import connected
from .session import opened, operator

app = group("Make and list tenants.")


@command(app, "create", ANYWHERE)
async def create(
    place: Place,
    uid: Annotated[str, typer.Argument(metavar="TENANT", help="Its name in every later command.")],
    name: Annotated[str | None, typer.Option("--name", help="What people read; its name above, if left out.")] = None,
) -> None:
    """Make a tenant."""
    made = await _create(place, uid, name or uid)
    place.output.document(made, f"{made['uid']} is made ({made['id']})")


@command(app, "list", ANYWHERE)
async def list_(place: Place, limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most this many.")] = 1000) -> None:
    """List tenants, the oldest first."""
    columns = {"uid": "uid", "id": "id", "name": "name", "createdAt": "created"}
    place.output.rows("tenants", await _list(place, limit), columns, "There is no tenant yet.")


async def _create(place: Place, uid: str, name: str) -> dict[str, Any]:
    if place.server:
        async with connected(place) as client:
            made: dict[str, Any] = await client.post("app", body={"name": name, "uid": uid})
            return made
    from ..server.render import application_out
    from ..storage import tenants

    async def make(tx: Any) -> tenants.Tenant:
        return await tenants.create(tx, name, uid=uid)

    async with opened(place) as netra:
        return application_out(await netra.database.write(make, scope=operator()))


async def _list(place: Place, limit: int) -> list[dict[str, Any]]:
    if place.server:
        async with connected(place) as client:
            return await client.list("app", limit=limit)
    from ..server.render import application_out
    from ..storage import tenants

    async with opened(place) as netra:
        found = await netra.database.read(tenants.page, (-1, b""), limit, scope=operator())
    return [application_out(each) for each in found]
