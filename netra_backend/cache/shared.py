"""What the cache needs of a tier that processes share; `valkey.py` is the one there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ..storage.database import Database
from .model import Look
from .node import Ticket


@dataclass(frozen=True, slots=True)
class Found:
    """A value in the shared tier: its bytes and codec, its position, all that it is made from, seconds until its TTL and its end."""

    data: bytes
    codec: str
    p: int
    deps: frozenset[str]
    fresh_s: float
    left_s: float


class Shared(Protocol):
    """A tier that may be slow, gone or older than it was: each answer is checked, and none of its errors is the caller's."""

    epoch: str

    async def read(self, name: str, ticket: Ticket) -> Found | None:
        """The value, if the tier holds one that no event it knows of has passed, and it knows all events up to the ticket's position."""
        ...

    async def fill(self, name: str, found: Found, ticket: Ticket) -> bool:
        """Keep a value, unless an event that the tier knows of has passed it."""
        ...

    async def follow(self, look: Look, database: Database) -> None:
        """Hand the tier the events of a look that it has not seen."""
        ...

    async def lead(self, name: str, limit_s: float) -> str | None:
        """Become the one process that loads this, for `limit_s`; a token, or None where another is at it."""
        ...

    async def keep_leads(self, leads: Mapping[str, str], limit_s: float) -> None:
        """Keep those of these leads, names and tokens, that nobody else has taken meanwhile for `limit_s` from now on."""
        ...

    async def yield_lead(self, name: str, token: str) -> None:
        """The load has ended."""
        ...

    async def close(self) -> None:
        """Disconnect."""
        ...
