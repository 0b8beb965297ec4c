"""`netra oauth client`: what a tenant is registered as at its providers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ...errors import UsageError
from ..options import TENANT, Place, command, group
from . import app
from .door import entered

clients = group("Register as a client of providers.")
app.add_typer(clients, name="client")

File = Annotated[Path, typer.Option("--file", metavar="F", help="JSON; - reads stdin.")]


@command(clients, "set", TENANT)
async def set_(place: Place, name: Annotated[str, typer.Argument(metavar="NAME", help="Its name here.")], file: File) -> None:
    """Register as a client of a provider, or change that.

    The file is a JSON object with `client_id`, `client_secrets` (one, or two while one is being changed), and `provider` (see `netra oauth
    providers`), `issuer` or `endpoints` (`token`, `authorize`, `revoke`, `device`); `parameters` of the provider; `auth`, `scopes`,
    `replay_window_s`, `default_lifetime_s` and `idle_s` if they differ; `assertion` (with `key`) for `connect --by jwt-bearer`.
    """
    registration = read_object(file)
    async with entered(place) as door:
        shown = await door.set_client(name, registration)
    place.output.document(shown, f"{name} is registered; secrets sealed: {shown['client_secrets']}")


@command(clients, "list", TENANT)
async def list_(place: Place) -> None:
    """List registrations, without their secrets."""
    async with entered(place) as door:
        found = await door.clients()
    columns = {"name": "name", "client_id": "client id", "issuer": "issuer", "auth": "auth", "client_secrets": "secrets"}
    place.output.rows("clients", found, columns, "There is no registration.")


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file, or on stdin."""
    import sys

    import orjson

    try:
        found = orjson.loads(sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes())
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}", fix="Give --file a file of JSON.") from error
    except ValueError as error:
        raise UsageError(f"{file} is not JSON", fix="Give --file a file with one JSON object.") from error
    if not isinstance(found, dict):
        raise UsageError(f"{file} holds no JSON object", fix="Give --file a file with one JSON object.")
    return found
