"""Messages as they are read: `/api/v1/app/{app_id}/msg`. They are posted through `ingest`."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Response

from ..errors import NotFound
from ..kernel.ids import to_text, try_from_text
from ..storage.transaction import Tx
from ..webhooks import expunge, search, store
from ..webhooks.model import DeliveryRow, Endpoint, Message
from ..webhooks.search import MessageFilter
from .filters import Messages
from .pagination import CREATED, DEFAULT_LIMIT, ID, Asked, Iterator, Limit, Window, page
from .render import delivery_out, endpoint_out, message_out, timestamp
from .routing import Caller, answer, no_content

router: Final = APIRouter(prefix="/api/v1/app/{app_id}/msg", tags=["Message"])

WithContent = Annotated[bool, Query(description="Whether payloads are included; `{}` stands in their place if not.")]


@router.get("", operation_id="v1.message.list")
async def list_messages(
    caller: Caller,
    wanted: Messages,
    limit: Limit = DEFAULT_LIMIT,
    iterator: Iterator = None,
    *,
    with_content: WithContent = True,
) -> Response:
    """An application's messages, the newest first. A page ends early where the payloads of its messages come to more than 4 MiB."""
    out = partial(message_out, with_content=with_content)
    return answer(await page(Asked(limit, iterator), CREATED, partial(caller.read, messages_in, wanted, with_content), message_place, out))


@router.get("/{msg_id}", operation_id="v1.message.get")
async def get_message(caller: Caller, msg_id: str, *, with_content: WithContent = True) -> Response:
    """One message, by id or eventId."""
    message = await caller.read(find_message, msg_id)
    return answer(message_out(message, with_content=with_content))


@router.delete("/{msg_id}/content", operation_id="v1.message.expunge-content", status_code=204)
async def expunge_content(caller: Caller, msg_id: str) -> Response:
    """Erase a message's payload: it stays as a record, is sent no more, and what was due of it is cancelled."""

    async def erase(tx: Tx) -> None:
        await expunge.expunge(tx, (await find_message(tx, msg_id)).id)

    await caller.write(erase)
    return no_content()


@router.get("/{msg_id}/endpoint", operation_id="v1.message-attempt.list-attempted-destinations")
async def list_destinations(
    caller: Caller,
    msg_id: str,
    limit: Limit = DEFAULT_LIMIT,
    iterator: Iterator = None,
) -> Response:
    """Where a message goes and how that stands, deleted endpoints included."""
    message: Message = await caller.read(find_message, msg_id)
    fetch = partial(caller.read, _destinations, message.id)

    return answer(await page(Asked(limit, iterator), ID, fetch, lambda each: each[0].endpoint_id, _destination_out))


async def find_message(tx: Tx, reference: str) -> Message:
    """The message of that id or eventId."""
    id_ = try_from_text("msg", reference)
    found = (await search.messages_by_id(tx, [id_])).get(id_) if id_ is not None else None
    found = found or await store.message_of_event_id(tx, reference)
    if found is None:
        raise NotFound(f"there is no message {reference[:80]!r}")
    return found


def _destination_out(each: tuple[DeliveryRow, Endpoint]) -> dict[str, Any]:
    """Svix's MessageEndpointOut, and the delivery's own state and reason."""
    delivery, endpoint = each
    return {**endpoint_out(endpoint), **delivery_out(delivery)}


def dead_letter_out(delivery: DeliveryRow) -> dict[str, Any]:
    """One dead letter of the native list."""
    return {
        "message": to_text("msg", delivery.message_id),
        "endpoint": to_text("ep", delivery.endpoint_id),
        "state": delivery.state,
        "attempts": delivery.number,
        "last_status": delivery.last_status or None,
        "reason": delivery.reason,
        "at": timestamp(delivery.due_us),
    }


async def messages_in(tx: Tx, wanted: MessageFilter, content: bool, window: Window[tuple[int, bytes]]) -> list[Message]:  # noqa: FBT001  (positional, through `read`)
    """The messages of one page."""
    return await search.messages(tx, wanted, window.at, window.count, back=window.back, content=content)


def message_place(message: Message) -> tuple[int, bytes]:
    """Where a message stands in the list."""
    return message.created_us, message.id


async def _destinations(tx: Tx, message_id: bytes, window: Window[bytes]) -> list[tuple[DeliveryRow, Endpoint]]:
    return await search.destinations(tx, message_id, window.at, window.count, back=window.back)
