"""A state machine is a table: one place from which guard, SQL, diagram and tests all come.

A part's `states.py` builds one `StateTable`. Its store passes `sources(...)` to the `where state in (...)` of the
conditional update, its migration's CHECK is compared with `states` by a test, its docs carry `mermaid()`, and the
all-pairs test walks `pairs()`. So a transition cannot exist in one of them and not in the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ..errors import Conflict


class IllegalTransition(Conflict):
    """The object's state does not allow this."""

    code = "illegal_transition"


@dataclass(frozen=True, slots=True)
class StateTable:
    """`transitions` maps an event to the states that it may leave and the one state that it leads to.

    `states` is in the order of life and begins with the initial one. A table that names an unknown state, or holds a
    state that no event reaches, raises `ValueError` when it is built, that is at import.
    """

    name: str
    states: tuple[str, ...]
    transitions: Mapping[str, tuple[tuple[str, ...], str]]
    _edges: frozenset[tuple[str, str]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        edges = frozenset((source, to) for froms, to in self.transitions.values() for source in froms)
        named = {state for edge in edges for state in edge}
        reached = {to for _, to in edges} | {self.initial}
        if len(set(self.states)) != len(self.states) or named - set(self.states) or set(self.states) - reached:
            raise ValueError(f"the states of {self.name} and its transitions disagree")
        object.__setattr__(self, "_edges", edges)

    @property
    def initial(self) -> str:
        """The state in which a row is inserted."""
        return self.states[0]

    @property
    def terminal(self) -> tuple[str, ...]:
        """The states that nothing leaves."""
        return tuple(state for state in self.states if not self.targets(state))

    def allowed(self, source: str, to: str) -> bool:
        """Whether some event leads from `source` to `to`."""
        return (source, to) in self._edges

    def check(self, source: str, to: str) -> None:
        """Raise `IllegalTransition` unless `allowed`."""
        if self.allowed(source, to):
            return
        ways = ", ".join(self.targets(source)) or "nothing: it is final"
        raise IllegalTransition(
            f"a {self.name} that is {source} cannot become {to}",
            fix=f"From {source} it may become {ways}.",
            source=source,
            to=to,
        )

    def after(self, event: str, source: str) -> str:
        """The state that `event` leads to from `source`; `IllegalTransition` where it does not apply."""
        froms, to = self.transitions[event]
        if source in froms:
            return to
        raise IllegalTransition(
            f"a {self.name} that is {source} cannot {event}",
            fix=f"Only {', '.join(froms)} can.",
            source=source,
            event=event,
        )

    def sources(self, event: str) -> tuple[str, ...]:
        """The states that `event` may leave, for `where state in (...)` of its conditional update."""
        return self.transitions[event][0]

    def targets(self, source: str) -> tuple[str, ...]:
        """The states that may follow `source`."""
        return tuple(state for state in self.states if (source, state) in self._edges)

    def pairs(self) -> Iterator[tuple[str, str, bool]]:
        """Every ordered pair of states and whether it is allowed, for the all-pairs test."""
        for source in self.states:
            for to in self.states:
                yield source, to, self.allowed(source, to)

    def mermaid(self) -> str:
        """The diagram for the docs, in Mermaid's `stateDiagram-v2`."""
        lines = ["stateDiagram-v2", f"    [*] --> {self.initial}"]
        lines += [f"    {source} --> {to}: {event}" for event, (froms, to) in self.transitions.items() for source in froms]
        lines += [f"    {state} --> [*]" for state in self.terminal]
        return "\n".join(lines) + "\n"

    def text(self) -> str:
        """One line per state, for the command line: `leased -> delivered | due | dead`."""
        width = max(map(len, self.states))
        return "".join(f"{state:<{width}} -> {' | '.join(self.targets(state)) or '(final)'}\n" for state in self.states)
