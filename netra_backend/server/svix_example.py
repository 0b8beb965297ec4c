"""Trying an endpoint out: an example message to it alone, and whether a message would be sent at all."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Response

from ..errors import InvalidInput
from ..storage.transaction import Tx
from ..webhooks import endpoints, search
from ..webhooks.model import Message
from ..webhooks.schemas import newest
from .models import EventExample, Precheck
from .render import message_out
from .routing import Caller, answer, once

router: Final = APIRouter(prefix="/api/v1/app/{app_id}", tags=["Endpoint"])

PING: Final = "svix.ping"
_PING_PAYLOAD: Final = {"type": PING, "success": True}


@router.post("/endpoint/{endpoint_id}/send-example", operation_id="v1.endpoint.send-example", status_code=200)
async def send_example(caller: Caller, endpoint_id: str, body: EventExample) -> Response:
    """Send an example to one endpoint, whatever event types, channels and filter it has: the event type's own, or a given payload."""
    webhooks = caller.edge.netra.webhooks
    if body.payload is not None:
        caller.require("tenant")  # its receiver takes it for a message: whoever may only send again is not to word one

    async def make(tx: Tx) -> tuple[bytes, Message]:
        endpoint = await endpoints.get(tx, endpoint_id)
        if endpoint.disabled:
            raise InvalidInput("the endpoint is disabled", fix="Enable it first.")
        payload = await _payload(tx, body)
        message = await webhooks.send_to(tx, endpoint, body.event_type, payload)
        return message, await again(tx, message)

    async def again(tx: Tx, ref: bytes) -> Message:
        return (await search.messages_by_id(tx, [ref]))[ref]

    message, replayed = await once(caller, caller.scope, "POST /app/{app_id}/endpoint/{endpoint_id}/send-example", make, again)
    return answer(message_out(message), replayed=replayed)


@router.post("/msg/precheck/active", operation_id="v1.message.precheck", tags=["Message"])
async def precheck(caller: Caller, body: Precheck) -> Response:
    """Whether any enabled endpoint takes messages of this event type and these channels; filters need the message and are not asked."""
    snapshot = await caller.edge.netra.webhooks.snapshots.get(caller.tenant.tenant)
    channels = None if body.channels is None else tuple(body.channels)
    return answer({"active": any(not endpoint.disabled for endpoint in snapshot.matching(body.event_type, channels))})


async def _payload(tx: Tx, body: EventExample) -> Any:
    if body.payload is not None:
        return body.payload
    if body.event_type == PING:
        return _PING_PAYLOAD
    event_type = await endpoints.get_event_type(tx, body.event_type)
    schema = newest(event_type.schemas)
    examples = schema.get("examples", []) if isinstance(schema, dict) else []
    if not isinstance(examples, list) or body.example_index >= len(examples):
        place = f"no example {body.example_index}" if examples else "no example"
        raise InvalidInput(
            f"the schema of {body.event_type} has {place}",
            fix="Give the schema `examples`, or send a `payload`.",
        )
    return examples[body.example_index]
