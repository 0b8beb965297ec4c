"""One process's view of the log and what it may serve and keep by it: the guards of the protocol, without any I/O.

See the package's docstring for the protocol. Every guard is a method of its own, so that the small-scope explorer can take one away
and show the stale read that follows: `is_leased`, `_is_fenced`, `is_pending`, `_is_same_history`, `_is_dense`,
`is_fresh`, `accepts`.

Names are already their tenant's (`acme|org:7`). Times are monotonic seconds, handed in. Any thread may call: the writer's marks,
the event loop applies, others read. A lock orders changes; a hit takes none unless something is pending.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .errors import CycleRefused
from .graph import Graph
from .model import Cascade, Event, Look
from .tier import Entry, Tier, weigh

MOST_REMEMBERED: Final = 200_000
"""Names whose last invalidation is remembered; a load that is older than the first forgotten one is not kept (the floor)."""
MARK_KEPT_S: Final = 60.0
"""How long a name stays pending whose transaction ends without our hearing of it."""
NUMBERS_KEPT: Final = 1000
"""Events of this process whose numbers are remembered for whoever asked to be told."""
SETS_KEPT: Final = 10_000
"""Names that this process changed last, remembered for whoever waits to keep a value that it set."""
_NONE: Final[Mapping[str, frozenset[str]]] = {}


@dataclass(frozen=True, slots=True)
class Ticket:
    """Taken before a load reads anything: what it may be kept by, and for whom it is new enough."""

    p: int
    turn: int
    life: int
    at: float


@dataclass(slots=True)
class Value:
    """A loaded value on its way into the tier: `inner` are the entries that it was made from, with what these depend on."""

    value: Any
    deps: frozenset[str]
    expires: float
    stale_until: float
    inner: Mapping[str, frozenset[str]] = field(default_factory=dict)
    made: float = 0.0


class Node:
    """See the module's docstring. `bound_s` is the bound on staleness in every process but the writer."""

    def __init__(self, bound_s: float, limit_bytes: int, most_remembered: int = MOST_REMEMBERED) -> None:
        self.bound_s = bound_s
        self.graph = Graph()
        self.tier = Tier(limit_bytes, lambda entry: self.graph.drop(entry.name))
        self.lock = threading.RLock()
        self.applied = 0
        self.life = 0
        self.floor = 0
        self.lease_until = float("-inf")
        self.started = False
        self.pending: dict[str, int] = {}
        self.inv: OrderedDict[str, int] = OrderedDict()
        self._most = most_remembered
        self.epoch = ""
        self.numbered: OrderedDict[str, int] = OrderedDict()
        self._marks: dict[str, tuple[frozenset[str], float]] = {}
        self._last: OrderedDict[str, str] = OrderedDict()
        self._waiting: frozenset[str] = frozenset()
        self._turn = 0
        self._turn_floor = 0
        self._touched: OrderedDict[str, int] = OrderedDict()

    # What may be served

    def is_leased(self, now: float) -> bool:
        """Whether all that was committed before `now - bound_s` has been seen here (C5)."""
        return now < self.lease_until

    def is_pending(self, names: Iterable[str]) -> bool:
        """Whether one of these is changed by a transaction that is under way here, or is not sequenced yet (C6)."""
        return any(name in self.pending for name in names)

    def find(self, name: str, now: float) -> Entry | None:
        """What may be served for a name, also past its TTL: the caller compares `expires`."""
        entry = self.tier.find(name)
        if entry is None or not self.is_leased(now):
            return None
        if self.pending and self.is_pending(self.sources_of(entry)):
            return None
        return entry

    def deps_of(self, entry: Entry) -> frozenset[str]:
        """What an entry hangs on directly."""
        with self.lock:
            return entry.deps | self.graph.deps_of(entry.name)

    def sources_of(self, entry: Entry) -> set[str]:
        """Everything that an entry is made from, and its own name."""
        with self.lock:
            return self.graph.sources((entry.name, *entry.deps))

    # Loads

    def begin(self, now: float) -> Ticket:
        """Before a load reads anything."""
        with self.lock:
            return Ticket(self.applied, self._turn, self.life, now)

    def joins(self, ticket: Ticket, now: float) -> bool:
        """Whether a flight that began with this ticket may be new enough for somebody who asks now; `is_fresh` decides when it lands.

        Without a lease nobody joins, however young the flight is: it may be making its value from one that was kept, and may be
        served to whoever asked while the lease ran. (The explorer found that way to a stale read.)
        """
        return ticket.life == self.life and self.is_leased(now)

    def is_fresh(self, ticket: Ticket, sources: Iterable[str]) -> bool:
        """Whether nothing that a flight's value is made from was touched here since it began: what a joiner may be given."""
        with self.lock:
            if ticket.life != self.life or ticket.turn < self._turn_floor:
                return False
            return all(name not in self.pending and self._touched.get(name, 0) <= ticket.turn for name in sources)

    def fill(self, name: str, new: Value, ticket: Ticket) -> Entry | None:
        """Keep a value, unless what it is made from has changed since the load began (C1): None then; the caller has it all the same."""
        weight = weigh(name, new.value)
        with self.lock:
            sources = self.sources_of_new(name, new.deps, new.inner)
            if not self.started or self._is_fenced(ticket, sources) or self.is_pending(sources):
                return None
            deps = self._connect(name, new)
            if deps is None:
                return None
            entry = Entry(
                name,
                new.value,
                p=ticket.p,
                deps=deps,
                made=new.made,
                expires=new.expires,
                stale_until=new.stale_until,
                weight=weight,
            )
            if not self.tier.insert(entry):
                self.graph.drop(name)
                return None
            return entry

    def accepts(self, p: int, sources: Iterable[str], asked: Ticket, now: float) -> bool:
        """Whether a value of the shared tier may be served to somebody who took the ticket `asked` before the tier was asked.

        The tier has seen, without a gap, every event up to the ticket's position. By what this process knows itself: no event behind `p`
        on what the value is made from, none pending, none while the answer was on its way.
        """
        with self.lock:
            known = self.started and self.is_leased(now)
            return known and self.is_fresh(asked, sources) and all(self.inv.get(source, 0) <= p for source in sources)

    def sources_of_new(self, name: str, deps: Iterable[str], inner: Mapping[str, frozenset[str]] = _NONE) -> set[str]:
        """All that a value which is not kept yet is made from."""
        with self.lock:
            named = {name, *deps}
            for made_from in inner.values():
                named |= made_from
            return self.graph.sources(named)

    def _is_fenced(self, ticket: Ticket, sources: Iterable[str]) -> bool:
        """Whether one of these was invalidated behind the position at which the load began, or might have been."""
        return ticket.life != self.life or ticket.p < self.floor or any(self.inv.get(source, 0) > ticket.p for source in sources)

    def _connect(self, name: str, new: Value) -> frozenset[str] | None:
        """What the value hangs on from now on; None where that would be itself.

        What an inner entry was made from, and does not stand in the graph (it is not kept, or has been made anew from something else
        meanwhile), is the value's own.
        """
        deps = set(new.deps)
        for inner, made_from in new.inner.items():
            deps |= made_from - self.graph.sources([inner])
        try:
            self.graph.keep(name, deps)
        except CycleRefused:
            self.tier.remove(name)
            self.graph.drop(name)
            return None
        return frozenset(deps)

    def is_last(self, token: str, name: str) -> bool:
        """Whether this process's invalidation is the last of that name in the log's order, as far as it is applied.

        Only such a one may be followed by the value that was set with it: of two processes that set a name at the same time each
        would else keep its own, and they would differ until the TTL.
        """
        with self.lock:
            return self._last.get(name) == token

    # Changes made here

    def mark(self, token: str, names: Collection[str], now: float) -> None:
        """A transaction of this process changes these: both tiers are passed by for them until `token` is applied."""
        with self.lock:
            self._marks[token] = (frozenset(names), now + MARK_KEPT_S)
            self._count(names, 1)

    def unmark(self, token: str) -> None:
        """It was rolled back, or it is applied."""
        with self.lock:
            names, _ = self._marks.pop(token, (frozenset(), 0.0))
            self._count(names, -1)

    # The log

    def observe(self, look: Look, started: float) -> list[Cascade]:
        """Take in one look at log and outbox that began at `started`; what it invalidated, in the log's order.

        The look is one snapshot, so what was committed before `started` is in its rows or still waits in its outbox. Where
        all of the rows were read, the lease therefore runs to `started + bound_s`.
        """
        with self.lock:
            if not self.started or not self._continues(look):
                self.flush(look.last_seq, look.epoch)
                for event in (event for row in look.rows for event in row.events):
                    self.unmark(event.token)
            cascades = [self._apply(row.seq, row.events) for row in look.rows if row.seq > self.applied]
            self._hold(look.waiting)
            self._forget_marks(started)
            if look.is_whole and self.applied == look.last_seq:
                self.lease_until = max(self.lease_until, started + self.bound_s)
            return cascades

    @property
    def sees_waiting(self) -> bool:
        """Whether the newest look saw something that was committed and has no number yet."""
        return bool(self._waiting)

    def flush(self, applied: int, epoch: str = "") -> None:
        """Begin anew at this position: nothing that was known before counts (C4)."""
        with self.lock:
            self.tier.clear()
            self.graph.clear()
            self.inv.clear()
            self._last.clear()
            self._touched.clear()
            self.applied = self.floor = applied
            self.epoch = epoch
            self.life += 1
            self._turn_floor = self._turn
            self.lease_until = float("-inf")
            self.started = True

    def drop_everything(self) -> None:
        """Keep no entry; what is known of the log stays."""
        with self.lock:
            for name in list(self.tier.entries):
                self.graph.drop(name)
            self.tier.clear()

    def _continues(self, look: Look) -> bool:
        """Whether this is the history that we know, without a gap (C3, C4)."""
        return self._is_same_history(look) and self._is_dense(look)

    def _is_same_history(self, look: Look) -> bool:
        return look.epoch == self.epoch and look.last_seq >= self.applied

    def _is_dense(self, look: Look) -> bool:
        first = next((row.seq for row in look.rows if row.seq > self.applied), None)
        return first == self.applied + 1 if first is not None else look.last_seq == self.applied

    def _apply(self, seq: int, events: Sequence[Event]) -> Cascade:
        """The whole closure at once (C7); what was kept of it, in the order in which it can be made anew (C8)."""
        names = {name for event in events for name in event.names}
        reached = names | self.graph.closure(names)
        kept = [name for name in reached if name in self.tier.entries]
        ordered = self.graph.order(kept) if len(kept) > 1 else kept
        entries = [entry for name in ordered if (entry := self.tier.remove(name)) is not None]
        direct = {entry.name: self.graph.deps_of(entry.name) for entry in entries}
        for name in reached:
            self.inv[name] = seq
            self.inv.move_to_end(name)
        self._touch(reached)
        for entry in reversed(entries):
            self.graph.drop(entry.name)
        while len(self.inv) > self._most:
            self.floor = max(self.floor, self.inv.popitem(last=False)[1])
        self.applied = seq
        for event in events:
            self._note_last(event)
            if event.token in self._marks:
                self.numbered[event.token] = seq
            self.unmark(event.token)
        while len(self.numbered) > NUMBERS_KEPT:
            self.numbered.popitem(last=False)
        return Cascade(seq, frozenset(names), frozenset(reached), tuple(entries), direct)

    def _note_last(self, event: Event) -> None:
        for name in event.names:
            self._last.pop(name, None)
            if event.token in self._marks:
                self._last[name] = event.token
        while len(self._last) > SETS_KEPT:
            self._last.popitem(last=False)

    def _hold(self, waiting: frozenset[str]) -> None:
        """What waits in the outbox has no number yet: it is pending in every process that has seen it."""
        came, went = waiting - self._waiting, self._waiting - waiting
        self._waiting = waiting
        self._count(came, 1)
        self._count(went, -1)

    def _count(self, names: Collection[str], by: int) -> None:
        for name in names:
            count = self.pending.get(name, 0) + by
            if count > 0:
                self.pending[name] = count
            else:
                self.pending.pop(name, None)
        self._touch(names)

    def _touch(self, names: Collection[str]) -> None:
        self._turn += 1
        for name in names:
            self._touched[name] = self._turn
            self._touched.move_to_end(name)
        while len(self._touched) > self._most:
            self._turn_floor = self._touched.popitem(last=False)[1]

    def _forget_marks(self, now: float) -> None:
        for token in [token for token, (_, expires) in self._marks.items() if now >= expires]:
            self.unmark(token)
