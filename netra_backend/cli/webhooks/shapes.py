"""Messages, deliveries, attempts and endpoints as the command line prints them: in Svix's names, as the server does."""

from __future__ import annotations

from typing import Any

import orjson

from ...kernel.ids import to_text
from ...webhooks.model import Attempt, DeliveryRow, Endpoint, Message
from ..output import iso


def message(stored: Message) -> dict[str, Any]:
    """A message with its payload."""
    return {
        "id": stored.text_id,
        "eventType": stored.event_type,
        "eventId": stored.event_id,
        "payload": orjson.loads(stored.payload),
        "channels": stored.channels,
        "tags": stored.tags,
        "timestamp": iso(stored.created_us),
    }


def delivery(row: DeliveryRow) -> dict[str, Any]:
    """One message's way to one endpoint; `nextAttempt` only while one is to come."""
    return {
        "msgId": to_text("msg", row.message_id),
        "endpointId": to_text("ep", row.endpoint_id),
        "state": row.state,
        "attempts": row.number,
        "nextAttempt": iso(row.due_us) if row.state == "due" else None,
        "lastStatus": row.last_status,
        "reason": row.reason or None,
    }


def attempt(made: Attempt) -> dict[str, Any]:
    """One request; `late` where its sender had lost its lease meanwhile."""
    return {
        "id": to_text("atmpt", made.id),
        "msgId": to_text("msg", made.message_id),
        "endpointId": to_text("ep", made.endpoint_id),
        "attempt": made.number,
        "outcome": made.outcome,
        "responseStatusCode": made.status,
        "responseDurationMs": made.duration_us // 1000,
        "response": made.response,
        "error": made.error or None,
        "url": made.url,
        "late": made.late,
        "timestamp": iso(made.started_us),
    }


def endpoint(found: Endpoint) -> dict[str, Any]:
    """An endpoint, without its secret."""
    return {
        "id": found.text_id,
        "uid": found.uid,
        "url": found.url,
        "description": found.description,
        "filterTypes": found.event_types,
        "channels": found.channels,
        "disabled": found.disabled,
        "createdAt": iso(found.created_us),
        "updatedAt": iso(found.updated_us),
    }
