"""Two ways to the same runs: the database, or a server's REST API. The commands know only the door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import orjson

from ...kernel.clock import SystemClock
from ..options import Place
from ..rest import RestClient

Shape = dict[str, Any]
PAGE: Final = 250
LONGEST_LIST: Final = 10_000
LOOK_EVERY_S: Final = 0.25
FACTS: Final = ("state", "done", "failed", "working", "restarts")
"""A status that differs in one of these is told."""
ENDED: Final = frozenset({"completed", "completed_with_failures", "failed", "cancelled"})


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

    def follow(self, run: str) -> AsyncIterator[Shape]:
        """Its status at each change, until it has ended."""
        ...

    async def schedule(self, name: str, wanted: Shape) -> Shape:
        """Make or change a schedule; as it is then."""
        ...

    async def schedules(self) -> list[Shape]:
        """All schedules."""
        ...

    async def unschedule(self, name: str) -> None:
        """End a schedule."""
        ...


class LocalDoor:
    """The library's own calls."""

    def __init__(self, netra: Any, tenant: str) -> None:
        self._netra = netra
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

    async def schedule(self, name: str, wanted: Shape) -> Shape:
        """See `Door.schedule`."""

        async def make(tx: Any) -> Shape:
            made: Shape = await self._batch.schedule(tx, name, **wanted)
            return made

        made: Shape = await self._netra.write(make, tenant=self._tenant)
        return made

    async def schedules(self) -> list[Shape]:
        """See `Door.schedules`."""
        found: list[Shape] = []
        while page := await self._batch.schedules(tenant=self._tenant, after=found[-1]["name"] if found else "", limit=PAGE):
            found += page
        return found

    async def unschedule(self, name: str) -> None:
        """See `Door.unschedule`."""

        async def end(tx: Any) -> None:
            await self._batch.unschedule(tx, name)

        await self._netra.write(end, tenant=self._tenant)

    async def follow(self, run: str) -> AsyncIterator[Shape]:
        """See `Door.follow`: a database tells nobody, so it is asked."""
        clock, told = SystemClock(), None
        while True:
            status = await self.status(run)
            facts = [status[name] for name in FACTS]
            if facts != told:
                told = facts
                yield status
            if status["state"] in ENDED:
                return
            await clock.sleep(LOOK_EVERY_S)


class RemoteDoor:
    """A server's REST API."""

    def __init__(self, client: RestClient, tenant: str) -> None:
        self._client = client
        self._path = ("tenants", tenant, "batch", "runs")
        self._schedules = ("tenants", tenant, "batch", "schedules")

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

    async def schedule(self, name: str, wanted: Shape) -> Shape:
        """See `Door.schedule`."""
        found: Shape = await self._client.ask("PUT", (*self._schedules, name), body=orjson.dumps(wanted))
        return found

    async def schedules(self) -> list[Shape]:
        """See `Door.schedules`."""
        return await self._pages(self._schedules, LONGEST_LIST)

    async def unschedule(self, name: str) -> None:
        """See `Door.unschedule`."""
        await self._client.ask("DELETE", (*self._schedules, name))

    async def start(self, asked: Shape) -> Shape:
        """Start a run, or find the one that was started so before."""
        found: Shape = await self._client.post(*self._path, body=asked)
        return found

    async def follow(self, run: str) -> AsyncIterator[Shape]:
        """See `Door.follow`: the server's own stream, taken up again where a connection ends before the run does."""
        ended = False
        while not ended:
            async for event, status in self._client.follow(*self._path, run, "events"):
                ended = event == "finished"
                yield status
            if not ended:
                await SystemClock().sleep(LOOK_EVERY_S)

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
