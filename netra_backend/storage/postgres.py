"""PostgreSQL as Netra's engine for many processes: asyncpg, short transactions, row-level security, no session state.

Every write runs in a task of its own, so that a caller that is cancelled leaves it whole or absent. A transaction that
failed before its commit was asked for has stored nothing and may be run again: at a deadlock, at a connection that the
server ended, and once at a unique key, for the row that was there first is visible to the second run. A commit whose
answer never came is an unknown outcome: never repeated, the node's life ends, and the caller repeats with its key.

Lanes: `urgent` (heartbeats) has a connection of its own; `bulk` runs one at a time.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ..errors import ForkedRuntime, OutcomeUnknown, Unavailable
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope, system_scope
from . import outbox
from .database import Lane
from .errors import DatabaseError, ReadTimeout, StatementTimeout
from .jobs import AFTER_COMMIT, BEFORE_COMMIT, BatchVerb, Job, run_callbacks
from .nesting import open_transaction, refuse_nested
from .postgres_coalescing import Coalescing
from .postgres_connections import Connections, give_up
from .postgres_errors import READ_ONLY, is_certainly_undone, may_run_again, opening, state_of, translated
from .postgres_held import HeldPostgresTx
from .postgres_schema import check_postgres
from .postgres_transaction import PostgresTx
from .postgres_watch import Watch
from .statements import Statements
from .transaction import StoreFunction, Tx, supervise
from .turns import Turns

READ_LIMIT_S: Final = 5.0
STATEMENT_LIMIT_S: Final = 30.0
ANSWER_GRACE_S: Final = 5.0
"""How much longer than its own limit the server is waited for, before the connection is taken to be cut."""
TRIES: Final = 4

Q = Statements(__package__)
_FACTS: Final = """select current_setting('server_version_num')::int, current_setting('max_connections')::int,
  (select sum(numbackends) from pg_stat_database)"""
_SYSTEM: Final = system_scope()
_log: Final = logging.getLogger("netra.storage")


async def _probe(tx: Tx) -> None:
    await tx.execute(Q.probe)


class Postgres:
    """An open PostgreSQL database; see `database.Database`. `lock_dir` is shared by the processes of this host."""

    engine = "postgresql"

    def __init__(
        self,
        url: str,
        runtime: Runtime,
        *,
        lock_dir: Path,
        connections: int = 10,
        statement_cache: int = 512,
        idle_limit_s: float = 10.0,
        transaction_timeout_s: float = 5.0,
        statement_limit_s: float = STATEMENT_LIMIT_S,
    ) -> None:
        self.url = url
        self.lock_dir = lock_dir
        self.on_unknown_outcome: list[Callable[[], None]] = []
        self._runtime = runtime
        self._transaction_timeout_s = transaction_timeout_s
        self._connections = Connections(
            url, connections, statement_cache, work_answer_s=statement_limit_s + ANSWER_GRACE_S, beat_answer_s=max(1.0, idle_limit_s)
        )
        self._watch = Watch(self._connections.alone, self._probe)
        self.on_wake = self._watch.on_wake
        self.on_notice = self._watch.on_notice
        self._coalescing = Coalescing(self._run_verb, aside=max(1, connections // 4))
        self._bulk = asyncio.Semaphore(1)
        self._holding = asyncio.Semaphore(max(1, connections // 2))
        self._turns = Turns(max(1, connections // 2))
        self._begin = _begin("begin", statement_limit_s, idle_limit_s)
        self._begin_held = _begin("begin", transaction_timeout_s, idle_limit_s)
        self._begin_read = _begin("begin isolation level repeatable read read only", READ_LIMIT_S, idle_limit_s)
        self._name = ""
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closed = False
        self._pid = os.getpid()

    async def open(self) -> None:
        """Connect, and refuse a role that sees every tenant and a schema that is not this release's."""
        self.lock_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            await self._connections.open()
            with opening(self.url):
                async with self._connections.one() as connection:
                    await check_postgres(connection)
                await self._watch.start()
        except BaseException:
            await self._connections.close()
            raise

    async def close(self) -> None:
        """Let what was begun finish, held transactions and reads within their own limits, then disconnect."""
        self._closed = True
        await self._coalescing.drain()
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._watch.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(max(READ_LIMIT_S, self._transaction_timeout_s)):
                await self._connections.all_back()
        await self._connections.close()

    async def write(self, fn: StoreFunction, *args: Any, scope: Scope, lane: Lane = "normal") -> Any:
        """See `Database.write`."""
        self._check_writing()
        return await self._to_its_end(self._write(fn, args, scope, lane))

    async def write_item(self, verb: BatchVerb, item: Any, *, weight: int = 1) -> Any:
        """See `Database.write_item`."""
        self._check_writing()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._coalescing.submit(Job(verb, (item,), _SYSTEM, loop, future, weight))
        return await future

    async def read(self, fn: StoreFunction, *args: Any, scope: Scope) -> Any:
        """See `Database.read`."""
        self._check_process()
        async with self._turns.of(scope.tenant):
            try:
                async with asyncio.timeout(READ_LIMIT_S):
                    return await self._read_again(fn, args, scope)
            except (TimeoutError, StatementTimeout) as error:
                raise ReadTimeout(f"the read took longer than {READ_LIMIT_S:g} s") from error

    @asynccontextmanager
    async def transaction(self, scope: Scope) -> AsyncIterator[Tx]:
        """See `Database.transaction` and `postgres_held`."""
        self._check_writing()
        async with AsyncExitStack() as entered:
            await entered.enter_async_context(self._holding)
            connection = await entered.enter_async_context(self._connections.one())
            # From here on its end gives them back: an owner cancelled there must not take the connection from it.
            places = entered.pop_all()
        tx = HeldPostgresTx(connection, scope, self._runtime, self._begin_held + self._name, self._transaction_timeout_s)
        token = open_transaction.set(tx)
        try:
            yield tx
        except BaseException:
            await self._to_its_end(self._undo_held(tx, places))
            raise
        else:
            await self._to_its_end(self._finish_held(tx, places))
        finally:
            open_transaction.reset(token)

    def check_intake(self) -> None:
        """See `Database.check_intake`."""
        self._check_process()
        if self._watch.trouble is not None:
            raise self._watch.trouble.with_traceback(None)
        if self._closed:
            raise Unavailable("this database is closed")

    def version(self) -> int:
        """See `Database.version`."""
        return self._watch.version

    def look_again(self) -> None:
        """See `Database.look_again`."""
        self._watch.told()

    def bear(self, node: bytes) -> None:
        """See `Database.bear`."""
        self._name = f"; set local application_name = 'netra {node.hex()}'"

    async def server_facts(self) -> tuple[int, int, int]:
        """The server's version as a number, how many connections it takes, and how many it has."""
        async with self._connections.one() as connection:
            row = await connection.fetchrow(_FACTS)
        return int(row[0]), int(row[1]), int(row[2])

    def _check_writing(self) -> None:
        self._check_process()
        refuse_nested()
        self.check_intake()

    def _check_process(self) -> None:
        if os.getpid() != self._pid:
            raise ForkedRuntime

    async def _to_its_end(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it whether or not the caller still waits."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # the caller's, who may be gone

    async def _write(self, fn: StoreFunction, args: tuple[Any, ...], scope: Scope, lane: Lane) -> Any:
        if lane == "bulk":
            async with self._bulk:
                result, callbacks = await self._again(fn, args, scope)
        else:
            result, callbacks = await self._again(fn, args, scope, urgent=lane == "urgent")
        run_callbacks(callbacks)
        return result

    async def _run_verb(self, verb: BatchVerb, items: list[Any], lock_s: float | None) -> tuple[list[Any], list[Callable[[], None]]]:
        async def answers_each(tx: Tx) -> list[Any]:
            results = list(await verb(tx, items))
            if len(results) != len(items):  # inside, so that nothing of it is committed
                raise RuntimeError(f"{verb} answered {len(results)} of {len(items)} items")
            return results

        patience = f"; set local lock_timeout = {int(lock_s * 1000)}" if lock_s is not None else ""
        results, callbacks = await self._again(answers_each, (), _SYSTEM, patience=patience)
        return results, callbacks

    async def _again(self, fn: StoreFunction, args: tuple[Any, ...], scope: Scope, *, urgent: bool = False, patience: str = "") -> Any:
        """Run the function in a transaction, and run it again where that is right; its result and what follows the commit."""
        met: list[BaseException] = []
        while True:
            try:
                async with self._connections.one(urgent=urgent) as connection:
                    return await self._once(PostgresTx(connection, scope, self._runtime, self._begin + self._name + patience), fn, args)
            except Exception as error:
                met.append(error)
                if len(met) == TRIES or not may_run_again(met):
                    raise

    async def _once(self, tx: PostgresTx, fn: StoreFunction, args: tuple[Any, ...]) -> Any:
        try:
            result = await supervise(fn(tx, *args), tx.is_waiting)
            callbacks = await self._finish(tx)
        except BaseException as error:
            await self._roll_back(tx, error)
            raise
        finally:
            tx.end()
        return result, callbacks

    async def _roll_back(self, tx: PostgresTx, error: BaseException | None = None) -> None:
        """Undo it; who waits for that hears of it, unless the commit may have happened."""
        await tx.rollback()
        if not isinstance(error, OutcomeUnknown):
            run_callbacks(tx.undone())

    async def _finish(self, tx: PostgresTx) -> list[Callable[[], None]]:
        """Write the outbox rows and commit; what follows the commit."""
        tx.require_whole()
        if tx.emissions():
            await outbox.write(tx, tx.emissions())
        try:
            self._runtime.failpoints.hit(BEFORE_COMMIT)
            await tx.commit()
            self._runtime.failpoints.hit(AFTER_COMMIT)
        except BaseException as error:
            if is_certainly_undone(error):
                raise translated(error) from error
            give_up(tx.connection)
            raise self._unknown(error) from error
        return tx.callbacks()

    def _unknown(self, error: BaseException) -> OutcomeUnknown:
        unknown = OutcomeUnknown(f"the commit was not answered: {error}")
        _log.error("%s", unknown)
        self._watch.doubt(Unavailable("a commit was not answered; nothing is taken in until a probe write has committed"))
        for listener in self.on_unknown_outcome:
            try:
                listener()
            except Exception:  # noqa: BLE001  (who listens ends nobody's write)
                _log.exception("a listener to unknown outcomes failed")
        return unknown

    async def _read_again(self, fn: StoreFunction, args: tuple[Any, ...], scope: Scope) -> Any:
        """Once more where the connection turns out to be one that the server has ended: a restart costs no reader an error."""
        met: list[BaseException] = []
        while True:
            try:
                return await self._read(fn, args, scope)
            except Exception as error:
                if state_of(error.__cause__ or error) == READ_ONLY:
                    raise DatabaseError("a read may not write", fix="Ship the function with `netra.write`.") from error
                met.append(error)
                if not may_run_again(met):
                    raise

    async def _read(self, fn: StoreFunction, args: tuple[Any, ...], scope: Scope) -> Any:
        async with self._connections.one() as connection:
            tx = PostgresTx(connection, scope, self._runtime, self._begin_read)
            try:
                return await supervise(fn(tx, *args), tx.is_waiting)
            finally:
                tx.end()
                await tx.rollback()

    async def _undo_held(self, tx: HeldPostgresTx, places: AsyncExitStack) -> None:
        async with places:
            await tx.stop_timer()
            tx.end()
            await self._roll_back(tx)

    async def _finish_held(self, tx: HeldPostgresTx, places: AsyncExitStack) -> None:
        async with places:
            await tx.stop_timer()
            try:
                tx.check_time()
                callbacks = await self._finish(tx)
            except BaseException as error:
                await self._roll_back(tx, error)
                raise
            finally:
                tx.end()
        run_callbacks(callbacks)

    async def _probe(self) -> None:
        async with self._connections.one(urgent=True) as connection:
            await self._once(PostgresTx(connection, _SYSTEM, self._runtime, self._begin + self._name), _probe, ())


def _begin(how: str, statement_limit_s: float, idle_limit_s: float) -> str:
    """Begin with limits that end with the transaction: the server ends what a stopped process has left open."""
    limits = {"statement_timeout": statement_limit_s, "idle_in_transaction_session_timeout": idle_limit_s}
    return "; ".join([how, *(f"set local {name} = {int(limit_s * 1000)}" for name, limit_s in limits.items())])
