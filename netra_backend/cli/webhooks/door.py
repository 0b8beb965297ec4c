"""Two ways to the same messages: the database, or a server's REST API. The commands know only the door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from ...webhooks.keys import KeyKind
from ...webhooks.model import Ordering, TaskKind
from ..options import Place

Shape = dict[str, Any]
Status = Literal["success", "fail", "canceled"]
"""What became of deliveries, in Svix's words."""


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """An endpoint as the command line describes it."""

    url: str
    uid: str | None
    event_types: Sequence[str]
    secret: str | None
    key_kind: KeyKind
    ordering: Ordering
    filter: str | None
    schedule: str | None = None
    connection: str | None = None


@dataclass(frozen=True, slots=True)
class Over:
    """What a task walks over, or which dead letters are listed, as the command line describes it."""

    endpoint: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    event_types: Sequence[str] = ()
    status: Status | None = None
    why: str = ""


class Door(Protocol):
    """What the commands ask. Every answer has the server's shape, whichever door it is."""

    async def send(
        self, event_type: str, payload: str, event_id: str | None, ordering_key: str | None, schedule: str | None = None
    ) -> Shape:
        """Accept one message; `payload` is the exact JSON text that will be signed."""
        ...

    async def messages(self, limit: int) -> list[Shape]:
        """The newest messages."""
        ...

    async def show(self, message_id: str) -> Shape:
        """A message with `deliveries` and `attempts`."""
        ...

    async def dead(self, wanted: Over, limit: int) -> list[Shape]:
        """Dead letters by endpoint and message."""
        ...

    async def begin(self, kind: TaskKind, wanted: Over) -> Shape:
        """Begin a task; it is walked by a process with workers."""
        ...

    async def task(self, task: str) -> Shape:
        """How a task stands."""
        ...

    async def tasks(self, limit: int) -> list[Shape]:
        """Tasks, the newest first."""
        ...

    async def cancel_task(self, task: str, why: str) -> Shape:
        """End a running task."""
        ...

    async def cancel(self, message_id: str, endpoint: str | None, why: str) -> Shape:
        """Cancel what of a message is due: `cancelled` and `under_way`, endpoints."""
        ...

    async def expunge(self, message_id: str, attempt: str | None) -> None:
        """Erase a message's payload, or what was answered to one attempt."""
        ...

    async def resend(self, message_id: str, endpoint: str) -> None:
        """Make a delivery due now."""
        ...

    async def add_endpoint(self, wanted: NewEndpoint) -> Shape:
        """Add an endpoint; its `secret` stands in this one answer, or the public key of the pair that it signs by."""
        ...

    async def secret(self, endpoint: str) -> Shape:
        """`key`: what a receiver verifies the endpoint's newest signatures by."""
        ...

    async def rotate(self, endpoint: str, secret: str | None, kind: KeyKind | None, overlap_s: int) -> Shape:
        """Give an endpoint a new key; `key` is what a receiver verifies by."""
        ...

    async def portal(self, expiry_s: int, session: str | None, *, read_only: bool) -> Shape:
        """Make a portal link: `url`, and `token`, the key in it."""
        ...

    async def endpoints(self, limit: int) -> list[Shape]:
        """The tenant's endpoints, the oldest first."""
        ...


@asynccontextmanager
async def entered(place: Place) -> AsyncIterator[Door]:
    """The door that the place names."""
    if place.server:
        from ..rest import connected
        from .remote import RemoteDoor

        async with connected(place) as client:
            yield RemoteDoor(client, place.the_tenant())
        return
    from ..session import opened, scope_of
    from .local import LocalDoor

    place.the_tenant()
    async with opened(place) as netra:
        yield LocalDoor(netra, await scope_of(netra, place))
