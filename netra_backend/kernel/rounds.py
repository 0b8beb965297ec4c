"""Work that a process does again and again in the background, for as long as it lives.

Every part has some: looking for rows that are due, following the log, deleting what is old. It stands here once, because all of it
can fail in the same three ways.

1. An error ends the task, and nobody sees it. So what goes wrong is told, ours in a line and any other with its trace, and the next round
   comes all the same.
2. A commit falls between the look and the note of it. So with `changes` (a number that any commit changes) the number is noted before the
   work begins, and forgotten where the work failed or where somebody asked for another round meanwhile.
3. A stop cuts off a claim, and nobody works under the lease. `stop` cuts the round off, `finish` lets it come to its end.

A task that runs for ever is no part of the request that happened to start it: it begins in an empty context.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from collections.abc import Awaitable, Callable

from ..errors import NetraError
from .runtime import Runtime


class Rounds:
    """See the module's docstring: `work`, and `every_s` seconds later again; `cannot` says what did not happen where it failed."""

    def __init__(
        self,
        runtime: Runtime,
        work: Callable[[], Awaitable[object]],
        cannot: str,
        every_s: float,
        *,
        changes: Callable[[], int] | None = None,
        anyway_s: float = math.inf,
        at_once: bool = True,
    ) -> None:
        """With `changes`, a round in which that number is the same is passed over, for `anyway_s` seconds at most."""
        self._runtime = runtime
        self._work = work
        self._cannot = cannot
        self._every_s = every_s
        self._changes = changes
        self._anyway_s = anyway_s
        self._at_once = at_once
        self._seen: int | None = None
        self._began_at = -math.inf
        self._ending = False
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the background."""
        self._ending, self._wake = False, asyncio.Event()  # whoever is started again may be on another loop
        self._task = asyncio.get_running_loop().create_task(self._run(), context=contextvars.Context())

    async def stop(self) -> None:
        """End, wherever the work stands."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def finish(self) -> None:
        """End after the round that is under way."""
        self._ending = True
        self._wake.set()
        if self._task is not None:
            await asyncio.gather(self._task, return_exceptions=True)

    def wake(self) -> None:
        """Begin the next round now, if there is news."""
        self._wake.set()

    def again(self) -> None:
        """Begin the next round now, news or not."""
        self._seen = None
        self._wake.set()

    async def _run(self) -> None:
        if not self._at_once:
            await self._pause()
        while not self._ending:
            self._wake.clear()
            if not await attempt(self._runtime.log, self._cannot, self._round()):
                self._seen = None
            await self._pause()

    async def _round(self) -> None:
        now = self._runtime.clock.monotonic()
        if self._changes is not None:
            version = self._changes()
            if version == self._seen and now - self._began_at < self._anyway_s:
                return
            self._seen = version
        self._began_at = now
        await self._work()

    async def _pause(self) -> None:
        waits = [asyncio.ensure_future(self._runtime.clock.sleep(self._every_s)), asyncio.ensure_future(self._wake.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


async def attempt(log: logging.Logger, cannot: str, work: Awaitable[object]) -> bool:
    """Whether `work` came to its end; what goes wrong is told."""
    try:
        await work
    except NetraError as error:
        log.warning("%s: %s", cannot, error)
        return False
    except Exception:
        log.exception("%s", cannot)
        return False
    return True
