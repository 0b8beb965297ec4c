"""A span: one stretch of work in a trace (W3C Trace Context), as it is stored and shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .scope import TraceContext

OK: Final = "ok"
ERROR: Final = "error"
FRESH_US: Final = 60_000_000
"""A worker goes on in a trace as a child while what it works on is a single item no older than this; else it links to it."""


@dataclass(frozen=True, slots=True)
class Span:
    """`parent` is a span of the same trace, or empty; `link` names another trace that this one came of. Times are microseconds.

    `part` is the part of Netra that did it (`webhooks`, `oauth`, `batch`, `cache`, `audit`, `server`, `app`), `ref` what it was
    about, an id as people know it.
    """

    tenant: str
    trace_id: str
    span_id: str
    parent: str
    part: str
    name: str
    start_us: int
    end_us: int
    status: str = OK
    ref: str = ""
    link: TraceContext | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


def continued(trace: TraceContext, age_us: int, id_: bytes, *, single: bool = True) -> tuple[TraceContext, TraceContext | None]:
    """The position of work on something that was stored in `trace` this long ago, and the link where it begins a trace of its own.

    `id_` is the work's own id: its last eight bytes name the span, the whole of it the new trace.
    """
    span_id = id_[8:].hex()
    if single and age_us < FRESH_US and trace.trace_id:
        return TraceContext(trace.trace_id, span_id, trace.sampled), None
    return TraceContext(id_.hex(), span_id, trace.sampled), trace if trace.trace_id else None
