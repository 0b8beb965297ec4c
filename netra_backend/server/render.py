"""What Svix's clients read: messages, attempts, endpoints, applications and event types in Svix's shapes.

Members of ours stand beside Svix's, which its clients ignore: `state` and `reason` of a delivery, `late` and
`errorKind` of an attempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from ..kernel.ids import to_text
from ..storage.tenants import Tenant
from ..webhooks.model import Attempt, DeliveryRow, Endpoint, EndpointHealth, EventType, Message, Task
from ..webhooks.operators import task_out as shape_of_task
from ..webhooks.schedules import shown

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_US: Final = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)
_EMPTY: Final = orjson.Fragment(b"{}")
_ERASED: Final = orjson.Fragment(b'{"expired":true}')
"""What Svix answers in the place of a payload that was expunged or has outlived its time."""

SUCCESS, PENDING, FAIL, SENDING, CANCELED = range(5)
STATUS_TEXT: Final = ("success", "pending", "fail", "sending", "canceled")
STATUS_OF_STATE: Final = {
    "due": PENDING,
    "leased": SENDING,
    "delivered": SUCCESS,
    "dead": FAIL,
    "skipped": CANCELED,
    "cancelled": CANCELED,
}
STATUS_OF_OUTCOME: Final = {"delivered": SUCCESS, "failed": FAIL, "refused": FAIL}


def timestamp(at_us: int) -> str:
    """Microseconds since the epoch as RFC 3339 in UTC."""
    return moment(at_us).isoformat(timespec="microseconds").replace("+00:00", "Z")


def moment(at_us: int) -> datetime:
    """Microseconds since the epoch as a time in UTC."""
    return _EPOCH + timedelta(microseconds=at_us)


def microseconds(at: datetime) -> int:
    """The reverse of `timestamp`; a time without a zone is UTC. `OverflowError` before 1970 and after 9999."""
    aware = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    at_us = (aware - _EPOCH) // timedelta(microseconds=1)
    if not 0 <= at_us <= _LAST_US:
        raise OverflowError(f"{at.isoformat()} is not between 1970 and 9999")
    return at_us


def message_out(message: Message, *, with_content: bool = True) -> dict[str, Any]:
    """Svix's MessageOut. Without content the payload is `{}`, for the SDKs demand an object."""
    return {
        "id": message.text_id,
        "eventId": message.event_id,
        "eventType": message.event_type,
        "payload": _EMPTY if not with_content else _ERASED if message.is_expunged else orjson.Fragment(message.payload),
        "channels": message.channels,
        "tags": message.tags,
        "timestamp": timestamp(message.created_us),
        "orderingKey": message.ordering_key,
        "retrySchedule": shown(message.schedule),
        "deliverAt": None if message.deliver_at_us is None else timestamp(message.deliver_at_us),
    }


def attempt_out(attempt: Attempt, message: Message | None, *, with_content: bool) -> dict[str, Any]:
    """Svix's MessageAttemptOut; where nobody answered, `response` says why."""
    status = STATUS_OF_OUTCOME[attempt.outcome]
    out = {
        "id": to_text("atmpt", attempt.id),
        "msgId": to_text("msg", attempt.message_id),
        "endpointId": to_text("ep", attempt.endpoint_id),
        "url": attempt.url,
        "status": status,
        "statusText": STATUS_TEXT[status],
        "response": (attempt.response or attempt.error) if with_content else "",
        "responseStatusCode": attempt.status,
        "responseDurationMs": attempt.duration_us // 1000,
        "triggerType": int(attempt.manual),
        "timestamp": timestamp(attempt.started_us),
        "number": attempt.number,
        "outcome": attempt.outcome,
        "errorKind": attempt.error_kind or None,
        "late": attempt.late,
    }
    if message is not None:
        out["msg"] = message_out(message, with_content=False)
    return out


def delivery_out(delivery: DeliveryRow) -> dict[str, Any]:
    """How a message stands at an endpoint, in Svix's words; its own state and reason beside them."""
    status = STATUS_OF_STATE[delivery.state]
    return {
        "status": status,
        "statusText": STATUS_TEXT[status],
        "nextAttempt": timestamp(delivery.next_us) if delivery.next_us is not None else None,
        "state": delivery.state,
        "attempts": delivery.number,
        "lastStatusCode": delivery.last_status or None,
        "reason": delivery.reason or None,
    }


def endpoint_out(endpoint: Endpoint, health: EndpointHealth | None = None) -> dict[str, Any]:
    """Svix's EndpointOut, in both vocabularies, and its breaker if known. Header values may be credentials and are not in it."""
    types = endpoint.event_types
    return {
        "id": endpoint.text_id,
        "uid": endpoint.uid,
        "url": endpoint.url,
        "version": 1,
        "description": endpoint.description,
        "eventTypes": types,
        "filterTypes": types,
        "channels": endpoint.channels,
        "disabled": endpoint.disabled,
        "throttleRate": endpoint.rate_limit,
        "rateLimit": endpoint.rate_limit,
        "metadata": endpoint.metadata,
        "ordering": endpoint.ordering,
        "filter": endpoint.filter,
        "retrySchedule": shown(endpoint.schedule),
        "auth": {"connection": endpoint.auth} if endpoint.auth is not None else None,
        "createdAt": timestamp(endpoint.created_us),
        "updatedAt": timestamp(endpoint.updated_us),
        **({} if health is None else {"breaker": _breaker_out(health)}),
    }


def _breaker_out(health: EndpointHealth) -> dict[str, Any]:
    """`parkedUntil` while the breaker is open, `gatedUntil` where Retry-After asked for it, `failingSince` its last success."""
    breaker = health.breaker
    state = "slow_start" if breaker.phase == "closed" and breaker.limit else breaker.phase
    return {
        "state": state,
        "parkedUntil": timestamp(breaker.until_us) if breaker.phase == "open" else None,
        "gatedUntil": timestamp(health.gate_us) if health.gate_us else None,
        "failingSince": timestamp(health.failing_since_us) if health.failing_since_us else None,
    }


def application_out(tenant: Tenant) -> dict[str, Any]:
    """Svix's ApplicationOut."""
    return {
        "id": tenant.app_id,
        "uid": tenant.uid,
        "name": tenant.name,
        "throttleRate": tenant.rate_limit,
        "rateLimit": tenant.rate_limit,
        "metadata": tenant.metadata,
        "createdAt": timestamp(tenant.created_us),
        "updatedAt": timestamp(tenant.updated_us),
    }


def event_type_out(event_type: EventType, *, with_content: bool = True) -> dict[str, Any]:
    """Svix's EventTypeOut; `with_content` includes the schemas."""
    return {
        "name": event_type.name,
        "description": event_type.description,
        "archived": event_type.archived,
        "deprecated": event_type.deprecated,
        "groupName": event_type.group_name,
        "schemas": event_type.schemas if with_content else None,
        "retrySchedule": shown(event_type.schedule),
        "createdAt": timestamp(event_type.created_us),
        "updatedAt": timestamp(event_type.updated_us),
    }


SVIX_TASKS: Final = {
    "recover": "endpoint.recover",
    "redrive": "endpoint.recover",
    "replay_missing": "endpoint.replay",
    "bulk_replay": "endpoint.bulk-replay",
}
"""Kinds of tasks as Svix names them. It has none that cancels a backlog."""

SVIX_STATUSES: Final = {"running": "running", "finished": "finished", "failed": "failed", "cancelled": "failed"}


def background_task_out(task: Task, *, with_data: bool = True) -> dict[str, Any]:
    """Svix's BackgroundTaskOut, or without data its RecoverOut and ReplayOut."""
    out = {
        "id": task.text_id,
        "status": SVIX_STATUSES[task.state],
        "task": SVIX_TASKS[task.kind],
        "updatedAt": timestamp(task.updated_us),
    }
    return {**out, "data": {"messagesSent": task.changed, "tenant": task.tenant, "reason": task.reason}} if with_data else out


def task_out(task: Task) -> dict[str, Any]:
    """A task in the shape of our own routes: the library's, with its times as text."""
    given = shape_of_task(task)
    times = {"since": "since_us", "until": "until_us", "created_at": "created_us", "updated_at": "updated_us", "finished_at": "finished_us"}
    told = {name: timestamp(given[us]) if given[us] is not None else None for name, us in times.items()}
    return {**{name: value for name, value in given.items() if name not in times.values()}, **told}


def list_out(data: Sequence[Mapping[str, Any]], iterator: str | None, prev: str | None, *, done: bool) -> dict[str, Any]:
    """Svix's shape of every list."""
    return {"data": data, "iterator": iterator, "prevIterator": prev, "done": done}
