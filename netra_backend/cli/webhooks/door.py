"""Two ways to the same messages: the database, or a server's REST API. The commands know only the door."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ...webhooks.keys import KeyKind
from ...webhooks.model import Ordering
from ..options import Place

Shape = dict[str, Any]


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

    async def dead(self, limit: int) -> list[Shape]:
        """Dead letters by endpoint and message."""
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
