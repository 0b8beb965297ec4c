"""Records of the webhooks part: frozen, as they stand in rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from ..kernel.ids import to_text
from ..kernel.scope import TraceContext
from ..resilience.circuit_breaker import CLOSED, Breaker

Ordering = Literal["none", "endpoint", "key"]
"""How messages to an endpoint follow each other: in no order, all in one line, or in a line for each ordering key."""

NEVER_US: Final = 253_370_764_800_000_000
"""9999-01-01: when a delivery is due that waits for the one before it in its line (`lines.py`)."""

MOST_MATCHES: Final = 1000
"""Event types whose endpoints a snapshot remembers; names come from producers and must not fill the memory."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one tenant wants messages sent. `event_types` and `channels` of None take everything.

    `schedule` is its own retry schedule, as `schedules.check` returns it. `auth` names the connection whose access token goes along.
    """

    tenant: str
    id: bytes
    uid: str | None
    url: str
    description: str
    event_types: tuple[str, ...] | None
    channels: tuple[str, ...] | None
    disabled: bool
    rate_limit: int | None
    metadata: Mapping[str, Any]
    headers: Mapping[str, str]
    created_us: int = 0
    updated_us: int = 0
    ordering: Ordering = "none"
    filter: str | None = None
    schedule: str | None = None
    auth: str | None = None

    def line_of(self, ordering_key: str | None) -> str | None:
        """Which line a message of this key stands in here; None where it waits for nobody."""
        if self.ordering == "endpoint":
            return ""
        return ordering_key if self.ordering == "key" else None

    @property
    def text_id(self) -> str:
        """The id as text: `ep_...`."""
        return to_text("ep", self.id)

    def wants(self, event_type: str, channels: Sequence[str] | None) -> bool:
        """Whether a message of this type and these channels goes here."""
        if self.event_types is not None and event_type not in self.event_types:
            return False
        return self.channels is None or (channels is not None and not set(self.channels).isdisjoint(channels))


@dataclass(frozen=True, slots=True)
class Secret:
    """A live signing key of an endpoint; `expires_us` is set while a rotation's overlap runs."""

    id: bytes
    endpoint_id: bytes
    key: bytes
    expires_us: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A tenant's endpoints as of one version number, with their live secrets.

    The system tenant's has the retry schedules of the operator's event types too, by name.
    """

    tenant: str
    version: int
    endpoints: Mapping[bytes, Endpoint]
    secrets: Mapping[bytes, tuple[Secret, ...]]
    schedules: Mapping[str, str] = field(default_factory=dict)
    _matches: dict[str, list[Endpoint]] = field(default_factory=dict, repr=False, compare=False)

    def matching(self, event_type: str, channels: Sequence[str] | None) -> list[Endpoint]:
        """The endpoints that a message goes to, disabled ones included: those are recorded as skipped."""
        if channels is not None:
            return [endpoint for endpoint in self.endpoints.values() if endpoint.wants(event_type, channels)]
        known = self._matches.get(event_type)
        if known is None:
            known = [endpoint for endpoint in self.endpoints.values() if endpoint.wants(event_type, None)]
            if len(self._matches) < MOST_MATCHES:
                self._matches[event_type] = known
        return known


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message as the producer gave it. `payload` is the exact JSON text that will be signed and sent.

    `keep_payload_us` is for how long it is kept, where that is shorter than the message.
    """

    event_type: str
    payload: str
    event_id: str | None = None
    idempotency_key: str | None = None
    body_hash: str = ""
    channels: tuple[str, ...] | None = None
    tags: tuple[str, ...] | None = None
    deliver_at_us: int | None = None
    ordering_key: str | None = None
    keep_payload_us: int | None = None
    schedule: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A stored message. Its payload is empty once that was erased, which no JSON text is."""

    tenant: str
    id: bytes
    event_type: str
    event_id: str | None
    payload: str
    channels: tuple[str, ...] | None
    tags: tuple[str, ...] | None
    deliver_at_us: int | None
    created_us: int
    trace: TraceContext = field(default_factory=TraceContext)
    ordering_key: str | None = None
    schedule: str | None = None

    @property
    def text_id(self) -> str:
        """The id as text, `msg_...`: what receivers see as `webhook-id`."""
        return to_text("msg", self.id)

    @property
    def is_expunged(self) -> bool:
        """Whether its payload was erased: it cannot be sent any more."""
        return not self.payload


@dataclass(frozen=True, slots=True)
class Accepted:
    """The answer to one message: the stored one, and whether this call or an earlier one with its key stored it."""

    message: Message
    replayed: bool


@dataclass(slots=True, eq=False)
class Delivery:
    """One message on its way to one endpoint, leased by `owner`. `number` attempts have been burned before this one."""

    message: Message
    endpoint_id: bytes
    owner: bytes
    number: int
    deadline_us: int
    manual: bool = False
    line: str | None = None

    @property
    def in_line(self) -> tuple[str, bytes, str] | None:
        """The line that it is the first of (`lines.py`), if it stands in one."""
        return None if self.line is None else (self.message.tenant, self.endpoint_id, self.line)

    @property
    def key(self) -> tuple[str, bytes, bytes]:
        """The row's key."""
        return self.message.tenant, self.message.id, self.endpoint_id

    @property
    def lane(self) -> tuple[str, bytes]:
        """(tenant, endpoint id)."""
        return self.message.tenant, self.endpoint_id


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request to an endpoint, as it is recorded."""

    tenant: str
    message_id: bytes
    id: bytes
    endpoint_id: bytes
    number: int
    manual: bool
    started_us: int
    duration_us: int
    outcome: str
    status: int
    error_kind: str
    error: str
    response: str
    url: str
    late: bool
    trace: TraceContext


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an attempt means for its delivery: the next state and when."""

    state: str
    number: int
    due_us: int
    reason: str


@dataclass(frozen=True, slots=True)
class EndpointHealth:
    """An endpoint's health as its row holds it; an endpoint without a row is well.

    `prober` is the node that holds the one probe while the breaker is half open. Until `gate_us` the receiver wants nothing at
    all (Retry-After with 429 or 503). `failing_since_us` is the first failure since its last success, 0 where there is none.
    """

    breaker: Breaker = CLOSED
    prober: bytes | None = None
    gate_us: int = 0
    failing_since_us: int = 0

    @property
    def is_well(self) -> bool:
        """Whether there is nothing to know of it."""
        return self.breaker.phase == "closed" and not self.breaker.limit and not self.gate_us and not self.failing_since_us


WELL: Final = EndpointHealth()


@dataclass(frozen=True, slots=True)
class Rules:
    """After how much failing an endpoint is warned of, and disabled (`failing.py`); 0 is never."""

    warn_after_us: tuple[int, ...]
    disable_after_us: int
    disable_least: int


@dataclass(frozen=True, slots=True)
class News:
    """What an attempt means for its endpoint. A healthy endpoint makes none, so it costs no write.

    The breaker is swapped from `before` to `after` if it still stands as in `before`; the gate is only ever raised.
    `disable` is why the endpoint is to be disabled, or empty. `rules` are those that a failure is judged by, None where
    the attempt did not fail.
    """

    tenant: str
    endpoint_id: bytes
    before: EndpointHealth
    after: EndpointHealth
    disable: str = ""
    rules: Rules | None = None

    @property
    def lane(self) -> tuple[str, bytes]:
        """(tenant, endpoint id)."""
        return self.tenant, self.endpoint_id

    @property
    def recovers(self) -> bool:
        """Whether this is a failing endpoint's success."""
        return self.before.failing_since_us > 0 and self.after.failing_since_us == 0

    @property
    def only_counts(self) -> bool:
        """Whether it is one more failure, and how the endpoint stands is known already."""
        return self.before == self.after and not self.disable


@dataclass(frozen=True, slots=True)
class Outcome:
    """A delivery, the attempt just made (None if none was), and what follows from it: for itself, and for its endpoint."""

    delivery: Delivery
    attempt: Attempt | None
    verdict: Verdict
    news: News | None = None


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery as lists show it."""

    message_id: bytes
    endpoint_id: bytes
    state: str
    number: int
    due_us: int
    last_status: int | None
    reason: str | None

    @property
    def next_us(self) -> int | None:
        """When it is tried next; None where it is over or on its way, or waits for the one before it in its line."""
        return self.due_us if self.state == "due" and self.due_us != NEVER_US else None


@dataclass(frozen=True, slots=True)
class EventType:
    """One of the operator's event types; `schemas` maps a version to a JSON Schema."""

    name: str
    description: str
    archived: bool
    deprecated: bool
    group_name: str | None
    schemas: Mapping[str, Any] | None
    created_us: int
    updated_us: int
    schedule: str | None = None


TaskKind = Literal["recover", "redrive", "replay_missing", "bulk_replay", "cancel"]


@dataclass(frozen=True, slots=True)
class TaskWanted:
    """Which messages a task walks over, and what of theirs it changes. `until_us` is exclusive.

    Of deliveries those to this endpoint (None: to any that takes messages), in one of these states, last answered with a status from
    `least_status` to below `above_status`.
    """

    endpoint_id: bytes | None
    since_us: int
    until_us: int
    states: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    channel: str = ""
    tag: str = ""
    least_status: int = 0
    above_status: int = 1000
    why: str = ""


@dataclass(frozen=True, slots=True)
class Task:
    """An operator's verb over many messages, as it stands. `changed` counts deliveries, `done` the messages that were looked at."""

    tenant: str
    id: bytes
    kind: str
    state: str
    wanted: TaskWanted
    after: tuple[int, bytes]
    done: int
    changed: int
    owner: bytes | None
    reason: str | None
    created_us: int
    updated_us: int
    finished_us: int | None
    trace: TraceContext = field(default_factory=TraceContext)

    @property
    def text_id(self) -> str:
        """The id as text: `qtask_...`, as Svix spells it."""
        return to_text("qtask", self.id)


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters: to this endpoint, of these event types, of messages created between two times (exclusive)."""

    endpoint_id: bytes | None = None
    event_types: tuple[str, ...] = ()
    after_us: int = -1
    before_us: int = 2**62

    def params(self) -> dict[str, Any]:
        """The parameters of the statement."""
        return {
            "any_endpoint": int(self.endpoint_id is None),
            "endpoint_id": self.endpoint_id or b"",
            "any_type": int(not self.event_types),
            "types": [(name,) for name in self.event_types],
            "after_us": self.after_us,
            "before_us": self.before_us,
        }


EVERY_DEAD: Final = DeadFilter()
