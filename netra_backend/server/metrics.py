"""Metrics for Prometheus: what the parts of all processes count, and gauges of the queue read from the database.

`PrometheusMetrics` is the runtime's `Metrics`; it is given to `Netra` where that is made, and `/metrics` shows it. A
series appears when it is first counted, save those named in `KNOWN`, which stand at zero from the start: an alert on a
series that does not exist never fires.

The gauges are of the whole installation, whichever process is asked, and at most `FRESH_S` old, so that several
scrapers cost one pass over an index.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ..kernel.scope import system_scope
from ..observability.metrics.registry import Registry
from ..webhooks import health, search

if TYPE_CHECKING:
    from ..netra import Netra

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
FRESH_S: Final = 2.0
DELIVERIES: Final = "netra_webhook_deliveries_total"
BATCH_ITEMS: Final = "netra_batch_items_total"
BATCH_MEMORY: Final = "netra_batch_memory_level"
BATCH_CHUNK: Final = "netra_batch_chunk_items"
BATCH_EXECUTOR: Final = "netra_batch_executor_up"
QUEUE_DEPTH: Final = "netra_webhook_queue_depth"
OLDEST_DUE: Final = "netra_webhook_oldest_due_seconds"
BREAKERS: Final = "netra_breaker_state"
CACHE_REQUESTS: Final = "netra_cache_requests_total"
CACHE_LAG: Final = "netra_cache_applied_lag_seconds"
CACHE_BYTES: Final = "netra_cache_bytes"
CACHE_FILLS: Final = "netra_cache_fills_total"
CACHE_EVICTIONS: Final = "netra_cache_evictions_total"
CACHE_ERRORS: Final = "netra_cache_errors_total"
CACHE_LOADS: Final = "netra_cache_loads_total"
CACHE_STALE: Final = "netra_cache_stale_probe_total"
CACHE_SECONDS: Final = "netra_cache_seconds"
CACHE_DEGRADED: Final = "netra_cache_degraded"
DEBUG_SESSIONS: Final = "netra_debug_sessions"
REFRESHES: Final = "netra_oauth_refresh_total"
REQUESTS: Final = "netra_http_requests_total"
REQUEST_SECONDS: Final = "netra_http_request_seconds"
TENANT_REQUESTS: Final = "netra_tenant_requests_total"
TENANT_DELIVERIES: Final = "netra_tenant_deliveries_total"
ATTEMPT_SECONDS: Final = "netra_webhook_attempt_seconds"
KPI_OBJECTS: Final = "netra_kpi_objects_total"
SPANS: Final = "netra_spans_total"
SPANS_DROPPED: Final = "netra_spans_dropped_total"
NODES: Final = "netra_nodes"
AUDIT_ENTRIES: Final = "netra_audit_entries_total"
SSO_PROBES: Final = "netra_sso_probes_total"
SSO_FLIPS: Final = "netra_sso_flips_total"
KEY_FETCHES: Final = "netra_sso_key_fetches_total"
EGRESS: Final = "netra_egress_requests_total"

KNOWN: Final[Mapping[str, tuple[Mapping[str, str], ...]]] = {
    AUDIT_ENTRIES: ({},),
    DELIVERIES: tuple({"outcome": outcome} for outcome in ("delivered", "failed", "dead", "skipped", "cancelled")),
    CACHE_REQUESTS: tuple({"tier": tier, "result": result} for tier in ("l1", "l2") for result in ("hit", "miss")),
    BATCH_ITEMS: tuple({"outcome": outcome} for outcome in ("done", "failed")),
    SPANS: ({},),
    SPANS_DROPPED: ({},),
    REFRESHES: tuple({"outcome": outcome} for outcome in ("refreshed", "superseded", "active", "at_risk", "reauth_required", "error")),
}
HELP: Final[Mapping[str, str]] = {
    REQUESTS: "Requests to the API by route, method and status.",
    REQUEST_SECONDS: "How long requests to the API took, by route.",
    TENANT_REQUESTS: "Requests of each tenant by outcome; tenants past the first two hundred are _other.",
    TENANT_DELIVERIES: "Outcomes of deliveries of each tenant; tenants past the first two hundred are _other.",
    ATTEMPT_SECONDS: "How long attempts took, from the connection to the last byte of the answer.",
    KPI_OBJECTS: "How often an object of a KPI came to a result.",
    SPANS: "Spans that were stored from the buffers of processes.",
    SPANS_DROPPED: "Spans that were dropped because the store took none.",
    NODES: "Processes of the installation that live, as this one sees it.",
    DELIVERIES: "Outcomes of deliveries; failed ones are tried again.",
    BATCH_ITEMS: "Items of batches that ended: in the output, or as dead letters.",
    REFRESHES: "Refreshes by what came of them: a newer token, or how the connection was left.",
    SSO_PROBES: "Looks of our own at identity providers, by how they ended.",
    SSO_FLIPS: "Changes of where a tenant's logins go, by reason.",
    KEY_FETCHES: "Fetches of issuers' keys, by how they ended.",
    EGRESS: "Requests that left this installation, by how they ended; refused ones did not leave.",
    CACHE_REQUESTS: "Questions to each tier of caches, counted where they are scraped.",
    AUDIT_ENTRIES: "Entries that this process has put under signed checkpoints of their tenants' audit logs.",
    BATCH_MEMORY: "Memory level of this process's batches: 0 grows, 1 holds, 2 halves, 3 pauses, 4 recycles, 5 aborts.",
    BATCH_CHUNK: "How many items the next chunk of a job may have, by what this process has learned of the last one.",
    BATCH_EXECUTOR: "1 where this process has an executor that a job's items are processed at, 0 where it has lost it.",
    CACHE_LAG: "How long this process's last look at the log took, in seconds, until it was applied.",
    CACHE_FILLS: "Values that each tier took, or refused because what they were made from had changed meanwhile.",
    CACHE_EVICTIONS: "Entries that this process's tier gave up for room or for memory.",
    CACHE_ERRORS: "Questions to the shared tier that got no answer.",
    CACHE_LOADS: "Loads of cached values in this process: done, failed, or joined by somebody who waited for another's.",
    CACHE_STALE: "Kept values that the consistency probe found to differ from their source.",
    CACHE_SECONDS: "Times over the last 10 s, in seconds: of loads, and of the shared tier's answers.",
    CACHE_DEGRADED: "1 for each measure of the cache that is beyond its threshold.",
    CACHE_BYTES: "What the cache's tier in this process holds by its own accounting.",
    QUEUE_DEPTH: "Deliveries of the installation that are due or on their way.",
    DEBUG_SESSIONS: "Live debug sessions of the installation, as this process knows them.",
    BREAKERS: "Breakers that are open, half open or in a slow start, or whose receiver asked for a pause (gated). Part webhooks: "
    "endpoints of the installation. Part oauth: token endpoints by tenant and operation, in this process.",
    OLDEST_DUE: "Age of the delivery that has been due for longest, in seconds; 0 if none is.",
}
_SCOPE: Final = system_scope("metrics")


class PrometheusMetrics(Registry):
    """The registry of a server: what alerts look at stands at zero from the start. A name has the same labels wherever it is used."""

    def __init__(self) -> None:
        super().__init__()
        self.know(KNOWN, HELP)
        self.gauge(BATCH_MEMORY, 0)


class Gauges:
    """`/metrics` of one server: the runtime's counters where they are ours to show, and the queue's gauges."""

    def __init__(self, netra: Netra) -> None:
        metrics = netra.runtime.metrics
        self._metrics = metrics if isinstance(metrics, Registry) else PrometheusMetrics()
        self._metrics.know(KNOWN, HELP)
        self._netra = netra
        self._read_at = float("-inf")
        self._cache_seen: dict[tuple[str, str], int] = {}
        self._reading = asyncio.Lock()

    async def exposition(self) -> bytes:
        """Prometheus' text format, rendered off the event loop."""
        async with self._reading:
            await self._read_queue()
            self._read_cache()
            for state, count in self._netra.oauth.refresher.breakers.states().items():
                self._metrics.gauge(BREAKERS, count, part="oauth", state=state)
            self._metrics.gauge(NODES, self._netra.membership.live_nodes)
            others = await self._netra.aggregate.others() if self._netra.aggregate is not None else {}
        return await asyncio.to_thread(self._metrics.render, others)

    def _read_cache(self) -> None:
        """Hits are plain integers, so that one costs nothing: what was added since the last scrape is counted here."""
        tiers = self._netra.cache.tiers()
        for tier in ("l1", "l2"):
            for result, member in (("hit", "hits"), ("miss", "misses")):
                self._add(CACHE_REQUESTS, tiers[tier], tier, member, tier=tier, result=result)
            for result, member in (("kept", "fills"), ("refused", "fills_refused")):
                self._add(CACHE_FILLS, tiers[tier], tier, member, tier=tier, result=result)
            self._add(CACHE_STALE, tiers[tier], tier, "stale_probe", tier=tier)
        self._add(CACHE_EVICTIONS, tiers["l1"], "l1", "evictions", tier="l1")
        self._add(CACHE_ERRORS, tiers["l2"], "l2", "errors", tier="l2")
        loads = {**tiers, "done": int(tiers["loads"]) - int(tiers["load_errors"])}
        for result, member in (("done", "done"), ("error", "load_errors"), ("joined", "joined")):
            self._add(CACHE_LOADS, loads, "all", member, result=result)
        self._metrics.gauge(DEBUG_SESSIONS, len(self._netra.debug.hub.lives))
        self._metrics.gauge(CACHE_BYTES, tiers["l1"]["bytes"])
        monitor = self._netra.cache.caretaker.monitor
        for measure in ("hit_ratio", "error_ratio", "load_p99_s", "l2_error_ratio", "l2_p99_s"):
            self._metrics.gauge(CACHE_DEGRADED, int(measure in monitor.degraded), measure=measure)
        for what in ("load", "l2"):
            for quantile in ("p50", "p99"):
                if (value := monitor.measured.get(f"{what}_{quantile}_s")) is not None:
                    self._metrics.gauge(CACHE_SECONDS, value, what=what, quantile=quantile)

    def _add(self, name: str, counts: Mapping[str, Any], place: str, member: str, **labels: str) -> None:
        """Count what was added since the last scrape."""
        now = int(counts[member])
        self._metrics.count(name, now - self._cache_seen.get((place, member), 0), **labels)
        self._cache_seen[place, member] = now

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
            self._metrics.gauge(BREAKERS, count, part="webhooks", state=state)
