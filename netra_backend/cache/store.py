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

_WAITING, _NUMBERED, _LAST, _EPOCH = range(4)
"""What a row of `look` is."""


def invalidate(tx: Tx, token: str, deps: Sequence[str]) -> None:
    """Put an invalidation of the transaction's tenant on the log: it is there if and only if this commits (C10)."""
    tx.emit(STREAM, {"t": token, "d": list(deps)})


async def look(tx: Tx, applied: int) -> Look:
    """What stands behind `applied`."""
    seen = await tx.all(Q.look, stream=STREAM, after=applied, most_waiting=MOST_WAITING + 1, most_rows=ROWS_AT_ONCE + 1)
    waiting = [items for kind, _, items in seen if kind == _WAITING]
    numbered = sorted((seq, items) for kind, seq, items in seen if kind == _NUMBERED)
    rows = tuple(LogRow(seq, _events(orjson.loads(items))) for seq, items in numbered)
    last = next((seq for kind, seq, _ in seen if kind == _LAST), 0)
    epoch = next((text for kind, _, text in seen if kind == _EPOCH), "")
    names = frozenset(name for items in waiting for event in _events(orjson.loads(items)) for name in event.names)
    return Look(rows, last, names, len(waiting) <= MOST_WAITING and len(rows) <= ROWS_AT_ONCE, epoch)


async def last_seq(tx: Tx) -> int:
    """The number of the newest event."""
    return await log.last_seq(tx, STREAM)


def _events(items: Sequence[Any]) -> tuple[Event, ...]:
    return tuple(Event(item["t"], tuple(qualified(tenant, dep) for dep in item["d"])) for tenant, item in items)
