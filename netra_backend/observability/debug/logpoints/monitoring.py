"""Watching code by `sys.monitoring` (PEP 669; Python 3.12 and later): local events of single code objects; other code runs as before."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import CodeType
from typing import Any, Final

from ....errors import Unavailable
from ....kernel.debugging import watched
from .places import Found
from .snapshot import Point

_CANDIDATES: Final = (4, 3, 5)
_NAME: Final = "netra-debug"
_m: Final[Any] = getattr(sys, "monitoring", None)


class Monitoring:
    """See the module's docstring. It takes a free tool id with the first logpoint, and gives it back with the last."""

    def __init__(self) -> None:
        self._tool: int | None = None
        self._lines: dict[tuple[int, int], list[Point]] = {}
        self._starts: dict[int, list[Point]] = {}
        self._codes: dict[int, CodeType] = {}

    def settle(self, wanted: Sequence[tuple[Found, Point]]) -> None:
        """See `engine.Means`."""
        lines: dict[tuple[int, int], list[Point]] = {}
        starts: dict[int, list[Point]] = {}
        for found, point in wanted:
            place = lines.setdefault((id(found.code), found.line), []) if found.line is not None else starts.setdefault(id(found.code), [])
            place.append(point)
        codes = {id(found.code): found.code for found, _ in wanted}
        self._lines, self._starts = lines, starts
        if self._tool is None and codes:
            self._tool = self._take()
        for key, code in (self._codes | codes).items():
            events = _m.events.LINE if any(each == key for each, _ in lines) else 0
            _m.set_local_events(self._tool, code, events | (_m.events.PY_START if key in starts else 0))
        self._codes = codes
        if codes:
            _m.restart_events()
        elif self._tool is not None:
            _m.register_callback(self._tool, _m.events.LINE, None)
            _m.register_callback(self._tool, _m.events.PY_START, None)
            _m.free_tool_id(self._tool)
            self._tool = None

    def _take(self) -> int:
        tool = next((each for each in _CANDIDATES if _m.get_tool(each) in {None, _NAME}), None)
        if tool is None:
            raise Unavailable("every tool id of sys.monitoring is taken", fix="Stop a profiler or a coverage tool in this process.")
        if _m.get_tool(tool) is None:
            _m.use_tool_id(tool, _NAME)
        _m.register_callback(tool, _m.events.LINE, self._line)
        _m.register_callback(tool, _m.events.PY_START, self._start)
        return int(tool)

    def _line(self, code: CodeType, line: int) -> Any:
        points = self._lines.get((id(code), line))
        if points is None:
            return _m.DISABLE
        watch = watched.get()
        if watch is not None:
            frame = sys._getframe(1)  # noqa: SLF001  (the one way to a frame)
            for point in points:
                point.passed(watch, frame)
        return None

    def _start(self, code: CodeType, offset: int) -> None:
        del offset
        watch = watched.get()
        if watch is not None:
            frame = sys._getframe(1)  # noqa: SLF001
            for point in self._starts.get(id(code), ()):
                point.passed(watch, frame)
