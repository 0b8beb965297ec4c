"""What became of an endpoint's messages: the messages themselves, and figures over a time."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from ..kernel.ids import least_of_time
from ..storage.transaction import Tx
from ..webhooks import endpoints, search
from ..webhooks.model import DeliveryRow, Endpoint, Message
from ..webhooks.search import MessageFilter
from .filters import Messages, epoch_us
from .pagination import DEFAULT_LIMIT, ID, Asked, Iterator, Limit, Window, page
from .render import STATUS_OF_STATE, STATUS_TEXT, delivery_out, message_out
from .routing import Caller, answer

router: Final = APIRouter(prefix="/api/v1/app/{app_id}/endpoint/{endpoint_id}", tags=["Endpoint"])

_DAY_US: Final = 24 * 3600 * 1_000_000
USUAL_DAYS: Final = 28
"""The days up to now that figures are about unless others are asked for, as with Svix."""
_HOUR_US: Final = 3600 * 1_000_000

Since = Annotated[datetime | None, Query(description="From then on; 28 days ago unless given.")]
Until = Annotated[datetime | None, Query(description="Up to then; now unless given.")]
_Shown = tuple[DeliveryRow, Message]


@router.get("/msg", operation_id="v1.message-attempt.list-attempted-messages")
async def list_messages(
    caller: Caller,
    endpoint_id: str,
    wanted: Messages,
    limit: Limit = DEFAULT_LIMIT,
    iterator: Iterator = None,
    *,
    status: Annotated[int | None, Query(ge=0, le=4, description="0 success, 1 pending, 2 fail, 3 sending, 4 canceled.")] = None,
    with_content: Annotated[bool, Query(description="Whether payloads are included.")] = True,
) -> Response:
    """The messages for an endpoint, the newest first, and how each stands there. A page ends early as in the list of messages."""
    endpoint: Endpoint = await caller.read(endpoints.get, endpoint_id)
    states = None if status is None else tuple(state for state, shown_as in STATUS_OF_STATE.items() if shown_as == status)
    fetch = partial(caller.read, _messages, endpoint.id, wanted, states, with_content)
    return answer(await page(Asked(limit, iterator), ID, fetch, lambda each: each[1].id, partial(_out, with_content=with_content)))


@router.get("/stats", operation_id="v1.endpoint.get-stats")
async def get_stats(caller: Caller, endpoint_id: str, since: Since = None, until: Until = None) -> Response:
    """How many of the messages that were made in that time stand how at this endpoint."""
    endpoint: Endpoint = await caller.read(endpoints.get, endpoint_id)
    counts = dict.fromkeys(STATUS_TEXT, 0)
    for state, count in (await caller.read(search.states_of_endpoint, endpoint.id, *_ids(caller, since, until))).items():
        counts[STATUS_TEXT[STATUS_OF_STATE[state]]] += count
    return answer(counts)


@router.get("/attempt-stats", operation_id="v1.endpoint.get-attempt-stats")
async def get_attempt_stats(caller: Caller, endpoint_id: str, since: Since = None, until: Until = None) -> Response:
    """How many attempts of that time ended how; the time is widened to whole hours."""
    endpoint: Endpoint = await caller.read(endpoints.get, endpoint_id)
    outcomes = await caller.read(search.outcomes_of_endpoint, endpoint.id, *_ids(caller, since, until, whole_us=_HOUR_US))
    success = outcomes.pop("delivered", 0)
    return answer({"success": success, "fail": sum(outcomes.values()), "canceled": 0})


def _ids(caller: Caller, since: datetime | None, until: datetime | None, whole_us: int = 1) -> tuple[bytes, bytes]:
    """The ids that begin and end the time."""
    end_us = caller.edge.netra.runtime.clock.wall_us() if until is None else epoch_us(until, "until")
    start_us = end_us - USUAL_DAYS * _DAY_US if since is None else epoch_us(since, "since")
    return least_of_time(start_us // whole_us * whole_us), least_of_time(-(-end_us // whole_us) * whole_us + 1000)


async def _messages(
    tx: Tx,
    endpoint_id: bytes,
    wanted: MessageFilter,
    states: tuple[str, ...] | None,
    content: bool,  # noqa: FBT001  (positional, through `read`)
    window: Window[bytes],
) -> list[_Shown]:
    return await search.messages_of_endpoint(tx, endpoint_id, wanted, states, window.at, window.count, back=window.back, content=content)


def _out(each: _Shown, *, with_content: bool) -> dict[str, Any]:
    """Svix's EndpointMessageOut, and the delivery's own state and reason."""
    delivery, message = each
    return {**message_out(message, with_content=with_content), **delivery_out(delivery)}
