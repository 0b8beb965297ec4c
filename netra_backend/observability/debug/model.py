"""Debug sessions as plain values: what they listen to, what they keep, and how they are shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from ...errors import InvalidInput
from ...kernel.durations import parse_duration
from ...kernel.expression import Expression
from ...kernel.ids import to_text
from ...storage.statements import Row
from .errors import BadLogpoint

PREFIX: Final = "dbg"
US: Final = 1_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
TTL_S: Final = 30 * 60.0
LEAST_TTL_S: Final = 1.0
MOST_TTL_S: Final = 4 * 3600.0
MOST_LOGPOINTS: Final = 10
LONGEST_TEXT: Final = 256
LONGEST_REASON: Final = 1000

PREDICATES: Final = ("user", "trace", "route", "endpoint", "provider", "job")
AT_INGRESS_ONLY: Final = frozenset({"user", "route"})
"""What a worker cannot know of the work that it takes up: the row must say which sessions chose it."""

CAPTURES: Final = ("log", "span", "http", "snapshot")
USUAL: Final = ("log", "span", "http")
"""What a session keeps if nobody says; snapshots come with logpoints."""

_PLACE: Final = re.compile(r"(?P<file>[^\x00-\x1f:]+\.py):(?P<line>[1-9][0-9]{0,6})\Z|(?P<module>[\w.]+):(?P<name>[A-Za-z_][\w.]*)\Z")
_PRINTABLE: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+\Z")


@dataclass(frozen=True, slots=True)
class Logpoint:
    """A place in the code, and the condition over its variables under which it is recorded (empty: always)."""

    at: str
    where: str = ""

    @classmethod
    def of(cls, given: Any) -> Logpoint:
        """Read `"module:function"`, or `{"at", "where"}`; `BadLogpoint` says what to write."""
        members = {"at": given} if isinstance(given, str) else dict(given) if isinstance(given, Mapping) else {}
        at, where = members.pop("at", None), members.pop("where", None) or ""
        if members or not isinstance(at, str) or not isinstance(where, str) or len(at) > LONGEST_TEXT or not _PLACE.match(at):
            raise BadLogpoint(f"{str(given)[:80]!r} is no logpoint")
        if where:
            Expression.parse(where)
        return cls(at, where)

    @property
    def line(self) -> tuple[str, int] | None:
        """The file and the line, where it names those."""
        match = _PLACE.match(self.at)
        return (match["file"], int(match["line"])) if match is not None and match["file"] else None

    @property
    def function(self) -> tuple[str, str]:
        """The module and the qualified name, where it names those."""
        module, _, name = self.at.partition(":")
        return module, name


@dataclass(frozen=True, slots=True)
class Session:
    """One session of one tenant. Times in microseconds since the epoch; `granted_us` is what was last granted, from then on."""

    tenant: str
    id: bytes
    state: str
    reason: str
    actor: str
    predicates: Mapping[str, str]
    captures: tuple[str, ...]
    logpoints: tuple[Logpoint, ...]
    granted_us: int
    created_us: int
    expires_us: int
    ended_us: int | None = None
    ended_by: str | None = None
    last_seq: int = 0
    dropped: int = 0
    names: frozenset[str] = field(default_factory=frozenset)
    """Under which references a program may know the tenant."""

    @property
    def text_id(self) -> str:
        """The id as text: `dbg_...`."""
        return to_text(PREFIX, self.id)

    def facts(self) -> dict[str, Any]:
        """What an audit entry says of it."""
        points = [{"at": each.at, "where": each.where} for each in self.logpoints]
        chosen = {"predicates": dict(self.predicates), "captures": list(self.captures), "logpoints": points}
        return {"state": self.state, "reason": self.reason, **chosen, "expires_us": self.expires_us}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for, checked."""

    reason: str
    predicates: Mapping[str, str]
    captures: tuple[str, ...]
    logpoints: tuple[Logpoint, ...]
    ttl_us: int


@dataclass(frozen=True, slots=True)
class Record:
    """One record as it is stored; `data` is JSON."""

    kind: str
    at_us: int
    trace_id: str
    data: bytes


def wanted(
    reason: Any, ttl: str | float | None, predicates: Mapping[str, Any], capture: Sequence[str] | None, logpoints: Sequence[Any]
) -> Wanted:
    """Check everything that a start is asked with; an error names the first thing that is wrong and what to write instead."""
    if not isinstance(reason, str) or not reason.strip() or len(reason) > LONGEST_REASON or not _PRINTABLE.match(reason):
        raise InvalidInput("a debug session needs a reason", fix=f"Say why in one line of at most {LONGEST_REASON} characters.")
    chosen = {name: value for name, value in predicates.items() if value is not None}
    for name, value in chosen.items():
        if name not in PREDICATES or not isinstance(value, str) or len(value) > LONGEST_TEXT or not _PRINTABLE.match(value):
            raise InvalidInput(f"{name}={value!r} selects nothing", fix=f"Select by {', '.join(PREDICATES)}, each one line of text.")
    points = tuple(dict.fromkeys(map(Logpoint.of, logpoints)))
    if len(points) > MOST_LOGPOINTS:
        raise BadLogpoint(f"{len(points)} logpoints", fix=f"Use at most {MOST_LOGPOINTS} in one session.")
    captures = tuple(dict.fromkeys(USUAL if capture is None else capture))
    if not set(captures) <= set(CAPTURES):
        raise InvalidInput(f"{', '.join(captures)} cannot be captured", fix=f"Capture any of {', '.join(CAPTURES)}.")
    if points and "snapshot" not in captures:
        captures += ("snapshot",)
    if not captures:
        raise InvalidInput("the session would capture nothing", fix=f"Capture any of {', '.join(CAPTURES)}.")
    return Wanted(reason.strip(), chosen, captures, points, ttl_us(ttl))


def ttl_us(ttl: str | float | None) -> int:
    """A session's time, from `30m` or seconds; half an hour where nothing is said."""
    seconds = TTL_S if ttl is None else parse_duration(ttl)
    if not LEAST_TTL_S <= seconds <= MOST_TTL_S:
        raise InvalidInput(f"a debug session cannot last {ttl}", fix="Ask for 1s to 4h; extend it while it is needed.")
    return int(seconds * US)


def session_of(row: Row) -> Session:
    """A session from its row, in the column order of the queries."""
    tenant, id_, state, reason, actor, predicates, captures, logpoints, *times, ended_by, last_seq, dropped = row
    granted_us, created_us, expires_us, ended_us = times
    points = tuple(Logpoint(each["at"], each["where"]) for each in orjson.loads(logpoints))
    kept = (orjson.loads(predicates), tuple(orjson.loads(captures)), points)
    return Session(tenant, id_, state, reason, actor, *kept, granted_us, created_us, expires_us, ended_us, ended_by, last_seq, dropped)


def shown(session: Session, now_us: int) -> dict[str, Any]:
    """A session as JSON shows it."""
    live = session.state == "active" and now_us < session.expires_us
    return {
        "session": session.text_id,
        "tenant": session.tenant,
        "state": "active" if live else "ended",
        "reason": session.reason,
        "actor": session.actor,
        "predicates": dict(session.predicates),
        "captures": list(session.captures),
        "logpoints": [{"at": each.at, "where": each.where or None} for each in session.logpoints],
        "created_at": timestamp(session.created_us),
        "expires_at": timestamp(session.expires_us),
        "ended_at": timestamp(session.ended_us) if session.ended_us is not None else None,
        "ended_by": session.ended_by,
        "records": session.last_seq,
        "dropped": session.dropped,
    }


def record_of(session: Session, row: Row) -> dict[str, Any]:
    """A record as JSON shows it."""
    seq, kind, at_us, trace_id, data = row
    head = {"seq": seq, "session": session.text_id, "tenant": session.tenant, "kind": kind, "at": timestamp(at_us)}
    return {**head, "trace_id": trace_id or None, "data": orjson.loads(data)}


def timestamp(us: int) -> str:
    """RFC 3339, in UTC, to the microsecond."""
    moment = _EPOCH + timedelta(microseconds=us)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")
