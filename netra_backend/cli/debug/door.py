"""Two ways to the same sessions: the database, or a server's REST API. The commands know only the door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from ...kernel.clock import SystemClock
from ..options import Place
from ..rest import RestClient

Shape = dict[str, Any]
PAGE: Final = 250
LOOK_EVERY_S: Final = 0.25


class Door(Protocol):
    """What the commands ask. Every answer has the server's shape, whichever door it is."""

    async def start(self, asked: Mapping[str, Any]) -> Shape:
        """Start a session."""
        ...

    async def extend(self, session: str, ttl: str | None) -> Shape:
        """Let it last longer."""
        ...

    async def end(self, session: str) -> Shape:
        """End it."""
        ...

    async def sessions(self, *, ended: bool) -> list[Shape]:
        """The tenant's sessions."""
        ...

    async def export(self, session: str) -> Shape:
        """All of it."""
        ...

    def watch(self, session: str, after: int) -> AsyncIterator[list[Shape]]:
        """Its records as they come, until it is over."""
        ...


class LocalDoor:
    """The library's own calls."""

    def __init__(self, netra: Any, tenant: str) -> None:
        self._debug = netra.debug
        self._tenant = tenant

    async def start(self, asked: Mapping[str, Any]) -> Shape:
        """See `Door.start`."""
        made: Shape = await self._debug.start(tenant=self._tenant, **asked)
        return made

    async def extend(self, session: str, ttl: str | None) -> Shape:
        """See `Door.extend`."""
        changed: Shape = await self._debug.extend(session, ttl, tenant=self._tenant)
        return changed

    async def end(self, session: str) -> Shape:
        """See `Door.end`."""
        ended: Shape = await self._debug.end(session, tenant=self._tenant)
        return ended

    async def sessions(self, *, ended: bool) -> list[Shape]:
        """See `Door.sessions`."""
        found: list[Shape] = await self._debug.sessions(ended=ended, tenant=self._tenant)
        return found

    async def export(self, session: str) -> Shape:
        """See `Door.export`."""
        found: Shape = await self._debug.export(session, tenant=self._tenant)
        return found

    async def watch(self, session: str, after: int) -> AsyncIterator[list[Shape]]:
        """See `Door.watch`."""
        async for records in self._debug.watch(session, after=after, tenant=self._tenant):
            yield records


class RemoteDoor:
    """A server's REST API."""

    def __init__(self, client: RestClient, tenant: str) -> None:
        self._client = client
        self._path = ("tenants", tenant, "debug", "sessions")

    async def start(self, asked: Mapping[str, Any]) -> Shape:
        """See `Door.start`."""
        made: Shape = await self._client.post(*self._path, body=dict(asked))
        return made

    async def extend(self, session: str, ttl: str | None) -> Shape:
        """See `Door.extend`."""
        changed: Shape = await self._client.post(*self._path, session, "extend", body={"ttl": ttl})
        return changed

    async def end(self, session: str) -> Shape:
        """See `Door.end`."""
        await self._client.ask("DELETE", (*self._path, session))
        found: Shape = await self._client.get(*self._path, session)
        return found

    async def sessions(self, *, ended: bool) -> list[Shape]:
        """See `Door.sessions`."""
        page = await self._client.get(*self._path, ended=str(ended).lower())
        found: list[Shape] = page["data"]
        return found

    async def export(self, session: str) -> Shape:
        """See `Door.export`."""
        found: Shape = await self._client.get(*self._path, session, "export")
        return found

    async def watch(self, session: str, after: int) -> AsyncIterator[list[Shape]]:
        """See `Door.watch`; page by page, for the client reads whole answers."""
        clock = SystemClock()
        while True:
            page = await self._client.get(*self._path, session, "records", after=after, limit=PAGE)
            yield page["data"]
            after = page["after"]
            if page["done"]:
                return
            if not page["data"]:
                await clock.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def entered(place: Place) -> AsyncIterator[Door]:
    """The door that the place names."""
    if place.server:
        from ..rest import connected

        async with connected(place) as client:
            yield RemoteDoor(client, place.the_tenant())
        return
    from ..session import opened, scope_of

    place.the_tenant()
    async with opened(place) as netra:
        scope = await scope_of(netra, place)
        with netra.scope(scope.tenant, scope.actor):  # who looks stands in the tenant's audit trail
            yield LocalDoor(netra, scope.tenant)
