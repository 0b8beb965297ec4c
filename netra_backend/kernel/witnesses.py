"""What KPIs ask of the other parts, which they never import: the messages behind events, and what stands in an object's way.

Bound in `netra.py`. Every answer is of many tenants at once, in the transaction of whoever asks; each key names its tenant.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

LONGEST_WORDS: Final = 160
"""Characters of a cause: it groups what was missed, so it is short and the same for all that one thing keeps waiting."""

MessageKey = tuple[str, bytes]
"""(tenant, message id)."""

Dependency = tuple[str, str]
"""(tenant, what a KPI depends on: `webhooks.tag:billing`)."""


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """What a KPI needs to know of a message. `payload` is its JSON text, empty where that was erased."""

    event_type: str
    payload: str
    trace_id: str
    deliver_at_us: int | None


class Messages(Protocol):
    """The messages behind events."""

    async def facts(self, tx: Any, keys: Collection[MessageKey]) -> Mapping[MessageKey, MessageFacts]:
        """Those of them that are still there."""
        ...

    async def causes(self, tx: Any, keys: Collection[MessageKey]) -> Mapping[MessageKey, str]:
        """In a few words, why each has not arrived."""
        ...


class Dependencies(Protocol):
    """What is wrong with what a KPI depends on."""

    async def troubles(self, tx: Any, wanted: Collection[Dependency]) -> Mapping[Dependency, str]:
        """In a few words, of each that is in trouble just now."""
        ...


class Together:
    """What several parts say of what a KPI depends on, as one; each knows its own names."""

    def __init__(self, *parts: Dependencies) -> None:
        self._parts = parts

    async def troubles(self, tx: Any, wanted: Collection[Dependency]) -> Mapping[Dependency, str]:
        """See `Dependencies.troubles`."""
        found: dict[Dependency, str] = {}
        for part in self._parts:
            found |= await part.troubles(tx, wanted)
        return found
