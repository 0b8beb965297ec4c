"""`netra key`: make, list and revoke API keys. A key is shown once, when it is made; nobody can read it again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import UsageError
from .options import TENANT, Place, command, group
from .rest import connected
from .session import opened, operator, scope_of

if TYPE_CHECKING:
    from ..kernel.scope import Scope
    from ..netra import Netra
    from ..storage.api_keys import ApiKey
    from ..storage.transaction import Tx

app = group("Make, list and revoke API keys.")
AsOperator = Annotated[bool, typer.Option("--operator", help="An operator's key, in place of a tenant's.")]


@command(app, "create", TENANT)
async def create(
    place: Place,
    as_operator: AsOperator = False,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", metavar="S", help="What it may do; may be repeated. At first: tenant.")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="What people read in lists and audit entries.")] = "command line",
) -> None:
    """Make a key for a tenant, or for an operator, and print it this once."""
    _check(place, as_operator=as_operator)
    if as_operator and scope:
        raise UsageError("an operator's key has every scope", fix="Leave --scope out.")
    scopes = () if as_operator else tuple(scope or ("tenant",))
    made = await (_create_there if place.server else _create_here)(place, name, scopes)
    place.output.document(made, made["key"])


@command(app, "list", TENANT)
async def list_(
    place: Place,
    as_operator: AsOperator = False,
    limit: Annotated[int, typer.Option("--limit", min=1, max=250, help="At most this many.")] = 250,
) -> None:
    """List a tenant's keys, or the operators'; never the keys themselves."""
    _check(place, as_operator=as_operator)
    if place.server:
        async with connected(place) as client:
            found = (await client.get(*_path(place), limit=limit))["data"]
    else:
        from ..storage import api_keys

        async with opened(place) as netra:
            owner = await _owner(netra, place)
            found = [_shape(each) for each in await netra.database.read(api_keys.page, owner.tenant, b"", limit, scope=owner)]
    columns = {"id": "id", "name": "name", "scopes": "scopes", "created_at": "made", "expires_at": "expires", "revoked_at": "revoked"}
    place.output.rows("keys", found, columns, "There is no key.")


@command(app, "revoke", TENANT)
async def revoke(
    place: Place, key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="key_...")], as_operator: AsOperator = False
) -> None:
    """End a key: servers refuse it within a second."""
    _check(place, as_operator=as_operator)
    if place.server:
        async with connected(place) as client:
            await client.post(*_path(place), key_id, "revoke", body={})
    else:
        from ..kernel.ids import from_text
        from ..storage import api_keys

        async with opened(place) as netra:
            owner = await _owner(netra, place)
            await netra.database.write(api_keys.revoke, owner.tenant, from_text("key", key_id), scope=owner)
    place.output.document({"id": key_id, "revoked": True}, f"{key_id} is revoked")


def _check(place: Place, *, as_operator: bool) -> None:
    if as_operator == bool(place.tenant):
        raise UsageError("whose key is not clear", fix="Give either --tenant T or --operator; NETRA_TENANT counts as --tenant.")


def _path(place: Place) -> tuple[str, ...]:
    return ("tenants", place.tenant, "keys") if place.tenant else ("keys",)


async def _owner(netra: Netra, place: Place) -> Scope:
    return await scope_of(netra, place) if place.tenant else operator()


async def _create_there(place: Place, name: str, scopes: tuple[str, ...]) -> dict[str, Any]:
    async with connected(place) as client:
        made: dict[str, Any] = await client.post(*_path(place), body={"name": name, "scopes": list(scopes) or None})
        return made


async def _create_here(place: Place, name: str, scopes: tuple[str, ...]) -> dict[str, Any]:
    from ..server.auth import derive_pepper
    from ..storage import api_keys

    async with opened(place) as netra:
        # In the installation's scope, whose the hashes' key is: a tenant's transaction may not read it on PostgreSQL.
        pepper = await netra.database.write(derive_pepper, netra.sealer, scope=operator())

        async def make(tx: Tx) -> tuple[ApiKey, str]:
            return await api_keys.create(tx, tenant=tx.tenant, pepper=pepper, name=name, scopes=scopes)

        key, secret = await netra.database.write(make, scope=await _owner(netra, place))
    return {**_shape(key), "key": secret}


def _shape(key: ApiKey) -> dict[str, Any]:
    """As the server answers it."""
    from ..kernel.ids import to_text
    from ..server.render import timestamp

    return {
        "id": to_text("key", key.id),
        "tenant": key.tenant,
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at": timestamp(key.created_us),
        "expires_at": None if key.expires_us is None else timestamp(key.expires_us),
        "revoked_at": None if key.revoked_us is None else timestamp(key.revoked_us),
    }
