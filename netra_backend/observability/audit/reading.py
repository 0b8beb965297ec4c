"""What is read of a log: entries, the files of tlog-tiles, receipts. Whatever is handed out is compared with the hashes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from ...errors import NotFound
from ...kernel.ids import from_text
from ...storage.statements import Row
from ...storage.transaction import Tx
from . import entry, merkle, store, tiles
from .errors import EntryPruned, NotSequencedYet, TrailDamaged
from .merkle import HASH_BYTES, TILE, TILE_BITS
from .model import Entry, Log
from .receipt import Receipt
from .tiles import Resource

Q = store.Q

EVER_US: Final = 2**62
INDEX_DIGITS: Final = 15
"""No log has an entry whose index has more; any number may be asked for."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which entries are looked for: each that is given must be equal. Times in microseconds, the second one excluded."""

    actor: str | None = None
    action: str | None = None
    target: str | None = None
    trace_id: str | None = None
    since_us: int = 0
    until_us: int = EVER_US


async def search(tx: Tx, wanted: Filter, after: bytes, limit: int) -> list[Entry]:
    """The next entries by id, which is about the order in which they were written, and no more than that."""
    rows = await tx.all(
        Q.search_entries,
        after=after,
        limit=limit,
        actor=wanted.actor,
        action=wanted.action,
        target=wanted.target,
        trace_id=wanted.trace_id,
        since_us=wanted.since_us,
        until_us=wanted.until_us,
    )
    return await _indexed(tx, rows)


async def by_index(tx: Tx, after: int, limit: int) -> list[Entry]:
    """The entries behind an index, in the order of their indices, which is dense: a reader that remembers the last one misses none.

    Those that were given away are passed over as a whole: a page that only they would stand on would be taken for the log's end.
    """
    log = await store.find(tx, tx.tenant)
    if log is None:
        return []
    first = max(after + 1, log.minimum)
    end = min(first + limit, log.size)
    found: list[Entry] = []
    for number in range(first >> TILE_BITS, -(-end // TILE)):
        ids = await store.ids_of(tx, number)
        wanted = [(index, ids[index % TILE]) for index in range(max(first, number * TILE), min(end, (number + 1) * TILE))]
        rows = await store.entries(tx, [id_ for _, id_ in wanted])
        found += [_entry(rows[id_], index) for index, id_ in wanted if id_ in rows]
    return found


async def _indexed(tx: Tx, rows: Sequence[Row]) -> list[Entry]:
    indices = await store.indices_of(tx, [row[0] for row in rows])
    return [_entry(row, indices.get(row[0])) for row in rows]


async def entry_at(tx: Tx, index: int) -> Entry:
    """The entry at an index."""
    ids = await store.ids_of(tx, index >> TILE_BITS) if 0 <= index < 10**INDEX_DIGITS else []
    if index % TILE >= len(ids):
        raise NotFound(f"the log has no entry {index}", fix="`netra audit search` shows entries; a new one is in the log within a second.")
    found = await store.entries(tx, [ids[index % TILE]])
    if not found:
        raise EntryPruned(f"the entry {index} was given away when its time was over")
    return _entry(found[ids[index % TILE]], index)


def _entry(row: Row, index: int | None = None) -> Entry:
    id_, at_us, actor, action, table, target, outcome, trace_id, span_id, before, after, personal = row
    changed = (None if before is None else orjson.loads(before), None if after is None else orjson.loads(after))
    return Entry(id_, at_us, actor, action, table, target, outcome, trace_id, span_id, *changed, personal, index)


async def resource(tx: Tx, log: Log, path: str) -> bytes:
    """A tile or a bundle of entries, as far as the last signed checkpoint covers it."""
    wanted = tiles.parse(path)
    if wanted is None or not wanted.fits(log.signed_size):
        raise NotFound(f"the log has no {path[:80]!r}", fix="The checkpoint's size says which tiles there are (C2SP tlog-tiles).")
    hashes = await _tile(tx, log, wanted.level or 0, wanted.number, wanted.width)
    return hashes if wanted.level is not None else tiles.bundle(await _entries(tx, log, wanted, hashes))


async def _tile(tx: Tx, log: Log, level: int, number: int, width: int) -> bytes:
    found = await store.tiles(tx, log.tenant, [(level, number)])
    hashes = found.get((level, number), b"")[: width * HASH_BYTES]
    if len(hashes) != width * HASH_BYTES:
        raise TrailDamaged(f"tile {level}/{number} of the log is too short")
    return hashes


async def _entries(tx: Tx, log: Log, wanted: Resource, hashes: bytes) -> list[bytes]:
    """The entries of a bundle, each of which is the one whose hash stands in the tile."""
    if wanted.first_leaf < log.minimum:
        raise EntryPruned(f"entries before {log.minimum} were given away when their time was over")
    ids = (await store.ids_of(tx, wanted.number))[: wanted.width]
    rows = await store.entries(tx, ids)
    found = [_checked(log, rows.get(id_), wanted.first_leaf + at, hashes) for at, id_ in enumerate(ids)]
    if len(found) != wanted.width:
        raise TrailDamaged(f"page {wanted.number} of the log is too short")
    return found


def _checked(log: Log, row: Row | None, index: int, hashes: bytes) -> bytes:
    at = index % TILE * HASH_BYTES
    data = entry.encode(log.tenant, row) if row is not None else b""
    if row is None or merkle.leaf_hash(data) != hashes[at : at + HASH_BYTES]:
        raise TrailDamaged(f"the entry {index} of {log.tenant} is not the one that was hashed into the log", index=index)
    return data


async def prove(tx: Tx, log: Log, which: int | str) -> Receipt:
    """The receipt of an entry, by index or by id; digits are an index."""
    if isinstance(which, str) and which.isascii() and which.isdigit() and len(which) <= INDEX_DIGITS:
        which = int(which)
    index = which if isinstance(which, int) else await _index_of(tx, from_text("aud", which))
    if index is None or index >= log.signed_size:
        if index is not None:
            await entry_at(tx, index)
        raise NotSequencedYet
    wanted = Resource(None, index >> TILE_BITS, min(TILE, log.signed_size - (index >> TILE_BITS << TILE_BITS)))
    hashes = await _tile(tx, log, 0, wanted.number, wanted.width)
    data = _checked(log, await _row_at(tx, index), index, hashes)
    size = log.signed_size
    ranges = merkle.inclusion_ranges(index, size)
    needed = await store.tiles(tx, log.tenant, sorted(merkle.tiles_of(ranges)))
    return Receipt(data, index, _roots(needed, ranges), log.checkpoint)


async def _index_of(tx: Tx, id_: bytes) -> int | None:
    """The index of an entry, None where it has none yet; `NotFound` where there is no such entry."""
    index = (await store.indices_of(tx, [id_])).get(id_)
    if index is None and not await store.entries(tx, [id_]):
        raise NotFound("there is no such entry", fix="`netra audit search` shows entries with their ids.")
    return index


async def _row_at(tx: Tx, index: int) -> Row:
    ids = await store.ids_of(tx, index >> TILE_BITS)
    found = await store.entries(tx, ids[index % TILE : index % TILE + 1])
    if not found:
        raise EntryPruned(f"the entry {index} was given away when its time was over")
    return next(iter(found.values()))


def _roots(needed: merkle.Tiles, ranges: Sequence[merkle.Range]) -> list[bytes]:
    return [merkle.range_root(needed, *each) for each in ranges]
