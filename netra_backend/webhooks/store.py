"""Deliveries and attempts: claim, acknowledge, release, sweep, resend, and what lists show.

Every change of a leased delivery is fenced by its owner: `where owner = :node and state = 'leased'`, and an outcome is
taken only from an owner whose node row is there, for the sweep comes a moment after the verdict. A process that
lost its lease (paused, presumed dead, restarted) therefore changes no state; its attempt row is still appended, marked
late, because the request did go out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ..errors import NotFound
from ..kernel.failpoints import declare
from ..kernel.ids import to_text
from ..kernel.scope import TraceContext
from ..storage.audit_append import audit_append
from ..storage.statements import Row, Statements
from ..storage.transaction import Tx
from . import failing, health, lines
from .errors import Expunged
from .intake import message_of
from .model import EVERY_DEAD, Attempt, DeadFilter, Delivery, DeliveryRow, Message, Outcome
from .reports import report_attempt
from .states import DELIVERY

Q = Statements(__package__)

CLAIM_AT_ONCE: Final = 100
"""The most that one claim takes for one endpoint."""

CLAIMED: Final = declare("webhooks.claimed_before_commit", "deliveries are leased to this node, nothing is committed")
ACKNOWLEDGED: Final = declare("webhooks.acknowledged_before_attempts", "deliveries are acknowledged, attempt rows are not written")
ATTEMPTS_WRITTEN: Final = declare(
    "webhooks.attempts_written_before_commit", "acknowledgements and attempts are written, nothing is committed"
)
RELEASED: Final = declare("webhooks.released_before_commit", "a dead node's deliveries are due again, nothing is committed")

Lane = tuple[str, bytes]
"""(tenant, endpoint id): what fairness turns on."""

Key = tuple[str, bytes, bytes]
"""(tenant, message id, endpoint id): a delivery's key."""

_BEFORE_ALL: Final = b"\xff" * 16
_AFTER_ALL: Final = b""


async def claim(tx: Tx, node: bytes, lanes: Sequence[tuple[Lane, int]]) -> list[Delivery]:
    """Lease due deliveries to `node`, for each lane at most as many as it has free slots; none if the node is dead."""
    rows = sorted((tenant, endpoint, free) for (tenant, endpoint), free in lanes)
    claimed = await tx.all(Q.claim, lanes=rows, node=node, now_us=tx.now_us, most=CLAIM_AT_ONCE)
    if not claimed:
        return []
    wanted = sorted({(row[0], row[1]) for row in claimed})
    messages = {(row[0], row[1]): message_of(row) for row in await tx.all(Q.messages_by_id, rows=wanted)}
    tx.runtime.failpoints.hit(CLAIMED)
    return [
        Delivery(messages[tenant, message], endpoint, node, number, deadline_us, bool(manual), line)
        for tenant, message, endpoint, number, deadline_us, manual, line in claimed
    ]


async def acknowledge(tx: Tx, outcomes: Sequence[Outcome], passed_over: lines.PassedOver | None = None) -> list[bool]:
    """Record attempts and what follows from them; False for each whose lease was lost meanwhile.

    `passed_over` is told of lines whose next delivery could not be made due just now.
    """
    for outcome in outcomes:
        DELIVERY.check("leased", outcome.verdict.state)
    # Who lost a lease is asked first, in the same transaction: nearly always nobody, so that the update need not
    # return a row per delivery (each row costs the writer thread the interpreter once more).
    held = [(*outcome.delivery.key, outcome.delivery.owner) for outcome in outcomes]
    lost = {tuple(row) for row in await tx.all(Q.lost_leases, rows=sorted(held))}
    kept = [lease not in lost for lease in held]
    await tx.execute(Q.acknowledge, rows=sorted(map(_state_row, outcomes)))
    tx.runtime.failpoints.hit(ACKNOWLEDGED)
    attempts = sorted(
        _attempt_row(outcome.attempt, late=not ours) for outcome, ours in zip(outcomes, kept, strict=True) if outcome.attempt is not None
    )
    if attempts:
        await tx.execute(Q.insert_attempts, rows=attempts)
        tx.runtime.failpoints.hit(ATTEMPTS_WRITTEN)
    news = [outcome.news for outcome, ours in zip(outcomes, kept, strict=True) if ours and outcome.news is not None]
    if news:
        await health.settle(tx, news)
        await failing.settle(tx, [outcome for outcome, ours in zip(outcomes, kept, strict=True) if ours])
    ended = [outcome.delivery for outcome, ours in zip(outcomes, kept, strict=True) if ours and outcome.verdict.state != "due"]
    if behind := [line for delivery in ended if (line := delivery.in_line) is not None]:
        await lines.free_next(tx, behind, passed_over)
    for outcome, ours in zip(outcomes, kept, strict=True):
        if ours:
            announce(tx, *outcome.delivery.key, outcome.verdict.state, outcome.verdict.number, outcome.attempt)
    return kept


def announce(tx: Tx, tenant: str, message: bytes, endpoint: bytes, state: str, number: int, last: Attempt | None = None) -> None:
    """Tell the log what became of a delivery, and the operator where it is dead; `last` is the attempt that was just made."""
    event = "failed" if state == "due" else state
    item = {"type": f"webhook.{event}", "message": message.hex(), "endpoint": endpoint.hex(), "number": number}
    tx.emit("events", item, tenant)
    if state == "dead":
        report_attempt(tx, "message.attempt.exhausted", tenant, endpoint, message, last)


def _state_row(outcome: Outcome) -> Row:
    tenant, message, endpoint = outcome.delivery.key
    verdict = outcome.verdict
    status = outcome.attempt.status if outcome.attempt is not None else 0
    owner = outcome.delivery.owner
    return (tenant, message, endpoint, owner, verdict.state, verdict.number, verdict.due_us, status, verdict.reason)


def _attempt_row(attempt: Attempt, *, late: bool) -> Row:
    return (
        attempt.tenant,
        attempt.message_id,
        attempt.id,
        attempt.endpoint_id,
        attempt.number,
        int(attempt.manual),
        attempt.started_us,
        attempt.duration_us,
        attempt.outcome,
        attempt.status,
        attempt.error_kind,
        attempt.error,
        attempt.response,
        attempt.url,
        int(late),
        attempt.trace.trace_id,
        attempt.trace.span_id,
    )


async def owners(tx: Tx) -> list[bytes]:
    """Every node that owns a leased delivery, alive or not: one index seek an owner."""
    found: list[bytes] = []
    after = b""
    while (row := await tx.one(Q.next_owner, after=after)) is not None:
        after = row[0]
        found.append(after)
    return found


async def release_dead(tx: Tx, owner: bytes, limit: int) -> int:
    """Make up to `limit` deliveries of a dead node due again; 0 where the node lives."""
    released = await tx.execute(Q.release_dead, owner=owner, limit=limit)
    if released:
        tx.runtime.failpoints.hit(RELEASED)
    return released


async def owned_by(tx: Tx, node: bytes) -> list[Key]:
    """The deliveries that the table says `node` is working on."""
    return [(row[0], row[1], row[2]) for row in await tx.all(Q.owned_by, node=node)]


async def release(tx: Tx, node: bytes, keys: Sequence[Key]) -> int:
    """Give deliveries back before an attempt was made."""
    return await tx.execute(Q.release, node=node, rows=sorted(keys))


async def resend(tx: Tx, message_id: bytes, endpoint_id: bytes, deadline_s: float) -> None:
    """Make a delivery due now, whatever became of it; one whose attempt is on its way is left alone and refused.

    One that stands in a line leaves it: it goes out at once, and those behind it no longer wait for it. A message whose payload
    was erased cannot be sent (`Expunged`).
    """
    if (await message(tx, message_id)).is_expunged:
        raise Expunged
    target = f"{message_id.hex()}/{endpoint_id.hex()}"
    deadline_us = tx.now_us + int(deadline_s * 1_000_000)
    key = {"message_id": message_id, "endpoint_id": endpoint_id}
    await tx.execute(Q.insert_resent, **key, now_us=tx.now_us, deadline_us=deadline_us)
    left = await tx.one(Q.line_of, **key)
    entry = await audit_append(tx, "delivery.resend", target, table="netra_delivery")
    if not await tx.execute(Q.resend, **key, now_us=tx.now_us, deadline_us=deadline_us, audit_id=entry):
        row = await delivery(tx, message_id, endpoint_id)
        DELIVERY.after("resend", row.state)
    if left is not None and left[0] is not None:
        await lines.free_next(tx, [(tx.tenant, endpoint_id, left[0])])


async def cancel(tx: Tx, message_id: bytes, endpoint_id: bytes | None, why: str) -> tuple[list[bytes], list[bytes]]:
    """Cancel what of a message is due, to one endpoint or to all: those that it is cancelled for, and those with an attempt under way.

    An attempt under way is left alone: its receiver may have the message already, and its outcome is recorded. One delivery that is
    over is refused.
    """
    wanted = await deliveries(tx, message_id) if endpoint_id is None else [await delivery(tx, message_id, endpoint_id)]
    if endpoint_id is not None:
        DELIVERY.after("cancel", wanted[0].state)
    keys = sorted((message_id, each.endpoint_id) for each in wanted)
    held = sorted(row[1] for row in await tx.all(Q.hold_chosen, rows=keys, states=[("due",)]))
    behind: set[lines.Line] = set()
    for each in held:
        target = f"{message_id.hex()}/{each.hex()}"
        entry = await audit_append(tx, "delivery.cancel", target, table="netra_delivery", after={"why": why})
        row = await tx.one(Q.cancel_delivery, message_id=message_id, endpoint_id=each, reason=f"cancelled: {why}", audit_id=entry)
        assert row is not None  # it is held
        announce(tx, tx.tenant, message_id, each, "cancelled", row[0])
        if row[1] is not None:
            behind.add((tx.tenant, each, row[1]))
    if behind:
        await lines.free_next(tx, behind)
    # One that was leased when the rows were held may have failed since, and is due again: it was not cancelled.
    left = {each.endpoint_id for each in await deliveries(tx, message_id) if each.state in {"leased", "due"}}
    return held, sorted(left & {each.endpoint_id for each in wanted})


async def message(tx: Tx, message_id: bytes) -> Message:
    """One message of the scope's tenant."""
    row = await tx.one(Q.get_message, id=message_id)
    if row is None:
        raise NotFound(f"there is no message {to_text('msg', message_id)}")
    return message_of(row)


async def message_of_event_id(tx: Tx, event_id: str) -> Message | None:
    """The message that was accepted under this eventId."""
    row = await tx.one(Q.message_of_event_id, event_id=event_id)
    return message_of(row) if row else None


async def messages(tx: Tx, at: tuple[int, bytes] | None, limit: int, *, back: bool = False) -> list[Message]:
    """Messages, the newest first; `back` goes towards newer ones and returns them oldest first."""
    start = at or ((0, _AFTER_ALL) if back else (2**62, _BEFORE_ALL))
    rows = await tx.all(Q.list_messages_back if back else Q.list_messages, created_us=start[0], id=start[1], limit=limit)
    return [message_of(row) for row in rows]


async def delivery(tx: Tx, message_id: bytes, endpoint_id: bytes) -> DeliveryRow:
    """One delivery as it stands."""
    row = await tx.one(Q.get_delivery, message_id=message_id, endpoint_id=endpoint_id)
    if row is None:
        raise NotFound(
            f"the message was never meant for {to_text('ep', endpoint_id)}",
            fix="`netra webhooks replay EP --missing` sends what it never had.",
        )
    return DeliveryRow(*row)


async def deliveries(tx: Tx, message_id: bytes) -> list[DeliveryRow]:
    """A message's fan-out."""
    return [DeliveryRow(*row) for row in await tx.all(Q.deliveries_of_message, message_id=message_id)]


async def dead_letters(tx: Tx, after: tuple[bytes, bytes], limit: int, wanted: DeadFilter = EVERY_DEAD) -> list[DeliveryRow]:
    """Dead letters of the tenant by (endpoint, message)."""
    rows = await tx.all(Q.list_dead, after_endpoint=after[0], after_message=after[1], limit=limit, **wanted.params())
    return [DeliveryRow(*row) for row in rows]


async def attempts_of_message(tx: Tx, message_id: bytes, at: bytes | None, limit: int, *, back: bool = False) -> list[Attempt]:
    """A message's attempts, the newest first; `back` as in `messages`."""
    statement = Q.attempts_of_message_back if back else Q.attempts_of_message
    before = at if at is not None else _AFTER_ALL if back else _BEFORE_ALL
    return [attempt_of(row) for row in await tx.all(statement, message_id=message_id, before=before, limit=limit)]


async def attempts_of_endpoint(tx: Tx, endpoint_id: bytes, at: bytes | None, limit: int, *, back: bool = False) -> list[Attempt]:
    """An endpoint's attempts, the newest first; `back` as in `messages`."""
    statement = Q.attempts_of_endpoint_back if back else Q.attempts_of_endpoint
    before = at if at is not None else _AFTER_ALL if back else _BEFORE_ALL
    return [attempt_of(row) for row in await tx.all(statement, endpoint_id=endpoint_id, before=before, limit=limit)]


async def attempt(tx: Tx, message_id: bytes, attempt_id: bytes) -> Attempt:
    """One attempt."""
    row = await tx.one(Q.get_attempt, message_id=message_id, id=attempt_id)
    if row is None:
        raise NotFound(f"there is no attempt {to_text('atmpt', attempt_id)}")
    return attempt_of(row)


def attempt_of(row: Row) -> Attempt:
    """An attempt from its row, in the column order of the queries."""
    *facts, late, trace_id, span_id = row
    facts[5] = bool(facts[5])
    facts += [bool(late), TraceContext(trace_id, span_id)]
    return Attempt(*facts)
