"""What clients may send on the routes behind the framework, in Svix's shapes and both of its vocabularies."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from ..errors import InvalidInput
from ..webhooks import schedules
from ..webhooks.endpoints import check_event_type, check_url
from ..webhooks.filters import check_filter
from ..webhooks.keys import KeyKind, decode_secret
from ..webhooks.model import Ordering, TaskWanted
from ..webhooks.schemas import check_schemas
from .render import CANCELED, FAIL, SUCCESS, microseconds

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}\Z")
_VALUE: Final = re.compile(r"[\x20-\x7e\t\x80-\xff]{0,4096}\Z")
_OURS: Final = frozenset({
    "connection", "content-encoding", "content-length", "content-type", "expect", "host", "keep-alive", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "user-agent",
})  # fmt: skip
"""Header names that the sender or the protocol owns."""


def _as_value_error(check: Any) -> Any:
    """A check of the parts as pydantic wants it: `ValueError` with the words."""

    def run(value: Any) -> Any:
        try:
            check(value)
        except InvalidInput as error:
            raise ValueError(f"{error.detail}. {error.fix}") from None
        return value

    return run


def _in_range(at: datetime) -> datetime:
    try:
        microseconds(at)
    except OverflowError as error:
        raise ValueError(str(error)) from None
    return at


def _schedule(given: Any) -> str:
    try:
        return schedules.check(given)
    except InvalidInput as error:
        raise ValueError(f"{error.detail}. {error.fix}") from None


def check_headers(given: dict[str, str]) -> dict[str, str]:
    """Return headers that an endpoint may have, else `ValueError`."""
    for name, value in given.items():
        lower = name.lower()
        if not _TOKEN.match(name) or not _VALUE.match(value):
            raise ValueError(f"{name[:80]!r} is not a header that HTTP can carry")
        if lower in _OURS or lower.startswith(("webhook-", "svix-")):
            raise ValueError(f"the header {lower} is set by the sender")
    if len({name.lower() for name in given}) != len(given):
        raise ValueError("a header is named twice")
    return given


ConnectionName = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f/]+$")]
Uid = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,256}$")]
Text = Annotated[str, StringConstraints(max_length=4096, pattern=r"^[^\x00]*$")]
Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]
Label = Annotated[str, StringConstraints(pattern=r'^[^\x00-\x1f\x7f",\\]{1,128}$')]
Metadata = Annotated[dict[Annotated[str, StringConstraints(max_length=256)], Text], Field(max_length=50)]
Rate = Annotated[int, Field(ge=1, le=65_535, strict=True)]
Url = Annotated[str, StringConstraints(max_length=2048), AfterValidator(_as_value_error(check_url))]
EventTypeName = Annotated[str, AfterValidator(_as_value_error(check_event_type))]
EventTypes = Annotated[list[EventTypeName], Field(min_length=1, max_length=1000)]
Channels = Annotated[list[Label], Field(min_length=1, max_length=10)]
SecretText = Annotated[str, AfterValidator(_as_value_error(decode_secret))]
Time = Annotated[datetime, AfterValidator(_in_range)]
Filter = Annotated[str, StringConstraints(min_length=1), AfterValidator(_as_value_error(check_filter))]
Capability = Literal["ViewBase", "ViewEndpointSecret", "ManageEndpointSecret", "ManageTransformations", "CreateAttempts", "ManageEndpoint"]
SchemasOf = Annotated[dict[str, Any], Field(max_length=100), AfterValidator(_as_value_error(check_schemas))]
RetrySchedule = Annotated[str | list[Any], AfterValidator(_schedule)]
Headers = Annotated[dict[str, str], Field(max_length=50), AfterValidator(check_headers)]

STATES_OF_STATUS: Final = {SUCCESS: ("delivered",), FAIL: ("dead",), CANCELED: ("skipped", "cancelled")}
"""The states of deliveries that are over, by the status that Svix's clients know them by."""

_SYNONYMS: Final = {"filterTypes": "eventTypes", "rateLimit": "throttleRate", "featureFlag": "featureFlags"}


class Body(BaseModel):
    """Camel case on the wire; unknown members are ignored, as Svix ignores them."""

    model_config: ClassVar[ConfigDict] = ConfigDict(alias_generator=to_camel, validate_by_name=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _one_vocabulary(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        for old, new in _SYNONYMS.items():
            if old in given and given.get(new) is None:
                given = {**given, new: given[old]}
        return given


class ApplicationIn(Body):
    """A new application, or all of one."""

    name: Name
    uid: Uid | None = None
    throttle_rate: Rate | None = None
    metadata: Metadata | None = None

    def changes(self) -> dict[str, Any]:
        """Every column, for an update that replaces; a uid that is not named stays."""
        found = {"name": self.name, "uid": self.uid, "rate_limit": self.throttle_rate, "metadata": self.metadata or {}}
        return found if "uid" in self.model_fields_set else _without_uid(found)


class ApplicationPatch(Body):
    """What of an application changes."""

    name: Name | None = None
    uid: Uid | None = None
    throttle_rate: Rate | None = None
    metadata: Metadata | None = None

    def changes(self) -> dict[str, Any]:
        """The columns that were named; a name or metadata of null means unchanged."""
        return _named(self, {"throttle_rate": "rate_limit"}, keep=("name", "metadata"))


class EndpointAuth(Body):
    """How requests to an endpoint are authorised: with the access token of this connection of the vault, as bearer."""

    connection: ConnectionName


class EndpointUpsert(Body):
    """All of an endpoint but its secret and its headers."""

    url: Url
    description: Text | None = None
    uid: Uid | None = None
    throttle_rate: Rate | None = None
    disabled: bool | None = None
    event_types: EventTypes | None = None
    channels: Channels | None = None
    metadata: Metadata | None = None
    ordering: Ordering | None = None
    filter: Filter | None = None
    retry_schedule: RetrySchedule | None = None
    auth: EndpointAuth | None = None

    def changes(self) -> dict[str, Any]:
        """Every column, for an update that replaces; a uid that is not named stays."""
        found = {
            "url": self.url,
            "description": self.description or "",
            "uid": self.uid,
            "rate_limit": self.throttle_rate,
            "disabled": bool(self.disabled),
            "event_types": _tuple(self.event_types),
            "channels": _tuple(self.channels),
            "metadata": self.metadata or {},
            "ordering": self.ordering or "none",
            "filter": self.filter,
            "schedule": self.retry_schedule,
            "auth": _connection(self.auth),
        }
        return found if "uid" in self.model_fields_set else _without_uid(found)


class EndpointIn(EndpointUpsert):
    """A new endpoint. `keyKind` is what it signs by where no secret is given: `hmac` (`v1`) or `ed25519` (`v1a`)."""

    secret: SecretText | None = None
    key_kind: KeyKind = "hmac"
    headers: Headers | None = None


class EndpointPatch(Body):
    """What of an endpoint changes."""

    url: Url | None = None
    description: Text | None = None
    uid: Uid | None = None
    throttle_rate: Rate | None = None
    disabled: bool | None = None
    event_types: EventTypes | None = None
    channels: Channels | None = None
    metadata: Metadata | None = None
    ordering: Ordering | None = None
    filter: Filter | None = None
    retry_schedule: RetrySchedule | None = None
    auth: EndpointAuth | None = None

    def changes(self) -> dict[str, Any]:
        """The columns that were named; null clears uid, rate, filters, schedule and auth and leaves the others unchanged."""
        renamed = {"throttle_rate": "rate_limit", "retry_schedule": "schedule"}
        found = _named(self, renamed, keep=("url", "description", "disabled", "metadata", "ordering"))
        made = {name: _tuple(value) if name in {"event_types", "channels"} else value for name, value in found.items()}
        return {**made, "auth": _connection(self.auth)} if "auth" in made else made


class SecretRotate(Body):
    """A new secret of the caller's, or none to have one made, of `keyKind` if that is to change.

    The former secrets sign beside it for `gracePeriodSeconds`, 24 hours unless given; 0 revokes them at once.
    """

    key: SecretText | None = None
    key_kind: KeyKind | None = None
    grace_period_seconds: Annotated[int, Field(ge=0, le=7 * 24 * 3600, strict=True)] | None = None


class HeadersIn(Body):
    """All of an endpoint's own headers."""

    headers: Headers


class HeadersPatch(Body):
    """Headers to set, and names of headers to remove; the others stay."""

    headers: Headers = Field(default_factory=dict)
    delete_headers: Annotated[list[str], Field(max_length=50)] | None = None


class EventExample(Body):
    """Which example to send: the event type's own of that index, or this payload."""

    event_type: EventTypeName
    example_index: Annotated[int, Field(ge=0, le=1000, strict=True)] = 0
    payload: dict[str, Any] | None = None


class Precheck(Body):
    """A message that might be sent."""

    event_type: EventTypeName
    channels: Channels | None = None


class PortalAccess(Body):
    """Who may look for how long (in seconds), and do what; everything a portal can do unless capabilities are named."""

    application: ApplicationIn | None = None
    read_only: bool | None = None
    capabilities: Annotated[list[Capability], Field(max_length=10)] | None = None
    expiry: Annotated[int, Field(ge=3600, le=7 * 24 * 3600, strict=True)] = 7 * 24 * 3600
    session_id: Name | None = None


class PortalExpiry(Body):
    """Which portal links end, and in how many seconds: all of a tenant's, or those of these sessions."""

    expiry: Annotated[int, Field(ge=0, le=7 * 24 * 3600, strict=True)] = 0
    session_ids: Annotated[list[Name], Field(max_length=100)] | None = None


class EventTypeUpsert(Body):
    """All of an event type but its name."""

    description: Text
    archived: bool | None = None
    deprecated: bool | None = None
    schemas: SchemasOf | None = None
    group_name: Name | None = None
    retry_schedule: RetrySchedule | None = None

    def changes(self) -> dict[str, Any]:
        """Every column, for an update that replaces."""
        return {
            "description": self.description,
            "archived": bool(self.archived),
            "deprecated": bool(self.deprecated),
            "schemas": self.schemas,
            "group_name": self.group_name,
            "schedule": self.retry_schedule,
        }


class EventTypeIn(EventTypeUpsert):
    """A new event type."""

    name: EventTypeName


class EventTypePatch(Body):
    """What of an event type changes."""

    description: Text | None = None
    archived: bool | None = None
    deprecated: bool | None = None
    schemas: SchemasOf | None = None
    group_name: Name | None = None
    retry_schedule: RetrySchedule | None = None

    def changes(self) -> dict[str, Any]:
        """The columns that were named; null clears schemas, group and schedule and leaves the others unchanged."""
        return _named(self, {"retry_schedule": "schedule"}, keep=("description", "archived", "deprecated"))


class Since(Body):
    """Messages created since then, and before `until` if that is given."""

    since: Time
    until: Time | None = None

    def wanted(self, states: Sequence[str] = ()) -> TaskWanted:
        """What a task walks over; deliveries in these states."""
        return TaskWanted(None, microseconds(self.since), microseconds(self.until) if self.until is not None else 0, tuple(states))


class BulkReplay(Since):
    """Which of an endpoint's messages are sent again; without a `status` whatever became of them."""

    event_types: EventTypes | None = None
    channel: Label | None = None
    tag: Label | None = None
    status: Literal[0, 2, 4] | None = Field(default=None, description="0 success, 2 fail, 4 canceled; what is pending is sent anyway.")
    status_code_class: Literal[0, 100, 200, 300, 400, 500] | None = None

    def wanted(self, states: Sequence[str] = ()) -> TaskWanted:
        """See `Since.wanted`."""
        chosen = states if self.status is None else STATES_OF_STATUS[self.status]
        code = self.status_code_class
        least, above = (0, 1000) if code is None else (code, code + (100 if code else 1))
        return replace(
            super().wanted(chosen),
            event_types=tuple(self.event_types or ()),
            channel=self.channel or "",
            tag=self.tag or "",
            least_status=least,
            above_status=above,
        )


def _without_uid(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in columns.items() if name != "uid"}


def _named(model: BaseModel, renamed: dict[str, str], *, keep: tuple[str, ...]) -> dict[str, Any]:
    found = {name: getattr(model, name) for name in model.model_fields_set}
    return {renamed.get(name, name): value for name, value in found.items() if not (value is None and name in keep)}


def _connection(auth: EndpointAuth | None) -> str | None:
    return None if auth is None else auth.connection


def _tuple(values: list[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)
