"""Connections to PostgreSQL on which the server's own errors happen, at a chosen statement.

What `faulty.py` is for SQLite, save that nothing is raised by us: the error is one that the real server gives, on the real
connection and in the real transaction, in place of the statement or just before it. A fault strikes once, at the nth
statement counted over every connection for work; heartbeats and probes are left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import asyncpg

from ...storage.postgres import Postgres
from .postgres import Postgres as Server
from .storage import eventually

Strike = Callable[["Plan", Any, str], Awaitable[Any]]


class Plan:
    """When to fail and how, and every statement that was asked for since `arm`."""

    def __init__(self, rival: asyncpg.Connection, eye: asyncpg.Connection) -> None:
        self.rival, self.eye = rival, eye
        self.asked: list[str] = []
        self.struck = False
        self._strike: Strike | None = None
        self._nth = -1
        self._rivalry: asyncio.Task[None] | None = None

    def arm(self, strike: Strike, nth: int) -> None:
        self._strike, self._nth, self.asked, self.struck = strike, nth, [], False

    def disarm(self) -> None:
        self._strike = None

    async def ask(self, connection: Any, call: Callable[..., Awaitable[Any]], sql: str, *arguments: Any, **options: Any) -> Any:
        self.asked.append(sql)
        if self._strike is not None and not self.struck and len(self.asked) > self._nth and sql != "rollback":
            self.struck = True
            await self._strike(self, connection, sql)
        return await call(sql, *arguments, **options)

    async def compete(self) -> None:
        """The rival has one lock and waits for the other."""
        await self.end_of_rivalry()
        await self.rival.execute("begin; select pg_advisory_xact_lock(2)")
        self._rivalry = asyncio.create_task(self._wait_and_go())
        await eventually(self._rival_waits)

    async def end_of_rivalry(self) -> None:
        if self._rivalry is not None:
            await self._rivalry
            self._rivalry = None

    async def _wait_and_go(self) -> None:
        await self.rival.execute("select pg_advisory_xact_lock(1); rollback")

    async def _rival_waits(self) -> bool:
        return bool(await self.eye.fetchval("select count(*) from pg_locks where not granted and pid = $1", self.rival.get_server_pid()))


async def nul_byte(_: Plan, connection: Any, sql: str) -> None:
    await connection.execute("select $1::text", "\0")


async def unique_violation(_: Plan, connection: Any, sql: str) -> None:
    await connection.execute("insert into fact (who, part) values ('twice', 1), ('twice', 1)")


async def statement_timeout(_: Plan, connection: Any, sql: str) -> None:
    await connection.execute("set local statement_timeout = 1; select pg_sleep(10)")


async def deadlock(plan: Plan, connection: Any, sql: str) -> None:
    if not connection.is_in_transaction():
        await connection.execute(sql)
    await connection.execute("select pg_advisory_xact_lock(1)")
    await plan.compete()
    await connection.execute("select pg_advisory_xact_lock(2)")


async def terminated_backend(plan: Plan, connection: Any, sql: str) -> None:
    """The statement then finds what the server has left of the connection."""
    assert await plan.eye.fetchval("select pg_terminate_backend($1, 10000)", connection.get_server_pid())


async def cut_connection(_: Plan, connection: Any, sql: str) -> None:
    connection._con._transport.abort()


async def failed_quietly(_: Plan, connection: Any, sql: str) -> None:
    """The transaction has failed, and nobody on our side has noticed."""
    with suppress(asyncpg.DivisionByZeroError):
        await connection.execute("select 1 / 0")


REFUSALS = (nul_byte, unique_violation, statement_timeout, deadlock)
ENDS = (terminated_backend, cut_connection)


class FaultyConnection:
    """A connection that does as the plan says; for the rest the pool's own."""

    def __init__(self, inner: Any, plan: Plan) -> None:
        self._inner, self._plan = inner, plan

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def fetch(self, sql: str, *arguments: Any, **options: Any) -> Any:
        return await self._plan.ask(self._inner, self._inner.fetch, sql, *arguments, **options)

    async def execute(self, sql: str, *arguments: Any, **options: Any) -> Any:
        return await self._plan.ask(self._inner, self._inner.execute, sql, *arguments, **options)


@asynccontextmanager
async def failing(database: Postgres, server: Server) -> AsyncIterator[Plan]:
    """Give the transactions of an open database connections that follow the plan."""
    name = database.url.rpartition("/")[2]
    original = database._connections.one
    async with server.connected(name, user="superuser") as rival, server.connected(name, user="superuser") as eye:
        await rival.execute("set deadlock_timeout = '1min'")  # so that the other side is the victim
        plan = Plan(rival, eye)

        @asynccontextmanager
        async def one(*, urgent: bool = False) -> AsyncIterator[Any]:
            async with original(urgent=urgent) as connection:
                yield connection if urgent else FaultyConnection(connection, plan)

        database._connections.one = one
        yield plan
        await plan.end_of_rivalry()
        database._connections.one = original
