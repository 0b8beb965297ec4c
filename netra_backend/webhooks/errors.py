"""What can be wrong with a message or an endpoint."""

from __future__ import annotations

from ..errors import Conflict, InvalidInput, NetraError


class PayloadTooLarge(InvalidInput):
    """The payload is larger than a message may be."""

    code = "payload_too_large"
    status = 413
    fix = "Send a reference to the data instead, or raise payload_max_bytes."


class SchemaMismatch(InvalidInput):
    """The payload does not match its event type's JSON Schema."""

    code = "schema_mismatch"
    fix = "Correct the payload, or the schema: GET /api/v1/event-type/{name}."


class UnknownEventType(InvalidInput):
    """No event type of that name is defined, and this installation asks for one."""

    code = "unknown_event_type"
    fix = "Define the event type first, or set event_types to auto."


class QuotaExceeded(NetraError):
    """This tenant has used up what it may put in just now; nothing of it was stored."""

    code = "quota_exceeded"
    status = 429
    fix = "Come again after `retry_after_s` (the header Retry-After), with the same key; or ask the operator for a larger quota."

    def __init__(self, detail: str = "", *, retry_after_s: float = 1.0) -> None:
        super().__init__(detail, retry_after_s=retry_after_s)
        self.retry_after_s = retry_after_s


class DuplicateEventId(NetraError):
    """A message with this eventId was accepted before."""

    code = "conflict"
    status = 409
    fix = "It is stored already, so nothing is to be done; without NETRA_SVIX_STRICT it gets the first answer again."


class NoSecret(NetraError):
    """The endpoint has no live secret to sign with."""

    code = "no_secret"
    fix = "Rotate the endpoint's secret."


class TaskLost(NetraError):
    """Another process works on the task by now, or it has ended; this one has changed nothing."""

    code = "task_lost"


class Expunged(Conflict):
    """The message's payload was erased, so it cannot be sent any more."""

    code = "expunged"
    fix = "Send it as a new message."
