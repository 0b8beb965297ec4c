"""A program whose code logpoints watch: plain functions of every shape, and objects that mind being looked at."""

from __future__ import annotations

import asyncio
import functools
from contextlib import contextmanager


class Looked(BaseException):
    """Something of a hostile object was evaluated. Not an Exception, so that nobody swallows it."""


def _looked(*_args, **_options):
    raise Looked


class HostileMeta(type):
    __instancecheck__ = __subclasscheck__ = __eq__ = __repr__ = __call__ = _looked
    __hash__ = _looked
    __module__ = property(_looked)

    def __getattribute__(cls, name):
        raise Looked


_DUNDERS = [
    "__repr__", "__str__", "__format__", "__bool__", "__len__", "__iter__", "__next__", "__getitem__", "__contains__", "__eq__", "__ne__",
    "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__call__", "__getattr__", "__getattribute__", "__dir__", "__index__", "__int__", "__float__",
    "__bytes__", "__reduce__", "__reduce_ex__", "__copy__", "__deepcopy__", "__enter__", "__exit__", "__sizeof__", "__reversed__", "__length_hint__",
    "__add__", "__radd__", "__complex__", "__round__", "__fspath__", "__await__", "__aiter__", "__missing__", "keys", "items", "values", "get",
    "isoformat", "decode", "encode", "__del_me__",
]  # fmt: skip
_HOSTILE = dict.fromkeys(_DUNDERS, _looked) | {"__class__": property(_looked), "__dict__": property(_looked)}


def hostile_objects():
    """Instances of hostile classes: plain, of each container and scalar, with a hostile metaclass."""
    made = {"plain": object.__new__(type("Hostile", (), dict(_HOSTILE)))}
    for base in (dict, list, tuple, set, frozenset, str, bytes, bytearray, int, float):
        hostile = type(f"Hostile_{base.__name__}", (base,), dict(_HOSTILE))
        made[base.__name__] = base.__new__(hostile)
    for name in ("dict", "list"):
        base = {"dict": dict, "list": list}[name]
        (base.__setitem__(made[name], "a", 1)) if base is dict else base.append(made[name], 1)
    meta = type.__call__(HostileMeta, "HostileClass", (), {"x": 1})
    made["of a hostile class"] = object.__new__(meta)
    made["a hostile class"] = meta
    made["an error"] = type("HostileError", (Exception,), {"__str__": _looked, "__repr__": _looked})("words")
    return made


class Order:
    """What a shop has."""

    def __init__(self, number, customer="Blue Chairs Ltd"):
        self.number = number
        self.customer = customer
        self.lines = [{"sku": "A-1", "count": 2}]

    def total(self, factor):
        subtotal = sum(line["count"] for line in self.lines)
        return subtotal * factor + self.number

    @property
    def label(self):
        text = f"order {self.number}"
        return text  # noqa: RET504  (a variable to be shown)

    @staticmethod
    def parse(text):
        number = int(text)
        return Order(number)

    @classmethod
    def make(cls, number):
        made = cls(number)
        return made  # noqa: RET504  (a variable to be shown)


def doubled(value):
    result = value * 2
    return result  # noqa: RET504  (a variable to be shown)


def passed_on(value):
    """Asks nothing of the value."""
    kept = (value, value)
    return kept[0]


def summed(values):
    total = 0
    for value in values:
        total += value
        if value < 0:
            continue
    return total


def divided(one, two):
    try:
        answer = one / two
    except ZeroDivisionError as error:
        answer = type(error).__name__
    finally:
        seen = "finally"
    return answer, seen


def counted(n):
    for number in range(n):
        received = yield number
        if received:
            yield -received


async def awaited(value):
    await asyncio.sleep(0)
    later = value + 1
    await asyncio.sleep(0)
    return later


async def streamed(n):
    for number in range(n):
        await asyncio.sleep(0)
        yield number


def outer(base):
    def inner(step):
        nonlocal base
        base += step
        return base

    return inner


@functools.cache
def cached(value):
    squared = value * value
    return squared  # noqa: RET504  (a variable to be shown)


@contextmanager
def opened(log):
    log.append("in")
    try:
        yield log
    finally:
        log.append("out")


def wide(*args, sep=", ", **options):
    parts = [str(arg) for arg in args]
    return sep.join(
        [
            *parts,
            *(f"{key}={value}" for key, value in options.items()),
        ]
    )


def matched(value):
    match value:
        case {"kind": "a", "n": n}:
            return n
        case [first, *_]:
            return first
        case _:
            return None


def everything():
    """The results of all of them, as one value."""
    log = []
    with opened(log) as same:
        same.append("at work")
    generator = counted(3)
    walk = [next(generator), generator.send(7), next(generator), *generator]

    async def run():
        return [await awaited(1), [number async for number in streamed(3)]]

    inner = outer(10)
    order = Order.parse("40")
    return [
        doubled(21), summed([1, -2, 3]), divided(1, 0), divided(4, 2), walk, asyncio.run(run()), inner(1), inner(2), cached(5), log,
        wide(1, 2, a=3), matched({"kind": "a", "n": 4}), matched([9, 8]), matched(0), order.total(3), order.label, Order.make(7).number,
    ]  # fmt: skip


def recursive(depth):
    return 0 if depth == 0 else 1 + recursive(depth - 1)
