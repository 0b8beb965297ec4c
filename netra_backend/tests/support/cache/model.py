"""A small world around the cache's real guards: a database, outbox, log, nodes, a shared tier, readers. One action is one step.

The nodes are `cache.node.Node`, the very class that serves, with hand-set time; the shared tier is `tier_model.TierModel`, which is compared
with the scripts in a real server. Around them stands the least that the protocol needs. `explore` visits every state that some order of steps leads to, and looks for a read that is older than the bound allows.

A world is a value that is copied for each step; `key` is what tells two of them apart, and it leaves out nothing that a later step
can see. The writers' history is what reads are judged by: each commit has the instant at which it happened.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from ....cache.model import Event, LogRow, Look
from ....cache.node import Node, Ticket, Value
from .tier_model import TierModel

BOUND = 2.0
LIMIT = 1 << 20
FAR = 1e9
BUDGETS = ("commits", "aborts", "ticks", "reads", "looks", "loads", "losses", "drops", "crashes", "goes_back")
CARD, PAGE = "card", "page"
"""`card` is made from both dependencies, and `page` from the card."""


@dataclass(frozen=True)
class Scope:
    """How much of everything: the explorer visits all orders of it."""

    commits: int = 2
    aborts: int = 1
    ticks: int = 3
    reads: int = 3
    looks: int = 3
    loads: int = 2
    losses: int = 0
    drops: int = 0
    crashes: int = 0
    goes_back: int = 0
    nodes: tuple[int, ...] = (0, 1)
    loaders: tuple[int, ...] | None = None
    deps: tuple[str, ...] = ("d",)
    of: tuple[str, ...] = ("d",)
    remembered: int = 100
    joins: bool = False
    shared: bool = False
    pages: bool = False
    tier: type[TierModel] = TierModel
    is_current: bool = True
    bound: float = BOUND
    in_order: bool = False
    at_once: bool = False
    """A write, its commit and its number are one step."""


@dataclass
class Reader:
    """A load under way on one node: it has its ticket, and perhaps what it read."""

    ticket: Ticket
    name: str
    joined: tuple[float, int] | None = None
    read: tuple[int, ...] | None = None
    inner: bool = False


@dataclass
class World:
    """See the module's docstring. `values` are the committed versions of the dependencies; node 0's process is the one that writes."""

    scope: Scope
    nodes: list[Node]
    now: float = 0.0
    values: dict[str, int] = field(default_factory=dict)
    history: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    own: dict[str, int] = field(default_factory=dict)
    open: tuple[str, str] | None = None
    outbox: list[Event] = field(default_factory=list)
    log: list[LogRow] = field(default_factory=list)
    last: int = 0
    epoch: int = 0
    readers: list[Reader | None] = field(default_factory=list)
    looks: list[tuple[float, Look] | None] = field(default_factory=list)
    tier: TierModel | None = None
    saved: TierModel | None = None
    known: list[tuple[str, str]] = field(default_factory=list)
    lives: int = 0
    left: dict[str, int] = field(default_factory=dict)
    tokens: int = 0

    def to_change(self, at: int) -> Node:
        """The node, as this world's own: until something changes it, worlds share it."""
        self.nodes[at] = copied(self.nodes[at])
        return self.nodes[at]

    def oldest_allowed(self) -> dict[str, int]:
        """The versions that were current one bound ago: nothing older may be served."""
        allowed = dict.fromkeys(self.scope.deps, 0)
        for at, values in self.history:
            if at <= self.now - self.scope.bound:
                allowed = values
        return allowed

    def key(self) -> Any:
        """What tells this state from another one."""
        return (
            self.now,
            tuple(self.values.items()),
            tuple((at, tuple(values.items())) for at, values in self.history),
            tuple(self.own.items()),
            self.open,
            tuple(self.outbox),
            tuple(self.log),
            self.last,
            self.epoch,
            tuple((r.ticket, r.name, r.joined, r.read, r.inner) if r else None for r in self.readers),
            tuple(self.looks),
            *(_of_node(node) for node in self.nodes),
            self.tier.key() if self.tier else None,
            self.saved.key() if self.saved else None,
            tuple(self.known),
            tuple(self.left.items()),
        )


class Stale(AssertionError):
    """A read was served that the protocol forbids."""


def _of_node(node: Node) -> Any:
    found = node.__dict__.get("told")
    if found is None:
        kept = tuple((e.name, e.value, e.p, tuple(sorted(e.deps))) for _, e in sorted(node.tier.entries.items()))
        found = node.__dict__["told"] = (
            (node.applied, node.life, node.floor, node.lease_until, node.started, node._turn, node.epoch),
            tuple(sorted(node.pending.items())),
            tuple(sorted(node.inv.items())),
            tuple(sorted(node._touched.items())),
            kept,
            tuple(node.graph.edges()),
            tuple((name, tuple(sorted(heirs))) for name, heirs in sorted(node.graph._heirs.items())),
        )
    return found


def copied(node: Node) -> Node:
    """A node of its own: everything but the lock."""
    twin = type(node)(node.bound_s, node.tier.limit_bytes, node._most)
    for name in ("applied", "life", "floor", "lease_until", "started", "epoch", "_waiting", "_turn", "_turn_floor"):
        setattr(twin, name, getattr(node, name))
    twin.pending = dict(node.pending)
    twin.inv, twin._touched, twin._marks = node.inv.copy(), node._touched.copy(), dict(node._marks)
    for entry in node.tier.entries.values():
        twin.tier.insert(copy.copy(entry))
    twin.graph._deps = dict(node.graph._deps)
    twin.graph._dependents = {name: set(found) for name, found in node.graph._dependents.items()}
    twin.graph._kept = set(node.graph._kept)
    twin.graph._heirs = {name: set(found) for name, found in node.graph._heirs.items()}
    return twin


def forked(world: World) -> World:
    """The same state, to go on from."""
    twin = World.__new__(World)
    twin.__dict__.update(world.__dict__)
    twin.nodes = list(world.nodes)
    for name in ("values", "own", "left"):
        setattr(twin, name, dict(getattr(world, name)))
    if world.tier is not None:
        twin.known = list(world.known)
    twin.history = list(world.history)
    twin.outbox, twin.log, twin.looks = list(world.outbox), list(world.log), list(world.looks)
    twin.readers = [replace(reader) if reader else None for reader in world.readers]
    return twin


def begun(scope: Scope, make: Callable[[Scope], Node]) -> World:
    """The first state: two processes that have looked once."""
    nodes = [make(scope), make(scope)]
    for node in nodes:
        node.observe(Look((), 0, frozenset(), True, "0"), 0.0)
    left = {name: getattr(scope, name) for name in BUDGETS}
    none = dict.fromkeys(scope.deps, 0)
    world = World(scope, nodes, values=dict(none), own=dict(none), readers=[None, None], looks=[None, None], left=left)
    if scope.shared:
        world.tier, world.known = scope.tier(), [("", ""), ("", "")]
        for at in (0, 1):
            _hand_over(world, at, Look((), 0, frozenset(), True, "0"))
    return world


Step = tuple[str, Callable[[World], None]]


def steps(world: World) -> Iterator[Step]:
    """What can happen next."""
    left = world.left
    if world.open is None and left["commits"]:
        deps = world.scope.deps[world.tokens : world.tokens + 1] if world.scope.in_order else world.scope.deps
        yield from ((f"write {dep}", lambda w, dep=dep: _write(w, dep)) for dep in deps)
    if world.open is not None:
        yield "commit", _commit
        if left["aborts"]:
            yield "abort", _abort
    if world.outbox:
        yield "sequence", _sequence
    if left["losses"] and world.log:
        yield "failover", _lose
    if left["ticks"]:
        yield "tick", _tick
    for at in world.scope.nodes:
        node = world.nodes[at]
        if world.looks[at] is None and left["looks"]:
            yield f"look {at}", lambda w, at=at: _look(w, at)
            if left["drops"] and any(row.seq > node.applied for row in world.log):
                yield f"look {at} past a gap", lambda w, at=at: _look(w, at, gap=True)
        if world.looks[at] is not None:
            yield f"deliver {at}", lambda w, at=at: _deliver(w, at)
        if left["crashes"] and at in (world.scope.loaders or world.scope.nodes):
            yield f"crash {at}", lambda w, at=at: _crash(w, at)
        if at in (world.scope.loaders or world.scope.nodes):
            yield from _reads(world, at, node)
    if left["goes_back"]:
        yield "the tier's state is kept aside", _keep_aside
    if world.saved is not None:
        yield "the tier goes back", _go_back


def _reads(world: World, at: int, node: Node) -> Iterator[Step]:
    left, reader = world.left, world.readers[at]
    names = (CARD, PAGE) if world.scope.pages else (CARD,)
    if left["reads"]:
        for name in names:
            if node.find(name, world.now) is not None:
                yield f"hit {name} {at}", lambda w, at=at, name=name: _hit(w, at, name)
            if world.tier is not None and name in world.tier.entries:
                yield f"shared hit {name} {at}", lambda w, at=at, name=name: _shared_hit(w, at, name)
    if reader is None and left["loads"]:
        for name in names:
            yield f"begin {name} {at}", lambda w, at=at, name=name: _begin(w, at, name)
    if reader is not None:
        if reader.read is None:
            yield f"read {at}", lambda w, at=at: _read(w, at)
        else:
            yield f"land {at}", lambda w, at=at: _land(w, at)
        if world.scope.joins and reader.joined is None and left["reads"] and node.joins(reader.ticket, world.now):
            yield f"join {at}", lambda w, at=at: _join(w, at)


def _write(world: World, dep: str) -> None:
    world.left["commits"] -= 1
    world.tokens += 1
    world.open = (dep, f"t{world.tokens}")
    world.to_change(0).mark(f"t{world.tokens}", [dep], world.now)
    if world.scope.at_once:
        _commit(world)
        _sequence(world)


def _commit(world: World) -> None:
    assert world.open is not None
    dep, token = world.open
    world.open = None
    world.values[dep] += 1
    world.own[dep] = world.values[dep]
    world.history.append((world.now, dict(world.values)))
    world.outbox.append(Event(token, (dep,)))


def _abort(world: World) -> None:
    assert world.open is not None
    world.left["aborts"] -= 1
    world.to_change(0).unmark(world.open[1])
    world.open = None


def _sequence(world: World) -> None:
    world.last += 1
    row = LogRow(world.last, (world.outbox.pop(0),))
    world.log.append(row)


def _lose(world: World) -> None:
    """A failover that loses the newest commit, which nobody was told to be durable; its number is given to another."""
    world.left["losses"] -= 1
    world.epoch += 1
    lost = world.log.pop()
    world.last -= 1
    for event in lost.events:
        for dep in event.names:
            world.values[dep] += 1  # what stands there now is not what was read before, and its own event is lost
            world.own[dep] = 0
    world.history.append((world.now, dict(world.values)))
    world.tokens += 1
    world.last += 1
    world.log.append(LogRow(world.last, (Event(f"t{world.tokens}", ("other",)),)))


def _tick(world: World) -> None:
    world.left["ticks"] -= 1
    world.now += 1.0


def _look(world: World, at: int, *, gap: bool = False) -> None:
    world.left["looks"] -= 1
    world.left["drops"] -= gap
    applied = world.nodes[at].applied
    if gap and world.last == applied + 1:
        world.last += 1
        world.log.append(LogRow(world.last, (Event("noise", ("other",)),)))
    rows = tuple(row for row in world.log if row.seq > applied and not (gap and row.seq == applied + 1))
    waiting = frozenset(name for event in world.outbox for name in event.names)
    world.looks[at] = (world.now, Look(rows, world.last, waiting, True, str(world.epoch)))


def _deliver(world: World, at: int) -> None:
    found = world.looks[at]
    assert found is not None
    world.looks[at] = None
    node = world.to_change(at)
    if world.tier is not None:
        _follow(world, at, found[1])
    for cascade in node.observe(found[1], world.now if getattr(node, "late", False) else found[0]):
        names = [entry.name for entry in cascade.entries]
        if PAGE in names and CARD in names and names.index(PAGE) < names.index(CARD):
            raise Stale("the page would be made anew from the former card")


def _begin(world: World, at: int, name: str) -> None:
    world.left["loads"] -= 1
    world.readers[at] = Reader(world.nodes[at].begin(world.now), name)


def _read(world: World, at: int) -> None:
    reader = world.readers[at]
    assert reader is not None
    kept = world.nodes[at].find(CARD, world.now) if reader.name == PAGE else None
    reader.inner = kept is not None
    reader.read = tuple(world.values[dep] for dep in world.scope.of) if kept is None else kept.value


def _land(world: World, at: int) -> None:
    reader, node = world.readers[at], world.to_change(at)
    assert reader is not None and reader.read is not None
    world.readers[at] = None
    page = reader.name == PAGE
    deps = frozenset({CARD}) if page else frozenset(world.scope.of)
    inner = {CARD: frozenset(world.scope.of)} if page else {}
    new = Value(reader.read, deps, FAR, FAR, inner)
    sources = node.sources_of_new(reader.name, deps, inner)
    node.fill(reader.name, new, reader.ticket)
    if world.tier is not None and world.known[at][0] and node.is_fresh(reader.ticket, sources):
        world.tier = world.tier.copied()
        world.tier.fill(world.known[at][0], reader.ticket.p, reader.name, reader.read, tuple(sorted(sources)))
    if reader.joined is not None and node.is_fresh(reader.ticket, sources):
        asked, own = reader.joined
        _judge(world, at, reader.read, at_time=asked, own=own)


def _join(world: World, at: int) -> None:
    reader = world.readers[at]
    assert reader is not None
    world.left["reads"] -= 1
    reader.joined = (world.now, sum(world.own[dep] << 8 * i for i, dep in enumerate(world.scope.of)))


def _hit(world: World, at: int, name: str) -> None:
    world.left["reads"] -= 1
    entry = world.nodes[at].find(name, world.now)
    assert entry is not None
    _judge(world, at, entry.value)


def _shared_hit(world: World, at: int, name: str) -> None:
    """As `Valkey.read` and `Loader` do, in one step."""
    world.left["reads"] -= 1
    node = world.to_change(at)
    assert world.tier is not None
    asked = node.begin(world.now)
    answer = world.tier.read(name)
    if answer is None or answer[3] is None:
        return
    epoch, history, pos, (_, p, value, deps) = answer
    if world.scope.is_current and ((epoch, history) != world.known[at] or pos < asked.p):
        return
    sources = node.sources_of_new(name, deps)
    if node.accepts(p, sources, asked, world.now):
        node.fill(name, Value(value, frozenset(deps) - {name}, FAR, FAR), asked)
        _judge(world, at, value)


def _follow(world: World, at: int, look: Look) -> None:
    """As `Valkey.follow` does: the look's rows, then what the tier lacks of the log."""
    if _hand_over(world, at, look) >= look.last_seq:
        return
    assert world.tier is not None
    missing = tuple(row for row in world.log if row.seq > world.tier.pos)
    if missing and missing[0].seq == world.tier.pos + 1:
        _hand_over(world, at, Look(missing, look.last_seq, frozenset(), True, look.epoch))
    else:
        _hand_over(world, at, Look((), look.last_seq, frozenset(), True, look.epoch), anew=True)


def _hand_over(world: World, at: int, look: Look, *, anew: bool = False) -> int:
    assert world.tier is not None
    world.tier = world.tier.copied()
    world.lives += 1
    events = [[name for event in row.events for name in event.names] for row in look.rows]
    first = look.rows[0].seq if look.rows else look.last_seq + 1
    epoch, pos = world.tier.apply(look.epoch, f"life {world.lives}", first, events, look.last_seq, anew=anew, most=world.scope.remembered)
    world.known[at] = (epoch, look.epoch)
    return pos


def _keep_aside(world: World) -> None:
    world.left["goes_back"] -= 1
    assert world.tier is not None
    world.saved = world.tier


def _go_back(world: World) -> None:
    world.tier, world.saved = world.saved, None


def _crash(world: World, at: int) -> None:
    """The process dies with all that it knew, and starts again."""
    world.left["crashes"] -= 1
    node = world.nodes[at]
    world.nodes[at] = type(node)(node.bound_s, node.tier.limit_bytes, node._most)
    world.readers[at] = world.looks[at] = None
    if world.tier is not None:
        world.known[at] = ("", "")
    if at == 0:
        world.open = None
        world.own = dict.fromkeys(world.scope.deps, 0)


def _judge(world: World, at: int, value: tuple[int, ...], *, at_time: float | None = None, own: int | None = None) -> None:
    twin = world if at_time is None else forked(world)
    if at_time is not None:
        twin.now = at_time
    oldest = twin.oldest_allowed()
    for dep, served in zip(world.scope.of, value, strict=True):
        if served < oldest[dep]:
            raise Stale(f"node {at} served {dep} {served}, and {oldest[dep]} was current more than the bound before")
    if at == 0:
        for i, dep in enumerate(world.scope.of):
            least = world.own[dep] if own is None else own >> 8 * i & 255
            if value[i] < least:
                raise Stale(f"the writing process was served {dep} {value[i]}, older than its own commit {least}")


@dataclass
class Explored:
    """How many states there are, and the shortest way to a stale read, if there is one."""

    states: int
    way: list[str] | None = None
    reason: str = ""


def explore(scope: Scope, make: Callable[[Scope], Node], most: int = 2_000_000) -> Explored:
    """Breadth first, so that a counterexample is a shortest one."""
    first = begun(scope, make)
    seen = {hash(first.key())}
    waiting: deque[tuple[World, tuple[str, ...]]] = deque([(first, ())])
    while waiting:
        world, way = waiting.popleft()
        for name, step in steps(world):
            twin = forked(world)
            try:
                step(twin)
            except Stale as found:
                return Explored(len(seen), [*way, name], str(found))
            key = hash(twin.key())
            if key not in seen:
                seen.add(key)
                assert len(seen) <= most, "the scope is larger than was meant"
                waiting.append((twin, (*way, name)))
    return Explored(len(seen))
