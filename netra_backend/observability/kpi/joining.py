"""From the log's items to what they say about objects: which event, about which object, worth how much."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final, Literal

import orjson

from ...kernel.expression import Expression
from ...kernel.scope import SYSTEM_TENANT
from ...kernel.witnesses import MessageFacts, MessageKey
from .evaluation import Object, merge
from .model import LARGEST_VALUE, MICRO, Definition, Event

LONGEST_KEY: Final = 256
LONGEST_INDEX: Final = 9
DELIVERED: Final = "webhook.delivered"
GIVEN_UP: Final = frozenset({"webhook.dead", "webhook.skipped", "webhook.cancelled"})
OWN: Final = ("webhook.", "connection.", "run.", "chunk.", "item.", "cache.", "endpoint.")
TROUBLES: Final = frozenset({"connection.refresh_failed", "item.failed", "run.finished"})

Role = Literal["total", "good", "dead", "trouble"]
Key = tuple[str, bytes, str]
"""(tenant, KPI, the object's key)."""


@dataclass(frozen=True, slots=True)
class Occurrence:
    """One event. `message_type` is set where it is Netra's own about a message, `message` where it is or is about one."""

    tenant: str
    type: str
    at_us: int
    id: str
    data: Mapping[str, Any] = field(default_factory=dict)
    trace_id: str = ""
    message: bytes | None = None
    message_type: str | None = None
    item: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_message(self) -> bool:
        """Whether it is a message itself, and not about one."""
        return self.message is not None and self.message_type is None


class Definitions:
    """The definitions by the type of event that concerns them."""

    def __init__(self, definitions: Sequence[Definition]) -> None:
        self.by_id = {each.id: each for each in definitions}
        self._by_type: dict[str, list[tuple[Role, Definition, Event]]] = {}
        for each in definitions:
            self._add("total", each, each.total, each.total.type)
            self._add("good", each, each.good, each.good.type)
            for kind in GIVEN_UP if each.good.type == DELIVERED else ():
                self._add("dead", each, each.good, kind)
            for kind in TROUBLES:
                self._add("trouble", each, each.total, kind)
        self.types = frozenset(self._by_type)

    def _add(self, role: Role, definition: Definition, event: Event, kind: str) -> None:
        self._by_type.setdefault(kind, []).append((role, definition, event))

    def concerned(self, kind: str) -> Sequence[tuple[Role, Definition, Event]]:
        """Which KPIs an event of this type concerns, and how."""
        return self._by_type.get(kind, ())


@dataclass(slots=True)
class Said:
    """What a batch of events says: about objects by their key, and what went wrong, by key and by trace."""

    objects: dict[Key, Object] = field(default_factory=dict)
    troubles: dict[Key, str] = field(default_factory=dict)
    traces: dict[tuple[str, str], str] = field(default_factory=dict)


def read(occurrences: Iterable[Occurrence], definitions: Definitions) -> Said:
    """All that the events say."""
    said = Said()
    for each in occurrences:
        for role, definition, event in definitions.concerned(each.type):
            if role == "trouble":
                _note_trouble(said, each, definition, event)
            elif (key := _key(each, event)) is not None and _holds(event, each.data):
                place = (each.tenant, definition.id, key)
                found = _object(role, definition, each)
                said.objects[place] = merge(said.objects[place], found) if place in said.objects else found
    return said


def _object(role: Role, definition: Definition, each: Occurrence) -> Object:
    if role == "total":
        worth = value_of(at_path(each.data, definition.value)) if definition.value is not None else 0
        return Object(each.at_us, each.id, worth, each.message if each.is_message else None, each.trace_id)
    is_same = each.message_type is None or each.message_type == definition.total.type
    same_us = each.at_us if is_same else None
    return Object(good_us=each.at_us, good_same_us=same_us) if role == "good" else Object(dead_us=each.at_us, dead_same_us=same_us)


def _note_trouble(said: Said, each: Occurrence, definition: Definition, event: Event) -> None:
    words = trouble_of(each)
    if not words:
        return
    if each.trace_id:
        said.traces[each.tenant, each.trace_id] = words
    if event.key is not None and (key := _text(at_path(each.data, event.key))) is not None:
        said.troubles[each.tenant, definition.id, key] = words


def trouble_of(each: Occurrence) -> str:
    """In a few words what went wrong, or nothing."""
    item = each.item
    if each.type == "connection.refresh_failed":
        return f"refresh of {item.get('connection')} failed: {item.get('cause') or 'unknown'}"[:160]
    if each.type == "item.failed":
        return f"item of a batch failed: {item.get('cause')}"
    if each.type == "run.finished" and item.get("state") == "failed":
        return f"run {item.get('run')} failed"
    return ""


def concerning(item: Mapping[str, Any], types: frozenset[str]) -> bool:
    """Whether an item of the log is of a type that anybody asks for; a message may not pass for an event of Netra's own."""
    kind = item.get("type")
    return kind in types and not (str(kind).startswith(OWN) and "message" in item and "endpoint" not in item)


def message_of(tenant: str, item: Mapping[str, Any]) -> MessageKey | None:
    """The message that the item is, or is about."""
    return (tenant, bytes.fromhex(item["message"])) if "message" in item else None


def occurrence(tenant: str, item: Mapping[str, Any], at_us: int, messages: Mapping[MessageKey, MessageFacts]) -> Occurrence | None:
    """The event that an item tells of; None where its message is gone, or it is the installation's."""
    kind, key = item["type"], message_of(tenant, item)
    if tenant == SYSTEM_TENANT:
        return None
    if key is None:
        if "data" in item:
            return Occurrence(tenant, kind, at_us, item["id"], item["data"], item.get("trace", ""), item=item)
        facts_of_it = {name: value for name, value in item.items() if name != "type"}
        own = item.get("key") or item.get("run") or item.get("connection") or item.get("id") or ""
        return Occurrence(tenant, kind, at_us, str(own), facts_of_it, item.get("trace", ""), item=item)
    facts = messages.get(key)
    if facts is None:
        return None
    data = payload_of(facts.payload)
    if "endpoint" in item:
        return Occurrence(tenant, kind, at_us, key[1].hex(), data, facts.trace_id, key[1], facts.event_type, item)
    due_us = max(at_us, facts.deliver_at_us or 0)
    return Occurrence(tenant, kind, due_us, key[1].hex(), data, facts.trace_id, key[1], item=item)


def payload_of(payload: str) -> Mapping[str, Any]:
    """A message's own fields, where it is an object that is still there."""
    try:
        found = orjson.loads(payload) if payload else None
    except ValueError:  # JSON that orjson does not read: a number beyond 64 bits
        return {}
    return found if isinstance(found, dict) else {}


def at_path(data: Any, path: str) -> Any:
    """The member that a dotted path leads to, or None."""
    for name in path.split("."):
        if isinstance(data, Mapping):
            data = data.get(name)
        elif isinstance(data, list) and name.isdecimal() and len(name) <= LONGEST_INDEX and int(name) < len(data):
            data = data[int(name)]
        else:
            return None
    return data


def value_of(found: Any) -> int:
    """What an object is worth in millionths: a number, or a number as text; anything else is worth nothing."""
    if isinstance(found, bool) or not isinstance(found, int | float | str):
        return 0
    if isinstance(found, float) and not math.isfinite(found):
        return 0
    try:
        number = Decimal(str(found))
    except InvalidOperation:
        return 0
    is_one = number.is_finite() and number.copy_abs() <= LARGEST_VALUE  # `abs` computes, and raises for 1e9999999
    return int((number * MICRO).to_integral_value()) if is_one else 0


def _key(each: Occurrence, event: Event) -> str | None:
    return _text(each.id if event.key is None else at_path(each.data, event.key))


def _text(found: Any) -> str | None:
    if isinstance(found, bool) or not isinstance(found, str | int | float):
        return None
    text = str(found)
    return text if 0 < len(text) <= LONGEST_KEY and "\x00" not in text else None


def _holds(event: Event, data: Mapping[str, Any]) -> bool:
    return event.condition is None or _parsed(event.condition).evaluate(data)


@lru_cache(maxsize=1024)
def _parsed(condition: str) -> Expression:
    return Expression.parse(condition)
