"""What the parts of the cache hand each other: events of the log, looks at it, cascades, answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .node import Ticket
    from .tier import Entry


@dataclass(frozen=True, slots=True)
class Event:
    """One invalidation: the names (each its tenant's) and the token that no other invalidation has."""

    token: str
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LogRow:
    """One row of the cache's stream."""

    seq: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """One snapshot of log and outbox: rows behind the reader's own position, and what waits to be sequenced.

    `epoch` names the database's history: it changes where a restore or a failover may have put another in its place.

    `is_whole` says that nothing was left out: neither rows behind a limit, nor a part of the outbox.
    """

    rows: tuple[LogRow, ...]
    last_seq: int
    waiting: frozenset[str]
    is_whole: bool
    epoch: str = ""


@dataclass(frozen=True, slots=True)
class Cascade:
    """One row applied on one node: what was named, all that was reached, and the entries dropped.

    `entries` are in topological order; `deps` is what each was directly made from.
    """

    seq: int
    names: frozenset[str]
    reached: frozenset[str]
    entries: Sequence[Entry]
    deps: Mapping[str, frozenset[str]]


@dataclass(frozen=True, slots=True)
class Loaded:
    """An answer with how it came about. `tier` is `l1`, `l2`, `load` or `flight`; `stale` is past its TTL; `age_s` is in seconds."""

    value: Any
    tier: str
    age_s: float
    stale: bool


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept under a key, the names that it is made from, its seconds left, and a ticket from before it was read."""

    value: Any
    deps: tuple[str, ...]
    left_s: float
    ticket: Ticket


def qualified(tenant: str, name: str) -> str:
    """A name as the tenant's own: no tenant's name holds a bar."""
    return f"{tenant}|{name}"


def of_tenant(tenant: str, name: str) -> str | None:
    """The tenant's own word for a qualified name; None for another tenant's."""
    own, _, rest = name.partition("|")
    return rest if own == tenant else None
