"""`netra sso`: providers that people log in at, links of identities, and where new logins go; over the database or a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer

from ..kernel.scope import SYSTEM_TENANT
from .oauth.clients import File, read_object
from .options import TENANT, Place, command, group
from .output import NO, OK

app = group("Log in by identity providers, and by another one when the first is down.")
providers = group("Providers that people log in at.")
app.add_typer(providers, name="provider")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A provider's name.")]
Subject = Annotated[str, typer.Option("--subject", metavar="SUB", help="Who it is there: the `sub` of the issuer's tokens.")]


class _Local:
    """The library's own calls, in the entered tenant's name."""

    def __init__(self, sso: Any) -> None:
        self.set_provider = sso.set_provider
        self.link = sso.link
        self.status = sso.status
        self.pin = sso.pin


class _Remote:
    """A server's REST API, with the same calls."""

    def __init__(self, client: Any, tenant: str) -> None:
        self._client = client
        self._path = ("sso",) if tenant == SYSTEM_TENANT else ("tenants", tenant, "sso")

    async def set_provider(self, _: None, name: str, registration: dict[str, Any]) -> dict[str, Any]:
        import orjson

        found: dict[str, Any] = await self._client.ask("PUT", (*self._path, "providers", name), body=orjson.dumps(registration))
        return found

    async def link(self, _: None, provider: str, subject: str, backup: str, backup_subject: str) -> dict[str, Any]:
        body = {"provider": provider, "subject": subject, "backup": backup, "backup_subject": backup_subject}
        found: dict[str, Any] = await self._client.post(*self._path, "links", body=body)
        return found

    async def status(self, _: None) -> dict[str, Any]:
        found: dict[str, Any] = await self._client.get(*self._path, "status")
        return found

    async def pin(self, _: None, provider: str | None) -> dict[str, Any]:
        found: dict[str, Any] = await self._client.post(*self._path, "pin", body={"provider": provider})
        return found


@command(providers, "set", TENANT)
async def set_provider(place: Place, name: Name, file: File) -> None:
    """Add a provider, or change it.

    The file is a JSON object with `client` (the name of a registration with an issuer, or a whole one), `rank`, `roles` and what else
    docs/sso.md tells. The tenant `*` is the installation itself: at its providers operators log in.
    """
    registration = read_object(file)
    async with _entered(place) as door:
        found = await door.set_provider(None, name, registration)
    place.output.document(found, f"{found['name']} is {found['state']}, rank {found['rank']}, by {found['issuer']}")


@command(app, "status", TENANT)
async def status(place: Place) -> int:
    """Show where new logins go and how well each provider is; exit 1 if the one in use is down."""
    async with _entered(place) as door:
        found = await door.status(None)
    place.output.document(found, _words(found))
    states = {each["name"]: each["state"] for each in found["providers"]}
    return NO if states.get(found["active"]) == "down" else OK


@command(app, "pin", TENANT)
async def pin(
    place: Place, name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="A provider; left out, the pin is taken away.")] = None
) -> None:
    """Lead all new logins to one provider until the pin is taken away."""
    async with _entered(place) as door:
        found = await door.pin(None, name)
    place.output.document(found, _words(found))


@command(app, "link", TENANT)
async def link(
    place: Place,
    name: Name,
    subject: Subject,
    backup: Annotated[str, typer.Option("--backup", metavar="NAME", help="The backup provider.")],
    backup_subject: Annotated[str, typer.Option("--backup-subject", metavar="SUB", help="Who the same person is there.")],
) -> None:
    """Say beforehand who somebody is at a backup provider; nobody else gets in by it."""
    async with _entered(place) as door:
        found = await door.link(None, name, subject, backup, backup_subject)
    place.output.document(found, f"{found['backup_subject']} at {found['backup']} is {found['subject']} at {found['provider']}")


@asynccontextmanager
async def _entered(place: Place) -> AsyncIterator[_Local | _Remote]:
    place.the_tenant()
    if place.server:
        from .rest import connected

        async with connected(place) as client:
            yield _Remote(client, place.the_tenant())
        return
    from .session import opened, operator, scope_of

    async with opened(place) as netra:
        if place.the_tenant() == SYSTEM_TENANT:
            yield _Local(netra.sso.as_operator(operator().actor))
            return
        scope = await scope_of(netra, place)
        with netra.scope(scope.tenant, scope.actor):
            yield _Local(netra.sso)


def _words(found: dict[str, Any]) -> str:
    lines = [f"{each['name']:<16} {each['state']:<10} rank {each['rank']}, {each['issuer']}" for each in found["providers"]]
    pinned = ", pinned" if found["pinned"] else ""
    back = f", {found['share']} % to {found['returning']}" if found["returning"] else ""
    held = ", held: it has changed twice within the hour" if found["held"] else ""
    return "\n".join([f"new logins go to {found['active']}{pinned}{back}{held}", *lines])
