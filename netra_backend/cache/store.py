"""The cache's side of the one log: an invalidation in the caller's transaction, and a look at log and outbox in one snapshot.

The look needs no leader: what was committed before it began stands in the log or still waits in the outbox, so a reader that
takes both knows everything, however long the leader sleeps. See docs/decisions/0012.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from ..storage import log
from ..storage.statements import Statements
from ..storage.transaction import Tx
from .model import Event, LogRow, Look, qualified

Q = Statements(__package__)

STREAM: Final = "cache"
ROWS_AT_ONCE: Final = 500
MOST_WAITING: Final = 2000
"""Rows of the outbox that a look takes in; with more of them the lease is not renewed until the leader is at work again."""


def invalidate(tx: Tx, token: str, deps: Sequence[str]) -> None:
    """Put an invalidation of the transaction's tenant on the log: it is there if and only if this commits (C10)."""
    tx.emit(STREAM, {"t": token, "d": list(deps)})


async def look(tx: Tx, applied: int) -> Look:
    """What stands behind `applied`."""
    waiting = await tx.all(Q.waiting, stream=STREAM, limit=MOST_WAITING + 1)
    last = await log.last_seq(tx, STREAM)
    epoch = await tx.one(Q.epoch)
    entries = await log.read_after(tx, STREAM, applied, ROWS_AT_ONCE + 1)
    rows = tuple(LogRow(entry.seq, _events(entry.items)) for entry in entries)
    names = frozenset(name for (items,) in waiting for event in _events(orjson.loads(items)) for name in event.names)
    return Look(rows, last, names, len(waiting) <= MOST_WAITING and len(rows) <= ROWS_AT_ONCE, epoch[0] if epoch else "")


async def last_seq(tx: Tx) -> int:
    """The number of the newest event."""
    return await log.last_seq(tx, STREAM)


def _events(items: Sequence[Any]) -> tuple[Event, ...]:
    return tuple(Event(item["t"], tuple(qualified(tenant, dep) for dep in item["d"])) for tenant, item in items)
