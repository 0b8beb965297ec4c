"""Whether anybody has committed, and whether the server is there: one connection that asks, and listens.

The truth is polled: `pg_current_snapshot()` has another text after any commit that wrote (a transaction that had not begun
raises its upper bound, one that was in progress leaves its list), so it is for PostgreSQL what `data_version` is for
SQLite, and costs no table. NOTIFY only makes it sooner; a pooler that swallows it costs at most `POLL_S`.

When the connection breaks, or a commit's outcome is unknown, intake is refused until the server answers again and a
probe write has committed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

from ..errors import Unavailable
from .postgres_errors import translated
from .postgres_transaction import CHANNEL

POLL_S: Final = 0.05
AGAIN_S: Final = 0.2
ANSWERS_WITHIN_S: Final = 5.0

_log: Final = logging.getLogger("netra.storage")


class Watch:
    """See the module's docstring. `trouble` is why nothing new is taken in, None while all is well."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], probe: Callable[[], Awaitable[Any]]) -> None:
        self.version = 0
        self.trouble: Unavailable | None = None
        self.on_wake: list[Callable[[], None]] = []
        self.on_notice: list[Callable[[], None]] = []
        self._connect = connect
        self._probe = probe
        self._connection: asyncpg.Connection | None = None
        self._seen = ""
        self._again = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look once, its error the caller's, then go on in the background."""
        await self._look()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """End, and close the connection."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._drop()

    def doubt(self, trouble: Unavailable) -> None:
        """Take nothing in until a probe write has committed."""
        self.trouble = trouble
        self._again.set()

    async def _run(self) -> None:
        while True:
            await self._wait(POLL_S if self.trouble is None else AGAIN_S)
            try:
                async with asyncio.timeout(ANSWERS_WITHIN_S):
                    await self._look_again()
                    await self._recover()
            except Exception as error:  # noqa: BLE001  (whatever it was: the next look tells)
                self._lost(error)

    async def _look_again(self) -> None:
        """Look, and where the connection turns out to have ended, by another one: that alone is no trouble."""
        known = self._connection
        try:
            await self._look()
        except Exception:
            if known is None or known is not self._connection:
                raise
            self._drop()
            await self._look()

    async def _look(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._connect()
            await self._connection.add_listener(CHANNEL, self._heard)
        seen = await self._connection.fetchval("select pg_current_snapshot()::text")
        if seen != self._seen:
            self._seen = seen
            self._changed()

    async def _recover(self) -> None:
        trouble = self.trouble
        if trouble is None:
            return
        await self._probe()
        if self.trouble is trouble:  # else another commit came into doubt meanwhile, and this probe may have been before it
            self.trouble = None
            _log.warning("the database takes writes again")

    def _heard(self, *_: object) -> None:
        self.told()

    def told(self) -> None:
        """Have everybody look: somebody says that there is something to see."""
        for notice in self.on_notice:
            notice()
        self._changed()

    def _changed(self) -> None:
        """Have everybody look: something was committed."""
        self.version += 1
        for wake in self.on_wake:
            wake()

    def _lost(self, error: Exception) -> None:
        self._drop()
        found = translated(error)
        if self.trouble is None:
            _log.error("the database does not answer: %s", found)
        self.trouble = found if isinstance(found, Unavailable) else Unavailable(str(found))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _wait(self, seconds: float) -> None:
        self._again.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._again.wait()
