"""A plain picture of a program's value: no code of the program runs, nothing of it changes, whatever it is (D3).

Only exact built-in types are looked into, through the interpreter's own methods; of anything else its class's name, and the fields that
stand in its `__dict__` or slots, found through the class's own descriptors: no attribute is evaluated, no `__repr__`, `__len__`, `__iter__`
or `__class__` is asked. Subclasses of containers are read as the container that they are, by the base's methods.

Bounded in depth, width, text, parts and time; what is left out is told (`...`). A container that another thread changes meanwhile is
told as changing.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

MORE: Final = "..."
DEPTH: Final = 4
WIDTH: Final = 32
TEXT: Final = 1024
PARTS: Final = 400
TIME_S: Final = 0.002
_LOOKS_AT_CLOCK_EVERY: Final = 16
_BIG_INT_BITS: Final = 256

_MRO: Final = type.__dict__["__mro__"].__get__
_NAMESPACE: Final = type.__dict__["__dict__"].__get__
_QUALNAME: Final = type.__dict__["__qualname__"].__get__
_FLAGS: Final = type.__dict__["__flags__"].__get__
_AS_IT_IS: Final = frozenset(map(id, (type(None), bool, float, str, int)))
"""Types are told apart by identity only: to hash or compare a class asks its metaclass."""


class Exhausted(Exception):
    """So much is enough; never leaves `Painter.paint`."""


@dataclass(slots=True)
class Painter:
    """One snapshot's budget, shared by all its values. `now` is a monotonic clock."""

    now: Callable[[], float]
    ends: float
    parts: int = PARTS

    def paint(self, value: Any, depth: int = DEPTH) -> Any:
        """What JSON and the redactor understand: None, booleans, numbers, text, bytes, lists and objects."""
        kind = type(value)
        if id(kind) in _AS_IT_IS:
            self._spend()
            return _scalar(value, kind)
        try:
            return self._other(value, kind, depth)
        except Exhausted:
            raise
        except RuntimeError:  # "changed size during iteration"
            return "<changes while it is looked at>"
        except Exception:  # noqa: BLE001  (a picture is never worth an error)
            return f"<{name_of(kind)}>"

    def _other(self, value: Any, kind: type, depth: int) -> Any:
        self._spend()
        if kind is bytes:
            return value[: TEXT + 1]
        base = _base_of(kind)
        if base is None:
            return self._fields(value, kind, depth)
        if depth <= 0:
            return MORE
        return _READERS[base](self, value, depth - 1)

    def members(self, pairs: Iterable[tuple[Any, Any]], size: int, depth: int) -> dict[str, Any]:
        """Names and values."""
        found: dict[str, Any] = {}
        for key, member in islice(pairs, WIDTH):
            found[self.key(key)] = self.paint(member, depth)
        if size > WIDTH:
            found[MORE] = size - WIDTH
        return found

    def elements(self, values: Iterable[Any], size: int, depth: int) -> list[Any]:
        """Values in a row."""
        found = [self.paint(each, depth) for each in islice(values, WIDTH)]
        return [*found, f"{MORE} {size - WIDTH} more"] if size > WIDTH else found

    def key(self, key: Any) -> str:
        """A key of a mapping, as text."""
        kind = type(key)
        return _text(key) if kind is str else str(_scalar(key, kind)) if id(kind) in _AS_IT_IS else f"<{name_of(kind)}>"

    def _fields(self, value: Any, kind: type, depth: int) -> Any:
        known = _KNOWN.get(id(kind))
        if known is not None:
            return known(value)
        head = f"<{name_of(kind)}>"
        fields = dict(islice(_fields_of(value, kind), WIDTH + 1))
        if not fields:
            return head
        return {"<type>": name_of(kind), **(self.members(fields.items(), len(fields), depth - 1) if depth > 0 else {MORE: len(fields)})}

    def _spend(self) -> None:
        self.parts -= 1
        if self.parts < 0 or (self.parts % _LOOKS_AT_CLOCK_EVERY == 0 and self.now() > self.ends):
            raise Exhausted


def painter(now: Callable[[], float], time_s: float = TIME_S) -> Painter:
    """A painter with a fresh budget."""
    return Painter(now, now() + time_s)


def paint_all(values: dict[str, Any], now: Callable[[], float]) -> dict[str, Any]:
    """A picture of variables by name; those for which nothing is left of the budget are told as left out."""
    found: dict[str, Any] = {}
    brush = painter(now)
    for name, value in values.items():
        try:
            found[name] = brush.paint(value)
        except Exhausted:
            found[MORE] = len(values) - len(found)
            break
    return found


def name_of(kind: type) -> str:
    """`module.Qualname` of a class, without asking its metaclass."""
    name = _QUALNAME(kind)
    module = _NAMESPACE(kind).get("__module__")
    plain = name if type(name) is str else "?"
    return f"{module}.{plain}"[:120] if type(module) is str and module != "builtins" else plain[:120]


def _scalar(value: Any, kind: type) -> Any:
    if kind is str:
        return _text(value)
    if kind is int and int.bit_length(value) > _BIG_INT_BITS:
        return f"<integer of {int.bit_length(value)} bits>"
    return value


def _text(value: str) -> str:
    return value if len(value) <= TEXT else value[:TEXT] + MORE


_BASES: Final = (dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float)
_EXACT: Final = {id(base): base for base in _BASES}


def _base_of(kind: type) -> type | None:
    """Which built-in container, text or number a class is; None for anything else."""
    exact = _EXACT.get(id(kind))
    if exact is not None:
        return exact
    line = _MRO(kind)[:64]
    return next((_EXACT[id(each)] for each in line if id(each) in _EXACT), None)


def _fields_of(value: Any, kind: type) -> Iterator[tuple[str, Any]]:
    """What stands in an instance, by the descriptors that the interpreter made for its classes."""
    for each in _MRO(kind):
        for name, found in list(_NAMESPACE(each).items()):
            if type(found) is types.GetSetDescriptorType and name == "__dict__":
                held = found.__get__(value, kind)
                if type(held) is dict:
                    yield from dict.items(held)
            elif type(found) is types.MemberDescriptorType and _FLAGS(each) & _MADE_BY_PYTHON:
                try:
                    yield name, found.__get__(value, kind)
                except AttributeError:
                    continue


_MADE_BY_PYTHON: Final = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: classes of the interpreter's own have members that are better left alone."""

_READERS: Final[dict[type, Callable[[Painter, Any, int], Any]]] = {
    dict: lambda brush, value, depth: brush.members(dict.items(value), dict.__len__(value), depth),
    list: lambda brush, value, depth: brush.elements(list.__getitem__(value, slice(0, WIDTH)), list.__len__(value), depth),
    tuple: lambda brush, value, depth: brush.elements(tuple.__getitem__(value, slice(0, WIDTH)), tuple.__len__(value), depth),
    set: lambda brush, value, depth: brush.elements(set.__iter__(value), set.__len__(value), depth),
    frozenset: lambda brush, value, depth: brush.elements(frozenset.__iter__(value), frozenset.__len__(value), depth),
    str: lambda _brush, value, _depth: _text(str.__getitem__(value, slice(0, TEXT + 1))),
    bytes: lambda _brush, value, _depth: bytes.__getitem__(value, slice(0, TEXT + 1)),
    bytearray: lambda _brush, value, _depth: bytes(bytearray.__getitem__(value, slice(0, TEXT + 1))),
    int: lambda _brush, value, _depth: _scalar(int.__int__(value), int),
    float: lambda _brush, value, _depth: float.__float__(value),
}


def _moment(value: Any) -> str:
    import datetime as dt

    zone = value.tzinfo if type(value) is not dt.date else None
    plain = value if zone is None or type(zone) is dt.timezone else value.replace(tzinfo=None)
    return str(plain.isoformat())


def _known() -> dict[int, Callable[[Any], Any]]:
    """Types of the standard library that are written in C, and what their own text is."""
    import datetime as dt
    import decimal

    def path(value: Any) -> Any:
        return f"<{name_of(type(value))}>"

    made: dict[type, Callable[[Any], Any]] = {
        dt.datetime: _moment,
        dt.date: _moment,
        dt.time: _moment,
        decimal.Decimal: decimal.Decimal.__str__,
    }
    made |= dict.fromkeys((types.FunctionType, types.ModuleType, types.BuiltinFunctionType, types.MethodType, type), path)
    return {id(kind): read for kind, read in made.items()}


_KNOWN: Final = _known()
