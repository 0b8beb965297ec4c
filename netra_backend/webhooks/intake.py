"""Ingest: message, deliveries and idempotency record in one transaction, as a verb over a list.

One call serves every message that waits for the writer, of any tenant, with one multi-row statement per table. It
reads nothing to decide: keys are claimed by insert, and the row that was there first wins.

The fan-out was computed before the transaction against a snapshot of the tenant's endpoints. If that snapshot is not
the current one any more, the item is answered with `StaleSnapshot` and its caller computes it again: matching (and,
later, payload filters) never runs while the write lock is held.

A delivery is inserted `leased` by this node, so that the first attempt needs no claim and no second read, only if the
transaction is ours, the sender has room, and the node's row is read as live in this same transaction. The hand-over
itself is done by the commit: a caller that was cancelled changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson

from ..errors import KeyReused, NetraError
from ..kernel.failpoints import declare
from ..kernel.scope import TraceContext
from ..storage import debug_marks, idempotency, nodes
from ..storage.statements import Row, Statements
from ..storage.transaction import Tx
from . import lines
from .errors import DuplicateEventId
from .model import NEVER_US, Accepted, Delivery, Message, NewMessage

Q = Statements(__package__)

EVENT_ID_ROUTE: Final = "event_id"
MESSAGE_ROUTE: Final = "POST /app/{app_id}/msg"

KEYS_CLAIMED: Final = declare("webhooks.keys_claimed", "idempotency keys are written, messages are not")
MESSAGES_WRITTEN: Final = declare("webhooks.messages_written", "messages are written, their deliveries are not")
DELIVERIES_WRITTEN: Final = declare("webhooks.deliveries_written", "the whole fan-out is written, nothing is committed")
HANDED_OVER: Final = declare("webhooks.after_commit_before_handover", "the message is committed, no sender knows it yet")


class StaleSnapshot(NetraError):
    """The endpoints changed while the fan-out was computed; compute it again."""

    code = "stale_snapshot"
    status = 503


@dataclass(frozen=True, slots=True)
class Target:
    """One endpoint of a fan-out. `lease` asks for a hand-over; a `skip` reason records it without sending.

    `line` is where it waits for those before it (`lines.py`), which is never leased at once.
    """

    endpoint_id: bytes
    lease: bool = False
    skip: str | None = None
    line: str | None = None


@dataclass(slots=True, eq=False)
class Intake:
    """One message on its way in, with its fan-out. `handed` is set once the commit has handed it to the sender."""

    tenant: str
    id: bytes
    new: NewMessage
    version: int
    targets: Sequence[Target]
    deadline_s: float
    trace: TraceContext = field(default_factory=TraceContext)
    node: bytes = b""
    strict: bool = False
    handed: bool = False
    debug: tuple[bytes, ...] = ()

    def claims(self) -> Iterable[tuple[str, str]]:
        """(route, key) of what makes this message unique; the request's own key first."""
        if self.new.idempotency_key is not None:
            yield MESSAGE_ROUTE, self.new.idempotency_key
        if self.new.event_id is not None:
            yield EVENT_ID_ROUTE, self.new.event_id


HandOver = Callable[[Sequence[Delivery]], None]
Answer = Accepted | NetraError


def content_hash(new: NewMessage) -> str:
    """What two calls with one key must share: everything but the keys themselves."""
    kept = [["kept", new.keep_payload_us]] if new.keep_payload_us is not None else []
    own = [["schedule", new.schedule]] if new.schedule is not None else []
    labels = [*([new.ordering_key] if new.ordering_key else []), *kept, *own]
    parts = orjson.dumps([new.event_type, new.channels, new.tags, new.deliver_at_us, *labels])
    return hashlib.sha256(parts + b"\0" + new.payload.encode()).hexdigest()


async def ingest(tx: Tx, items: Sequence[Intake], hand_over: HandOver | None = None) -> list[Answer]:
    """Store the items, each whole or not at all; one answer per item, in order."""
    answers: dict[int, Answer] = {}
    current = await _current(tx, items)
    fresh = []
    for item in items:
        if (item.tenant, item.version) in current:
            fresh.append(item)
        else:
            answers[id(item)] = StaleSnapshot()
    refs = {id(item): item.id for item in fresh}
    for route in (MESSAGE_ROUTE, EVENT_ID_ROUTE):
        await _claim_keys(tx, fresh, route, refs, answers)
    if any(item.new.event_id is not None or item.new.idempotency_key is not None for item in fresh):
        tx.runtime.failpoints.hit(KEYS_CLAIMED)
    stored = [item for item in fresh if id(item) not in answers and refs[id(item)] == item.id]
    messages = await _store(tx, stored, hand_over)
    answers.update({id(item): Accepted(message, replayed=False) for item, message in zip(stored, messages, strict=True)})
    repeated = [item for item in fresh if id(item) not in answers]
    _refuse_orphans(repeated, fresh, refs, answers)
    await _replay(tx, repeated, refs, answers)
    return [answers[id(item)] for item in items]


async def _current(tx: Tx, items: Sequence[Intake]) -> set[tuple[str, int]]:
    asked = sorted({(item.tenant, item.version) for item in items})
    return {(tenant, version) for tenant, version in await tx.all(Q.current_versions, rows=asked)}


async def _claim_keys(tx: Tx, items: Sequence[Intake], route: str, refs: dict[int, bytes], answers: dict[int, Answer]) -> None:
    """Claim one key per item on `route`; an item that lost points at the winner, or is refused."""
    keyed = [(item, key) for item in items if id(item) not in answers for name, key in item.claims() if name == route]
    if not keyed:
        return
    rows = [(item.tenant, route, key, item.new.body_hash, refs[id(item)], 202, tx.now_us) for item, key in keyed]
    if await tx.execute(idempotency.Q.insert_idempotency_rows, rows=rows) == len(rows):
        return
    asked = sorted({(item.tenant, route, key) for item, key in keyed})
    if await tx.execute(Q.forget_orphans, rows=asked, own=sorted({(ref,) for ref in refs.values()})):  # retention takes messages first
        await tx.execute(idempotency.Q.insert_idempotency_rows, rows=rows)
    found = {(r[0], r[2]): (r[3], r[4]) for r in await tx.all(idempotency.Q.get_idempotency_rows, rows=asked)}
    for item, key in keyed:
        body_hash, ref = found[item.tenant, key]
        if ref != refs[id(item)]:
            await _lose(tx, item, route, refs, answers, body_hash, ref)


async def _lose(tx: Tx, item: Intake, route: str, refs: dict[int, bytes], answers: dict[int, Answer], body_hash: str, ref: bytes) -> None:
    own_key = item.new.idempotency_key if route == EVENT_ID_ROUTE and refs[id(item)] == item.id else None
    if body_hash != item.new.body_hash:
        answers[id(item)] = KeyReused(f"the {'eventId' if route == EVENT_ID_ROUTE else 'key'} was used for another body")
    elif item.strict and route == EVENT_ID_ROUTE:
        answers[id(item)] = DuplicateEventId(f"a message with the eventId {item.new.event_id!r} exists already")
    else:
        refs[id(item)] = ref
        if own_key is not None:  # the request's own key was new: it leads to the message that was there
            await tx.execute(Q.point_key_at, tenant=item.tenant, route=MESSAGE_ROUTE, key=own_key, ref=ref)
        return
    if own_key is not None:
        await tx.execute(Q.forget_key, tenant=item.tenant, route=MESSAGE_ROUTE, key=own_key)


def _refuse_orphans(repeated: Sequence[Intake], fresh: Sequence[Intake], refs: dict[int, bytes], answers: dict[int, Answer]) -> None:
    """Undo the whole call where a key leads to a neighbour that was not stored after all, for its eventId was somebody's.

    The writer then runs each item alone, where the neighbour's keys are settled before they are looked at.
    """
    unstored = {item.id for item in fresh if refs[id(item)] != item.id or isinstance(answers.get(id(item)), NetraError)}
    if any(refs[id(item)] in unstored for item in repeated):
        raise StaleSnapshot


async def _store(tx: Tx, items: Sequence[Intake], hand_over: HandOver | None) -> list[Message]:
    if not items:
        return []
    messages = [_message(item, tx.now_us) for item in items]
    await tx.execute(Q.insert_messages, rows=sorted(_message_row(message, item.new) for item, message in zip(items, messages, strict=True)))
    marks = [(item.tenant, item.id, session) for item in items for session in item.debug]
    if marks:
        await debug_marks.mark_rows(tx, marks)
    tx.runtime.failpoints.hit(MESSAGES_WRITTEN)
    living = await _living(tx, items) if hand_over is not None and tx.own else set()
    places = await _places(tx, items)
    rows: list[Row] = []
    handed: list[Delivery] = []
    taken: list[Intake] = []
    for item, message in zip(items, messages, strict=True):
        due_us = max(tx.now_us, message.deliver_at_us or 0)
        deadline_us = due_us + int(item.deadline_s * 1_000_000)
        for target in item.targets:
            leased = target.lease and item.node in living and due_us <= tx.now_us
            place, is_first = places.get((item.id, target.endpoint_id), (None, True))
            turn_us = due_us if is_first else NEVER_US
            rows.append(_delivery_row(message, target, leased=leased, due_us=turn_us, deadline_us=deadline_us, node=item.node, place=place))
            if leased:
                handed.append(Delivery(message, target.endpoint_id, item.node, 0, deadline_us))
                taken.append(item)
        tx.emit("events", {"type": message.event_type, "message": message.id.hex()}, item.tenant)
    if rows:
        await tx.execute(Q.insert_deliveries, rows=sorted(rows))
        tx.runtime.failpoints.hit(DELIVERIES_WRITTEN)
    if len(handed) < sum(row[3] != "skipped" for row in rows):
        tx.wake_others()
    if handed and hand_over is not None:
        tx.after_commit(_handing(tx, handed, taken, hand_over))
    return messages


async def _places(tx: Tx, items: Sequence[Intake]) -> dict[tuple[bytes, bytes], tuple[int, bool]]:
    """(message, endpoint) -> the number in its line, and whether it is the first; in the order of the items."""
    ordered = [
        (item, target, (item.tenant, target.endpoint_id, target.line))
        for item in items
        for target in item.targets
        if target.line is not None and target.skip is None
    ]
    if not ordered:
        return {}
    places = await lines.take_places(tx, [line for _, _, line in ordered])
    return {(item.id, target.endpoint_id): place for (item, target, _), place in zip(ordered, places, strict=True)}


def _handing(tx: Tx, handed: Sequence[Delivery], taken: Sequence[Intake], hand_over: HandOver) -> Callable[[], None]:
    def run() -> None:
        tx.runtime.failpoints.hit(HANDED_OVER)
        for item in taken:
            item.handed = True
        hand_over(handed)

    return run


async def _living(tx: Tx, items: Sequence[Intake]) -> set[bytes]:
    """Those of the items' nodes that live, by this transaction; more than one only where a life ended meanwhile."""
    asked = {item.node for item in items if any(target.lease for target in item.targets)}
    return {node for node in asked if await nodes.is_live(tx, node)}


async def _replay(tx: Tx, items: Sequence[Intake], refs: dict[int, bytes], answers: dict[int, Answer]) -> None:
    """Answer the repeated items from the stored messages."""
    if not items:
        return
    asked = sorted({(item.tenant, refs[id(item)]) for item in items})
    found = {(row[0], row[1]): message_of(row) for row in await tx.all(Q.messages_by_id, rows=asked)}
    for item in items:
        answers[id(item)] = Accepted(found[item.tenant, refs[id(item)]], replayed=True)


def _message(item: Intake, now_us: int) -> Message:
    new = item.new
    return Message(
        item.tenant,
        item.id,
        new.event_type,
        new.event_id,
        new.payload,
        new.channels,
        new.tags,
        new.deliver_at_us,
        now_us,
        item.trace,
        new.ordering_key,
        new.schedule,
    )


def _message_row(message: Message, new: NewMessage) -> Row:
    return (
        message.tenant,
        message.id,
        message.event_type,
        message.event_id,
        message.payload,
        _list(message.channels),
        _list(message.tags),
        message.ordering_key,
        message.deliver_at_us,
        message.created_us,
        message.trace.trace_id,
        message.trace.span_id,
        None if new.keep_payload_us is None else max(message.created_us, message.deliver_at_us or 0) + new.keep_payload_us,
        message.schedule,
    )


def _delivery_row(message: Message, target: Target, *, leased: bool, due_us: int, deadline_us: int, node: bytes, place: int | None) -> Row:
    state = "skipped" if target.skip else "leased" if leased else "due"
    owner = node if leased else None
    line = target.line if place is not None else None
    return (message.tenant, message.id, target.endpoint_id, state, due_us, deadline_us, owner, target.skip, line, place)


def message_of(row: Row) -> Message:
    """A message from its row, in the column order of the queries."""
    tenant, id_, event_type, event_id, payload, channels, tags, ordering_key, deliver_at_us, created_us, trace_id, span_id, schedule = row
    return Message(
        tenant,
        id_,
        event_type,
        event_id,
        payload,
        _tuple(channels),
        _tuple(tags),
        deliver_at_us,
        created_us,
        TraceContext(trace_id, span_id),
        ordering_key,
        schedule,
    )


def _list(values: Sequence[str] | None) -> str | None:
    return None if values is None else orjson.dumps(values).decode()


def _tuple(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(orjson.loads(text))
