"""Attempts, and sending again: `/api/v1/app/{app_id}/attempt/...` and below a message."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from ..errors import InvalidInput, NotFound
from ..kernel.ids import to_text, try_from_text
from ..storage.transaction import Tx
from ..webhooks import endpoints, expunge, search, store
from ..webhooks.model import Attempt, Endpoint, Message
from ..webhooks.search import AttemptFilter
from .filters import Attempts
from .pagination import DEFAULT_LIMIT, ID, Asked, Iterator, Limit, Window, page
from .render import attempt_out
from .routing import Caller, answer, no_content, once
from .svix_message import find_message

router: Final = APIRouter(prefix="/api/v1/app/{app_id}", tags=["Message attempt"])

_Shown = tuple[Attempt, Message | None]
WithContent = Annotated[bool, Query(description="Whether response bodies are included.")]


@router.get("/attempt/endpoint/{endpoint_id}", operation_id="v1.message-attempt.list-by-endpoint")
async def list_by_endpoint(
    caller: Caller,
    endpoint_id: str,
    wanted: Attempts,
    limit: Limit = DEFAULT_LIMIT,
    iterator: Iterator = None,
    *,
    with_content: WithContent = True,
    with_msg: Annotated[bool, Query(description="Whether each attempt's message is included, without its payload.")] = False,
) -> Response:
    """An endpoint's attempts, the newest first."""
    endpoint: Endpoint = await caller.read(endpoints.get, endpoint_id)

    fetch = partial(caller.read, _of_endpoint, endpoint.id, wanted, with_msg)
    return answer(await page(Asked(limit, iterator), ID, fetch, _place, partial(_out, with_content=with_content)))


@router.get("/attempt/msg/{msg_id}", operation_id="v1.message-attempt.list-by-msg")
async def list_by_message(
    caller: Caller,
    msg_id: str,
    wanted: Attempts,
    limit: Limit = DEFAULT_LIMIT,
    iterator: Iterator = None,
    *,
    with_content: WithContent = True,
    endpoint_id: Annotated[str | None, Query(description="Only attempts to this endpoint.")] = None,
) -> Response:
    """A message's attempts, the newest first."""
    message: Message = await caller.read(find_message, msg_id)
    if endpoint_id is not None:
        wanted = replace(wanted, endpoint_id=(await caller.read(endpoints.get, endpoint_id)).id)

    fetch = partial(caller.read, _of_message, message.id, wanted)
    return answer(await page(Asked(limit, iterator), ID, fetch, _place, partial(_out, with_content=with_content)))


@router.get("/msg/{msg_id}/attempt/{attempt_id}", operation_id="v1.message-attempt.get")
async def get_attempt(caller: Caller, msg_id: str, attempt_id: str) -> Response:
    """One attempt."""
    attempt = await caller.read(_find_attempt, msg_id, attempt_id)
    return answer(attempt_out(attempt, None, with_content=True))


@router.delete("/msg/{msg_id}/attempt/{attempt_id}/content", operation_id="v1.message-attempt.expunge-content", status_code=204)
async def expunge_content(caller: Caller, msg_id: str, attempt_id: str) -> Response:
    """Erase what a receiver answered to one attempt."""

    async def erase(tx: Tx) -> None:
        found = await _find_attempt(tx, msg_id, attempt_id)
        await expunge.expunge_attempt(tx, found.message_id, found.id)

    await caller.write(erase)
    return no_content()


@router.post("/msg/{msg_id}/endpoint/{endpoint_id}/resend", operation_id="v1.message-attempt.resend", status_code=202)
async def resend(caller: Caller, msg_id: str, endpoint_id: str) -> Response:
    """Send a message to an endpoint once more, whatever became of it; one that is on its way right now is refused (409)."""
    netra = caller.edge.netra
    netra.database.check_intake()

    async def make(tx: Tx) -> tuple[bytes, None]:
        message = await find_message(tx, msg_id)
        endpoint = await endpoints.get(tx, endpoint_id)
        if endpoint.disabled:
            raise InvalidInput("the endpoint is disabled", fix="Enable it first.")
        await store.resend(tx, message.id, endpoint.id, netra.webhooks.settings.deadline_s)
        return message.id, None

    async def again(tx: Tx, ref: bytes) -> None:
        await find_message(tx, to_text("msg", ref))

    _, replayed = await once(caller, caller.scope, "POST /app/{app_id}/msg/{msg_id}/endpoint/{endpoint_id}/resend", make, again)
    return answer({}, 202, replayed=replayed)


async def _of_endpoint(tx: Tx, endpoint_id: bytes, wanted: AttemptFilter, with_msg: Any, window: Window[bytes]) -> list[_Shown]:
    attempts = await search.attempts_of_endpoint(tx, endpoint_id, wanted, window.at, window.count, back=window.back)
    found = await search.messages_without_payloads(tx, [attempt.message_id for attempt in attempts]) if with_msg else {}
    return [(attempt, found.get(attempt.message_id)) for attempt in attempts]


async def _of_message(tx: Tx, message_id: bytes, wanted: AttemptFilter, window: Window[bytes]) -> list[_Shown]:
    attempts = await search.attempts_of_message(tx, message_id, wanted, window.at, window.count, back=window.back)
    return [(attempt, None) for attempt in attempts]


def _place(shown: _Shown) -> bytes:
    return shown[0].id


def _out(shown: _Shown, *, with_content: bool) -> dict[str, Any]:
    return attempt_out(*shown, with_content=with_content)


async def _find_attempt(tx: Tx, msg_id: str, attempt_id: str) -> Attempt:
    message = await find_message(tx, msg_id)
    id_ = try_from_text("atmpt", attempt_id)
    if id_ is None:
        raise NotFound(f"there is no attempt {attempt_id[:80]!r}")
    return await store.attempt(tx, message.id, id_)
