"""From the text of a place to the code that it names: functions are found by walking a module, and nothing of it is called.

A module that is not imported yet has no code: its place waits. Code is looked for in functions, methods, properties, what decorators
have wrapped, and, inside those, in the functions that they define.
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from ..errors import BadLogpoint
from ..model import Logpoint

MOST_VALUES: Final = 20_000
_KEEPS_ITS_LOCALS: Final = frozenset({"locals", "vars"})
_NAMESPACE: Final = type.__dict__["__dict__"].__get__


@dataclass(frozen=True, slots=True)
class Found:
    """A place in the code: the outermost function's code, the code itself, and the line (None: its beginning)."""

    root: CodeType
    code: CodeType
    line: int | None


def find(point: Logpoint) -> list[Found]:
    """Where a logpoint is; nothing as long as its module is not imported. `BadLogpoint` where the module has no such place."""
    if point.line is not None:
        file, line = point.line
        modules = [each for each in list(sys.modules.values()) if _is_in(each, file)]
        found = [each for module in modules for each in _at_line(module, line)]
    else:
        name, function = point.function
        module = sys.modules.get(name)
        modules = [module] if module is not None else []
        found = [each for module in modules for each in _named(module, function)]
    if modules and not found:
        raise BadLogpoint(f"{point.at} is no place in the code of this process")
    for each in found:
        _check(point, each.code)
    return found


def _check(point: Logpoint, code: CodeType) -> None:
    """On Python up to 3.12 a look at a frame's variables also renews a dictionary that the function got from `locals()`."""
    if sys.version_info < (3, 13) and _KEEPS_ITS_LOCALS & set(code.co_names):
        raise BadLogpoint(
            f"{point.at} is in a function that calls locals() or vars()",
            fix="Choose a function that it calls, or one that calls it: here a look at the variables would change what it sees.",
        )


def _is_in(module: Any, file: str) -> bool:
    path = getattr(module, "__dict__", {}).get("__file__") if type(module) is ModuleType else None
    return type(path) is str and PurePath(path).parts[-len(PurePath(file).parts) :] == PurePath(file).parts


def _named(module: ModuleType, name: str) -> Iterator[Found]:
    for root in _roots(module):
        for code in _within(root):
            if code.co_qualname.replace(".<locals>", "") == name:
                yield Found(root, code, None)


def _at_line(module: ModuleType, line: int) -> Iterator[Found]:
    """The innermost code that has the line; of a line that begins a function, the one that the `def` stands in."""
    for root in _roots(module):
        having = [code for code in _within(root) if any(at == line for _, _, at in code.co_lines())]
        inside = [code for code in having if code.co_firstlineno < line]
        if having:
            yield Found(root, (inside or having[:1])[-1], line)


def _within(root: CodeType) -> Iterator[CodeType]:
    """The code and what it defines, outer before inner."""
    yield root
    for each in root.co_consts:
        if type(each) is CodeType:
            yield from _within(each)


def _roots(module: ModuleType) -> list[CodeType]:
    """The code of each function of the module, none that another one defines."""
    codes = {id(each.__code__): each.__code__ for each in functions_of(module)}
    inner = {id(each) for code in codes.values() for each in _within(code) if each is not code}
    return [code for key, code in codes.items() if key not in inner]


def functions_of(module: ModuleType) -> Iterator[FunctionType]:
    """The functions of a module's own file, wherever its namespace holds them."""
    file = module.__dict__.get("__file__")
    seen: set[int] = set()
    waiting: list[Any] = list(module.__dict__.values())
    while waiting and len(seen) < MOST_VALUES:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if type(value) is FunctionType and _same_file(value.__code__.co_filename, file):
            yield value
        waiting += _inside(value, module.__name__)


def _same_file(one: str, other: Any) -> bool:
    return one == other or (type(other) is str and PurePath(one) == PurePath(other))


def _inside(value: Any, module: str) -> list[Any]:
    """What a value of a namespace holds that may be a function of the module."""
    kind = type(value)
    if kind is FunctionType:
        return [*value.__dict__.values(), *_cells(value)]
    if kind is staticmethod or kind is classmethod or kind is types.MethodType:
        return [value.__func__]
    if kind is property:
        return [value.fget, value.fset, value.fdel]
    if kind is functools.partial or kind is functools.cached_property:
        return [value.func]
    if kind is functools._lru_cache_wrapper:  # noqa: SLF001  (the class has no other name)
        return [value.__wrapped__]
    if type in type.__dict__["__mro__"].__get__(kind):
        namespace = _NAMESPACE(value)
        return list(namespace.values()) if namespace.get("__module__") == module else []
    return []


def _cells(function: FunctionType) -> list[Any]:
    found = []
    for cell in function.__closure__ or ():
        try:
            found.append(cell.cell_contents)
        except ValueError:  # an empty one
            continue
    return found
