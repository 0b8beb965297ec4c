"""Operators' verbs over many messages, as Svix has them: recover, replay-missing, bulk-replay, and the background tasks that they are."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path, Query, Response

from ..errors import NotFound
from ..kernel.ids import from_text
from ..storage.transaction import Tx
from ..webhooks import operators, tasks
from ..webhooks.model import Task, TaskKind, TaskWanted
from ..webhooks.operators import RECOVERED, REPLAYED
from ..webhooks.states import TASK
from .access import Access
from .models import BulkReplay, Since
from .pagination import CREATED, DEFAULT_LIMIT, Asked, Iterator, Limit, Order, Window, page
from .render import SVIX_STATUSES, SVIX_TASKS, background_task_out
from .routing import Caller, answer, once

router: Final = APIRouter(prefix="/api/v1/app/{app_id}/endpoint/{endpoint_id}", tags=["Endpoint"])
background: Final = APIRouter(prefix="/api/v1/background-task", tags=["Background tasks"])

Status = Annotated[Literal["running", "finished", "failed"] | None, Query()]
Kind = Annotated[str | None, Query(alias="task", max_length=64, description="`endpoint.recover`, for example.")]
TaskId = Annotated[str, Path(max_length=64)]


@router.post("/recover", operation_id="v1.endpoint.recover", status_code=202)
async def recover(caller: Caller, endpoint_id: str, body: Since) -> Response:
    """Send an endpoint again what it missed since then: what was skipped while it was disabled, and dead letters."""
    return await _begun(caller, "recover", endpoint_id, body.wanted(RECOVERED))


@router.post("/replay-missing", operation_id="v1.endpoint.replay-missing", status_code=202)
async def replay_missing(caller: Caller, endpoint_id: str, body: Since) -> Response:
    """Send an endpoint messages since then that it wants and that were never meant for it."""
    return await _begun(caller, "replay_missing", endpoint_id, body.wanted())


@router.post("/bulk-replay", operation_id="v1.endpoint.bulk-replay", status_code=202)
async def bulk_replay(caller: Caller, endpoint_id: str, body: BulkReplay) -> Response:
    """Send an endpoint again what it was sent since then, delivered or not, by filter."""
    return await _begun(caller, "bulk_replay", endpoint_id, body.wanted(REPLAYED))


@background.get("", operation_id="v1.background-task.list")
async def list_background_tasks(
    caller: Caller,
    limit: Limit = DEFAULT_LIMIT,
    iterator: Iterator = None,
    order: Order = None,
    status: Status = None,
    task: Kind = None,
) -> Response:
    """Background tasks of all applications, the newest first. `/tenants/{t}/webhooks/tasks` has one's own, cancellations included."""
    kinds = [kind for kind, name in SVIX_TASKS.items() if task in {None, name}]
    states = [state for state in TASK.states if status in {None, SVIX_STATUSES[state]}]
    asked = Asked(limit, iterator, order == "ascending")
    fetch = partial(caller.read, _page, kinds, states, scope=caller.system_scope)
    return answer(await page(asked, CREATED, fetch, lambda each: (each.created_us, each.id), background_task_out))


@background.get("/{task_id}", operation_id="v1.background-task.get")
async def get_background_task(caller: Caller, task_id: TaskId) -> Response:
    """One background task."""
    id_ = from_text("qtask", task_id)
    tenant: str = await caller.read(tasks.tenant_of, id_, scope=caller.system_scope)
    found: Task = await caller.read(tasks.get, id_, scope=caller.system_scope.with_tenant(tenant))
    if found.kind not in SVIX_TASKS:
        raise NotFound(f"there is no background task {task_id} of Svix's kinds", fix="Ask for it below /tenants/{t}/webhooks/tasks.")
    return answer(background_task_out(found))


async def _begun(caller: Access, kind: TaskKind, endpoint_id: str, wanted: TaskWanted) -> Response:
    task, replayed = await begin_once(caller, kind, endpoint_id, wanted, f"/app/{{app_id}}/endpoint/{{endpoint_id}}/{kind}")
    return answer(background_task_out(task, with_data=False), 202, replayed=replayed)


async def begin_once(caller: Access, kind: TaskKind, endpoint: str | None, wanted: TaskWanted, path: str) -> tuple[Task, bool]:
    """A running task, and whether an earlier request with this Idempotency-Key began it."""
    caller.edge.netra.database.check_intake()

    async def make(tx: Tx) -> tuple[bytes, Task]:
        made = await operators.begin(tx, kind, endpoint, wanted)
        return made.id, made

    return await once(caller, caller.scope, f"POST {path}", make, tasks.get)


async def _page(tx: Tx, kinds: list[str], states: list[str], window: Window[tuple[int, bytes]]) -> list[Task]:
    return await tasks.page_of_all(tx, kinds, states, window.at, window.count, back=window.back)
