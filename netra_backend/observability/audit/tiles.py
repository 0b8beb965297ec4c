"""How a log is named as files: the paths and the entry bundles of C2SP tlog-tiles, and which files a tree of a size has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from .merkle import TILE, TILE_BITS

ENTRIES: Final = "entries"
MOST_BYTES: Final = 65_535
"""Of one entry: its length is an unsigned number of two bytes."""

_PATH: Final = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?\Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Resource:
    """One tile, or with `level` None one bundle of entries: the first `width` of its 256."""

    level: int | None
    number: int
    width: int = TILE

    @property
    def path(self) -> str:
        """`tile/<L>/<N>[.p/<W>]`."""
        level = ENTRIES if self.level is None else str(self.level)
        partial = f".p/{self.width}" if self.width < TILE else ""
        return f"tile/{level}/{number_path(self.number)}{partial}"

    @property
    def first_leaf(self) -> int:
        """The first leaf below it."""
        return self.number << TILE_BITS * ((self.level or 0) + 1)

    def fits(self, size: int) -> bool:
        """Whether a tree of that size has so much of it."""
        return (self.number << TILE_BITS) + self.width <= size >> TILE_BITS * (self.level or 0)


def number_path(number: int) -> str:
    """1234067 -> `x001/x234/067`."""
    digits = str(number)
    digits = digits.zfill(-(-len(digits) // 3) * 3)
    groups = [digits[at : at + 3] for at in range(0, len(digits), 3)]
    return "/".join([*(f"x{each}" for each in groups[:-1]), groups[-1]])


def parse(path: str) -> Resource | None:
    """What a path names, or None if it names no tile in the one way that there is to write it."""
    match = _PATH.match(path)
    if match is None:
        return None
    level = None if match[1] == ENTRIES else int(match[1])
    found = Resource(level, int(match[2].replace("x", "").replace("/", "")), int(match[3] or TILE))
    return found if found.path == path and (level or 0) <= 63 else None


def resources_of(size: int, first_bundle: int = 0) -> Iterator[Resource]:
    """Every tile and bundle of a tree of that size; the bundles from `first_bundle` on, where older entries were pruned."""
    level, count = 0, size
    while count:
        yield from _of_level(level, count, 0)
        level, count = level + 1, count >> TILE_BITS
    yield from _of_level(None, size, first_bundle)


def _of_level(level: int | None, count: int, first: int) -> Iterator[Resource]:
    for number in range(first, count >> TILE_BITS):
        yield Resource(level, number)
    if count % TILE:
        yield Resource(level, count >> TILE_BITS, count % TILE)


def bundle(entries: Sequence[bytes]) -> bytes:
    """Entries as they are served: each behind its length, two bytes, big-endian."""
    return b"".join([len(each).to_bytes(2, "big") + each for each in entries])


def unbundle(data: bytes) -> list[bytes] | None:
    """The entries of a bundle, or None where it ends inside one."""
    found, at = [], 0
    while at < len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        if at + 2 > len(data) or end > len(data):
            return None
        found.append(data[at + 2 : end])
        at = end
    return found
