"""A load under way: how it is to be done, what it turns out to depend on, and who waits for it."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from concurrent.futures import Future
from contextvars import Context, ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Final

from ..errors import InvalidInput
from ..kernel.durations import parse_duration
from .codecs import JSON, Codec
from .errors import NoLoad
from .node import Node, Ticket

JITTER: Final = 0.1
NEGATIVE_MOST_S: Final = 30.0
Seconds = float | str
"""Seconds, or a duration as in the settings: `10m`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a value is loaded and kept; times in seconds."""

    ttl_s: float
    negative_ttl_s: float
    stale_for_s: float = 0.0
    fail_safe_s: float = 0.0
    soft_timeout_s: float | None = None
    hard_timeout_s: float | None = None
    jitter: float = JITTER
    codec: Codec = JSON
    refresh: bool = False


@dataclass(slots=True)
class Load:
    """What is learned while one value is made: its dependencies, the entries that it used, a TTL of its own.

    It is made in the `context` of whoever asked for it first, with that one's tenant and trace, also when it is made anew.
    """

    name: str
    tenant: str
    parent: Load | None = None
    declared: frozenset[str] = frozenset()
    deps: set[str] = field(default_factory=set)
    inner: dict[str, frozenset[str]] = field(default_factory=dict)
    ttl_s: float | None = None
    context: Context = field(default_factory=copy_context)

    def used(self, name: str, made_from: Iterable[str]) -> None:
        """Another cached value went into this one."""
        self.deps.add(name)
        self.inner[name] = frozenset(made_from)

    def anew(self) -> Load:
        """The same load, of which nothing is learned yet."""
        return Load(self.name, self.tenant, self.parent, self.declared, set(self.declared), context=self.context)

    def is_inside(self, name: str) -> bool:
        """Whether this load is part of one of that name."""
        load: Load | None = self
        while load is not None:
            if load.name == name:
                return True
            load = load.parent
        return False


current: Final[ContextVar[Load | None]] = ContextVar("netra_cache_load", default=None)


def current_load() -> Load:
    """The load that the running code is part of."""
    load = current.get()
    if load is None:
        raise NoLoad
    return load


@dataclass(frozen=True, slots=True)
class Landed:
    """What a flight brings: the value, all that it is made from, which tier it came from, when it was made."""

    value: Any
    sources: frozenset[str]
    deps: frozenset[str]
    tier: str
    made: float
    stale: bool = False


@dataclass(slots=True, eq=False)
class Flight:
    """One execution of a loader, and who waits for it."""

    ticket: Ticket
    future: Future[Landed] = field(default_factory=Future)


class Flights:
    """Single flight per name in this process, over all threads and event loops; a joiner asks the node first."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._flights: dict[str, Flight] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._flights)

    def join(self, name: str, now: float) -> tuple[Flight, bool]:
        """The flight under way that is new enough, or a new one that the caller must make; whether it is new."""
        with self._lock:
            flight = self._flights.get(name)
            if flight is not None and self._node.joins(flight.ticket, now):
                return flight, False
            flight = self._flights[name] = Flight(self._node.begin(now))
            flight.future.set_running_or_notify_cancel()
            return flight, True

    def land(self, name: str, flight: Flight, *, landed: Landed | None = None, error: BaseException | None = None) -> None:
        """Free the name, then answer; the second landing of a flight does nothing."""
        with self._lock:
            if flight.future.done():
                return
            if self._flights.get(name) is flight:
                del self._flights[name]
        if landed is not None:
            flight.future.set_result(landed)
        else:
            flight.future.set_exception(error or RuntimeError("a load ended without an answer"))


def seconds_of(value: Seconds, what: str = "ttl") -> float:
    """A number of seconds, or a duration; `InvalidInput` unless it is positive."""
    seconds = parse_duration(value)
    if not seconds:
        raise InvalidInput(f"{what} must be more than no time, not {value!r}", fix="Give seconds, or '10m'.")
    return seconds


def plan_of(
    ttl: Seconds,
    *,
    negative_ttl: Seconds | None = None,
    stale_for: Seconds | None = None,
    fail_safe: Seconds | None = None,
    soft_timeout: Seconds | None = None,
    hard_timeout: Seconds | None = None,
    jitter: float = JITTER,
    codec: Codec = JSON,
    refresh: bool = False,
) -> Plan:
    """The plan of one call's options."""
    ttl_s = seconds_of(ttl)
    if not 0 <= jitter < 1:
        raise InvalidInput(f"jitter {jitter!r}", fix="Give a fraction from 0 to below 1.")
    return Plan(
        ttl_s,
        min(ttl_s, NEGATIVE_MOST_S) if negative_ttl is None else seconds_of(negative_ttl, "negative_ttl"),
        0.0 if stale_for is None else seconds_of(stale_for, "stale_for"),
        0.0 if fail_safe is None else seconds_of(fail_safe, "fail_safe"),
        None if soft_timeout is None else seconds_of(soft_timeout, "soft_timeout"),
        None if hard_timeout is None else seconds_of(hard_timeout, "hard_timeout"),
        jitter,
        codec,
        refresh,
    )
