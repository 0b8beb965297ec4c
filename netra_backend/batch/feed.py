"""The items of one partition behind a cursor, in portions, read ahead while a chunk is being written.

A portion ends at so many items, or at about so many bytes: it is read in blocks that double, each is weighed by a sample, and what
would not fit is left for the next one. What is read ahead is neither processed nor counted, so a kill costs no more than
reading it again (B5).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from concurrent.futures import Executor
from contextvars import copy_context
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from .raised import contained
from .readers import Read
from .weight import weight_of_each

FIRST_BLOCK: Final = 1
"""What is read before anything is known of the items' size; it doubles from there."""


@dataclass(slots=True)
class Portion:
    """Items that were read; `last` says that nothing follows them."""

    pairs: list[Read] = field(default_factory=list)
    last: bool = False
    item_bytes: int = 0


class Feed:
    """See the module's docstring. A synchronous reader runs in `threads`, so that a slow disk delays nobody's heartbeat."""

    def __init__(self, items: Iterator[Read] | AsyncIterator[Read], threads: Executor | None = None) -> None:
        self._items = items
        self._threads = threads
        self._ahead: asyncio.Task[Portion] | None = None
        self._left = Portion()

    async def take(self, size: int, budget: int | None = None) -> Portion:
        """The next `size` items or fewer; none, and `last`, at the end."""
        ahead, self._ahead = self._ahead, None
        portion = await ahead if ahead is not None else self._left
        self._left = Portion()
        if not portion.pairs and not portion.last:
            portion = await self._read(size, budget)
        if len(portion.pairs) > size:
            self._left = Portion(portion.pairs[size:], portion.last, portion.item_bytes)
            portion = Portion(portion.pairs[:size], False, portion.item_bytes)
        return portion

    def read_ahead(self, size: int, budget: int | None) -> None:
        """Begin to read what `take` will be asked for next."""
        if self._ahead is None and not self._left.pairs and not self._left.last:
            self._ahead = asyncio.ensure_future(self._read(size, budget))

    async def _read(self, size: int, budget: int | None) -> Portion:
        if isinstance(self._items, AsyncIterator):
            return await _read_async(self._items, size, budget)
        return await asyncio.get_running_loop().run_in_executor(self._threads, copy_context().run, _read, self._items, size, budget)

    async def close(self) -> None:
        """Let a reader that is a generator close its file now; one that still runs in its thread does so when it is collected."""
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.gather(self._ahead, return_exceptions=True)
        with contextlib.suppress(ValueError, RuntimeError):
            if isinstance(self._items, AsyncGenerator):
                await self._items.aclose()
            elif isinstance(self._items, Generator):
                self._items.close()


class _Block:
    """How many items the next block has, by what those before it weighed."""

    def __init__(self, size: int, budget: int | None) -> None:
        self.portion = Portion()
        self._size = size
        self._budget = budget
        self._held = 0
        self._next = size if budget is None else FIRST_BLOCK

    def wanted(self) -> int:
        """0 once the portion is full."""
        if self.portion.last or (self._budget is not None and self._held >= self._budget):
            return 0
        fitting = self._size - len(self.portion.pairs)
        if self._budget is not None and self.portion.item_bytes:
            fitting = min(fitting, max(1, (self._budget - self._held) // self.portion.item_bytes))
        return min(fitting, self._next)

    def add(self, wanted: int, pairs: list[Read]) -> None:
        """One block that was read."""
        portion = self.portion
        portion.pairs += pairs
        portion.last = len(pairs) < wanted
        if self._budget is not None and pairs:
            each = weight_of_each([item for _, item in pairs])
            self._held += each * len(pairs)
            portion.item_bytes = self._held // len(portion.pairs)
            self._next *= 2


def _read(items: Iterator[Read], size: int, budget: int | None) -> Portion:
    block = _Block(size, budget)
    with contained():
        while wanted := block.wanted():
            block.add(wanted, list(islice(items, wanted)))
    return block.portion


async def _read_async(items: AsyncIterator[Read], size: int, budget: int | None) -> Portion:
    block = _Block(size, budget)
    with contained():
        while wanted := block.wanted():
            pairs: list[Read] = []
            while len(pairs) < wanted:
                try:
                    pairs.append(await anext(items))
                except StopAsyncIteration:
                    break
            block.add(wanted, pairs)
    return block.portion
