"""Which debug sessions chose the work that a row stands for: written with the row, read by whoever takes it up.

A table beside the rows, because nearly no row has a mark: nothing is added to the statements of every message. See
`docs/decisions/0017`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .statements import Statements
from .transaction import Tx

Q = Statements(__package__)


async def mark(tx: Tx, refs: Iterable[bytes]) -> None:
    """Have these rows of the transaction's tenant name the sessions that its scope carries."""
    if tx.scope.debug:
        await tx.execute(Q.insert_debug_marks, rows=sorted((ref, session) for ref in refs for session in tx.scope.debug))


async def mark_rows(tx: Tx, rows: Sequence[tuple[str, bytes, bytes]]) -> None:
    """The same for rows of several tenants: (tenant, row, session)."""
    if rows:
        await tx.execute(Q.insert_debug_mark_rows, rows=sorted(rows))


async def of(tx: Tx, ref: bytes) -> frozenset[bytes]:
    """The sessions that a row of the transaction's tenant names."""
    return frozenset(row[0] for row in await tx.all(Q.debug_marks_of, ref=ref))
