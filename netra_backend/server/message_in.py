"""A message as a producer posted it: checked member by member, without a model library on the hot path.

Unknown members are ignored, as Svix ignores them. What is known and cannot be honoured is refused, not dropped:
transformations, and a content type other than JSON.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pydantic

from ..errors import InvalidInput
from ..webhooks import schedules
from ..webhooks.endpoints import check_event_type
from ..webhooks.model import NewMessage
from . import json_slice
from .errors import InvalidMembers, MalformedBody, problem
from .json_slice import Span
from .models import ApplicationIn
from .render import microseconds

if TYPE_CHECKING:
    from ..netra import Netra

MOST_LABELS: Final = 10
LABEL: Final = re.compile(r'[^\x00-\x1f\x7f",\\]{1,128}\Z')
"""A channel or a tag: no comma, because the SDKs join lists with it; no quote and no backslash, so that it is found
again in a stored list as it is spelled."""

_EVENT_ID: Final = re.compile(r"[^\x00-\x1f\x7f]{1,256}\Z")
_RETENTION_DAYS: Final = 90
_HOUR_US: Final = 3600 * 1_000_000


class Reader:
    """Reads messages of one request and collects what is wrong with them."""

    def __init__(self, netra: Netra) -> None:
        self.problems: list[dict[str, Any]] = []
        self._netra = netra
        self._latest_us = netra.runtime.clock.wall_us() + int(netra.webhooks.settings.deadline_s * 1_000_000)

    def message(
        self, value: Mapping[str, Any], text: str, spans: Mapping[str, Span], loc: Sequence[str | int], key: str | None
    ) -> NewMessage:
        """One message; what is wrong with it is in `problems`. `PayloadTooLarge` is raised at once."""
        found = len(self.problems)
        new = NewMessage(
            self._event_type(value.get("eventType"), loc),
            self._payload(value, text, spans, loc),
            self._event_id(value.get("eventId"), loc),
            key,
            channels=self._labels(value.get("channels"), [*loc, "channels"]),
            tags=self._labels(value.get("tags"), [*loc, "tags"]),
            deliver_at_us=self._deliver_at(value.get("deliverAt"), [*loc, "deliverAt"]),
            ordering_key=self._ordering_key(value.get("orderingKey"), [*loc, "orderingKey"]),
            keep_payload_us=self._retention(value, loc),
            schedule=self._schedule(value.get("retrySchedule"), [*loc, "retrySchedule"]),
        )
        return self._netra.webhooks.checked(new) if len(self.problems) == found else new

    def raise_problems(self) -> None:
        """Refuse the request if anything was wrong."""
        if self.problems:
            raise InvalidMembers(self.problems)

    def _wrong(self, loc: Sequence[str | int], message: str, kind: str = "value_error") -> None:
        self.problems.append(problem(loc, message, kind))

    def _event_type(self, given: Any, loc: Sequence[str | int]) -> str:
        if not isinstance(given, str):
            self._wrong([*loc, "eventType"], "a string is required", "type_error")
            return ""
        try:
            return check_event_type(given)
        except InvalidInput as error:
            self._wrong([*loc, "eventType"], f"{error.detail}. {error.fix}")
            return ""

    def _ordering_key(self, given: Any, loc: Sequence[str | int]) -> str | None:
        if given is None or (isinstance(given, str) and given.isprintable() and _EVENT_ID.match(given)):
            return given
        self._wrong(loc, "1 to 256 printable characters are required")
        return None

    def _schedule(self, given: Any, loc: Sequence[str | int]) -> str | None:
        try:
            return None if given is None else schedules.check(given)
        except InvalidInput as error:
            self._wrong(loc, f"{error.detail}. {error.fix}")
            return None

    def _event_id(self, given: Any, loc: Sequence[str | int]) -> str | None:
        if given is None:
            return None
        if isinstance(given, str) and _EVENT_ID.match(given):
            return given
        self._wrong([*loc, "eventId"], "1 to 256 characters, none of them a control character")
        return None

    def _payload(self, value: Mapping[str, Any], text: str, spans: Mapping[str, Span], loc: Sequence[str | int]) -> str:
        parameters = value.get("transformationsParams")
        if parameters:
            raw = self._raw_payload(parameters, [*loc, "transformationsParams"])
            if raw is not None:
                return raw
        if not isinstance(value.get("payload"), dict):
            self._wrong([*loc, "payload"], "an object is required", "type_error")
            return ""
        start, end = spans["payload"]
        return text[start:end]

    def _raw_payload(self, parameters: Any, loc: Sequence[str | int]) -> str | None:
        """The text to send as it is: JSON all the same, because that is what receivers are told it is."""
        if not isinstance(parameters, dict) or not parameters.keys() <= {"rawPayload", "headers"}:
            self._wrong(loc, "only rawPayload and headers are supported; there are no transformations")
            return None
        sent_as = parameters.get("headers") or {"content-type": "application/json"}
        if not isinstance(sent_as, dict) or {str(k).lower(): v for k, v in sent_as.items()} != {"content-type": "application/json"}:
            self._wrong([*loc, "headers"], "the only header supported is content-type: application/json")
        raw = parameters.get("rawPayload")
        if raw is None:
            return None
        try:
            json_slice.parse(raw.encode() if isinstance(raw, str) else b"")
        except MalformedBody as error:
            self._wrong([*loc, "rawPayload"], f"not a string of JSON: {error.detail}")
        return str(raw)

    def _labels(self, given: Any, loc: Sequence[str | int]) -> tuple[str, ...] | None:
        if given is None:
            return None
        if isinstance(given, list) and len(given) <= MOST_LABELS and all(isinstance(label, str) and LABEL.match(label) for label in given):
            return tuple(dict.fromkeys(given)) or None
        self._wrong(loc, f"at most {MOST_LABELS} strings of 1 to 128 characters without controls, commas, quotes and backslashes")
        return None

    def _deliver_at(self, given: Any, loc: Sequence[str | int]) -> int | None:
        if given is None:
            return None
        try:
            at_us = microseconds(datetime.fromisoformat(given))
        except (TypeError, ValueError, OverflowError):
            self._wrong(loc, "a time as in RFC 3339 is required", "type_error")
            return None
        if at_us > self._latest_us:
            self._wrong(loc, "later than a message is kept trying (webhooks_deadline)")
        return at_us

    def _retention(self, value: Mapping[str, Any], loc: Sequence[str | int]) -> int | None:
        """For how long the payload is kept, the shorter one where days and hours are given; None: as long as the message."""
        asked = []
        for name, most, unit_us in (
            ("payloadRetentionPeriod", _RETENTION_DAYS, 24 * _HOUR_US),
            ("payloadRetentionHours", _RETENTION_DAYS * 24, _HOUR_US),
        ):
            given = value.get(name)
            if given is None:
                continue
            if type(given) is not int or not 0 < given <= most:
                self._wrong([*loc, name], f"an integer from 1 to {most} is required", "type_error")
            else:
                asked.append(given * unit_us)
        return min(asked, default=None)


def application_of(given: Any, reference: str) -> ApplicationIn:
    """The application that a message brings with it; its uid is the one in the path, or left out."""
    try:
        found = ApplicationIn.model_validate(given)
    except pydantic.ValidationError as error:
        raise InvalidMembers([problem(["body", "application", *e["loc"]], e["msg"], e["type"]) for e in error.errors()]) from None
    if found.uid not in {None, reference}:
        raise InvalidMembers([problem(["body", "application", "uid"], "another uid than the one in the path")])
    try:
        return ApplicationIn.model_validate({**found.model_dump(by_alias=True), "uid": reference})
    except pydantic.ValidationError as error:
        raise InvalidMembers([problem(["body"], f"the path cannot be a uid: {error.errors()[0]['msg']}", InvalidInput.code)]) from None
