"""Erasing what messages and answers said, while their ids, states and attempts stay.

An erased payload is the empty text, which no JSON is. What was still due of the message is cancelled, for there is nothing to
send any more; an attempt that is under way has its copy and ends, and if it fails the sender cancels what is left. Erasing is a
decision with an audit entry, or the end of the time for which the producer wanted the payload kept (`payloadRetentionPeriod`),
which retention finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ..storage.audit_append import audit_append
from ..storage.statements import Statements
from ..storage.transaction import Tx
from . import lines, store

Q = Statements(__package__)

EXPUNGED: Final = "the payload was expunged"
OUTLIVED: Final = "the time for which the payload was to be kept is over"


class Outlived(NamedTuple):
    """Until when the payload was to be kept, whose it is, and of which message."""

    until_us: int
    tenant: str
    message_id: bytes


async def expunge(tx: Tx, message_id: bytes) -> None:
    """Erase a message's payload and cancel what is due of it. Again is harmless, and audited again."""
    await store.message(tx, message_id)
    await audit_append(tx, "message.expunge", message_id)
    await tx.execute(Q.expunge_message, id=message_id)
    await store.cancel(tx, message_id, None, EXPUNGED)


async def expunge_attempt(tx: Tx, message_id: bytes, attempt_id: bytes) -> None:
    """Erase what a receiver answered to one attempt."""
    await store.attempt(tx, message_id, attempt_id)
    await audit_append(tx, "attempt.expunge", f"{message_id.hex()}/{attempt_id.hex()}")
    await tx.execute(Q.expunge_attempt, message_id=message_id, id=attempt_id)


async def outlived(tx: Tx, after: Outlived | None, limit: int) -> list[Outlived]:
    """Up to `limit` payloads behind `after` that have outlived their time, of all tenants, in the order in which they did."""
    time_us, tenant, message_id = after or (0, "", b"")
    rows = await tx.all(Q.outlived_payloads, now_us=tx.now_us, after_us=time_us, after_tenant=tenant, after_id=message_id, limit=limit)
    return [Outlived(*row) for row in rows]


async def erase_outlived(tx: Tx, ids: Sequence[bytes]) -> int:
    """Erase those of the tenant's payloads of these messages that have outlived their time, and are still there; how many."""
    rows = sorted((row[0],) for row in await tx.all(Q.erase_payloads, now_us=tx.now_us, rows=sorted((each,) for each in ids)))
    if not rows:
        return 0
    gone = await tx.all(Q.cancel_erased, rows=rows, reason=f"cancelled: {OUTLIVED}")
    for message_id, endpoint_id, number, _ in gone:
        store.announce(tx, tx.tenant, message_id, endpoint_id, "cancelled", number)
    await lines.free_next(tx, {(tx.tenant, row[1], row[3]) for row in gone if row[3] is not None})
    return len(rows)
