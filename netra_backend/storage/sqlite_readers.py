"""The reader pool of a SQLite file: a few threads, each with a connection that cannot write.

A read runs on one snapshot and ends after 5 s, because a reader that stays keeps every checkpoint from resetting the
write-ahead log. A read that was refused a lock or a page is the caller's error; nothing is retried here.

All tenants together leave one thread alone (see `turns`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from ..errors import NetraError
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from .errors import Interrupted, ReadTimeout
from .sqlite_drivers import Connection
from .sqlite_transaction import SqliteTx
from .statements import Row, Statement
from .transaction import StoreFunction, drive
from .turns import Turns

READERS: Final = 3
READ_LIMIT_S: Final = 5.0


class SqliteReaders:
    """See the module's docstring."""

    def __init__(self, connect: Callable[[], Connection], runtime: Runtime) -> None:
        self._connect = connect
        self._runtime = runtime
        self._local = threading.local()
        self._open: list[Connection] = []
        self._executor = ThreadPoolExecutor(READERS, thread_name_prefix="netra-reader")
        self._turns = Turns(READERS - 1)

    async def read(self, fn: StoreFunction, args: tuple[Any, ...], scope: Scope) -> Any:
        """Run one store function on a reader thread."""
        async with self._turns.of(scope.tenant):
            return await asyncio.get_running_loop().run_in_executor(self._executor, self._run, fn, args, scope)

    def close(self) -> None:
        """Wait for running reads and close the connections."""
        self._executor.shutdown(wait=True)
        for connection in self._open:
            connection.close()
        self._open.clear()

    def _run(self, fn: StoreFunction, args: tuple[Any, ...], scope: Scope) -> Any:
        connection = self._connection()
        monotonic = self._runtime.clock.monotonic
        ends = monotonic() + READ_LIMIT_S
        tx = _LimitedTx(connection, scope, self._runtime, lambda: monotonic() > ends)
        connection.limit_time(tx.expired)
        connection.run("begin")
        try:
            return drive(fn(tx, *args))
        except Interrupted as error:
            raise _too_long() from error
        finally:
            tx.end()
            connection.limit_time(None)
            with contextlib.suppress(NetraError):  # an interrupted read may have ended its transaction itself
                connection.run("rollback")

    def _connection(self) -> Connection:
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._connect()
            connection.run("pragma query_only = on")
            self._local.connection = connection
            self._open.append(connection)
        return connection


class _LimitedTx(SqliteTx):
    """Ends between statements as well: the driver's own watch sees only long ones."""

    __slots__ = ("expired",)

    def __init__(self, connection: Connection, scope: Scope, runtime: Runtime, expired: Callable[[], bool]) -> None:
        super().__init__(connection, scope, runtime)
        self.expired = expired

    def run(self, statement: Statement, params: dict[str, Any]) -> list[Row]:
        """See `SqliteTx.run`."""
        if self.expired():
            raise _too_long()
        return super().run(statement, params)


def _too_long() -> ReadTimeout:
    return ReadTimeout(f"the read took longer than {READ_LIMIT_S:g} s")
