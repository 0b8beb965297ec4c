"""What lists show: messages and attempts by filter, a message's destinations, the figures of the queue. Reads only.

Two hundred payloads of a mebibyte each are more than a process should hold because somebody turns a page: so a list first has the length
of each, and then reads those that come into `PAGE_CHARS`, and the first whatever its length. What is behind them is the next page's. Where
no payload is shown none is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson

from ..kernel.ids import least_of_time
from ..storage.statements import Row, Statements
from ..storage.transaction import Tx
from .endpoints import endpoint_of
from .intake import message_of
from .model import Attempt, DeliveryRow, Endpoint, Message
from .store import attempt_of

Q = Statements(__package__)
T = TypeVar("T")

PAGE_CHARS: Final = 4 * 1024 * 1024
_PAYLOAD: Final = 4
_UNSHOWN: Final = "{}"

BEFORE_ALL: Final = b"\xff" * 16
AFTER_ALL: Final = b""
_EVER_US: Final = 2**62
CLOCKS_US: Final = 3600 * 1_000_000
"""By how much the clocks of two processes may differ before a list by time leaves something out."""


class Shortened(list[T]):
    """A part of a list that ends before as many items as were asked for, and before the list does: the next would be too much."""


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages: of these types, with this channel and tag, created between two times (exclusive)."""

    event_types: tuple[str, ...] = ()
    channel: str = ""
    tag: str = ""
    after_us: int = -1
    before_us: int = _EVER_US

    def params(self) -> dict[str, Any]:
        """The parameters of the statements."""
        return {
            "any_type": int(not self.event_types),
            "types": [(name,) for name in self.event_types],
            "channel": orjson.dumps(self.channel).decode() if self.channel else "",
            "tag": orjson.dumps(self.tag).decode() if self.tag else "",
            "after_us": self.after_us,
            "before_us": self.before_us,
        }


@dataclass(frozen=True, slots=True)
class AttemptFilter:
    """Which attempts: with these outcomes, to this endpoint, answered from `least_status` up to below `above_status`."""

    message: MessageFilter = MessageFilter()
    outcomes: tuple[str, ...] | None = None
    endpoint_id: bytes | None = None
    least_status: int = 0
    above_status: int = 1000

    def params(self) -> dict[str, Any]:
        """The parameters of the statements."""
        return {
            **self.message.params(),
            "any_outcome": int(self.outcomes is None),
            "outcomes": [(outcome,) for outcome in self.outcomes or ()],
            "least_status": self.least_status,
            "above_status": self.above_status,
        }


async def messages(tx: Tx, wanted: MessageFilter, at: tuple[int, bytes] | None, limit: int, *, back: bool, content: bool) -> list[Message]:
    """Messages, the newest first; `back` goes towards newer ones and returns them oldest first.

    With `content` it may be `Shortened`. Without, `{}` stands for each payload that is not erased.
    """
    created_us, id_ = at or ((0, AFTER_ALL) if back else (_EVER_US, BEFORE_ALL))
    statement = Q.find_messages_back if back else Q.find_messages
    rows = await tx.all(statement, created_us=created_us, id=id_, limit=limit, **wanted.params())
    found = await _with_payloads(tx, rows, content=content)
    return _as(found, [message_of(row) for row in found])


async def attempts_of_message(
    tx: Tx, message_id: bytes, wanted: AttemptFilter, at: bytes | None, limit: int, *, back: bool
) -> list[Attempt]:
    """A message's attempts, the newest first; `back` as in `messages`."""
    statement = Q.find_attempts_of_message_back if back else Q.find_attempts_of_message
    endpoint = {"any_endpoint": int(wanted.endpoint_id is None), "endpoint_id": wanted.endpoint_id or b""}
    rows = await tx.all(statement, message_id=message_id, place=_place(at, back=back), limit=limit, **endpoint, **wanted.params())
    return [attempt_of(row) for row in rows]


async def attempts_of_endpoint(
    tx: Tx, endpoint_id: bytes, wanted: AttemptFilter, at: bytes | None, limit: int, *, back: bool
) -> list[Attempt]:
    """An endpoint's attempts, the newest first; `back` as in `messages`."""
    statement = Q.find_attempts_of_endpoint_back if back else Q.find_attempts_of_endpoint
    rows = await tx.all(statement, endpoint_id=endpoint_id, place=_place(at, back=back), limit=limit, **wanted.params())
    return [attempt_of(row) for row in rows]


async def messages_by_id(tx: Tx, ids: Sequence[bytes]) -> dict[bytes, Message]:
    """Those of the tenant's messages, by id."""
    rows = await tx.all(Q.messages_by_id, rows=sorted({(tx.tenant, id_) for id_ in ids}))
    return {row[1]: message_of(row) for row in rows}


async def messages_without_payloads(tx: Tx, ids: Sequence[bytes]) -> dict[bytes, Message]:
    """As `messages_by_id`, with `{}` for each payload that is not erased."""
    rows = await tx.all(Q.messages_without_payloads, rows=sorted({(id_,) for id_ in ids}))
    return {row[1]: message_of(row) for row in await _with_payloads(tx, rows, content=False)}


async def destinations(tx: Tx, message_id: bytes, at: bytes | None, limit: int, *, back: bool) -> list[tuple[DeliveryRow, Endpoint]]:
    """A message's fan-out by endpoint id, deleted endpoints included."""
    after = at if at is not None else BEFORE_ALL if back else AFTER_ALL
    statement = Q.destinations_of_message_back if back else Q.destinations_of_message
    rows = await tx.all(statement, message_id=message_id, after=after, limit=limit)
    return [(DeliveryRow(*row[:7]), endpoint_of(row[7:])) for row in rows]


async def messages_of_endpoint(
    tx: Tx,
    endpoint_id: bytes,
    wanted: MessageFilter,
    states: Sequence[str] | None,
    at: bytes | None,
    limit: int,
    *,
    back: bool,
    content: bool,
) -> list[tuple[DeliveryRow, Message]]:
    """The messages for an endpoint by id, the newest first, and how each stands there; `back` and `content` as in `messages`."""
    statement = Q.messages_of_endpoint_back if back else Q.messages_of_endpoint
    state = {"any_state": int(states is None), "states": [(each,) for each in states or ()]}
    # The index is by id. An id tells the time by the clock of whoever made it, so the bounds leave room for clocks that differ.
    ids = {"least": least_of_time(wanted.after_us - CLOCKS_US), "above": least_of_time(wanted.before_us + CLOCKS_US)}
    rows = await tx.all(statement, endpoint_id=endpoint_id, place=_place(at, back=back), limit=limit, **ids, **state, **wanted.params())
    found = await _with_payloads(tx, [row[7:] for row in rows], content=content)
    return _as(found, [(DeliveryRow(*row[:7]), message_of(message)) for row, message in zip(rows, found, strict=False)])


async def states_of_endpoint(tx: Tx, endpoint_id: bytes, least: bytes, above: bytes) -> dict[str, int]:
    """How many of an endpoint's deliveries of the messages from `least` up to below `above` stand in which state."""
    rows = await tx.all(Q.states_of_endpoint, endpoint_id=endpoint_id, least=least, above=above)
    return {row[0]: int(row[1]) for row in rows}


async def outcomes_of_endpoint(tx: Tx, endpoint_id: bytes, least: bytes, above: bytes) -> dict[str, int]:
    """How many of an endpoint's attempts from `least` up to below `above` had which outcome."""
    rows = await tx.all(Q.outcomes_of_endpoint, endpoint_id=endpoint_id, least=least, above=above)
    return {row[0]: int(row[1]) for row in rows}


async def queue(tx: Tx) -> tuple[int, int | None]:
    """Deliveries of the installation that are not over, and when the earliest of those that wait is or was due."""
    due = await tx.one(Q.queue_due)
    leased = await tx.one(Q.queue_leased)
    waiting, earliest_us = due or (0, None)
    return int(waiting) + int(leased[0] if leased else 0), earliest_us


async def _with_payloads(tx: Tx, rows: list[Row], *, content: bool) -> list[Row]:
    """Messages' rows that have their payload's length in its place, with the payloads: of as many as come into one page."""
    if not content:
        return [_put(row, _UNSHOWN if row[_PAYLOAD] else "") for row in rows]
    if not rows:
        return []
    room, count = PAGE_CHARS, 0
    while count < len(rows) and (not count or rows[count][_PAYLOAD] <= room):
        room -= rows[count][_PAYLOAD]
        count += 1
    payloads = {row[0]: row[1] for row in await tx.all(Q.payloads, rows=sorted((row[1],) for row in rows[:count]))}
    found = [_put(row, payloads[row[1]]) for row in rows[:count]]
    return found if count == len(rows) else Shortened(found)


def _put(row: Row, payload: str) -> Row:
    return (*row[:_PAYLOAD], payload, *row[_PAYLOAD + 1 :])


def _as(found: list[Row], items: list[T]) -> list[T]:
    return Shortened(items) if isinstance(found, Shortened) else items


def _place(at: bytes | None, *, back: bool) -> bytes:
    return at if at is not None else AFTER_ALL if back else BEFORE_ALL
