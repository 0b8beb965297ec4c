"""Iteration 87: cache invalidation."""

from __future__ import annotations

from unittest.mock import AsyncMock, MagicMock

import pytest

from netra_backend.cache.errors import CycleRefused
from netra_backend.cache.model import Event, LogRow, Look
from netra_backend.cache.service import Cache
from netra_backend.cache.settings import CacheSettings
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope


def cache_over(log):
    """A process's cache on a database whose log is the list."""

    def look(*_, **__):
        return Look(tuple(log), len(log), frozenset(), is_whole=True)

    database = MagicMock(read=AsyncMock(side_effect=look), on_wake=[])
    host = MagicMock(current_scope=lambda: Scope("acme"), tenant=AsyncMock(return_value="acme"))
    return Cache(database, Runtime(), CacheSettings(), host)


class TestCacheInvalidation:
    async def test_distributed_cascade(self):
        """One event of the log reaches every dependent in every process, however indirectly, and nothing else."""
        log, version = [], {"org": 1}
        nodes = [cache_over(log), cache_over(log)]

        async def shown(cache, key, *deps):
            return await cache.get_or_load(key, AsyncMock(side_effect=lambda: dict(version)), ttl=60, depends_on=deps)

        chain = (("user:1", "org:7"), ("page:1", "user:1"), ("other", "org:8"))
        for cache in nodes:
            assert [await shown(cache, *link) for link in chain] == [{"org": 1}] * 3
        version["org"] = 2
        log.append(LogRow(1, (Event("t1", ("acme|org:7",)),)))
        for cache in nodes:
            await cache.follower.look()
            assert [await shown(cache, *link) for link in chain] == [{"org": 2}, {"org": 2}, {"org": 1}]
            await cache.close()

    async def test_dependency_order(self):
        """What is made anew after a cascade is made behind all that it is made from; a cycle is refused when it is declared."""
        log, made = [], []
        cache = cache_over(log)
        for key, dep in (("org", "row"), ("team", "org"), ("user", "team"), ("page", "user")):
            await cache.get_or_load(
                key, AsyncMock(side_effect=lambda key=key: made.append(key) or len(made)), ttl=60, depends_on=[dep], refresh=True
            )
        with pytest.raises(CycleRefused):
            await cache.get_or_load("row", AsyncMock(return_value=1), ttl=60, depends_on=["page"])
        assert made == ["org", "team", "user", "page"]
        log.append(LogRow(1, (Event("t1", ("acme|row",)),)))
        await cache.follower.look()
        await cache.follower.refreshed()
        assert made[4:] == ["org", "team", "user", "page"]
        await cache.close()
