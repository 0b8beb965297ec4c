"""What depends on what: the edges that a cascade follows, and the order in which its members are made anew.

A node of the graph is a name: of an entry, or of something in the user's world (`org:7`). An edge leads from a dependency to
the entry that was made from it. An entry that is dropped keeps its edges for as long as something that is kept depends on
it; else `org:7` would no longer reach the page through the card that was evicted (invariant C7). An entry that is made anew from
other things, while something that was made from the former one is kept, leaves its former edges to that: the page still shows what the
former card was made from.

An edge that closes a cycle is refused when it is declared: a cascade over it would have no order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from .errors import CycleRefused


class Graph:
    """See the module's docstring. Not thread-safe: `Node` holds its lock around it."""

    def __init__(self) -> None:
        self._deps: dict[str, frozenset[str]] = {}
        self._dependents: dict[str, set[str]] = {}
        self._kept: set[str] = set()
        self._heirs: dict[str, set[str]] = {}
        """What was made from a former entry of the name, and has that one's edges itself by now."""

    def __len__(self) -> int:
        return len(self._deps)

    def deps_of(self, name: str) -> frozenset[str]:
        """What it was made from, directly."""
        return self._deps.get(name, frozenset())

    def keep(self, name: str, deps: Collection[str]) -> None:
        """An entry is kept, made from these; `CycleRefused` where one of them was made from it."""
        self.declare(name, deps)
        self._kept.add(name)

    def declare(self, name: str, deps: Collection[str]) -> None:
        """The edges of a name, in place of those that it had."""
        self.refuse_cycle(name, deps)
        former, new = self.deps_of(name), frozenset(deps)
        if former != new:
            self._leave(name, former)
        self._cut(name)
        self._connect(name, new)
        self._prune(former - new)

    def refuse_cycle(self, name: str, deps: Collection[str]) -> None:
        """Raise `CycleRefused` where `name` is among what its own dependencies depend on."""
        wanted = set(deps)
        if name in wanted or not wanted.isdisjoint(self.closure([name])):
            raise CycleRefused(f"{name!r} would depend on itself, through {sorted(wanted)}")

    def drop(self, name: str) -> None:
        """The entry is kept no longer; its edges go once nothing depends on it."""
        self._kept.discard(name)
        self._prune([name])

    def closure(self, names: Iterable[str]) -> set[str]:
        """Every entry that is made from one of these, however indirectly; without them, unless they are reached too."""
        found: set[str] = set()
        waiting = list(names)
        while waiting:
            for dependent in self._dependents.get(waiting.pop(), ()):
                if dependent not in found:
                    found.add(dependent)
                    waiting.append(dependent)
        return found

    def sources(self, names: Iterable[str]) -> set[str]:
        """These, and everything that they are made from: what the shared tier, which has no graph, is told of an entry."""
        found: set[str] = set(names)
        waiting = list(found)
        while waiting:
            new = self.deps_of(waiting.pop()) - found
            found |= new
            waiting += new
        return found

    def order(self, names: Collection[str]) -> list[str]:
        """These in the order in which they can be made anew: each behind all that it is made from; else by name."""
        members = set(names)
        if self._dependents.keys().isdisjoint(members):  # a tag and all that has it: nothing among them is made from another
            return sorted(members)
        left = {name: len(self._ahead(name, members)) for name in members}
        ready = sorted((name for name, count in left.items() if not count), reverse=True)
        ordered: list[str] = []
        while ready:
            name = ready.pop()
            ordered.append(name)
            freed = []
            for dependent in self.closure([name]) & members:
                left[dependent] -= 1
                if not left[dependent]:
                    freed.append(dependent)
            ready += sorted(freed, reverse=True)
        return ordered

    def edges(self) -> Iterator[tuple[str, str]]:
        """(dependency, entry), by name."""
        for name in sorted(self._deps):
            for dep in sorted(self._deps[name]):
                yield dep, name

    def clear(self) -> None:
        """Nothing is kept."""
        self._deps.clear()
        self._dependents.clear()
        self._kept.clear()
        self._heirs.clear()

    def _ahead(self, name: str, members: set[str]) -> set[str]:
        return (self.sources([name]) - {name}) & members

    def _connect(self, name: str, deps: frozenset[str]) -> None:
        self._deps[name] = self.deps_of(name) | deps
        for dep in deps:
            self._dependents.setdefault(dep, set()).add(name)

    def _leave(self, name: str, former: frozenset[str]) -> None:
        """Whatever was made from the former entry of a name has its edges from now on; none of them closes a cycle."""
        dependents = self._dependents.get(name)
        if former and dependents:
            heirs = self._heirs.setdefault(name, set())
            for dependent in dependents - heirs:
                self._connect(dependent, former)
            heirs |= dependents

    def _cut(self, name: str) -> None:
        for dep in self._deps.pop(name, ()):
            _discard(self._dependents, dep, name)
            _discard(self._heirs, dep, name)

    def _prune(self, names: Iterable[str]) -> None:
        """Let go of the edges of those that are not kept and that nothing depends on, and of what then is so as well."""
        waiting = list(names)
        while waiting:
            each = waiting.pop()
            if each not in self._kept and each not in self._dependents and each in self._deps:
                waiting += self._deps[each]
                self._cut(each)


def _discard(sets: dict[str, set[str]], key: str, member: str) -> None:
    members = sets.get(key)
    if members is not None:
        members.discard(member)
        if not members:
            del sets[key]
