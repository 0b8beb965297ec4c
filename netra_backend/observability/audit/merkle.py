"""Merkle trees of RFC 6962 over SHA-256, laid out in tiles: pure arithmetic, no I/O.

A tree of n leaves is kept as the hashes of its complete subtrees of height 0, 8, 16, ...: 256 of one level make a tile, and the
root of a full tile is one hash of the level above (C2SP tlog-tiles, "Merkle Tree"). Whatever a proof or an older root needs is
computed from those; which tiles that takes is known beforehand (`tiles_of`), so that a database is asked once.

A range `lo:hi` of leaves stands for MTH(D[lo:hi]) of RFC 6962 section 2.1, where the range is one that occurs in a tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Final

HASH_BYTES: Final = 32
TILE_BITS: Final = 8
TILE: Final = 1 << TILE_BITS
EMPTY_ROOT: Final = sha256(b"").digest()

Place = tuple[int, int]
"""A tile: its level, and its number within the level."""

Range = tuple[int, int]
"""Leaves from the first number to before the second."""

Tiles = Mapping[Place, bytes]


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 || entry)."""
    return sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return sha256(b"\1" + left + right).digest()


def complete_root(hashes: bytes) -> bytes:
    """The root of a complete subtree from the hashes of one of its levels, whose number is a power of two."""
    while len(hashes) > HASH_BYTES:
        pairs = range(0, len(hashes), 2 * HASH_BYTES)
        hashes = b"".join([sha256(b"\1" + hashes[at : at + 2 * HASH_BYTES]).digest() for at in pairs])
    return hashes


def edges_of(size: int) -> list[Place]:
    """The last tile of each level of a tree of that size, also where it has no hash yet; the lowest level first."""
    levels = max(1, -(-size.bit_length() // TILE_BITS))
    return [(level, size >> TILE_BITS * (level + 1)) for level in range(levels)]


def width(size: int, level: int) -> int:
    """How many hashes the last tile of a level has: 0 to 255."""
    return (size >> TILE_BITS * level) % TILE


def root_of(edges: Sequence[bytes]) -> bytes:
    """The root of a tree from the last tiles of its levels, the lowest first: what is complete stands in the tile above."""
    root = b""
    for hashes in edges:
        for peak in _peaks(hashes):
            root = node_hash(peak, root) if root else peak
    return root or EMPTY_ROOT


def _peaks(hashes: bytes) -> Iterator[bytes]:
    """Roots of the complete subtrees that the hashes of a tile make up, from the right, where the small ones are."""
    end = len(hashes)
    while end:
        count = end // HASH_BYTES
        start = end - (count & -count) * HASH_BYTES
        yield complete_root(hashes[start:end])
        end = start


class Growth:
    """Appends leaf hashes to a tree of which only the last tiles are known, and keeps which tiles that changes."""

    def __init__(self, size: int, edges: Tiles) -> None:
        self.size = size
        self.changed: dict[Place, bytes] = {}
        self._edges = [edges.get(place, b"") for place in edges_of(size)]
        self._numbers = [number for _, number in edges_of(size)]
        for (level, number), hashes in zip(edges_of(size), self._edges, strict=True):
            if len(hashes) != width(size, level) * HASH_BYTES:
                raise ValueError(f"tile {level}/{number} of a tree of {size} has {len(hashes)} bytes")

    def append(self, hashes: bytes) -> None:
        """Add leaf hashes, side by side."""
        self.size += len(hashes) // HASH_BYTES
        self._add(0, hashes)

    def _add(self, level: int, hashes: bytes) -> None:
        if level == len(self._edges):
            self._edges.append(b"")
            self._numbers.append(0)
        full: list[bytes] = []
        while hashes:
            room = TILE * HASH_BYTES - len(self._edges[level])
            tile, hashes = self._edges[level] + hashes[:room], hashes[room:]
            self.changed[level, self._numbers[level]] = tile
            if len(tile) == TILE * HASH_BYTES:
                full.append(complete_root(tile))
                self._numbers[level] += 1
                tile = b""
            self._edges[level] = tile
        if full:
            self._add(level + 1, b"".join(full))

    def root(self) -> bytes:
        """The root by now."""
        return root_of(self._edges)


# Ranges and what they take


def split(size: int) -> int:
    """The largest power of two below `size`: where RFC 6962 section 2.1 divides a tree of more than one leaf."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_ranges(index: int, size: int) -> list[Range]:
    """The nodes of PATH(index, D[size]), RFC 6962 section 2.1.1: from the leaf's sibling to the root's child."""
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} has no leaf {index}")
    found: list[Range] = []
    lo, hi = 0, size
    while hi - lo > 1:
        middle = lo + split(hi - lo)
        if index < middle:
            found.append((middle, hi))
            hi = middle
        else:
            found.append((lo, middle))
            lo = middle
    return found[::-1]


def consistency_ranges(old: int, new: int) -> list[Range]:
    """The nodes of PROOF(old, D[new]), RFC 6962 section 2.1.2; none where one of the trees is empty or they are one."""
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} is no later one than a tree of {old}")
    found: list[Range] = []
    lo, hi, is_whole = 0, new, True
    while old not in {0, hi}:
        middle = lo + split(hi - lo)
        if old <= middle:
            found.append((middle, hi))
            hi = middle
        else:
            found.append((lo, middle))
            lo = middle
            is_whole = False
    if not is_whole:
        found.append((lo, hi))
    return found[::-1]


def tiles_of(ranges: Sequence[Range]) -> set[Place]:
    """Which tiles the roots of these ranges are computed from."""
    return {place for lo, hi in ranges for start, height in _complete(lo, hi) for place in [_place(start, height)[0]]}


def range_root(tiles: Tiles, lo: int, hi: int) -> bytes:
    """MTH(D[lo:hi])."""
    root = b""
    for start, height in reversed(list(_complete(lo, hi))):
        peak = _complete_at(tiles, start, height)
        root = node_hash(peak, root) if root else peak
    return root or EMPTY_ROOT


def _complete(lo: int, hi: int) -> Iterator[tuple[int, int]]:
    """The complete subtrees that a range is made of, from the left: where each starts, and its height."""
    while lo < hi:
        height = (hi - lo).bit_length() - 1
        yield lo, height
        lo += 1 << height


def _place(start: int, height: int) -> tuple[Place, int, int]:
    """The tile of a complete subtree; of its hashes the first and the number that make it up."""
    level = height // TILE_BITS
    first = start >> TILE_BITS * level
    return (level, first >> TILE_BITS), first % TILE, 1 << height % TILE_BITS


def _complete_at(tiles: Tiles, start: int, height: int) -> bytes:
    place, first, count = _place(start, height)
    hashes = tiles.get(place, b"")[first * HASH_BYTES : (first + count) * HASH_BYTES]
    if len(hashes) != count * HASH_BYTES:
        raise ValueError(f"tile {place[0]}/{place[1]} is too short")
    return complete_root(hashes)


# Judging proofs


def root_by_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that an inclusion proof leads to; None where it has not as many hashes as one has (RFC 9162 section 2.1.3.2)."""
    ranges = inclusion_ranges(index, size)
    if len(ranges) != len(proof):
        return None
    root = leaf
    for (lo, _), sibling in zip(ranges, proof, strict=True):
        root = node_hash(sibling, root) if lo < index else node_hash(root, sibling)
    return root


def is_consistent(old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether the tree of `new` begins with the tree of `old`, by a proof of that (RFC 9162 section 2.1.4.2)."""
    if old in {new, 0}:
        return not proof and (old_root == new_root if old == new else old_root == EMPTY_ROOT)
    hashes = list(proof)
    if len(consistency_ranges(old, new)) != len(hashes):
        return False
    node, last = old - 1, new - 1
    while node % 2:
        node, last = node // 2, last // 2
    first = second = hashes.pop(0) if node else old_root
    for each in hashes:
        if node % 2 or node == last:
            first, second = node_hash(each, first), node_hash(each, second)
            while node % 2 == 0 and node:
                node, last = node // 2, last // 2
        else:
            second = node_hash(second, each)
        node, last = node // 2, last // 2
    return first == old_root and second == new_root
