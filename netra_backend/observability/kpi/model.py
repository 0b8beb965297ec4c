"""What a KPI is declared with, and its parts: frozen, as they stand in rows."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from ...errors import InvalidInput
from ...kernel.durations import parse_duration
from ...kernel.expression import Expression

MICRO: Final = 1_000_000
MINUTE_US: Final = 60 * MICRO
LOST_AFTER_S: Final = 24 * 3600.0
LARGEST_VALUE: Final = 10**12
"""A value is kept in millionths of its unit, in 64 bits."""

RESULTS: Final = ("good", "late", "lost")
_UNIT: Final = re.compile(r".{1,64}\Z")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_DEPENDENCY: Final = re.compile(r"(webhooks\.(tag|endpoint|type)|oauth\.(provider|connection)|batch\.job):.{1,200}\Z")


@dataclass(frozen=True, slots=True)
class Event:
    """A kind of stored event: `Event("webhook.delivered").within("15m").by("invoice_id")`.

    Types are every message type, every type that `netra.events.record` was given, and Netra's own: `webhook.delivered|failed|dead|skipped`
    (with the fields of the message's payload), `connection.refreshed|refresh_failed`, `run.started|finished`, `chunk.committed`,
    `item.failed`, `cache.invalidated`.
    """

    type: str
    within_us: int | None = None
    key: str | None = None
    condition: str | None = None

    def within(self, duration: str | float) -> Event:
        """No later than this after the promise: seconds, or text such as `15m`."""
        return replace(self, within_us=int(parse_duration(duration) * MICRO))

    def by(self, path: str) -> Event:
        """Joined by this member of the event's data (`invoice_id`, `customer.id`); without one by the event's own id."""
        return replace(self, key=path)

    def where(self, condition: str) -> Event:
        """Only events for whose data this holds (kernel/expression.py): `amount >= 100 and currency == "EUR"`."""
        Expression.parse(condition)
        return replace(self, condition=condition)

    def to_json(self) -> dict[str, Any]:
        """For the definition's row."""
        given = {"event": self.type, "within_us": self.within_us, "by": self.key, "where": self.condition}
        return {name: value for name, value in given.items() if value is not None}

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Event:
        """The reverse of `to_json`; `within` may be a duration, as TOML files have it."""
        unknown = sorted(value.keys() - {"event", "within_us", "within", "by", "where"})
        if unknown or not isinstance(value.get("event"), str):
            raise InvalidInput(
                f"an event has `event` and may have `within`, `by` and `where`, not {', '.join(unknown) or 'less'}",
                fix='Write good = { event = "webhook.delivered", within = "15m", by = "invoice_id" }.',
            )
        made = cls(value["event"], value.get("within_us"), value.get("by"))
        if "within" in value:
            made = made.within(value["within"])
        return made.where(value["where"]) if value.get("where") is not None else made


@dataclass(frozen=True, slots=True)
class Slo:
    """What is promised of a KPI: this share good over this window.

    Below `min_events` judged in a window its burn rate says nothing; then `page_if_bad` objects missed within an hour alert.
    """

    target: float
    window_us: int
    min_events: int = 50
    page_if_bad: int | None = None

    def to_json(self) -> dict[str, Any]:
        """For the definition's row."""
        return {"target": self.target, "window_us": self.window_us, "min_events": self.min_events, "page_if_bad": self.page_if_bad}


def slo(target: float, window: str | float = "30d", min_events: int = 50, page_if_bad: int | None = None) -> Slo:
    """An SLO, checked."""
    if not _is_share(target):
        raise InvalidInput(f"{target!r} is no target", fix="Give the share that is to be good, such as 0.999.")
    if min_events < 0 or (page_if_bad is not None and page_if_bad < 1):
        raise InvalidInput(f"min_events {min_events}, page_if_bad {page_if_bad}", fix="Give at least 0 and at least 1, or leave them out.")
    window_us = int(parse_duration(window) * MICRO)
    if window_us < 3 * 86_400 * MICRO:
        raise InvalidInput(
            "an SLO's window is at least three days, the longest that burn rates are looked at over", fix='Say window="30d".'
        )
    return Slo(float(target), window_us, min_events, page_if_bad)


@dataclass(frozen=True, slots=True)
class Definition:
    """One KPI as it was declared. `value` is the member of `total`'s data that says what one object is worth."""

    name: str
    unit: str
    total: Event
    good: Event
    value: str | None = None
    lost_after_us: int = int(LOST_AFTER_S * MICRO)
    depends_on: tuple[str, ...] = ()
    slo: Slo | None = None
    id: bytes = field(default=b"", compare=False)

    def judging(self) -> tuple[Any, ...]:
        """All that decides about events: where that changes, it is counted anew."""
        return self.total, self.good, self.value, self.lost_after_us

    def to_json(self) -> dict[str, Any]:
        """For the row, and for whoever asks what is defined."""
        return {
            "unit": self.unit,
            "total": self.total.to_json(),
            "good": self.good.to_json(),
            "value": self.value,
            "lost_after_us": self.lost_after_us,
            "depends_on": list(self.depends_on),
            "slo": self.slo.to_json() if self.slo is not None else None,
        }

    @classmethod
    def of_json(cls, name: str, value: Mapping[str, Any], id_: bytes = b"") -> Definition:
        """The reverse of `to_json`."""
        own = value.get("slo")
        return cls(
            name,
            value["unit"],
            Event.of_json(value["total"]),
            Event.of_json(value["good"]),
            value.get("value"),
            value.get("lost_after_us", int(LOST_AFTER_S * MICRO)),
            tuple(value.get("depends_on", ())),
            Slo(**own) if own else None,
            id_,
        )


def define(
    name: str, *, unit: str, total: Event | str, good: Event | str, value: str | None = None, lost_after: str | float = LOST_AFTER_S
) -> Definition:
    """A definition, checked. The key of one of the two events is the other's, unless that has its own."""
    if not _matches(_NAME, name):
        raise InvalidInput(f"{str(name)[:80]!r} cannot name a KPI", fix="Use a-z, 0-9 and '_', up to 64, beginning with a letter.")
    if not _matches(_UNIT, unit) or not unit.isprintable():
        raise InvalidInput("a KPI's unit is 1 to 64 printable characters", fix='Say what is counted: unit="invoices".')
    promised, kept = (each if isinstance(each, Event) else Event(each) for each in (total, good))
    if promised.within_us is not None:
        raise InvalidInput("`within` belongs to the event that keeps the promise", fix='Say good=Event("...").within("15m").')
    promised = promised if promised.key is not None else replace(promised, key=kept.key)
    kept = kept if kept.key is not None else replace(kept, key=promised.key)
    return Definition(name, unit, promised, kept, value, int(parse_duration(lost_after) * MICRO))


def dependencies(names: Sequence[str]) -> tuple[str, ...]:
    """What a KPI depends on, checked: `webhooks.tag:billing`, `oauth.provider:stripe`, `batch.job:invoicing`."""
    for name in names:
        if not _matches(_DEPENDENCY, name):
            raise InvalidInput(
                f"{str(name)[:80]!r} is nothing that a KPI can depend on",
                fix="Write webhooks.tag|endpoint|type:NAME, oauth.provider|connection:NAME or batch.job:NAME.",
            )
    return tuple(names)


def of_table(name: str, table: Mapping[str, Any]) -> Definition:
    """A KPI as a TOML file has it: the table `[kpi.NAME]`."""
    known = {"unit", "total", "good", "value", "lost_after", "depends_on", "slo"}
    if unknown := sorted(table.keys() - known):
        raise InvalidInput(f"kpi.{name} has no {', '.join(unknown)}", fix=f"It has {', '.join(sorted(known))}.")
    events = {each: table.get(each) for each in ("total", "good")}
    for each, given in events.items():
        if not isinstance(given, str | Mapping):
            raise InvalidInput(f"kpi.{name} lacks {each}", fix=f'Write {each} = {{ event = "invoice.paid" }}.')
    total, good = (Event.of_json(given) if isinstance(given, Mapping) else Event(str(given)) for given in events.values())
    made = define(
        name, unit=table.get("unit", ""), total=total, good=good, value=table.get("value"), lost_after=table.get("lost_after", LOST_AFTER_S)
    )
    made = replace(made, depends_on=dependencies(table.get("depends_on", ())))
    return replace(made, slo=slo(**table["slo"])) if "slo" in table else made


def _matches(pattern: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and pattern.match(value) is not None


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value < 1
