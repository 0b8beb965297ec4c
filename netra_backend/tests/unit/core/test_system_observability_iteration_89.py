"""Observability, as the original report asks for it: KPIs that agree with the business, and traces that hold together."""

from __future__ import annotations

from unittest.mock import AsyncMock, MagicMock

import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import TraceContext
from netra_backend.observability.kpi.model import MICRO, Event, define
from netra_backend.observability.kpi.service import Kpis
from netra_backend.observability.tracing.service import Traces

TRACE = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
SPAN = (TRACE.trace_id, "1" * 16, TRACE.span_id, "", "", "server", "POST /app/acme/msg", 1, 9, "ok", "202")
MESSAGE = (bytes(16), "1" * 16, "invoice.paid", 2)


class TestSystemObservability:
    @pytest.mark.parametrize(("late", "value"), [(0, 0.0), (2, 37.5)])
    async def test_business_kpi_alignment(self, late, value):
        """The figures are in the business's units: what was promised, what was missed, and what that is worth."""
        kpis = Kpis(Runtime(), AsyncMock())
        promised = define("paid", unit="invoices", value="eur", total=Event("invoice.paid"), good=Event("webhook.delivered").within("15m"))
        sums = dict.fromkeys(("value", "value_good"), 100 * MICRO) | {"value_late": int(value * MICRO), "value_lost": 0}
        sums |= {"total": 10, "good": 10 - late, "late": late, "lost": 0}
        causes = [{"cause": "breaker open ep_9", "count": late, "objects": ["a", "b"], "traces": []}] if late else []
        database = MagicMock(read=AsyncMock(side_effect=[promised, sums, int(late > 0), causes]), write=AsyncMock())
        await kpis.start(database)
        found = await kpis.impact("paid", "2h")
        assert (found["unit"], found["total"], found["good"], found["late"]) == ("invoices", 10, 10 - late, late)
        assert (found["value_late"], found["tenants"], found["causes"]) == (value, int(late > 0), causes)

    @pytest.mark.parametrize(("tenant", "parts"), [("acme", ["server"]), (None, ["server", "webhooks"])])
    async def test_distributed_tracing_correlation(self, tenant, parts):
        """One trace joins what several parts did for several tenants; a tenant sees of it what is its own."""
        rows = {"spans_of_trace": [SPAN], "messages_of_trace": [MESSAGE]}

        async def read(fn, *arguments, scope):
            tx = MagicMock(tenant=scope.tenant, runtime=Runtime())
            own = rows if scope.tenant == "globex" else {"spans_of_trace": [SPAN]} if scope.tenant == "acme" else {}
            tx.all = AsyncMock(side_effect=lambda q, **_: [("acme",), ("globex",)] if "tenants" in q.name else own.get(q.name, []))
            return await fn(tx, *arguments)

        traces = Traces(MagicMock(read=read), MagicMock(flush=AsyncMock()))
        found = await traces.get(TRACE.trace_id, tenant=tenant)
        assert sorted({span["part"] for span in found["spans"]}) == parts
        ids = {span["id"] for span in found["spans"]}
        assert {span["parent"] for span in found["spans"]} <= ids | {TRACE.span_id}
