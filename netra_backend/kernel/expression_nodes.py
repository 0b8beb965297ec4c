"""The tree of an expression, and what it may do when it runs: look up, compare, decide. Nothing of a value's is called.

Values are those of JSON, told apart by their exact type. An instance of anything else, a subclass included, is opaque:
it equals nothing and has no parts, so that a condition over a program's variables cannot run that program's code.

Work is counted. Every node, path segment and list element costs 1, text costs 1 per 256 characters looked at; at
`COST_LIMIT` the evaluation stops with `TooCostly`. A payload of a million elements thus costs a few milliseconds at most.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

COST_LIMIT: Final = 20_000
_TEXT_PER_UNIT: Final = 256
_LIST_TYPES: Final = (list, tuple)
_KINDS: Final = {type(None): "null", bool: "boolean", int: "number", float: "number", str: "text", list: "list", tuple: "list"}


class TooCostly(Exception):
    """The evaluation has used its budget; never leaves `Expression.evaluate`."""


class Evaluation:
    """One run: the values and what is left of the budget."""

    __slots__ = ("left", "values")

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values
        self.left = COST_LIMIT

    def spend(self, units: int) -> None:
        """Take `units` from the budget; `TooCostly` when it is used up."""
        self.left -= units
        if self.left < 0:
            raise TooCostly


class Node(Protocol):
    """A part of the tree."""

    def value(self, run: Evaluation) -> Any:
        """What this part is worth for the values of `run`."""
        ...


@dataclass(frozen=True, slots=True)
class Literal:
    """A number, text, true, false, null, or a tuple of them."""

    constant: Any

    def value(self, run: Evaluation) -> Any:
        """The constant."""
        run.spend(1)
        return self.constant


@dataclass(frozen=True, slots=True)
class Path:
    """`a.b.0`: members of objects and elements of lists; null where there is none."""

    segments: tuple[str, ...]

    def value(self, run: Evaluation) -> Any:
        """What stands at the path."""
        run.spend(len(self.segments))
        found = run.values.get(self.segments[0])
        for segment in self.segments[1:]:
            found = _member(found, segment)
        return found


@dataclass(frozen=True, slots=True)
class And:
    """`and`: true if every part is true; stops at the first that is not."""

    parts: tuple[Node, ...]

    def value(self, run: Evaluation) -> bool:
        """Only `true` counts as true."""
        run.spend(1)
        return all(part.value(run) is True for part in self.parts)


@dataclass(frozen=True, slots=True)
class Or:
    """`or`: true if some part is true; stops at the first that is."""

    parts: tuple[Node, ...]

    def value(self, run: Evaluation) -> bool:
        """Only `true` counts as true."""
        run.spend(1)
        return any(part.value(run) is True for part in self.parts)


@dataclass(frozen=True, slots=True)
class Not:
    """`not`: true unless the part is true."""

    part: Node

    def value(self, run: Evaluation) -> bool:
        """The opposite."""
        run.spend(1)
        return self.part.value(run) is not True


@dataclass(frozen=True, slots=True)
class Comparison:
    """`left operator right`, the operator one of `OPERATORS`."""

    operator: str
    left: Node
    right: Node

    def value(self, run: Evaluation) -> bool:
        """Whether it holds; never raises for whatever the values are."""
        run.spend(1)
        return OPERATORS[self.operator](run, self.left.value(run), self.right.value(run))


def _member(holder: Any, segment: str) -> Any:
    if type(holder) is dict:
        return holder.get(segment)
    if type(holder) in _LIST_TYPES and segment.isdecimal() and len(segment) <= 9 and int(segment) < len(holder):
        return holder[int(segment)]
    return None


def _equal(run: Evaluation, left: Any, right: Any) -> bool:
    """Same kind and same value. Lists element by element, one level deep: a list inside a list equals nothing."""
    kind = _KINDS.get(type(left))
    if kind is None or kind != _KINDS.get(type(right)):
        return False
    if kind == "list":
        return len(left) == len(right) and all(_equal_scalars(run, *pair) for pair in zip(left, right, strict=True))
    return _equal_scalars(run, left, right)


def _equal_scalars(run: Evaluation, left: Any, right: Any) -> bool:
    run.spend(1)
    kind = _KINDS.get(type(left))
    if kind in {None, "list"} or kind != _KINDS.get(type(right)):
        return False
    if kind == "text":
        _spend_for_text(run, left, right)
    return bool(left == right)


def _ordered(run: Evaluation, left: Any, right: Any, holds: Callable[[Any, Any], bool]) -> bool:
    """Numbers by value, text by code points; anything else has no order, and across kinds nothing has."""
    kind = _KINDS.get(type(left))
    if kind not in {"number", "text"} or kind != _KINDS.get(type(right)):
        return False
    if kind == "text":
        _spend_for_text(run, left, right)
    return bool(holds(left, right))


def _contained(run: Evaluation, left: Any, right: Any) -> bool:
    """An element of a list, a part of a text, a member's name of an object."""
    if type(right) in _LIST_TYPES:
        return any(_equal_scalars(run, left, element) for element in right)
    if type(left) is not str:
        return False
    if type(right) is str:
        run.spend((len(left) + len(right)) // _TEXT_PER_UNIT)
        return left in right
    return type(right) is dict and left in right


def _spend_for_text(run: Evaluation, left: str, right: str) -> None:
    run.spend(min(len(left), len(right)) // _TEXT_PER_UNIT)


OPERATORS: Final[dict[str, Callable[[Evaluation, Any, Any], bool]]] = {
    "==": _equal,
    "!=": lambda run, left, right: not _equal(run, left, right),
    "<": lambda run, left, right: _ordered(run, left, right, lambda low, high: low < high),
    "<=": lambda run, left, right: _ordered(run, left, right, lambda low, high: low <= high),
    ">": lambda run, left, right: _ordered(run, left, right, lambda low, high: low > high),
    ">=": lambda run, left, right: _ordered(run, left, right, lambda low, high: low >= high),
    "in": _contained,
    "not in": lambda run, left, right: not _contained(run, left, right),
}
