"""What depends on what: the edges that a cascade follows, and the order in which its members are made anew.

A node of the graph is a name: of an entry, or of something in the user's world (`org:7`). An edge leads from a dependency to
the entry that was made from it. An entry that is dropped keeps its edges for as long as something that is kept depends on
it; else `org:7` would no longer reach the page through the card that was evicted (invariant C7).

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
        self._cut(name)
        self._deps[name] = frozenset(deps)
        for dep in deps:
            self._dependents.setdefault(dep, set()).add(name)

    def refuse_cycle(self, name: str, deps: Collection[str]) -> None:
        """Raise `CycleRefused` where `name` is among what its own dependencies depend on."""
        wanted = set(deps)
        if name in wanted or not wanted.isdisjoint(self.closure([name])):
            raise CycleRefused(f"{name!r} would depend on itself, through {sorted(wanted)}")

    def drop(self, name: str) -> None:
        """The entry is kept no longer; its edges go once nothing depends on it."""
        self._kept.discard(name)
        waiting = [name]
        while waiting:
            each = waiting.pop()
            if each in self._kept or each in self._dependents or each not in self._deps:
                continue
            waiting += self._deps[each]
            self._cut(each)
            del self._deps[each]

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

    def _ahead(self, name: str, members: set[str]) -> set[str]:
        return (self.sources([name]) - {name}) & members

    def _cut(self, name: str) -> None:
        for dep in self._deps.get(name, ()):
            dependents = self._dependents[dep]
            dependents.discard(name)
            if not dependents:
                del self._dependents[dep]
