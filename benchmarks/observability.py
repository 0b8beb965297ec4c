"""What watching costs: a span, a counter, `/metrics` with 10,000 series, an event of a KPI, beside the usual libraries.

Spans and counters are timed in a tight loop in this process, nothing exported: what a caller pays. A KPI's events are counted from the
log by the follower that a server runs, in batches, with the objects, figures and cursor of each batch in one durable transaction on SQLite.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from measure import RUNS, Row, interleaved, scratch
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from prometheus_client import CollectorRegistry, Counter, generate_latest

from netra_backend import Event, Netra
from netra_backend.observability.kpi.worker import Follower
from netra_backend.observability.metrics.registry import Registry
from netra_backend.webhooks.causes import Witness

SERIES = 10_000
EVENTS = 20_000
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"


def rows(*, quick: bool = False) -> Iterator[Row]:
    """Every row of this table."""
    times = 2_000 if quick else 100_000
    runs = 1 if quick else RUNS
    yield from _spans(times, runs)
    yield from _counters(times, runs)
    yield from _exposition(runs, 500 if quick else SERIES)
    yield from _kpi(runs, 400 if quick else EVENTS)


def _beside(runs: int, ours: Callable[[], float], theirs: Callable[[], float]) -> tuple[list[float], list[float]]:
    """The figures of both, run after run."""
    found = interleaved(("ours", "theirs"), runs, lambda which: ours() if which == "ours" else theirs())
    return found["ours"], found["theirs"]


def _us_each(times: int, work: Callable[[], Any]) -> float:
    work()
    gc.collect()
    gc.disable()
    try:
        started = time.perf_counter()
        for _ in range(times):
            work()
        return (time.perf_counter() - started) / times * 1e6
    finally:
        gc.enable()


def _spans(times: int, runs: int) -> Iterator[Row]:
    with scratch() as folder:
        netra = Netra(f"sqlite:///{folder}/spans.db", data=folder, environ={})
        sampled, unsampled = TracerProvider().get_tracer("bench"), TracerProvider(sampler=ALWAYS_OFF).get_tracer("bench")

        def ours() -> None:
            with netra.span("work"):
                pass

        def theirs(tracer: Any) -> Callable[[], None]:
            def work() -> None:
                with tracer.start_as_current_span("work"):
                    pass

            return work

        cases = (("span, sampled", "01", sampled, 2.0, 15.5), ("span, not sampled", "00", unsampled, 0.2, 6.1))
        for name, flag, tracer, budget, peers in cases:  # `peers` is what the SDK took on the machine that the aim was set for
            with netra.scope(tenant="acme", trace=TRACE + flag):
                found = _beside(runs, partial(_us_each, times, ours), partial(_us_each, times, theirs(tracer)))
            yield Row(name, "-", "us", "-", *found, "OpenTelemetry SDK", budget, "lower", budget / peers)


def _counters(times: int, runs: int) -> Iterator[Row]:
    registry, counter = Registry(), Counter("bench_total", "bench", ["outcome"], registry=CollectorRegistry())

    def ours() -> None:
        registry.count("bench_total", outcome="delivered")

    def theirs() -> None:
        counter.labels(outcome="delivered").inc()

    found = _beside(runs, partial(_us_each, times, ours), partial(_us_each, times, theirs))
    yield Row("counter with a label", "-", "us", "-", *found, "prometheus-client", 0.9, "lower")


def _exposition(runs: int, series: int) -> Iterator[Row]:
    registry, own = Registry(), CollectorRegistry()
    counter = Counter("bench_total", "bench", ["route", "status"], registry=own)
    for number in range(series):
        registry.count("bench_total", route=f"/r/{number // 10}", status=str(number % 10))
        counter.labels(route=f"/r/{number // 10}", status=str(number % 10)).inc()
    found = _beside(runs, lambda: _us_each(3, registry.render) / 1000, lambda: _us_each(3, partial(generate_latest, own)) / 1000)
    yield Row(f"/metrics, {series:,} series", "-", "ms", "-", *found, "prometheus-client", None, "lower")


def _kpi(runs: int, events: int) -> Iterator[Row]:
    figures = []
    for _ in range(runs):
        with scratch() as folder:
            figures.append(asyncio.run(_counted(folder, events)))
    yield Row("KPI, per event counted", "sqlite", "us", "FULL", figures, budget=None, better="lower")


async def _counted(folder: Path, events: int) -> float:
    """Microseconds of the follower for each event: half promises, half kept."""
    url = f"sqlite:///{folder}/kpis.db"
    async with Netra(url, data=folder, workers=False, environ={}, disk_reserve_bytes=0) as netra:
        netra.kpi.define(
            "shipped", unit="orders", value="amount", total="order.placed", good=Event("order.shipped").within("1h").by("order")
        )
        await netra.kpi.flush()
        for start in range(0, events // 2, 100):
            async with netra.transaction(tenant="acme") as tx:
                for order in range(start, start + 100):
                    await netra.events.record(tx, "order.placed", {"order": order, "amount": 12.5})
                    await netra.events.record(tx, "order.shipped", {"order": order})
        while not netra.leader.leads:
            await netra.runtime.clock.sleep(0.05)
        await netra.leader.drain()
        witness = Witness()
        follower = Follower(netra.database, netra.runtime, netra.membership, witness, witness)
        started = time.perf_counter()
        await follower.count()
        took = time.perf_counter() - started
        found = await netra.kpi.impact("shipped")
        if found["good"] != events // 2:
            raise RuntimeError(f"{found['good']} of {events // 2} were counted")
        return took / events * 1e6


if __name__ == "__main__":
    from measure import show

    show([{"table": "observability", **row.as_json()} for row in rows()])
