"""A PostgreSQL transaction that its owner keeps open across awaits: `async with netra.transaction()`.

Unlike SQLite's it holds nobody up but those who want the same rows. The bound is the same all the same: after
`transaction_timeout` it is rolled back, and its owner hears of it at its next statement or at its end. Should this process
be stopped, the server ends the transaction by `idle_in_transaction_session_timeout`.
"""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg

from ..errors import TransactionTimeout
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from .postgres_transaction import PostgresTx
from .statements import Row, Statement
from .transaction import StoreFunction, Tx


class HeldPostgresTx(PostgresTx):
    """One statement at a time, whichever tasks of the owner's ask; none after the deadline."""

    __slots__ = ("_deadline", "_expiry", "_one", "_over")

    def __init__(self, connection: asyncpg.Connection, scope: Scope, runtime: Runtime, begin: str, timeout_s: float) -> None:
        super().__init__(connection, scope, runtime, begin)
        self._one = asyncio.Lock()
        self._over = False
        self._deadline = runtime.clock.monotonic() + timeout_s
        self._expiry = asyncio.create_task(self._expire(timeout_s))

    @property
    def is_open(self) -> bool:
        """See `nesting.Held`."""
        return not self._over

    async def all(self, statement: Statement, **params: Any) -> list[Row]:
        """See `Tx.all`."""
        async with self._one:
            self.check_time()
            return await super().all(statement, **params)

    async def execute(self, statement: Statement, **params: Any) -> int:
        """See `Tx.execute`."""
        async with self._one:
            self.check_time()
            return await super().execute(statement, **params)

    async def attempt(self, fn: StoreFunction, *args: Any) -> Exception | None:
        """Not here: a savepoint of one task would hold what another one does meanwhile."""
        return await Tx.attempt(self, fn, *args)

    def check_time(self) -> None:
        """Raise once the time is up: a process that was stopped may come here before its own timer does."""
        if self._over or self.runtime.clock.monotonic() >= self._deadline:
            self._over = True
            raise TransactionTimeout

    async def stop_timer(self) -> None:
        """The owner is done: what follows is its commit or its rollback."""
        self._expiry.cancel()
        await asyncio.gather(self._expiry, return_exceptions=True)

    def end(self) -> None:
        """See `PostgresTx.end`."""
        self._over = True
        super().end()

    async def _expire(self, timeout_s: float) -> None:
        never = asyncio.Event()
        try:
            async with asyncio.timeout(timeout_s):  # wall time, whatever clock the runtime has: locks are real
                await never.wait()
        except TimeoutError:
            async with self._one:
                self._over = True
                await self.rollback()
