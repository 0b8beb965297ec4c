"""Operators' verbs over messages, as routes of our own: dead letters, cancellations, tasks. Errors are problem+json (RFC 9457)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from ..kernel.ids import from_text
from ..storage.transaction import Tx
from ..webhooks import operators, store, tasks
from ..webhooks.model import DeliveryRow, Task, TaskWanted
from .models import EventTypes, Time
from .pagination import DEFAULT_LIMIT, TWO_IDS, Asked, Iterator, Limit, Window, page
from .render import microseconds, task_out
from .routing import Caller, answer
from .svix_message import dead_letter_out, find_message
from .svix_task import begin_once

router: Final = APIRouter(prefix="/api/v1/tenants/{tenant}/webhooks", tags=["Webhooks"])

EndpointRef = Annotated[str, Field(max_length=256, description="An endpoint's id or uid.")]
Why = Annotated[str, Field(min_length=1, max_length=operators.LONGEST_WHY, description="The reason, for the audit trail.")]
TaskRef = Annotated[str, Path(description="A task's id, `qtask_...`.", max_length=64)]
AfterTask = Annotated[str | None, Query(max_length=64, description="The id of the last task that is known.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CancelIn(_Body):
    """Why a message is cancelled, and for which endpoint if not for all."""

    why: Why
    endpoint: EndpointRef | None = None


class BacklogIn(_Body):
    """Why what waits for an endpoint is cancelled: of messages created since then, before `until` if that is given."""

    why: Why
    since: Time | None = None
    until: Time | None = None


class RedriveIn(_Body):
    """Which dead letters are sent again: all, without a filter."""

    endpoint: EndpointRef | None = None
    event_types: EventTypes | None = None
    since: Time | None = None
    until: Time | None = None


class TaskCancelIn(_Body):
    """Why a task is ended."""

    why: Why | None = None


@router.get("/dead", operation_id="netra.webhooks.dead")
async def list_dead_letters(
    caller: Caller,
    limit: Limit = DEFAULT_LIMIT,
    iterator: Iterator = None,
    endpoint: Annotated[str | None, Query(max_length=256, description="Only to this endpoint, by id or uid.")] = None,
    event_type: Annotated[list[str] | None, Query(description="Only of these types; may be repeated.")] = None,
    since: Annotated[Time | None, Query(description="Of messages created since then.")] = None,
    until: Annotated[Time | None, Query(description="Of messages created before then.")] = None,
) -> Response:
    """Dead letters, by endpoint and message. `.../resend` of the Svix routes drives one again, `dead/redrive` many. Forward only."""
    asked = Asked(limit, None if iterator is None else iterator.removeprefix("-"))
    bounds = (None if since is None else microseconds(since), None if until is None else microseconds(until))
    fetch = partial(caller.read, _dead, (endpoint, tuple(event_type or ()), *bounds))
    shown = await page(asked, TWO_IDS, fetch, lambda each: (each.endpoint_id, each.message_id), dead_letter_out)
    return answer({name: shown[name] for name in ("data", "iterator", "done")})


@router.post("/dead/redrive", operation_id="netra.webhooks.redrive", status_code=202)
async def redrive(caller: Caller, body: RedriveIn) -> Response:
    """Send dead letters again, as a task: those of endpoints that take messages."""
    wanted = TaskWanted(None, *_bounds(body.since, body.until), states=("dead",), event_types=tuple(body.event_types or ()))
    task, replayed = await begin_once(caller, "redrive", body.endpoint, wanted, "/tenants/{tenant}/webhooks/dead/redrive")
    return answer(task_out(task), 202, replayed=replayed)


@router.post("/messages/{message}/cancel", operation_id="netra.webhooks.cancel")
async def cancel_message(caller: Caller, message: str, body: CancelIn) -> Response:
    """Cancel what of a message is due. An attempt under way is not stopped, and its endpoint is named in `under_way`."""
    why = operators.check_why(body.why)

    async def cancel(tx: Tx) -> tuple[list[bytes], list[bytes]]:
        found = await find_message(tx, message)
        return await operators.cancel(tx, found.id, body.endpoint, why)

    return answer(operators.cancelled_of(*await caller.write(cancel)))


@router.post("/endpoints/{endpoint}/cancel", operation_id="netra.webhooks.cancel-backlog", status_code=202)
async def cancel_backlog(caller: Caller, endpoint: str, body: BacklogIn) -> Response:
    """Cancel everything that waits for an endpoint, as a task."""
    why = operators.check_why(body.why)
    wanted = TaskWanted(None, *_bounds(body.since, body.until), states=("due",), why=why)
    task, replayed = await begin_once(caller, "cancel", endpoint, wanted, "/tenants/{tenant}/webhooks/endpoints/{endpoint}/cancel")
    return answer(task_out(task), 202, replayed=replayed)


@router.get("/tasks", operation_id="netra.webhooks.tasks")
async def list_tasks(caller: Caller, limit: Limit = DEFAULT_LIMIT, after: AfterTask = None) -> Response:
    """Tasks, the newest first; `after` continues behind one."""
    place = None
    if after is not None:
        last: Task = await caller.read(tasks.get, from_text("qtask", after))
        place = (last.created_us, last.id)
    found = await caller.read(tasks.page, place, limit + 1)
    data = [task_out(each) for each in found[:limit]]
    return answer({"data": data, "after": data[-1]["task"] if data else after, "done": len(found) <= limit})


@router.get("/tasks/{task}", operation_id="netra.webhooks.task")
async def get_task(caller: Caller, task: TaskRef) -> Response:
    """One task: how far it is and what it has changed."""
    return answer(task_out(await caller.read(tasks.get, from_text("qtask", task))))


@router.post("/tasks/{task}/cancel", operation_id="netra.webhooks.cancel-task")
async def cancel_task(caller: Caller, task: TaskRef, body: TaskCancelIn | None = None) -> Response:
    """End a running task; what it has changed stays so, and it changes nothing more."""
    why = operators.check_why(body.why) if body is not None and body.why is not None else ""
    return answer(task_out(await caller.write(tasks.decide, from_text("qtask", task), why)))


async def _dead(
    tx: Tx, asked: tuple[str | None, tuple[str, ...], int | None, int | None], window: Window[tuple[bytes, bytes]]
) -> list[DeliveryRow]:
    return await store.dead_letters(tx, window.at or (b"", b""), window.count, await operators.dead_filter(tx, *asked))


def _bounds(since: Time | None, until: Time | None) -> tuple[int, int]:
    return (0 if since is None else microseconds(since)), (0 if until is None else microseconds(until))
