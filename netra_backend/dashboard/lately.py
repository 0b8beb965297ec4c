"""What costs more than a look may: made in the background now and then, and shown to everybody with its age."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")
Dated = tuple[int, T]
"""(when it was made, what it is)."""


class Lately(Generic[T]):
    """The last value for each Netra of this process, made anew by whoever comes `fresh_s` after it; nobody but the first waits."""

    def __init__(self, fresh_s: float) -> None:
        self._fresh_us = int(fresh_s * 1_000_000)
        self._known: WeakKeyDictionary[Any, Dated[T]] = WeakKeyDictionary()
        self._making: WeakKeyDictionary[Any, asyncio.Task[Dated[T]]] = WeakKeyDictionary()

    async def get(self, netra: Any, make: Callable[[], Awaitable[T]]) -> Dated[T]:
        """When it was made, and what it is. An error is told to whoever waits for the first; later ones leave what is known."""
        now_us = netra.runtime.clock.wall_us()
        known = self._known.get(netra)
        if known is not None and now_us - known[0] < self._fresh_us:
            return known
        making = self._making.get(netra)
        if making is None or making.done():
            making = self._making[netra] = asyncio.create_task(self._make(netra, now_us, make))
            making.add_done_callback(lambda task: task.cancelled() or task.exception())  # seen, also where nobody waits
        return known if known is not None else await asyncio.shield(making)

    async def _make(self, netra: Any, at_us: int, make: Callable[[], Awaitable[T]]) -> Dated[T]:
        made = self._known[netra] = (at_us, await make())
        return made
