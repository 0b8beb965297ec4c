"""Whose read is next: a tenant has one at a time, and all tenants together leave a place for what everybody waits for.

A tenant that asks for long lists keeps neither another tenant nor the work of the system (keys, due deliveries, nodes)
from being read.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from ..kernel.scope import SYSTEM_TENANT


class Turns:
    """`async with turns.of(tenant):` waits for the tenant's turn; the system waits for nobody."""

    def __init__(self, places: int) -> None:
        self._tenants = asyncio.Semaphore(places)
        self._turns: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, tenant: str) -> AsyncIterator[None]:
        """The tenant's turn."""
        if tenant == SYSTEM_TENANT:
            yield
            return
        async with self._turns.setdefault(tenant, asyncio.Semaphore(1)), self._tenants:
            yield
