"""Follows the log for this process: a look every quarter of the lease, cascades applied, what was asked to be fresh made anew.

It begins at the cache's first use, so a process that caches nothing looks at nothing. A look that fails, or takes long, renews
no lease: then both tiers are passed by until one succeeds, and nothing stale is served meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from ..errors import NetraError
from ..kernel import debugging
from ..kernel.pace import Pace
from ..kernel.runtime import Runtime
from ..kernel.scope import system_scope
from ..storage.database import Database
from . import store
from .model import Cascade
from .node import Node
from .shared import Shared
from .stats import Stats

_SCOPE: Final = system_scope("cache")
LOOKS_PER_LEASE: Final = 4
LEAST_GAP_S: Final = 0.001
QUICK_GAPS_S: Final = (0.001, 0.001, 0.002, 0.004, 0.008)
"""So closely looks may follow each other: what was seen to wait in the outbox has its number with the leader's next commit."""
LOOKS_AT_ONCE: Final = 4
"""Looks that saw nothing wait, and may follow each other as closely: in the long run there are no more than ten for each regular one."""

Refresh = Callable[[Cascade], Awaitable[None]]


class Follower:
    """See the module's docstring. For the event loop of its Netra."""

    def __init__(self, database: Database, runtime: Runtime, node: Node, shared: Shared | None, stats: Stats) -> None:
        self.refresh: Refresh | None = None
        self.on_start: list[Callable[[], None]] = []
        self._database = database
        self._runtime = runtime
        self._node = node
        self._shared = shared
        self._stats = stats
        self._task: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._looking: asyncio.Future[None] | None = None
        self._refreshing: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._task is None:
            self._loop = asyncio.get_running_loop()
            self._task = asyncio.create_task(self._run())
            self._database.on_wake.append(self.hurry)
            for begin in self.on_start:
                begin()

    def hurry(self) -> None:
        """Look now: something was committed."""
        self._wake.set()

    def let_go(self, token: str) -> None:
        """A caller's transaction has ended, most likely in a rollback: find out, so that its names need not stay pending. Any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # closed just now
                self._loop.call_soon_threadsafe(self._resolve_soon, token)

    def _resolve_soon(self, token: str) -> None:
        task = asyncio.ensure_future(self._resolve(token, self._runtime.clock.monotonic()))
        self._refreshing.add(task)
        task.add_done_callback(self._refreshing.discard)

    async def _resolve(self, token: str, since: float) -> None:
        """A whole look that began after the transaction's end has seen its event, in the log or waiting, if there is one."""
        for _ in range(2):  # the first may have begun before
            await self.look()
        if self._node.lease_until >= since + self._node.bound_s:
            self._node.unmark(token)

    async def stop(self) -> None:
        """End."""
        if self._task is None:
            return
        if self.hurry in self._database.on_wake:
            self._database.on_wake.remove(self.hurry)
        tasks = [self._task, *self._refreshing]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def ready(self) -> None:
        """Wait for the end of a look that begins no earlier than now, where this process has no lease."""
        self.start()
        if not self._node.is_leased(self._runtime.clock.monotonic()):
            await self.look()

    async def look(self) -> bool:
        """One look, taken in; whether it succeeded. One that is under way is waited for, and not repeated."""
        if self._looking is not None:
            await asyncio.wait([self._looking])
            return self._node.started
        self._looking = asyncio.get_running_loop().create_future()
        try:
            return await self._look()
        finally:
            self._looking.set_result(None)
            self._looking = None

    async def _look(self) -> bool:
        node, monotonic = self._node, self._runtime.clock.monotonic
        while True:
            started = monotonic()
            try:
                seen = await self._database.read(store.look, node.applied, scope=_SCOPE)
            except NetraError as error:
                self._stats.look_failed += 1
                self._runtime.log.warning("the cache could not look at the log, and is passed by once its lease ends: %s", error)
                return False
            if self._shared is not None:
                await self._shared.follow(seen, self._database)
            self._take_in(node.observe(seen, started))
            if seen.is_whole or node.applied >= seen.last_seq:
                self._runtime.metrics.gauge("netra_cache_applied_lag_seconds", monotonic() - started)
                return True

    async def refreshed(self) -> None:
        """Wait until what asked to be fresh is made anew, after the looks so far."""
        await asyncio.gather(*self._refreshing)

    def _take_in(self, cascades: list[Cascade]) -> None:
        for cascade in cascades:
            self._stats.invalidated += len(cascade.entries)
            if self.refresh is not None and cascade.entries:
                task = asyncio.ensure_future(self.refresh(cascade))
                self._refreshing.add(task)
                task.add_done_callback(self._refreshing.discard)

    async def _run(self) -> None:
        debugging.unwatched()  # begun by whoever came first
        every_s = self._node.bound_s / LOOKS_PER_LEASE
        quick = 0
        pace = Pace(every_s / 10, LOOKS_AT_ONCE)
        while True:
            self._wake.clear()
            try:
                await self.look()
            except Exception:
                self._runtime.log.exception("the cache could not follow the log, and is passed by once its lease ends")
            gaps_s = QUICK_GAPS_S[quick:] if self._node.sees_waiting else ()
            quick = quick + 1 if gaps_s else 0
            if gaps_s:
                await self._pause(every_s, gaps_s[0])
            else:
                now = self._runtime.clock.monotonic()
                pace.took(now)
                await self._pause(every_s, max(LEAST_GAP_S, pace.wait_s(now)))

    async def _pause(self, seconds: float, least_s: float) -> None:
        """Until it is time, or somebody says that there is something to see; never less than `least_s`."""
        sleep = self._runtime.clock.sleep
        await sleep(least_s)
        waits = [asyncio.ensure_future(sleep(seconds - least_s)), asyncio.ensure_future(self._wake.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
