"""Event types, which belong to the operator: `/api/v1/event-type`. Any valid key may read them."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from ..errors import NotFound
from ..storage.transaction import Tx
from ..webhooks import endpoints
from ..webhooks.endpoints import check_event_type
from ..webhooks.model import EventType
from .models import EventTypeIn, EventTypePatch, EventTypeUpsert
from .pagination import DEFAULT_LIMIT, NAME, Asked, Iterator, Limit, Order, Window, page
from .render import event_type_out
from .routing import Caller, answer, no_content, once

router: Final = APIRouter(prefix="/api/v1/event-type", tags=["Event type"])

WithContent = Annotated[bool, Query(description="Whether schemas are included.")]
_BEFORE_ALL, _AFTER_ALL = "", "\U0010ffff"


@router.get("", operation_id="v1.event-type.list")
async def list_event_types(
    caller: Caller,
    limit: Limit = DEFAULT_LIMIT,
    iterator: Iterator = None,
    order: Order = None,
    *,
    include_archived: Annotated[bool, Query()] = False,
    with_content: WithContent = False,
) -> Response:
    """Event types by name."""
    fetch = partial(caller.read, _page, include_archived, scope=caller.system_scope)
    asked = Asked(limit, iterator, order == "descending")
    return answer(await page(asked, NAME, fetch, lambda each: each.name, partial(event_type_out, with_content=with_content)))


@router.post("", operation_id="v1.event-type.create", status_code=201)
async def create_event_type(caller: Caller, body: EventTypeIn) -> Response:
    """Define an event type; an archived or deleted one comes back."""

    async def make(tx: Tx) -> tuple[bytes, EventType]:
        made = await _create(tx, body)
        return made.name.encode(), made

    async def again(tx: Tx, ref: bytes) -> EventType:
        return await endpoints.get_event_type(tx, ref.decode())

    event_type, replayed = await once(caller, caller.system_scope, "POST /event-type", make, again)
    caller.edge.netra.webhooks.schemas.forget()
    return answer(event_type_out(event_type), 201, replayed=replayed)


@router.get("/{event_type_name}", operation_id="v1.event-type.get")
async def get_event_type(caller: Caller, event_type_name: str) -> Response:
    """One event type."""
    found = await caller.read(endpoints.get_event_type, event_type_name, scope=caller.system_scope)
    return answer(event_type_out(found))


@router.put("/{event_type_name}", operation_id="v1.event-type.update")
async def update_event_type(caller: Caller, event_type_name: str, body: EventTypeUpsert) -> Response:
    """Replace an event type, or define it (201)."""
    check_event_type(event_type_name)
    event_type, made = await caller.write(_upsert, event_type_name, body, scope=caller.system_scope)
    caller.edge.netra.webhooks.schemas.forget()
    return answer(event_type_out(event_type), 201 if made else 200)


@router.patch("/{event_type_name}", operation_id="v1.event-type.patch")
async def patch_event_type(caller: Caller, event_type_name: str, body: EventTypePatch) -> Response:
    """Change what is named of an event type."""
    changes = body.changes()
    after = await caller.write(endpoints.update_event_type, event_type_name, changes, scope=caller.system_scope)
    caller.edge.netra.webhooks.schemas.forget()
    return answer(event_type_out(after))


@router.delete("/{event_type_name}", operation_id="v1.event-type.delete", status_code=204)
async def delete_event_type(caller: Caller, event_type_name: str, *, expunge: Annotated[bool, Query()] = False) -> Response:
    """Archive an event type, as Svix does; with `expunge` delete it."""
    database = caller.edge.netra.database
    if expunge:
        await database.write(endpoints.bury_event_type, event_type_name, scope=caller.system_scope)
    else:
        await database.write(endpoints.update_event_type, event_type_name, {"archived": True}, scope=caller.system_scope)
    caller.edge.netra.webhooks.schemas.forget()
    return no_content()


async def _page(tx: Tx, with_archived: Any, window: Window[str]) -> list[EventType]:
    start = window.start(_BEFORE_ALL, _AFTER_ALL)
    return await endpoints.event_types(tx, start, window.count, with_archived=with_archived, back=window.back)


async def _create(tx: Tx, body: EventTypeIn) -> EventType:
    try:
        known = await endpoints.get_event_type(tx, body.name)
    except NotFound:
        known = None
    if known is not None and known.archived:
        return await endpoints.update_event_type(tx, body.name, body.changes())
    return await endpoints.create_event_type(tx, EventType(name=body.name, created_us=0, updated_us=0, **body.changes()))


async def _upsert(tx: Tx, name: str, body: EventTypeUpsert) -> tuple[EventType, bool]:
    try:
        await endpoints.get_event_type(tx, name)
    except NotFound:
        return await endpoints.create_event_type(tx, EventType(name=name, created_us=0, updated_us=0, **body.changes())), True
    return await endpoints.update_event_type(tx, name, body.changes()), False
