"""One trace, put together from the rows of all parts: spans with their parents and links, in the order of time."""

from __future__ import annotations

from typing import Any, Final

from ...kernel.ids import to_text
from ...storage.statements import Row, Statements
from ...storage.transaction import Tx

Q = Statements(__package__)
Shape = dict[str, Any]

MOST_TENANTS: Final = 100
MOST_SPANS: Final = 1000
"""Of each kind: a trace is for people."""


async def tenants_of(tx: Tx, trace_id: str) -> list[str]:
    """Whose rows a trace has."""
    return sorted(row[0] for row in await tx.all(Q.tenants_of_trace, trace_id=trace_id, limit=MOST_TENANTS))


async def spans_of(tx: Tx, trace_id: str) -> list[Shape]:
    """What the scope's tenant has of a trace: `{"id","parent","links","part","name","start_us","end_us","status","ref"}` each."""
    given = {"trace_id": trace_id, "limit": MOST_SPANS}
    found = [_stored(row) for row in await tx.all(Q.spans_of_trace, **given)]
    found += [_stored(row) for row in await tx.all(Q.spans_linked_to_trace, **given)]
    messages = await tx.all(Q.messages_of_trace, **given)
    attempts = await tx.all(Q.attempts_of_trace, **given)
    ends: dict[bytes, int] = {row[0]: row[3] for row in messages}
    for message_id, *_, started_us, duration_us, _, _ in attempts:
        ends[message_id] = max(ends.get(message_id, 0), started_us + duration_us)
    found += [_message(row, ends[row[0]]) for row in messages]
    found += [_attempt(row) for row in attempts]
    found += [_entry(row) for row in await tx.all(Q.entries_of_trace, **given)]
    found += [_run(row) for row in await tx.all(Q.runs_of_trace, **given)]
    return [{"tenant": tx.tenant, **each} for each in found]


def put_together(trace_id: str, spans: list[Shape]) -> Shape:
    """The trace as it is shown."""
    return {"trace_id": trace_id, "spans": sorted(spans, key=lambda each: (each["start_us"], each["end_us"], each["id"]))}


def _span(id_: str, parent: str, part: str, name: str, start_us: int, end_us: int, ref: str, *, bad: bool = False) -> Shape:
    known: Shape = {"id": id_, "parent": parent or None, "links": [], "part": part, "name": name, "start_us": start_us, "end_us": end_us}
    return {**known, "status": "error" if bad else "ok", "ref": ref}


def _stored(row: Row) -> Shape:
    _, span_id, parent, link_trace, link_span, part, name, start_us, end_us, status, ref = row
    made = _span(span_id, parent, part, name, start_us, end_us, ref, bad=status != "ok")
    return {**made, "links": [{"trace_id": link_trace, "span_id": link_span}] if link_trace else []}


def _own(id_: bytes, position: str) -> tuple[str, str]:
    """A row's span and its parent. A row that began its trace stands at its own position."""
    own = id_[8:].hex()
    return own, "" if position == own else position


def _message(row: Row, end_us: int) -> Shape:
    id_, span_id, event_type, created_us = row
    return _span(*_own(id_, span_id), "webhooks", f"message {event_type}", created_us, end_us, to_text("msg", id_))


def _attempt(row: Row) -> Shape:
    message_id, id_, endpoint_id, number, outcome, status, error_kind, started_us, duration_us, trace_id, of_message = row
    words = f"attempt {number} {outcome} {error_kind or status}"
    is_child = trace_id == of_message
    made = _span(
        id_[8:].hex(), message_id[8:].hex() if is_child else "", "webhooks", words, started_us, started_us + duration_us,
        to_text("atmpt", id_), bad=outcome != "delivered",
    )  # fmt: skip
    link = {"trace_id": of_message, "span_id": message_id[8:].hex()}
    return {**made, "links": [] if is_child else [link], "endpoint": to_text("ep", endpoint_id)}


def _entry(row: Row) -> Shape:
    id_, span_id, action, target, at_us, outcome = row
    made = _span(*_own(id_, span_id), "audit", action, at_us, at_us, to_text("aud", id_), bad=outcome != "ok")
    return {**made, "target": target}


def _run(row: Row) -> Shape:
    id_, span_id, job, state, created_us, end_us = row
    return _span(*_own(id_, span_id), "batch", f"run {job}", created_us, end_us, to_text("run", id_), bad=state == "failed")
