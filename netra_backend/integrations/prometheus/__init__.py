"""Prometheus beside Netra: Netra's series in a program's own registry, and the alert rules and dashboard that are shipped.

    from prometheus_client import REGISTRY
    REGISTRY.register(NetraCollector(netra))

`netra serve` shows them at `/metrics` by itself. Files: `alerts.yml` (Prometheus rules), `dashboard.json` (Grafana).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from ...netra import Netra
from ...observability.metrics.registry import Registry


class NetraCollector(Collector):
    """What this process's Netra counts, read when the registry is scraped. Any thread; no look at the database."""

    def __init__(self, netra: Netra) -> None:
        self._metrics = netra.runtime.metrics

    def collect(self) -> Iterable[Metric]:
        """See `Collector`."""
        if isinstance(self._metrics, Registry):
            found: Iterable[Any] = text_string_to_metric_families(self._metrics.render().decode())
            yield from found
