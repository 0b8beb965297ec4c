"""Spans of what has no row of its own that could carry a trace: invalidations, refreshes, chunks, requests, a program's own work.

What must be known of a committed change is appended in its transaction; the rest comes in batches from `observability/tracing`.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..kernel.scope import TraceContext
from ..kernel.spans import OK, Span
from .statements import Row, Statements
from .transaction import Tx

Q = Statements(__package__)


async def append(tx: Tx, part: str, name: str, ref: str = "", *, status: str = OK) -> None:
    """One span of the scope's trace, in this transaction; nothing where the work is in no trace, or in one that nobody samples."""
    trace = tx.scope.trace
    if trace.trace_id and trace.sampled:
        await put(
            tx, [Span(tx.tenant, trace.trace_id, tx.new_id()[8:].hex(), trace.span_id, part, name, tx.now_us, tx.now_us, status, ref)]
        )


async def put(tx: Tx, spans: Sequence[Span]) -> None:
    """Store spans of the scope's tenant, or in the system scope of any; one that is stored already stays as it is."""
    await tx.execute(Q.insert_spans if tx.scope.is_system else Q.insert_own_spans, rows=sorted(map(_row, spans)))


def _row(span: Span) -> Row:
    link = span.link or TraceContext()
    ends = (span.part, span.name, span.start_us, span.end_us, span.status, span.ref)
    return (span.tenant, span.trace_id, span.span_id, span.parent, link.trace_id, link.span_id, *ends)
