"""What watches over the cache beside its work, from its first use on: memory pressure ten times a second, the thresholds each window."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any, Final

from ..errors import NetraError
from ..kernel import debugging
from ..kernel.runtime import Runtime
from ..kernel.scope import system_scope
from ..resilience.memory_pressure import MemoryProbe
from ..storage.database import Database
from ..storage.transaction import Tx
from .monitor import WINDOW_S, Monitor, Thresholds
from .node import Node
from .pressure import SAMPLE_S, Pressed
from .settings import CacheSettings
from .stats import Stats

DEGRADED: Final = "cache.degraded"
_SCOPE: Final = system_scope("cache")


class Caretaker:
    """See the module's docstring. For the event loop of its Netra."""

    def __init__(self, database: Database, runtime: Runtime, settings: CacheSettings, node: Node, stats: Stats) -> None:
        thresholds = Thresholds(
            settings.hit_ratio_least,
            settings.error_ratio_most,
            settings.load_p99_most_s,
            settings.l2_error_ratio_most,
            settings.l2_p99_most_s,
        )
        self.monitor = Monitor(stats, thresholds, self._tell)
        self.pressed = Pressed(node, MemoryProbe(settings.proc_root, settings.cgroup_root, settings.memory_limit), runtime)
        self._database = database
        self._runtime = runtime
        self._process = f"{socket.gethostname()}/{os.getpid()}"
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin, unless it has begun."""
        if not self._tasks:
            self._go(self._watch_memory())
            self._go(self._watch_windows())

    async def stop(self) -> None:
        """End."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _go(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _watch_memory(self) -> None:
        debugging.unwatched()  # begun by whoever came first
        while True:
            await self._runtime.clock.sleep(SAMPLE_S)
            if self.pressed.is_wanted:
                await self._safely(self.pressed.sample)

    async def _watch_windows(self) -> None:
        debugging.unwatched()
        while True:
            await self._runtime.clock.sleep(WINDOW_S)
            await self._safely(self.monitor.close_window)

    async def _safely(self, work: Callable[[], Any]) -> None:
        try:
            await asyncio.to_thread(work) if work == self.pressed.sample else work()
        except Exception:
            self._runtime.log.exception("the cache could not be looked after")

    def _tell(self, measure: str, what: dict[str, Any]) -> None:
        """An alert: in the log of this process, and as an event of the installation."""
        self._runtime.log.warning("the cache's %s is %s: %s, the threshold is %s", measure, what["state"], what["value"], what["threshold"])
        self._go(self._record(what))

    async def _record(self, what: dict[str, Any]) -> None:
        try:
            await self._database.write(_emit, {**what, "process": self._process}, scope=_SCOPE)
        except NetraError as error:
            self._runtime.log.warning("the cache's alert could not be recorded: %s", error)


async def _emit(tx: Tx, what: dict[str, Any]) -> None:
    """To the operator's endpoints, and for whoever reads the installation's events."""
    tx.emit("operational", {"type": DEGRADED, "at_us": tx.now_us, **what})
    tx.emit("events", {"type": DEGRADED, **what})
    tx.wake_others()
