"""Two ways to the same runs: the database, or a server's REST API. The commands know only the door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from ..options import Place
from ..rest import RestClient

Shape = dict[str, Any]
PAGE: Final = 250


class Door(Protocol):
    """What the commands ask. Every answer has the server's shape, whichever door it is."""

    async def runs(self, limit: int) -> list[Shape]:
        """The newest runs."""
        ...

    async def status(self, run: str) -> Shape:
        """One run and its figures."""
        ...

    async def failures(self, run: str, limit: int) -> list[Shape]:
        """Dead letters by partition and offset."""
        ...

    async def decide(self, run: str, event: str) -> Shape:
        """Pause, resume, cancel or rerun it; the run as it is then, or the child run."""
        ...


class LocalDoor:
    """The library's own calls."""

    def __init__(self, netra: Any, tenant: str) -> None:
        self._batch = netra.batch
        self._tenant = tenant

    async def runs(self, limit: int) -> list[Shape]:
        """See `Door.runs`."""
        found: list[Shape] = await self._batch.runs(tenant=self._tenant, limit=limit)
        return found

    async def status(self, run: str) -> Shape:
        """See `Door.status`."""
        found: Shape = await self._batch.status(run, tenant=self._tenant)
        return found

    async def failures(self, run: str, limit: int) -> list[Shape]:
        """See `Door.failures`."""
        found: list[Shape] = await self._batch.failures(run, tenant=self._tenant, limit=limit)
        return found

    async def decide(self, run: str, event: str) -> Shape:
        """See `Door.decide`."""
        made = await getattr(self._batch, event)(run, tenant=self._tenant)
        return await self.status(made if event == "rerun" else run)


class RemoteDoor:
    """A server's REST API."""

    def __init__(self, client: RestClient, tenant: str) -> None:
        self._client = client
        self._path = ("tenants", tenant, "batch", "runs")

    async def runs(self, limit: int) -> list[Shape]:
        """See `Door.runs`."""
        return await self._pages(self._path, limit)

    async def status(self, run: str) -> Shape:
        """See `Door.status`."""
        found: Shape = await self._client.get(*self._path, run)
        return found

    async def failures(self, run: str, limit: int) -> list[Shape]:
        """See `Door.failures`."""
        return await self._pages((*self._path, run, "failures"), limit)

    async def decide(self, run: str, event: str) -> Shape:
        """See `Door.decide`."""
        found: Shape = await self._client.post(*self._path, run, event, body={})
        return found

    async def _pages(self, path: tuple[str, ...], limit: int) -> list[Shape]:
        found: list[Shape] = []
        after: str | None = None
        while len(found) < limit:
            page = await self._client.get(*path, limit=min(PAGE, limit - len(found)), after=after)
            found += page["data"]
            after = page["after"]
            if page["done"]:
                break
        return found


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
        with netra.scope(scope.tenant, scope.actor):  # who decides stands in the audit trail
            yield LocalDoor(netra, scope.tenant)
