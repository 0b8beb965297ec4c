"""Metrics for Prometheus: what the parts count, and gauges of the queue read from the database.

`PrometheusMetrics` is the runtime's `Metrics`; it is given to `Netra` where that is made, and `/metrics` shows it. A
series appears when it is first counted, save those named in `KNOWN`, which stand at zero from the start: an alert on a
series that does not exist never fires.

The gauges are of the whole installation, whichever process is asked, and at most `FRESH_S` old, so that several
scrapers cost one pass over an index.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from ..kernel.scope import system_scope
from ..webhooks import health, search

if TYPE_CHECKING:
    from ..netra import Netra

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
FRESH_S: Final = 2.0
DELIVERIES: Final = "netra_webhook_deliveries_total"
BATCH_ITEMS: Final = "netra_batch_items_total"
QUEUE_DEPTH: Final = "netra_webhook_queue_depth"
OLDEST_DUE: Final = "netra_webhook_oldest_due_seconds"
BREAKERS: Final = "netra_breaker_state"
CACHE_REQUESTS: Final = "netra_cache_requests_total"
CACHE_LAG: Final = "netra_cache_applied_lag_seconds"
CACHE_BYTES: Final = "netra_cache_bytes"
REFRESHES: Final = "netra_oauth_refresh_total"

KNOWN: Final[Mapping[str, tuple[Mapping[str, str], ...]]] = {
    DELIVERIES: tuple({"outcome": outcome} for outcome in ("delivered", "failed", "dead", "skipped", "cancelled")),
    CACHE_REQUESTS: tuple({"tier": tier, "result": result} for tier in ("l1", "l2") for result in ("hit", "miss")),
    BATCH_ITEMS: tuple({"outcome": outcome} for outcome in ("done", "failed")),
    REFRESHES: tuple({"outcome": outcome} for outcome in ("refreshed", "superseded", "active", "at_risk", "reauth_required", "error")),
}
HELP: Final[Mapping[str, str]] = {
    DELIVERIES: "Outcomes of deliveries in this process; failed ones are tried again.",
    BATCH_ITEMS: "Items of batches that ended in this process: in the output, or as dead letters.",
    REFRESHES: "Refreshes in this process by what came of them: a newer token, or how the connection was left.",
    CACHE_REQUESTS: "Questions to each tier of this process's cache, counted where they are scraped.",
    CACHE_LAG: "How long this process's last look at the log took, in seconds, until it was applied.",
    CACHE_BYTES: "What the cache's tier in this process holds by its own accounting.",
    QUEUE_DEPTH: "Deliveries of the installation that are due or on their way.",
    BREAKERS: "Endpoints of the installation whose breaker is open, half open or in a slow start, or that asked for a pause (gated).",
    OLDEST_DUE: "Age of the delivery that has been due for longest, in seconds; 0 if none is.",
}
_SCOPE: Final = system_scope("metrics")


class PrometheusMetrics:
    """See the module's docstring. A name has the same labels wherever it is used."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._gauges: dict[str, Gauge] = {}
        for name, series in KNOWN.items():
            for labels in series:
                self.count(name, 0, **labels)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        counter = self._counters.get(name)
        if counter is None:
            counter = self._counters[name] = Counter(name, HELP.get(name, name), sorted(labels), registry=self.registry)
        (counter.labels(**labels) if labels else counter).inc(amount)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        gauge = self._gauges.get(name)
        if gauge is None:
            gauge = self._gauges[name] = Gauge(name, HELP.get(name, name), sorted(labels), registry=self.registry)
        (gauge.labels(**labels) if labels else gauge).set(value)

    def render(self) -> bytes:
        """The exposition of every series."""
        return generate_latest(self.registry)


class Gauges:
    """`/metrics` of one server: the runtime's counters where they are ours to show, and the queue's gauges."""

    def __init__(self, netra: Netra) -> None:
        metrics = netra.runtime.metrics
        self._metrics = metrics if isinstance(metrics, PrometheusMetrics) else PrometheusMetrics()
        self._netra = netra
        self._read_at = float("-inf")
        self._cache_seen: dict[tuple[str, str], int] = {}
        self._reading = asyncio.Lock()

    async def exposition(self) -> bytes:
        """Prometheus' text format, rendered off the event loop."""
        async with self._reading:
            await self._read_queue()
            self._read_cache()
        return await asyncio.to_thread(self._metrics.render)

    def _read_cache(self) -> None:
        """Hits are plain integers, so that one costs nothing: what was added since the last scrape is counted here."""
        tiers = self._netra.cache.tiers()
        for tier in ("l1", "l2"):
            for result, member in (("hit", "hits"), ("miss", "misses")):
                now = int(tiers[tier][member])
                self._metrics.count(CACHE_REQUESTS, now - self._cache_seen.get((tier, member), 0), tier=tier, result=result)
                self._cache_seen[tier, member] = now
        self._metrics.gauge(CACHE_BYTES, tiers["l1"]["bytes"])

    async def _read_queue(self) -> None:
        clock = self._netra.runtime.clock
        if clock.monotonic() - self._read_at < FRESH_S:
            return
        self._read_at = clock.monotonic()
        depth, earliest_us = await self._netra.database.read(search.queue, scope=_SCOPE)
        age_us = 0 if earliest_us is None else max(0, clock.wall_us() - earliest_us)
        self._metrics.gauge(QUEUE_DEPTH, depth)
        self._metrics.gauge(OLDEST_DUE, age_us / 1_000_000)
        for state, count in (await self._netra.database.read(health.counts, scope=_SCOPE)).items():
            self._metrics.gauge(BREAKERS, count, state=state)
