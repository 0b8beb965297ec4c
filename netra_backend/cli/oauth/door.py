"""Two ways to the same vault: the database, or a server's REST API. The commands know only the door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from ...errors import UsageError
from ..options import Place
from ..rest import RestClient

if TYPE_CHECKING:
    from ...oauth.service import OAuth

Shape = dict[str, Any]
PAGE: Final = 250


class Door(Protocol):
    """What the commands ask. Every answer has the server's shape, whichever door it is."""

    async def set_client(self, name: str, registration: Shape) -> Shape:
        """The registration as it is then, without its secrets."""
        ...

    async def clients(self) -> list[Shape]:
        """Registrations by name."""
        ...

    async def import_(self, name: str, client: str, tokens: Shape) -> Shape:
        """The connection that was made."""
        ...

    async def connect(self, name: str, client: str, redirect_uri: str | None) -> Shape:
        """Where to send the user, and until when."""
        ...

    async def link(self, name: str, client: str) -> Shape:
        """A link to send to the user, and until when it leads there."""
        ...

    async def device(self, name: str, client: str) -> Shape:
        """What the user types, and where."""
        ...

    async def own(self, name: str, client: str, grant: str) -> Shape:
        """The connection by the client's own right, or by what it signs."""
        ...

    async def status(self, name: str) -> Shape:
        """How a connection stands."""
        ...

    async def connections(self) -> list[Shape]:
        """Connections by name."""
        ...

    async def token(self, name: str, min_valid_s: float) -> Shape:
        """An access token that lives."""
        ...

    async def refresh(self, name: str) -> Shape:
        """The connection after a renewal."""
        ...

    async def revoke(self, name: str) -> Shape:
        """The connection after its end."""
        ...


class LocalDoor:
    """The library's own calls, in the entered tenant's name."""

    def __init__(self, vault: OAuth, note: Any) -> None:
        self._vault = vault
        self._note = note

    async def set_client(self, name: str, registration: Shape) -> Shape:
        """See `Door.set_client`."""
        return await self._vault.set_client(None, name, registration)

    async def clients(self) -> list[Shape]:
        """See `Door.clients`."""
        return await self._vault.clients(limit=10_000)

    async def import_(self, name: str, client: str, tokens: Shape) -> Shape:
        """See `Door.import_`."""
        return await self._vault.import_(None, name, client, tokens)

    async def connect(self, name: str, client: str, redirect_uri: str | None) -> Shape:
        """See `Door.connect`. Nobody listens here once the command has ended, so where it does not wait the address must be named."""
        if redirect_uri is None:
            fix = "Give --redirect-uri, ask a server with --server, or wait for the user (no --wait 0)."
            raise UsageError("no address is named that the user comes back to", fix=fix)
        return await self._vault.connect(None, name, client, redirect_uri)

    async def finish(self, answer: Mapping[str, str]) -> Shape:
        """A user came back with this."""
        return await self._vault.callback(answer)

    async def link(self, name: str, client: str) -> Shape:
        """See `Door.link`. Nobody listens here who could open it."""
        raise UsageError(f"a link for {name} needs a server that opens it", fix=f"Ask a server with --server to connect {client}.")

    async def device(self, name: str, client: str) -> Shape:
        """See `Door.device`."""
        return await self._vault.device(None, name, client)

    async def own(self, name: str, client: str, grant: str) -> Shape:
        """See `Door.own`."""
        return await self._vault.own(None, name, client, grant)

    async def status(self, name: str) -> Shape:
        """See `Door.status`. No worker runs here, so a device's code is asked for when somebody looks."""
        await self._vault.poll_devices()
        return await self._vault.status(None, name)

    async def connections(self) -> list[Shape]:
        """See `Door.connections`."""
        return await self._vault.connections(limit=10_000)

    async def token(self, name: str, min_valid_s: float) -> Shape:
        """See `Door.token`; the reading is audited as the server does it."""
        from ...oauth.service import token_of

        token = await self._vault.token(None, name, min_valid_s)
        await self._note(name, token.generation)
        return token_of(token)

    async def refresh(self, name: str) -> Shape:
        """See `Door.refresh`."""
        return await self._vault.renew(None, name)

    async def revoke(self, name: str) -> Shape:
        """See `Door.revoke`."""
        return await self._vault.revoke(None, name)


class RemoteDoor:
    """A server's REST API."""

    def __init__(self, client: RestClient, tenant: str) -> None:
        self._client = client
        self._path = ("tenants", tenant)

    async def set_client(self, name: str, registration: Shape) -> Shape:
        """See `Door.set_client`."""
        import orjson

        path = (*self._path, "oauth", "clients", name)
        found: Shape = await self._client.ask("PUT", path, body=orjson.dumps(registration))
        return found

    async def clients(self) -> list[Shape]:
        """See `Door.clients`."""
        return await self._pages("oauth", "clients")

    async def import_(self, name: str, client: str, tokens: Shape) -> Shape:
        """See `Door.import_`."""
        body = {"name": name, "client": client, "tokens": tokens}
        found: Shape = await self._client.post(*self._path, "connections", body=body)
        return found

    async def connect(self, name: str, client: str, redirect_uri: str | None) -> Shape:
        """See `Door.connect`."""
        back = {"redirect_uri": redirect_uri} if redirect_uri is not None else {}
        found: Shape = await self._client.post(*self._path, "connections", body={"name": name, "client": client, **back})
        return found

    async def link(self, name: str, client: str) -> Shape:
        """See `Door.link`."""
        return await self._made(name, client, "link")

    async def device(self, name: str, client: str) -> Shape:
        """See `Door.device`."""
        return await self._made(name, client, "device_code")

    async def own(self, name: str, client: str, grant: str) -> Shape:
        """See `Door.own`."""
        return await self._made(name, client, grant)

    async def _made(self, name: str, client: str, grant: str) -> Shape:
        found: Shape = await self._client.post(*self._path, "connections", body={"name": name, "client": client, "grant": grant})
        return found

    async def status(self, name: str) -> Shape:
        """See `Door.status`."""
        found: Shape = await self._client.get(*self._path, "connections", name)
        return found

    async def connections(self) -> list[Shape]:
        """See `Door.connections`."""
        return await self._pages("connections")

    async def token(self, name: str, min_valid_s: float) -> Shape:
        """See `Door.token`."""
        found: Shape = await self._client.get(*self._path, "connections", name, "token", min_valid_s=min_valid_s)
        return found

    async def refresh(self, name: str) -> Shape:
        """See `Door.refresh`."""
        found: Shape = await self._client.post(*self._path, "connections", name, "refresh", body={})
        return found

    async def revoke(self, name: str) -> Shape:
        """See `Door.revoke`."""
        found: Shape = await self._client.post(*self._path, "connections", name, "revoke", body={})
        return found

    async def _pages(self, *path: str) -> list[Shape]:
        found: list[Shape] = []
        after, done = "", False
        while not done:
            page = await self._client.get(*self._path, *path, limit=PAGE, after=after)
            found += page["data"]
            after, done = page["after"], page["done"]
        return found


@asynccontextmanager
async def entered(place: Place) -> AsyncIterator[Door]:
    """The door that the place names."""
    if place.server:
        from ..rest import connected

        async with connected(place) as client:
            yield RemoteDoor(client, place.the_tenant())
        return
    from ...oauth import store
    from ..session import opened, scope_of

    place.the_tenant()
    async with opened(place) as netra:
        scope = await scope_of(netra, place)

        async def note(name: str, generation: int) -> None:
            await netra.database.write(store.note_reading, name, generation, scope=scope)

        with netra.scope(scope.tenant, scope.actor):  # who decides stands in the audit trail
            yield LocalDoor(netra.oauth, note)
