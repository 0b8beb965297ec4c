"""Watching code on Python 3.11: a function gets a copy of its code with one call more, and its own code back afterwards.

The copy asks at the beginning of a line whether anybody watches, and calls a hook if so, with nothing on the stack that was not there
before, and is the same otherwise: instructions, constants, exception table, positions (`assembler.py`). A frame that runs keeps the code
that it began with. Removing the last logpoint of a function makes `function.__code__` the very object that it was.

Functions are found as referrers of their code. Those that a function defines get their copy through the constants of the outer one's
copy, so that one that is made later is watched too. The collector's frozen objects (`gc.freeze`) are not among the
referrers: of those the module's namespace is asked.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, FunctionType
from typing import Any

from ....kernel.debugging import watched
from .assembler import with_calls
from .places import Found, functions_of
from .snapshot import Point


class Rewriting:
    """See the module's docstring."""

    def __init__(self) -> None:
        self._copies: dict[int, tuple[CodeType, CodeType]] = {}
        """Own code -> its copy; by identity, because equal code may be in two places."""

    def settle(self, wanted: Sequence[tuple[Found, Point]]) -> None:
        """See `engine.Means`."""
        calls: dict[int, list[tuple[int | None, Callable[[], None]]]] = {}
        for found, point in wanted:
            calls.setdefault(id(found.code), []).append((found.line, _hook(point)))
        copies: dict[int, tuple[CodeType, CodeType]] = {}
        for root in {id(found.root): found.root for found, _ in wanted}.values():
            _copy(root, calls, copies)
        before, self._copies = self._copies, copies
        swaps: dict[int, tuple[CodeType, CodeType]] = {}
        for key in before.keys() | copies.keys():
            own = (before.get(key) or copies[key])[0]
            now, then = (before[key][1] if key in before else own), (copies[key][1] if key in copies else own)
            swaps[id(now)] = (now, then)
        for function in _functions_with([now for now, _ in swaps.values()]):
            function.__code__ = swaps[id(function.__code__)][1]


def _copy(code: CodeType, calls: dict[int, Any], copies: dict[int, tuple[CodeType, CodeType]]) -> CodeType:
    """The code with its calls and those of what it defines; itself where there are none."""
    inner = [_copy(each, calls, copies) if type(each) is CodeType else each for each in code.co_consts]
    changed = any(new is not old for new, old in zip(inner, code.co_consts, strict=True))
    own = calls.get(id(code), [])
    if not changed and not own:
        return code
    copy = code.replace(co_consts=tuple(inner)) if changed else code
    if own:
        copy = with_calls(copy, own, watched.get)
    copies[id(code)] = (code, copy)
    return copy


def _functions_with(codes: Sequence[CodeType]) -> Iterator[FunctionType]:
    """Every function that has one of these."""
    wanted = {id(code) for code in codes}
    seen: set[int] = set()
    files = {code.co_filename for code in codes}
    for each in (*gc.get_referrers(*codes), *(_frozen(files) if gc.get_freeze_count() else ())):
        if type(each) is FunctionType and id(each) not in seen and id(each.__code__) in wanted:
            seen.add(id(each))
            yield each


def _frozen(files: set[str]) -> Iterator[FunctionType]:
    for module in list(sys.modules.values()):
        if getattr(module, "__dict__", {}).get("__file__") in files:
            yield from functions_of(module)


def _hook(point: Point) -> Callable[[], None]:
    get, passed, frame_of = watched.get, point.passed, sys._getframe  # noqa: SLF001  (the one way to a frame)

    def netra_logpoint() -> None:
        watch = get()
        if watch is not None:
            passed(watch, frame_of(1))

    return netra_logpoint
