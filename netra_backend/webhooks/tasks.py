"""Tasks: operators' verbs over many messages, one page of messages in a transaction.

A task walks over its tenant's messages by (created_us, id). Each page is looked at first, in a read; what is wanted of it (filters
above all) is decided without any lock. Then one write changes the deliveries, by their states, and moves the cursor and the
counters with them; so a task that is killed anywhere goes on behind its last committed page, and no page is done twice. Every such
write asks first whether the task is running and this living node's: an owner whose lease is lost, or whose task was cancelled,
changes nothing. A task whose owner is no live node may be claimed by anybody, which is found by looking.

**Late commits.** A message's `created_us` is read inside its transaction, which may end much later (a caller's own, an adopted one).
Such a message would appear behind a cursor that has passed it. So a walk does not begin before every transaction has ended that was
open when the task was first looked at, and it goes no further than the time at which the task was made. Whoever begins later is
later than that; so nothing can appear within the walk's bounds any more, and one walk is enough. PostgreSQL tells by a snapshot
which transactions are open; on SQLite there is one writer at a time, and who began before the task's own commit has ended with it.
Rejected: a second walk (what the first has sent again would be sent twice where delivered messages are wanted too), and walking by
ids (they order nothing). What is left: a transaction that stays open for longer than `runner.SETTLE_S`, and one that was stopped
between its clock and its first row until then; what they store stands recorded as skipped, and another `recover` finds it.

A delivery that is sent again gets attempts as if it were new, its deadline counts from now, and it takes a new place at the end of
its line (`lines.py`): the walk's order is the messages', so they follow each other as they did. It is not `manual`: what an operator
sends again in bulk stops when its endpoint is disabled. The decision and its audit entry are the task's; each delivery says by its
reason which task it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from ..errors import InvalidInput, NotFound
from ..kernel.failpoints import declare
from ..kernel.ids import to_text
from ..kernel.scope import TraceContext
from ..storage import nodes
from ..storage.audit_append import audit_append
from ..storage.statements import Row, Statements
from ..storage.transaction import Tx
from . import endpoints, lines, store
from .errors import TaskLost
from .filters import wanting
from .intake import StaleSnapshot, message_of
from .model import NEVER_US, Endpoint, Message, NewMessage, Snapshot, Task, TaskKind, TaskWanted
from .states import TASK

Q = Statements(__package__)

TABLE: Final = "netra_webhook_task"
ACTIONS: Final[Mapping[TaskKind, str]] = {
    "recover": "task.recover",
    "redrive": "task.redrive",
    "replay_missing": "task.replay_missing",
    "bulk_replay": "task.bulk_replay",
    "cancel": "task.cancel_backlog",
}
"""What the entry of each kind's start is called; `task.cancel` is somebody's end of a task."""

MESSAGES_A_PAGE: Final = 200
TASKS_AT_ONCE: Final = 100
AGAIN: Final = "attempts are under way: it walks once more"
"""The reason of a running cancellation that has met such."""

BEFORE_ALL: Final = (-1, b"")
_NEWEST: Final = (2**62, b"\xff" * 16)

CREATED: Final = declare("webhooks.task_created_before_commit", "a task and its audit entry are written, nothing is committed")
CLAIMED: Final = declare("webhooks.task_claimed_before_commit", "a task is leased to this node, nothing is committed")
PAGE_WRITTEN: Final = declare("webhooks.task_page_written", "a page's deliveries are changed, the task's cursor is not moved")
MOVED: Final = declare("webhooks.task_moved_before_commit", "a page's deliveries and the task's cursor are changed, nothing is committed")
ENDED: Final = declare("webhooks.task_ended_before_commit", "the last page is written and the task has ended, nothing is committed")

Place = tuple[int, bytes]
"""(created_us, id) of a message."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A delivery that a page changes: its key within the tenant, the line that its message stands in there, and when it may go out."""

    message_id: bytes
    endpoint_id: bytes
    line: str | None
    not_before_us: int


@dataclass(frozen=True, slots=True)
class Page:
    """What a look at the next messages has found. `stop` is why the task cannot go on, or empty.

    `under_way` says that some of what a cancellation looks for has an attempt under way.
    """

    before: Place
    after: Place
    messages: int
    chosen: Sequence[Chosen]
    version: int
    is_last: bool
    stop: str = ""
    under_way: bool = False


async def create(tx: Tx, kind: TaskKind, wanted: TaskWanted) -> Task:
    """A running task, with its audit entry. Without an end of its own (`until_us` of 0) it ends at the newest message that is there."""
    last = await tx.one(Q.list_messages, created_us=_NEWEST[0], id=_NEWEST[1], limit=1)
    newest_us = max(tx.now_us, message_of(last).created_us if last is not None else 0)
    wanted = replace(wanted, until_us=min(wanted.until_us or newest_us + 1, newest_us + 1))
    if wanted.since_us >= wanted.until_us:
        raise InvalidInput("`since` is not before `until`, or not in the past", fix="Give a `since` in the past, and a later `until`.")
    task_id = tx.new_id()
    trace = tx.scope.trace
    if not trace.trace_id:
        trace = TraceContext(tx.new_id().hex(), tx.new_id()[8:].hex())
    parameters = _written(wanted)
    entry = await audit_append(tx, ACTIONS[kind], task_id, table=TABLE, after=parameters)
    await tx.execute(
        Q.insert_task,
        id=task_id,
        kind=kind,
        parameters=orjson.dumps(parameters).decode(),
        after_us=wanted.since_us - 1,
        after_id=_NEWEST[1],
        now_us=tx.now_us,
        trace_id=trace.trace_id,
        span_id=trace.span_id,
        audit_id=entry,
    )
    tx.wake_others()
    tx.runtime.failpoints.hit(CREATED)
    return await get(tx, task_id)


async def claimable(tx: Tx, node: bytes) -> list[tuple[str, bytes]]:
    """(tenant, id) of running tasks that no other living node works on."""
    return [(row[0], row[1]) for row in await tx.all(Q.claimable_tasks, node=node, limit=TASKS_AT_ONCE)]


async def claim(tx: Tx, task_id: bytes, node: bytes) -> Task | None:
    """Lease a running task to `node`; None if the node is dead, another living one has the task, or it has ended."""
    if not await nodes.is_live(tx, node):
        return None
    row = await tx.one(Q.claim_task, id=task_id, node=node)
    tx.runtime.failpoints.hit(CLAIMED)
    return task_of(row) if row is not None else None


async def release(tx: Tx, task_id: bytes, node: bytes) -> None:
    """Give a task back."""
    await tx.execute(Q.release_task, id=task_id, node=node)


async def writers_in_progress(tx: Tx) -> tuple[int, int]:
    """The number that the next transaction gets, and that of the oldest one under way: who is below both has ended."""
    row = await tx.one(Q.writers_in_progress)
    assert row is not None  # a select without a table has a row
    return int(row[0]), int(row[1])


async def look(tx: Tx, task: Task, known: Snapshot | None, limit: int) -> Page:
    """What is to be done with the next `limit` messages behind the task's cursor. Reads only."""
    wanted = task.wanted
    snapshot = await endpoints.current_snapshot(tx, known)
    stop = _cannot(task, snapshot)
    bounds = {"after_us": task.after[0], "after_id": task.after[1], "until_us": wanted.until_us}
    rows = await tx.all(Q.task_page, **bounds, limit=limit) if not stop else []
    after = (rows[-1][1], rows[-1][0]) if rows else task.after
    messages = [found for row in rows if (found := _message_of_page(task.tenant, row)) is not None and _is_wanted(found, wanted)]
    choose = _missing if task.kind == "replay_missing" else _standing
    chosen, under_way = await choose(tx, wanted, snapshot, messages) if messages else ([], False)
    return Page(task.after, after, len(rows), chosen, snapshot.version, len(rows) < limit, stop, under_way)


async def advance(tx: Tx, task: Task, node: bytes, page: Page, deadline_s: float) -> tuple[int, str]:
    """Change what the page has found and move the cursor behind it, in one; how many were changed, and the task's state.

    Raises `TaskLost` where the task is not this node's any more, or has ended; then nothing is changed.
    """
    held = await tx.one(Q.hold_task, id=task.id, node=node) if await nodes.is_live(tx, node) else None
    if held is None or (held[1], held[2]) != page.before:
        raise TaskLost(f"{task.text_id} is not this process's any more")
    if page.stop:
        await _end(tx, task, node, page, "fail", 0, page.stop)
        return 0, TASK.transitions["fail"][1]
    version = await tx.one(Q.get_version)
    if (int(version[0]) if version else 0) != page.version:
        raise StaleSnapshot
    changed = await _change(tx, task, page.chosen, deadline_s) if page.chosen else 0
    tx.runtime.failpoints.hit(PAGE_WRITTEN)
    missed = task.kind == "cancel" and (held[3] == AGAIN or page.under_way or changed < len(page.chosen))
    if not page.is_last:
        await _move(tx, task, node, page, changed, page.after, AGAIN if missed else None)
        return changed, TASK.initial
    if missed:  # what fails then is due again, behind the cursor
        await _move(tx, task, node, page, changed, (task.wanted.since_us - 1, _NEWEST[1]), None)
        return changed, TASK.initial
    await _end(tx, task, node, page, "finish", changed, None)
    return changed, TASK.transitions["finish"][1]


async def decide(tx: Tx, task_id: bytes, why: str) -> Task:
    """Cancel a running task, as somebody asked; what it has changed stays. `IllegalTransition` where it has ended."""
    row = await tx.one(Q.hold_task_to_decide, id=task_id)
    if row is None:
        raise _no_task(task_id)
    state = TASK.after("cancel", row[0])
    entry = await audit_append(tx, "task.cancel", task_id, table=TABLE, before={"state": row[0]}, after={"state": state, "why": why})
    await tx.execute(Q.decide_task, id=task_id, state=state, reason=why, now_us=tx.now_us, audit_id=entry)
    return await get(tx, task_id)


async def get(tx: Tx, task_id: bytes) -> Task:
    """One task of the scope's tenant."""
    row = await tx.one(Q.get_task, id=task_id)
    if row is None:
        raise _no_task(task_id)
    return task_of(row)


async def page(tx: Tx, at: Place | None, limit: int) -> list[Task]:
    """The tenant's tasks, the newest first, behind `at`."""
    created_us, id_ = at or _NEWEST
    return [task_of(row) for row in await tx.all(Q.list_tasks, created_us=created_us, id=id_, limit=limit)]


async def page_of_all(tx: Tx, kinds: Sequence[str], states: Sequence[str], at: Place | None, limit: int, *, back: bool) -> list[Task]:
    """Tasks of all tenants, the newest first; `back` goes towards newer ones and returns them oldest first."""
    created_us, id_ = at or (BEFORE_ALL if back else _NEWEST)
    statement = Q.list_all_tasks_back if back else Q.list_all_tasks
    asked = {"kinds": [(kind,) for kind in kinds], "states": [(state,) for state in states]}
    return [task_of(row) for row in await tx.all(statement, created_us=created_us, id=id_, limit=limit, **asked)]


async def tenant_of(tx: Tx, task_id: bytes) -> str:
    """Whose task it is."""
    row = await tx.one(Q.tenant_of_task, id=task_id)
    if row is None:
        raise _no_task(task_id)
    return str(row[0])


def task_of(row: Row) -> Task:
    """A task from its row, in the column order of the queries."""
    tenant, id_, kind, state, parameters, after_us, after_id, done, changed, owner, reason, *times, trace_id, span_id = row
    created_us, updated_us, finished_us = times
    return Task(
        tenant,
        id_,
        kind,
        state,
        _read(parameters),
        (after_us, after_id),
        done,
        changed,
        owner,
        reason,
        created_us,
        updated_us,
        finished_us,
        TraceContext(trace_id, span_id),
    )


def _cannot(task: Task, snapshot: Snapshot) -> str:
    """Why the task's endpoint takes nothing any more; a cancellation needs no endpoint that does."""
    if task.wanted.endpoint_id is None or task.kind == "cancel":
        return ""
    endpoint = snapshot.endpoints.get(task.wanted.endpoint_id)
    if endpoint is None:
        return "the endpoint was deleted"
    return "the endpoint is disabled" if endpoint.disabled else ""


def _message_of_page(tenant: str, row: Row) -> Message | None:
    """A message without its payload; None where that was erased, for it cannot be sent any more."""
    id_, created_us, event_type, channels, tags, ordering_key, deliver_at_us, is_expunged = row
    if is_expunged:
        return None
    return message_of((tenant, id_, event_type, None, "", channels, tags, ordering_key, deliver_at_us, created_us, "", "", None))


def _is_wanted(message: Message, wanted: TaskWanted) -> bool:
    if wanted.event_types and message.event_type not in wanted.event_types:
        return False
    if wanted.channel and wanted.channel not in (message.channels or ()):
        return False
    return not wanted.tag or wanted.tag in (message.tags or ())


async def _standing(tx: Tx, wanted: TaskWanted, snapshot: Snapshot, messages: Sequence[Message]) -> tuple[list[Chosen], bool]:
    """Deliveries that stand in one of the wanted states, to endpoints that take messages (or whose backlog is cancelled)."""
    by_id = {message.id: message for message in messages}
    chosen, under_way = [], False
    for message_id, endpoint_id, state, status in await _deliveries(tx, wanted, messages):
        endpoint = snapshot.endpoints.get(endpoint_id)
        takes = "due" in wanted.states or (endpoint is not None and not endpoint.disabled)
        if takes and state in wanted.states and wanted.least_status <= status < wanted.above_status:
            chosen.append(_chosen(by_id[message_id], endpoint_id, endpoint))
        under_way = under_way or state == "leased"
    return _in_order(chosen, messages), under_way


async def _missing(tx: Tx, wanted: TaskWanted, snapshot: Snapshot, messages: Sequence[Message]) -> tuple[list[Chosen], bool]:
    """What the endpoint wants and has no delivery of."""
    assert wanted.endpoint_id is not None  # `_cannot` has found it
    endpoint = snapshot.endpoints[wanted.endpoint_id]
    there = {row[0] for row in await _deliveries(tx, wanted, messages)}
    missing = [each for each in messages if each.id not in there and endpoint.wants(each.event_type, each.channels)]
    if endpoint.filter is not None and missing:
        rows = await tx.all(Q.messages_by_id, rows=sorted((tx.tenant, each.id) for each in missing))
        whole = {row[1]: message_of(row) for row in rows}
        missing = [each for each in missing if each.id in whole and wanting([endpoint], _as_new(whole[each.id]))]
    return [_chosen(each, endpoint.id, endpoint) for each in missing], False


async def _deliveries(tx: Tx, wanted: TaskWanted, messages: Sequence[Message]) -> list[Row]:
    whose = {"any_endpoint": int(wanted.endpoint_id is None), "endpoint_id": wanted.endpoint_id or b""}
    return await tx.all(Q.standing_deliveries, rows=sorted((message.id,) for message in messages), **whose)


def _chosen(message: Message, endpoint_id: bytes, endpoint: Endpoint | None) -> Chosen:
    line = endpoint.line_of(message.ordering_key) if endpoint is not None else None
    return Chosen(message.id, endpoint_id, line, message.deliver_at_us or 0)


def _in_order(chosen: Sequence[Chosen], messages: Sequence[Message]) -> list[Chosen]:
    """By the messages' order, in which they take their places."""
    at = {message.id: place for place, message in enumerate(messages)}
    return sorted(chosen, key=lambda each: (at[each.message_id], each.endpoint_id))


def _as_new(message: Message) -> NewMessage:
    return NewMessage(message.event_type, message.payload, channels=message.channels, tags=message.tags)


async def _change(tx: Tx, task: Task, chosen: Sequence[Chosen], deadline_s: float) -> int:
    if task.kind == "cancel":
        return await _cancel(tx, task, chosen)
    if task.kind != "replay_missing":
        keys = sorted((each.message_id, each.endpoint_id) for each in chosen)
        states = [(state,) for state in task.wanted.states]
        held = {(row[0], row[1]) for row in await tx.all(Q.hold_chosen, rows=keys, states=states)}
        chosen = [each for each in chosen if (each.message_id, each.endpoint_id) in held]
    rows = await _rows(tx, chosen, deadline_s)
    if not rows:
        return 0
    reason = f"{task.kind} by {task.text_id}"
    if task.kind == "replay_missing":
        made = await tx.execute(Q.insert_missing, endpoint_id=task.wanted.endpoint_id, rows=rows, reason=reason)
    else:
        made = await tx.execute(Q.redrive, rows=[(tx.tenant, *row) for row in rows], reason=reason)
    if made:
        tx.wake_others()
    return made


async def _rows(tx: Tx, chosen: Sequence[Chosen], deadline_s: float) -> list[Row]:
    """Each delivery with its time, its deadline, and its place in its line."""
    in_line = [(tx.tenant, each.endpoint_id, each.line) for each in chosen if each.line is not None]
    places = iter(await lines.take_places(tx, in_line) if in_line else [])
    rows: list[Row] = []
    for each in chosen:
        due_us = max(tx.now_us, each.not_before_us)
        place, is_first = (None, True) if each.line is None else next(places)
        deadline_us = due_us + int(deadline_s * 1_000_000)
        rows.append((each.message_id, each.endpoint_id, due_us if is_first else NEVER_US, deadline_us, each.line, place))
    return sorted(rows)


async def _cancel(tx: Tx, task: Task, chosen: Sequence[Chosen]) -> int:
    keys = sorted((each.message_id, each.endpoint_id) for each in chosen)
    why = f": {task.wanted.why}" if task.wanted.why else ""
    gone = await tx.all(Q.cancel_chosen, rows=keys, reason=f"cancelled by {task.text_id}{why}")
    for message_id, endpoint_id, number, _ in gone:
        store.announce(tx, tx.tenant, message_id, endpoint_id, "cancelled", number)
    await lines.free_next(tx, {(tx.tenant, row[1], row[3]) for row in gone if row[3] is not None})
    return len(gone)


async def _move(tx: Tx, task: Task, node: bytes, page: Page, changed: int, after: Place, reason: str | None) -> None:
    at = {"after_us": after[0], "after_id": after[1]}
    facts = {"state": TASK.initial, "reason": reason, "finished_us": None}
    await tx.execute(Q.move_task, **_moved(tx, task, node, page, changed), **at, **facts)
    tx.runtime.failpoints.hit(MOVED)


async def _end(tx: Tx, task: Task, node: bytes, page: Page, event: str, changed: int, reason: str | None) -> None:
    state = TASK.transitions[event][1]
    at = {"after_us": page.after[0], "after_id": page.after[1]}
    facts = {"state": state, "reason": reason, "finished_us": tx.now_us}
    await tx.execute(Q.move_task, **_moved(tx, task, node, page, changed), **at, **facts)
    tx.emit("events", {"type": "webhook.task_ended", "task": task.text_id, "kind": task.kind, "state": state})
    tx.runtime.failpoints.hit(ENDED)


def _moved(tx: Tx, task: Task, node: bytes, page: Page, changed: int) -> dict[str, Any]:
    return {"id": task.id, "node": node, "done": page.messages, "changed": changed, "now_us": tx.now_us}


async def fail(tx: Tx, task: Task, node: bytes, reason: str) -> None:
    """End a task that cannot go on, if it is this node's still."""
    held = await tx.one(Q.hold_task, id=task.id, node=node) if await nodes.is_live(tx, node) else None
    if held is not None:
        place = (held[1], held[2])
        await _end(tx, task, node, Page(place, place, 0, (), 0, is_last=True), "fail", 0, reason[:2000])


def _no_task(task_id: bytes) -> NotFound:
    return NotFound(f"there is no task {to_text('qtask', task_id)}")


def _written(wanted: TaskWanted) -> dict[str, Any]:
    """As it is stored, and as its audit entry says it."""
    return {
        "endpoint": wanted.endpoint_id.hex() if wanted.endpoint_id is not None else None,
        "since_us": wanted.since_us,
        "until_us": wanted.until_us,
        "states": wanted.states,
        "event_types": wanted.event_types,
        "channel": wanted.channel,
        "tag": wanted.tag,
        "status": [wanted.least_status, wanted.above_status],
        "why": wanted.why,
    }


def _read(parameters: str) -> TaskWanted:
    found = orjson.loads(parameters)
    least_status, above_status = found["status"]
    return TaskWanted(
        bytes.fromhex(found["endpoint"]) if found["endpoint"] is not None else None,
        found["since_us"],
        found["until_us"],
        tuple(found["states"]),
        tuple(found["event_types"]),
        found["channel"],
        found["tag"],
        least_status,
        above_status,
        found["why"],
    )
