"""A small cache of answers from the database that may be old by half a second, and never by a change made here.

`forget` is called after each change of ours, so that a revoked key or a deleted tenant is gone in this process with
the answer to the request that revoked it. Other processes see it when their copy is too old: within `MAX_AGE_S`.
A look-up that began before `forget` is not stored, and nobody who asks after it waits for one that began before.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from ..kernel import debugging
from ..kernel.clock import Clock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")

MAX_AGE_S: Final = 0.5
MOST_ENTRIES: Final = 10_000


class ShortCache(Generic[K, V]):
    """See the module's docstring. One event loop."""

    def __init__(self, clock: Clock, load: Callable[[K], Awaitable[V]]) -> None:
        self._monotonic = clock.monotonic
        self._load = load
        self._known: OrderedDict[K, tuple[V, float]] = OrderedDict()
        self._pending: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K) -> V:
        """The answer for `key`, looked up once for all who ask meanwhile."""
        known = self._known.get(key)
        if known is not None and self._monotonic() < known[1]:
            return known[0]
        task = self._pending.get(key)
        if task is None:
            task = self._pending[key] = asyncio.create_task(self._fetch(key))
        return await asyncio.shield(task)

    def forget(self) -> None:
        """Look everything up anew."""
        self._known.clear()
        self._pending.clear()

    async def _fetch(self, key: K) -> V:
        debugging.unwatched()  # whoever asks meanwhile is given the same answer
        task = asyncio.current_task()
        until = self._monotonic() + MAX_AGE_S  # from before the look-up: the answer may be as old as its question
        try:
            value = await self._load(key)
            if self._pending.get(key) is task:
                self._known[key] = value, until
                self._known.move_to_end(key)
                if len(self._known) > MOST_ENTRIES:
                    self._known.popitem(last=False)
            return value
        finally:
            if self._pending.get(key) is task:
                del self._pending[key]
