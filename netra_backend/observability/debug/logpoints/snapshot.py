"""What happens where watched code is passed: the condition, the picture, the record. Nothing of it reaches the program (D3)."""

from __future__ import annotations

import sys
from inspect import CO_OPTIMIZED
from types import FrameType
from typing import Any, Final

from ....kernel.expression import Expression
from ....kernel.expression_nodes import And, Comparison, Node, Not, Or, Path
from ..live import Live
from ..model import Logpoint
from ..picture import Exhausted, paint_all, painter
from ..watch import Watched

_NOBODY_ELSE_HOLDS: Final = 3
"""References to a frame's dictionary of variables that are the frame's, ours, and the question's own."""
_JSON: Final = frozenset(map(id, (type(None), bool, int, float, str)))


class Point:
    """A logpoint that is armed."""

    __slots__ = ("_names", "_where", "logpoint")

    def __init__(self, logpoint: Logpoint) -> None:
        self.logpoint = logpoint
        self._where = Expression.parse(logpoint.where) if logpoint.where else None
        self._names = _names_in(self._where.root) if self._where is not None else frozenset()

    def passed(self, watch: Any, frame: FrameType) -> None:
        """Watched work is here."""
        if type(watch) is not Watched or not watch.wants("snapshot"):
            return
        lives = tuple(live for live in watch.lives if self.logpoint in live.session.logpoints)
        if not lives:
            return
        try:
            self._take(watch, lives, frame)
        except Exception:  # noqa: BLE001  (a logpoint is never what fails)
            for live in lives:
                live.quotas.lost["error"] += 1

    def _take(self, watch: Watched, lives: tuple[Live, ...], frame: FrameType) -> None:
        now = watch.hub.monotonic
        began = now()
        takers = tuple(live for live in lives if live.quotas.admits(began))
        if not takers:
            return
        values = variables_of(frame)
        if self._where is None or self._where.evaluate({name: _plain(values.get(name), now) for name in self._names}):
            code = frame.f_code
            data = {"at": self.logpoint.at, "line": frame.f_lineno, "function": code.co_qualname, "variables": paint_all(values, now)}
            watch.record_for(takers, "snapshot", data)
        for live in takers:
            live.quotas.spend(cpu_s=now() - began)


def variables_of(frame: FrameType) -> dict[str, Any]:
    """A copy of a frame's variables, which leaves the frame as it was.

    Up to Python 3.12 the frame keeps the dictionary that is made for this, with a reference to each variable: it would keep objects
    alive that the program has let go of. So what the frame renews at each look is taken out again, if nobody else has the dictionary.
    """
    found: Any = frame.f_locals
    values = dict(found)
    if sys.version_info < (3, 13) and frame.f_code.co_flags & CO_OPTIMIZED and sys.getrefcount(found) <= _NOBODY_ELSE_HOLDS:
        code = frame.f_code
        for name in (*code.co_varnames, *code.co_cellvars, *code.co_freevars):
            found.pop(name, None)
    return values


def _names_in(node: Node) -> frozenset[str]:
    """The variables that a condition looks at."""
    if isinstance(node, Path):
        return frozenset(node.segments[:1])
    if isinstance(node, And | Or):
        return frozenset().union(*map(_names_in, node.parts))
    if isinstance(node, Not):
        return _names_in(node.part)
    if isinstance(node, Comparison):
        return _names_in(node.left) | _names_in(node.right)
    return frozenset()


def _plain(value: Any, now: Any) -> Any:
    """What a condition may look into: JSON's own types, and the fields of an object as its picture has them."""
    if id(type(value)) in _JSON:
        return value
    try:
        return painter(now).paint(value)
    except Exhausted:
        return None
