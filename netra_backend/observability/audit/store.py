"""What is done to the logs in a transaction.

The sequencer is a cursor on the stream `audit`: it alone appends to a log, under the lease of the name, so that indices are dense and
every process sees one tree. An entry is hashed from its row, never from what the stream says of it; an item of the stream without a row, or
about an entry that has an index already, is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from ...errors import Conflict
from ...kernel.failpoints import declare
from ...kernel.ids import ID_BYTES
from ...storage import log as stream_log
from ...storage.audit_append import audit_append
from ...storage.log import LogEntry
from ...storage.sealing import Place, Sealer
from ...storage.statements import Row, Statements
from ...storage.transaction import Tx
from . import entry, note
from .merkle import EMPTY_ROOT, TILE, TILE_BITS, Growth, edges_of, leaf_hash
from .merkle import Place as TilePlace
from .model import Log, Signing

Q = Statements(__package__)

STREAM: Final = "audit"
CURSOR: Final = "audit"
LEASE: Final = "audit"
ROWS_AT_ONCE: Final = 256
ENTRIES_AT_ONCE: Final = 1_000
TENANTS_AT_ONCE: Final = 64
"""A batch holds the write lock for some milliseconds: about a thousand entries, or a hundred statements for each few tenants."""

EPOCH: Final = "log.epoch"
"""The action of the entry by which a log says that its history was cut."""

SEQUENCED: Final = declare("audit.sequenced_before_commit", "entries have their indices and hashes, nothing is committed")
SIGNED: Final = declare(
    "audit.signed_before_commit", "a checkpoint is remembered outside the database and stands in its row, nothing is committed"
)


async def take(tx: Tx, sealer: Sealer, node: bytes, limit: int = ROWS_AT_ONCE) -> tuple[int, int] | None:
    """Put the next entries into their logs, of up to `limit` rows of the stream: how many rows, and how many entries they held.

    None where another living process has the lease.
    """
    if not await stream_log.has_lead(tx, LEASE, node):
        return None
    rows = _some(await stream_log.read_after(tx, STREAM, await stream_log.cursor(tx, CURSOR), limit))
    if not rows:
        return 0, 0
    wanted: dict[tuple[str, bytes], None] = {(tenant, bytes.fromhex(item["id"])): None for row in rows for tenant, item in row.items}
    hashes = {row[:2]: leaf_hash(entry.encode(row[0], row[1:])) for row in await tx.all(Q.entries_by_id, rows=list(wanted))}
    by_tenant: dict[str, list[tuple[bytes, bytes]]] = {}
    for key in wanted:
        if key in hashes:
            by_tenant.setdefault(key[0], []).append((key[1], hashes[key]))
    for tenant, leaves in sorted(by_tenant.items()):
        await _append(tx, sealer, tenant, leaves)
    await stream_log.move_cursor(tx, CURSOR, STREAM, rows[-1].seq)
    tx.runtime.failpoints.hit(SEQUENCED)
    return len(rows), len(wanted)


async def is_sequenced(tx: Tx, last: int) -> bool:
    """Whether the stream's entries up to that row are in their logs: asked before `take`, which writes even where it finds nothing."""
    return await stream_log.cursor(tx, CURSOR) >= last


def _some(rows: Sequence[LogEntry]) -> list[LogEntry]:
    """As many of the rows as make a batch, one at least: a row may hold as many entries as a group of writes had functions."""
    taken: list[LogEntry] = []
    entries, tenants = 0, set[str]()
    for row in rows:
        entries += len(row.items)
        tenants |= {tenant for tenant, _ in row.items}
        if taken and (entries > ENTRIES_AT_ONCE or len(tenants) > TENANTS_AT_ONCE):
            break
        taken.append(row)
    return taken


async def _append(tx: Tx, sealer: Sealer, tenant: str, leaves: Sequence[tuple[bytes, bytes]]) -> None:
    log = await find(tx, tenant) or await _open(tx, sealer, tenant)
    known = await _known(tx, tenant, min(leaves)[0], max(leaves)[0])
    fresh = [(id_, hash_) for id_, hash_ in leaves if id_ not in known]
    if not fresh:
        return
    growth = Growth(log.size, await tiles(tx, tenant, edges_of(log.size)))
    growth.append(b"".join([hash_ for _, hash_ in fresh]))
    for (level, number), hashes in sorted(growth.changed.items()):
        await tx.execute(Q.put_tile, tenant=tenant, level=level, number=number, hashes=hashes)
    await _put_pages(tx, tenant, log.size, [id_ for id_, _ in fresh])
    grown = await tx.execute(Q.grow_log, tenant=tenant, old_size=log.size, size=growth.size, root=growth.root(), now_us=tx.now_us)
    if not grown:
        raise Conflict(f"the log of {tenant} has grown meanwhile")


async def _known(tx: Tx, tenant: str, lowest: bytes, highest: bytes) -> set[bytes]:
    """Ids that have an index already, among those of the pages that could hold one of the range. As a rule there is no such page."""
    pages = await tx.all(Q.pages_around, tenant=tenant, lowest=lowest, highest=highest)
    return {each for _, ids in pages for each in _split(ids)}


async def _open(tx: Tx, sealer: Sealer, tenant: str) -> Log:
    seed = tx.runtime.chance.token(note.KEY_BYTES)
    sealed = await sealer.seal(tx, tenant, _place(tenant), seed)
    public = note.public_of(seed)
    await tx.execute(Q.insert_log, tenant=tenant, root=EMPTY_ROOT, public_key=public, sealed=sealed, now_us=tx.now_us)
    return Log(tenant, 0, EMPTY_ROOT, 0, "", 0, "", 0, public, sealed, tx.now_us)


async def _put_pages(tx: Tx, tenant: str, size: int, ids: Sequence[bytes]) -> None:
    number, at = size >> TILE_BITS, size % TILE
    rows = await tx.all(Q.get_pages, tenant=tenant, rows=[(number,)]) if at else []
    standing = _split(rows[0][1]) if rows else []
    together = [*standing[:at], *ids]
    for first in range(0, len(together), TILE):
        page = together[first : first + TILE]
        await tx.execute(Q.put_page, tenant=tenant, number=number + first // TILE, ids=b"".join(page), lowest=min(page), highest=max(page))


def _split(ids: bytes) -> list[bytes]:
    return [ids[at : at + ID_BYTES] for at in range(0, len(ids), ID_BYTES)]


def _place(tenant: str) -> Place:
    return Place("netra_audit_log", tenant, "sealed")


# Looking


async def find(tx: Tx, tenant: str) -> Log | None:
    """The tenant's log, if an entry of it was ever sequenced."""
    row = await tx.one(Q.get_log, tenant=tenant)
    return Log(tenant, *row) if row else None


async def logs(tx: Tx, after: str, limit: int) -> list[Log]:
    """Every tenant's log, by name."""
    return [Log(*row) for row in await tx.all(Q.list_logs, after_tenant=after, any_size=2**62, limit=limit)]


async def tiles(tx: Tx, tenant: str, places: Sequence[TilePlace]) -> dict[TilePlace, bytes]:
    """The hashes of these tiles as far as they stand."""
    rows = await tx.all(Q.get_tiles, tenant=tenant, rows=sorted(places))
    return {(level, number): hashes for level, number, hashes in rows}


async def ids_of(tx: Tx, number: int) -> list[bytes]:
    """The ids of the entries of one bundle, by index, as far as they stand."""
    rows = await tx.all(Q.get_pages, rows=[(number,)])
    return _split(rows[0][1]) if rows else []


async def indices_of(tx: Tx, ids: Sequence[bytes]) -> dict[bytes, int]:
    """The indices of entries, of those that have one by now."""
    wanted, found = set(ids), dict[bytes, int]()
    for number, page in await tx.all(Q.pages_holding, rows=[(id_,) for id_ in ids]):
        first = int(number) << TILE_BITS
        found |= {id_: first + at for at, id_ in enumerate(_split(page)) if id_ in wanted}
    return found


async def entries(tx: Tx, ids: Sequence[bytes]) -> dict[bytes, Row]:
    """The entries' rows by id."""
    return {row[0]: row for row in await tx.all(Q.entries_of, rows=[(id_,) for id_ in ids])}


async def unsigned(tx: Tx, after: str, limit: int) -> list[str]:
    """Whose logs have grown since their last checkpoint, by name."""
    return [tenant for (tenant,) in await tx.all(Q.unsigned_logs, after_tenant=after, any_size=2**62, limit=limit)]


async def to_sign(tx: Tx, sealer: Sealer, tenant: str) -> tuple[Log, bytes] | None:
    """A log and its private key."""
    log = await find(tx, tenant)
    return (log, await sealer.unseal(tx, tenant, _place(tenant), log.sealed)) if log is not None else None


async def last_waiting(tx: Tx) -> int:
    """The last row of the outbox with entries in it."""
    row = await tx.one(Q.last_waiting)
    return row[0] if row and row[0] is not None else 0


async def is_in_stream(tx: Tx, last: int) -> bool:
    """Whether the outbox's entries up to that row are in the stream."""
    return await tx.one(Q.waiting_entries, last=last) is None


async def last_in_stream(tx: Tx) -> int:
    """The stream's last row."""
    return await stream_log.last_seq(tx, STREAM)


async def is_signed(tx: Tx, tenant: str, size: int) -> bool:
    """Whether so many entries of the tenant's log are under a signed checkpoint."""
    log = await find(tx, tenant)
    return size == 0 or (log is not None and log.signed_size >= size)


# Signing


async def may_sign(tx: Tx, node: bytes) -> bool:
    """Whether this process has the lease: asked before anything is remembered, which another would have to make good."""
    return await stream_log.has_lead(tx, LEASE, node)


async def sign(tx: Tx, node: bytes, signings: Sequence[Signing]) -> int:
    """Let checkpoints stand in the database that are remembered outside it; how many. A log that another has signed meanwhile is left."""
    if not await stream_log.has_lead(tx, LEASE, node):
        return 0
    signed = 0
    for each in signings:
        tenant, before = each.before.tenant, each.before
        done = await tx.execute(
            Q.sign_log,
            tenant=tenant,
            epoch=each.epoch,
            origin=each.checkpoint.origin,
            signed_size=each.checkpoint.size,
            checkpoint=each.note,
            old_epoch=before.epoch,
            old_signed_size=before.signed_size,
            now_us=tx.now_us,
        )
        signed += done
        if done and each.epoch > 1:
            await _tell_of_epoch(tx, each)
    tx.runtime.failpoints.hit(SIGNED)
    return signed


async def _tell_of_epoch(tx: Tx, made: Signing) -> None:
    """A new origin says so in the trail itself: which checkpoint it does not continue, and from which size it goes on."""
    if made.epoch == made.before.epoch:
        return
    lost = made.lost
    before = None if lost is None else {"origin": lost.origin, "size": lost.size, "root": lost.root.hex()}
    after = {"origin": made.checkpoint.origin, "size": made.checkpoint.size, "root": made.checkpoint.root.hex()}
    await audit_append(tx, EPOCH, made.checkpoint.origin, before=before, after=after, tenant=made.before.tenant)
