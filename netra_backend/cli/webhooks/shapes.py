"""A delivery as the command line prints it: in the names that the server uses for the same thing.

Messages, attempts and endpoints come from the server's own `render`, so both doors answer alike.
"""

from __future__ import annotations

from typing import Any

from ...kernel.ids import to_text
from ...server.render import timestamp
from ...webhooks.model import DeliveryRow


def delivery(row: DeliveryRow) -> dict[str, Any]:
    """One message's way to one endpoint; `nextAttempt` only while one is to come."""
    return {
        "endpointId": to_text("ep", row.endpoint_id),
        "state": row.state,
        "attempts": row.number,
        "nextAttempt": timestamp(row.next_us) if row.next_us is not None else None,
        "lastStatusCode": row.last_status or None,
        "reason": row.reason or None,
    }


def dead_letter(row: DeliveryRow) -> dict[str, Any]:
    """One delivery that was given up."""
    return {
        "message": to_text("msg", row.message_id),
        "endpoint": to_text("ep", row.endpoint_id),
        "state": row.state,
        "attempts": row.number,
        "last_status": row.last_status or None,
        "reason": row.reason,
        "at": timestamp(row.due_us),
    }
