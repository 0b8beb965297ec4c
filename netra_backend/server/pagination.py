"""Keyset pagination with opaque iterators: the place after which (or, with a `-`, before which) a page begins.

An iterator holds a place in one kind of list and nothing about rights: used elsewhere or made up, it is refused by its
kind byte, its length and its check, and a valid one shows only what the request may see anyway.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, Literal, TypeVar

from fastapi import Query

from ..webhooks.search import Shortened
from .errors import InvalidMembers, problem
from .render import list_out

T = TypeVar("T")
P = TypeVar("P")

Limit = Annotated[int, Query(ge=1, le=250, description="Items of one page.")]
Iterator = Annotated[str | None, Query(max_length=1024, description="`iterator` or `prevIterator` of a former page.")]
Order = Annotated[Literal["ascending", "descending"] | None, Query(description="By time of creation.")]
DEFAULT_LIMIT: Final = 50

_CHECK_BYTES: Final = 4
_LAST_US: Final = 2**62
_LAST_ID: Final = b"\xff" * 16


@dataclass(frozen=True, slots=True)
class Kind(Generic[P]):
    """How the places of one kind of list are written: `tag` is the kind byte."""

    tag: bytes
    pack: Callable[[P], bytes]
    unpack: Callable[[bytes], P]

    def write(self, place: P) -> str:
        """The iterator's text."""
        raw = self.tag + self.pack(place)
        return base64.urlsafe_b64encode(raw + _check(raw)).rstrip(b"=").decode()

    def read(self, text: str) -> P:
        """The place in it, or a 422."""
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            if raw[:1] == self.tag and raw[-_CHECK_BYTES:] == _check(raw[:-_CHECK_BYTES]):
                return self.unpack(raw[1:-_CHECK_BYTES])
        except (binascii.Error, ValueError):
            pass
        raise InvalidMembers([problem(["query", "iterator"], "this is no iterator of this list")])


def _check(raw: bytes) -> bytes:
    """Finds a slip of the copier, not a forger: there is nothing to win by forging a place in a list that one may read."""
    return zlib.crc32(raw).to_bytes(_CHECK_BYTES, "big")


def _unpack_created(raw: bytes) -> tuple[int, bytes]:
    if len(raw) != 24 or raw[0] > 0x3F:
        raise ValueError(raw)
    return int.from_bytes(raw[:8], "big"), raw[8:]


def _unpack_id(raw: bytes) -> bytes:
    if len(raw) != 16:
        raise ValueError(raw)
    return raw


def _unpack_ids(raw: bytes) -> tuple[bytes, bytes]:
    if len(raw) != 32:
        raise ValueError(raw)
    return raw[:16], raw[16:]


CREATED: Final[Kind[tuple[int, bytes]]] = Kind(b"c", lambda place: place[0].to_bytes(8, "big") + place[1], _unpack_created)
"""Lists by (created, id)."""
ID: Final[Kind[bytes]] = Kind(b"i", bytes, _unpack_id)
"""Lists by id."""
TWO_IDS: Final[Kind[tuple[bytes, bytes]]] = Kind(b"d", lambda place: place[0] + place[1], _unpack_ids)
"""Lists by two ids: dead letters."""
NAME: Final[Kind[str]] = Kind(b"n", str.encode, lambda raw: raw.decode())
"""Lists by name."""

FIRST: Final = (-1, b"")
LAST: Final = (_LAST_US, _LAST_ID)
"""Before and behind every place of a list by (created, id)."""


@dataclass(frozen=True, slots=True)
class Window(Generic[P]):
    """What a list is asked for: `count` items behind `at` (None: from the end), `back` against the list's own order."""

    at: P | None
    count: int
    back: bool

    def start(self, first: P, last: P) -> P:
        """Where to begin: behind `at`, or at the end that the direction begins at."""
        return self.at if self.at is not None else last if self.back else first


Fetch = Callable[[Window[P]], Awaitable[Sequence[T]]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asked for: how many, from where, in which order of the list's two."""

    limit: int
    iterator: str | None
    descending: bool = False


async def page(
    asked: Asked, kind: Kind[P], fetch: Fetch[P, T], place: Callable[[T], P], out: Callable[[T], Mapping[str, Any]]
) -> dict[str, Any]:
    """One page in Svix's shape; `done` says that nothing comes after it in the direction asked for.

    What is `Shortened` makes a page of fewer items than were asked for that is not the last one: a client that goes by `done`, as Svix's
    own do, gets them all.
    """
    backwards = asked.iterator is not None and asked.iterator.startswith("-")
    start = None if asked.iterator is None else kind.read(asked.iterator.removeprefix("-"))
    found = await fetch(Window(start, asked.limit + 1, asked.descending != backwards))
    done = len(found) <= asked.limit and not isinstance(found, Shortened)
    items = list(found[: asked.limit])
    if backwards:
        items.reverse()
    last = kind.write(place(items[-1])) if items else asked.iterator
    first = "-" + kind.write(place(items[0])) if items else None
    return list_out([out(item) for item in items], last, first, done=done)
