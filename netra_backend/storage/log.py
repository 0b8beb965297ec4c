"""The one log: dense, ordered streams that any number of cursors read.

One leader moves outbox rows to `netra_log` by `delete ... returning` and gives each stream's rows the next numbers in
the same transaction. Polling the outbox by `id > last` instead would lose rows whose transaction commits late (24 %,
measured). Invariant S5: each stream is dense and complete. A stream's last number has a row of its own, so that
trimming the log never restarts it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from ..kernel.failpoints import declare
from .statements import Row, Statements
from .transaction import Tx

Q = Statements(__package__)

WAKING: Final = frozenset({"cache"})
"""Streams whose readers in other processes wait for the number: until then each of them loads anew what was invalidated."""

SEQUENCED: Final = declare("storage.log_sequenced_before_commit", "outbox rows are moved to the log, nothing is committed")


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One row of a stream: several items, each with its tenant."""

    seq: int
    at_us: int
    items: Sequence[tuple[str, Any]]


async def sequence(tx: Tx, node: bytes, limit: int) -> int | None:
    """Move up to `limit` outbox rows to the log; the number moved, or None if `node` does not lead any more."""
    taken = await tx.all(Q.take_outbox, node=node, limit=limit)
    if not taken:
        return 0 if await tx.one(Q.has_lease, name="log", node=node) else None
    await _number(tx, sorted(row[:5] for row in taken if row[5] is None))
    if not WAKING.isdisjoint(stream for _, stream, *_ in taken):
        tx.wake_others()
    tx.runtime.failpoints.hit(SEQUENCED)
    return len(taken)


async def _number(tx: Tx, taken: Sequence[Row]) -> None:
    """Put them into the log, where the statement that took them has not."""
    by_stream: dict[str, list[tuple[str, str, int]]] = {}
    for _, stream, tenant, items, at_us in taken:
        by_stream.setdefault(stream, []).append((tenant, items, at_us))
    for stream, rows in sorted(by_stream.items()):
        last = await tx.one(Q.advance_stream, stream=stream, count=len(rows))
        first = (last[0] if last else 0) - len(rows) + 1
        await tx.execute(Q.insert_log, rows=[(stream, number, *row) for number, row in enumerate(rows, first)])


async def read_after(tx: Tx, stream: str, after: int, limit: int) -> list[LogEntry]:
    """The stream's next rows."""
    rows = await tx.all(Q.read_log, stream=stream, after=after, limit=limit)
    return [LogEntry(seq, at_us, [tuple(pair) for pair in orjson.loads(items)]) for seq, _, items, at_us in rows]


async def last_seq(tx: Tx, stream: str) -> int:
    """The stream's last number, 0 if it never had a row."""
    row = await tx.one(Q.last_of_stream, stream=stream)
    return int(row[0]) if row else 0


async def cursor(tx: Tx, name: str) -> int:
    """Where the named cursor stands."""
    row = await tx.one(Q.get_cursor, name=name)
    return int(row[0]) if row else 0


async def move_cursor(tx: Tx, name: str, stream: str, seq: int) -> None:
    """Move a cursor forward, in the transaction of what it did with the rows."""
    await tx.execute(Q.set_cursor, name=name, stream=stream, seq=seq)


async def trim(tx: Tx, stream: str, before_us: int, limit: int) -> int:
    """Delete up to `limit` rows older than `before_us` that every cursor of the stream has passed."""
    return await tx.execute(Q.trim_log, stream=stream, before_us=before_us, limit=limit)


async def take_lead(tx: Tx, name: str, node: bytes) -> int | None:
    """Take a named lease whose owner is no live node; its new fence, or None."""
    await tx.execute(Q.ensure_lease, name=name)
    row = await tx.one(Q.take_lease, name=name, node=node)
    return int(row[0]) if row else None


async def has_lead(tx: Tx, name: str, node: bytes) -> bool:
    """Whether the living `node` has the named lease, taken now if nobody living had it; locked until the commit."""
    return bool(await tx.execute(Q.hold_lease, name=name, node=node)) or await take_lead(tx, name, node) is not None


async def drop_lead(tx: Tx, name: str, node: bytes) -> None:
    """Give a named lease back."""
    await tx.execute(Q.drop_lease, name=name, node=node)
