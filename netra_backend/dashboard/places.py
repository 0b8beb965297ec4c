"""Where a page of a list begins, as text in an address: the key of the last row that was seen. Made up, it shows nothing more.

A list is read towards older rows from `after`, or towards newer ones from `before`; one row more than is shown says whether there are
others. No list is ever counted.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import orjson

from ..errors import InvalidInput
from .visits import Visit

T = TypeVar("T")
ROWS: Final = 25
Place = tuple[int | bytes | str, ...]


@dataclass(frozen=True, slots=True)
class Listed(Generic[T]):
    """Rows of one page, and the addresses' parameters of the pages beside it."""

    rows: Sequence[T]
    older: str | None
    newer: str | None


def write(place: Place) -> str:
    """The place as text."""
    shown = [each.hex() if isinstance(each, bytes) else each for each in place]
    kinds = "".join("b" if isinstance(each, bytes) else "i" if isinstance(each, int) else "s" for each in place)
    return base64.urlsafe_b64encode(orjson.dumps([kinds, *shown])).rstrip(b"=").decode()


def read(text: str, kinds: str) -> Place:
    """The place in it; `InvalidInput` where it is none of this kind (`i` number, `b` bytes, `s` text)."""
    try:
        found = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        if isinstance(found, list) and found[:1] == [kinds] and len(found) == len(kinds) + 1:
            return tuple(_part(kind, each) for kind, each in zip(kinds, found[1:], strict=True))
    except (binascii.Error, ValueError, TypeError):
        pass
    raise InvalidInput("this is no place in this list", fix="Go to the list's first page.")


def _part(kind: str, value: Any) -> int | bytes | str:
    if kind == "b":
        return bytes.fromhex(value)
    if kind == "s" and isinstance(value, str):
        return value
    if kind == "i" and type(value) is int and -1 <= value < 2**63:
        return value
    raise ValueError(value)


Fetch = Callable[[Any, int, bool], Awaitable[Sequence[T]]]
"""`await fetch(place or None, limit, back)`: rows behind the place, towards newer ones where `back`."""


async def page(visit: Visit, kinds: str, fetch: Fetch[T], place: Callable[[T], Place], rows: int = ROWS) -> Listed[T]:
    """The rows that the visit asked for."""
    before, after = visit.asked("before"), visit.asked("after")
    at = read(before or after, kinds) if before or after else None
    found = list(await fetch(at, rows + 1, bool(before)))
    more, found = len(found) > rows, found[:rows]
    if before:
        found.reverse()
    older = bool(found) and (more or bool(before))
    newer = bool(found) and (more if before else at is not None)
    return Listed(found, write(place(found[-1])) if older else None, write(place(found[0])) if newer else None)
