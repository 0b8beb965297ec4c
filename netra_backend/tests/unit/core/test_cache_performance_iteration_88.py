"""Iteration 88: cache performance."""

from __future__ import annotations

from unittest.mock import MagicMock

from netra_backend.cache.monitor import Monitor, Thresholds
from netra_backend.cache.node import Node, Value
from netra_backend.cache.pressure import Pressed
from netra_backend.cache.stats import Stats
from netra_backend.kernel.runtime import Runtime


class TestCachePerformance:
    def test_threshold_monitoring(self):
        """A window below its threshold raises one alert, however long it lasts, and one more when it is over."""
        stats, told = Stats(), MagicMock()
        monitor = Monitor(stats, Thresholds(hit_ratio_least=0.5), told)
        for hits, misses in ((90, 10), (10, 90), (10, 90), (90, 10), (0, 3)):
            stats.l1.hits += hits
            stats.l1.misses += misses
            monitor.close_window()
        assert [(call.args[0], call.args[1]["state"]) for call in told.call_args_list] == [("hit_ratio", "degraded"), ("hit_ratio", "ok")]
        assert told.call_args_list[0].args[1] == {"measure": "hit_ratio", "state": "degraded", "value": 0.1, "threshold": 0.5}

    async def test_memory_pressure_eviction(self):
        """80 %: a tenth goes, the oldest first; 92 %: down to 60 %; 95 %: all of it, and the limit is lowered."""
        node, probe = Node(1.0, 1_000_000), MagicMock()
        node.flush(0)
        for number in range(100):
            node.fill(f"acme|{number}", Value("x" * 1000, frozenset(), 1e9, 1e9), node.begin(0))
        pressed, full = Pressed(node, probe, Runtime()), node.tier.used_bytes
        left = []
        for fraction in (0.5, 0.81, 0.93, 0.96):
            probe.read.return_value.fraction = fraction
            pressed.sample()
            left.append(round(node.tier.used_bytes / full, 1))
        assert left == [1.0, 0.9, 0.5, 0.0]
        assert node.tier.limit_bytes < 1_000_000 and "acme|0" not in node.tier.entries
        assert not node.fill("acme|new", Value("x", frozenset(), 1e9, 1e9), node.begin(0))
