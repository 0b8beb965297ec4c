"""S6 through the two doors that a program has: as acme, even a statement written by hand that names globex reaches nothing.

This is about wrong statements, not hostile programs: who has Netra's own password may log in with it and set any tenant.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from netra_backend import Netra
from netra_backend.errors import NetraError
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.storage.postgres_transaction import PostgresTx
from netra_backend.storage.statements import parse
from netra_backend.storage.transaction import ForeignTenant
from netra_backend.testing.clock import FakeClock

from ..support.isolation.rows import ACME, GLOBEX, NOW_US, rows_of, shared_rows
from ..support.isolation.worlds import PostgresWorld

POLICY_SAYS_NO = "42501"
READS = {
    "all": "select * from {table} where tenant = 'globex'",
    "anybody": "select * from {table} where tenant <> 'acme' and tenant <> '*'",
    "count": "select 1 from {table} where tenant > 'acme' limit 1",
    "joined": "select y.* from {table} x join {table} y on y.tenant = 'globex'",
}
WRITES = {
    "change": "update {table} set tenant = tenant where tenant = 'globex'",
    "give_away": "update {table} set tenant = 'globex' where tenant = 'acme'",
    "take": "update {table} set tenant = 'acme' where tenant = 'globex'",
    "remove": "delete from {table} where tenant = 'globex'",
    "empty": "truncate {table} cascade",
    "copy": "insert into {table} select * from {table} where tenant = 'globex'",
}
TABLES = sorted({table for table, _ in rows_of(GLOBEX)} | {"netra_audit_use"})


def by_hand(texts, table):
    return parse("\n".join(f"-- name: {name}\n{text.format(table=table)};" for name, text in texts.items())).values()


async def try_all(tx, statement):
    return await tx.all(statement)


async def try_count(tx, statement):
    return await tx.execute(statement)


class Doors:
    """A program's Netra as acme, and the superuser's eyes on what globex has."""

    def __init__(self, netra, world):
        self.netra = netra
        self.world = world

    async def globex(self):
        return {row for row in await self.world._stored() if row[1] == GLOBEX}

    async def write(self, fn, *args):
        return await self.netra.write(fn, *args, tenant=ACME)

    async def transaction(self, fn, *args):
        async with self.netra.transaction(tenant=ACME) as tx:
            return await fn(tx, *args)


@asynccontextmanager
async def both_tenants(server, database):
    async with server.connected(database, user="superuser") as connection:
        world = PostgresWorld(connection)
        await world.start()
        for table, row in [*shared_rows(), *rows_of(ACME), *rows_of(GLOBEX)]:
            await world._insert(table, row)
        yield world


@pytest.fixture
async def doors(postgres_server, postgres_database, tmp_path):
    clock = FakeClock(NOW_US)  # a debug session that has ended by the wall clock would be ended beneath the tests
    options = {"data": str(tmp_path), "workers": False, "environ": {}, "runtime": Runtime(clock=clock)}
    async with both_tenants(postgres_server, postgres_database) as world, Netra(postgres_server.url(postgres_database), **options) as netra:
        yield Doors(netra, world)


@pytest.mark.parametrize("door", ["write", "transaction"])
async def test_a_read_written_by_hand_finds_nothing_of_another_tenant(doors, door):
    found = {}
    for table in TABLES:
        for statement in by_hand(READS, table):
            try:
                rows = await getattr(doors, door)(try_all, statement)
            except NetraError as error:
                assert error.__cause__.sqlstate == POLICY_SAYS_NO, f"{table}: {error}"
            else:
                found |= {(table, statement.name): rows} if rows else {}
    assert found == {}


@pytest.mark.parametrize("door", ["write", "transaction"])
async def test_a_change_written_by_hand_is_refused_or_changes_nothing_of_another_tenant(doors, door):
    before, done = await doors.globex(), {}
    for table in TABLES:
        for statement in by_hand(WRITES, table):
            try:
                count = await getattr(doors, door)(try_count, statement)
            except NetraError:
                count = 0
            if count or await doors.globex() != before:
                done[table, statement.name] = count
    assert done == {}
    assert len(before) > 40


async def test_the_same_statements_find_and_change_what_is_acmes_own(doors):
    """Or the tests above would show no more than a door that is shut."""
    (own,) = by_hand({"own": "select tenant from {table} where tenant = 'acme'"}, "netra_message")
    assert set(await doors.write(try_all, own)) == {(ACME,)}
    (removed,) = by_hand({"remove": "delete from {table} where tenant = 'acme'"}, "netra_idempotency")
    assert await doors.transaction(try_count, removed) == 3


async def test_a_statement_that_says_it_is_the_fleets_is_not_believed_in_a_tenants_scope(doors):
    (read,) = by_hand({"all": "select tenant from {table}"}, "netra_message")
    assert set(await doors.write(try_all, replace(read, fleet="because it says so"))) == {(ACME,)}


async def test_a_role_that_stands_in_the_session_already_is_left_first(doors, postgres_server, postgres_database):
    """A pooler hands on what another client has set, and an administrator may have set it for the login role."""
    (read,) = by_hand({"all": "select tenant from {table}"}, "netra_message")
    async with postgres_server.connected(postgres_database) as connection:
        await connection.execute("set role netra_fleet; set netra.tenant = 'globex'")
        tx = PostgresTx(connection, Scope(ACME), doors.netra.runtime, doors.netra.database._begin)
        assert set(await tx.all(read)) == {(ACME,)}
        await tx.rollback()


async def test_nothing_is_announced_in_another_tenants_name(doors):
    """An item of the log that names globex would clear globex's caches and stand in its audit trail."""

    async def announce(tx):
        tx.emit("events", {}, GLOBEX)

    for door in (doors.write, doors.transaction):
        with pytest.raises(ForeignTenant):
            await door(announce)
