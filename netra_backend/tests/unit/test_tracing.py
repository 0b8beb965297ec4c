"""Positions in a trace as headers say them, and a program's own spans wherever they end."""

from __future__ import annotations

from contextvars import ContextVar, copy_context

import pytest

from netra_backend.kernel.chance import SystemChance
from netra_backend.kernel.clock import SystemClock
from netra_backend.kernel.scope import Scope, TraceContext
from netra_backend.observability.tracing.tracer import Tracer, Working

TRACE, SPAN = "1" * 32, "2" * 16
OUTER = Scope("acme", "me", TraceContext(TRACE, SPAN))


@pytest.mark.parametrize("header", [f"00-{TRACE}-{SPAN}-01", f"01-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-what-comes-later"])
def test_a_header_of_a_later_version_is_read_as_far_as_it_is_known(header):
    assert TraceContext.parse(header) == TraceContext(TRACE, SPAN, sampled=True)


@pytest.mark.parametrize(
    "header",
    [f"00-{TRACE}-{SPAN}-01-more", f"ff-{TRACE}-{SPAN}-01", f"01-{TRACE}-{SPAN}-01more", f"0-{TRACE}-{SPAN}-01", f"01-{TRACE}-{'0' * 16}-01",
     f"01-{'0' * 32}-{SPAN}-01", f"00-{TRACE.replace('1', 'A')}-{SPAN}-01", f"00-{TRACE}-{SPAN}", ""],
)  # fmt: skip
def test_a_header_that_no_version_has_is_none(header):
    assert TraceContext.parse(header) is None


def test_a_span_that_ends_in_another_context_than_it_began_in_is_recorded_and_raises_nothing():
    entered: ContextVar[Scope | Working | None] = ContextVar("entered", default=None)
    entered.set(OUTER)
    tracer = Tracer(SystemClock(), SystemChance())
    span = Working(tracer, entered, OUTER, "render", "app", "")

    def begin():
        span.__enter__()
        return copy_context()

    def end():
        span.__exit__(None, None, None)
        return entered.get()

    inside = copy_context().run(begin)
    assert inside.run(end) is OUTER  # a copy of where it began: there it is over
    assert copy_context().run(end) is OUTER
    assert [each.name for each in tracer.take(10)] == ["render", "render"]
