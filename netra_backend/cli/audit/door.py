"""Two ways to the same trail: the database, or a server's REST API. The commands know only the door.

The tenant `*` is the installation itself: operators' keys, event types.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol

from ...kernel.scope import SYSTEM_TENANT, Scope
from ..options import Place
from ..rest import PAGE, RestClient

if TYPE_CHECKING:
    from ...netra import Netra

Shape = dict[str, Any]


class Door(Protocol):
    """What the commands ask; entries have the server's shape, whichever door it is."""

    async def search(self, wanted: Shape, after: str | None, limit: int) -> list[Shape]:
        """Entries by id, behind `after`."""
        ...

    async def entries(self, after: int, limit: int) -> list[Shape]:
        """Entries by index, behind that one."""
        ...

    async def size(self) -> int:
        """How many entries are under the last signed checkpoint."""
        ...

    async def settle(self) -> None:
        """Return once what is written by now is under a signed checkpoint."""
        ...

    async def resource(self, path: str) -> bytes:
        """A file of the log."""
        ...

    async def proof(self, entry: str) -> str:
        """The receipt of an entry, by index or by id."""
        ...

    async def erase(self, index: int, reason: str) -> Shape:
        """The entry whose personal data is gone."""
        ...


class LocalDoor:
    """The library's own calls."""

    def __init__(self, netra: Netra, scope: Scope) -> None:
        self._audit = netra.audit
        self._scope = scope

    async def search(self, wanted: Shape, after: str | None, limit: int) -> list[Shape]:
        """See `Door.search`."""
        from ...kernel.ids import from_text
        from ...observability.audit.reading import EVER_US, Filter
        from ...server.audit import entry_out
        from ...server.render import microseconds

        given = {name: wanted[name] for name in ("actor", "action", "target", "trace_id")}
        since = 0 if wanted["since"] is None else microseconds(wanted["since"])
        until = EVER_US if wanted["until"] is None else microseconds(wanted["until"])
        start = from_text("aud", after) if after is not None else b""
        found = await self._audit.search(self._scope, Filter(**given, since_us=since, until_us=until), start, limit)
        return [entry_out(each) for each in found]

    async def entries(self, after: int, limit: int) -> list[Shape]:
        """See `Door.entries`. No worker runs here, so what was written meanwhile is sequenced when somebody looks."""
        from ...server.audit import entry_out

        await self._audit.sequencer.drain()
        return [entry_out(each) for each in await self._audit.entries(self._scope, after, limit)]

    async def size(self) -> int:
        """See `Door.size`."""
        return (await self._audit.log(self._scope)).signed_size

    async def settle(self) -> None:
        """See `Door.settle`."""
        await self._audit.settle(self._scope)

    async def resource(self, path: str) -> bytes:
        """See `Door.resource`."""
        return await self._audit.resource(self._scope, path)

    async def proof(self, entry: str) -> str:
        """See `Door.proof`."""
        return (await self._audit.prove(self._scope, entry)).text

    async def erase(self, index: int, reason: str) -> Shape:
        """See `Door.erase`."""
        from ...server.audit import entry_out

        return entry_out(await self._audit.erase(self._scope, index, reason))


class RemoteDoor:
    """A server's routes."""

    def __init__(self, client: RestClient, tenant: str) -> None:
        self._client = client
        self._path = ("audit",) if tenant == SYSTEM_TENANT else ("tenants", tenant, "audit")

    async def search(self, wanted: Shape, after: str | None, limit: int) -> list[Shape]:
        """See `Door.search`."""
        given = {name: value.isoformat() if name in {"since", "until"} else value for name, value in wanted.items() if value is not None}
        found: list[Shape] = []
        while len(found) < limit:
            page = await self._client.get(*self._path, limit=min(PAGE, limit - len(found)), after=after, **given)
            found += page["data"]
            after = page["after"]
            if page["done"]:
                break
        return found

    async def entries(self, after: int, limit: int) -> list[Shape]:
        """See `Door.entries`."""
        found: list[Shape] = (await self._client.get(*self._path, after=after, limit=min(limit, PAGE)))["data"]
        return found

    async def size(self) -> int:
        """See `Door.size`."""
        from ...observability.audit.note import read_note

        return read_note((await self.resource("checkpoint")).decode()).size

    async def settle(self) -> None:
        """See `Door.settle`: the server does it by itself, and what it has signed is what there is."""

    async def resource(self, path: str) -> bytes:
        """See `Door.resource`."""
        return await self._client.fetch(*self._path, *path.split("/"))

    async def proof(self, entry: str) -> str:
        """See `Door.proof`."""
        return (await self._client.fetch(*self._path, "proof", entry)).decode()

    async def erase(self, index: int, reason: str) -> Shape:
        """See `Door.erase`."""
        erased: Shape = await self._client.post(*self._path, "erase", body={"index": index, "reason": reason})
        return erased


@asynccontextmanager
async def door_of(place: Place) -> AsyncIterator[Door]:
    """The door that the place's options name."""
    from ..options import actor
    from ..rest import connected
    from ..session import opened, scope_of

    tenant = place.the_tenant()
    if place.server:
        async with connected(place) as client:
            yield RemoteDoor(client, tenant)
        return
    async with opened(place) as netra:
        yield LocalDoor(netra, Scope(SYSTEM_TENANT, actor()) if tenant == SYSTEM_TENANT else await scope_of(netra, place))
