"""Reads: one snapshot, no writes, an end."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.storage.errors import DatabaseError, ReadTimeout
from netra_backend.testing.clock import FakeClock
from netra_backend.webhooks.snapshots import Snapshots

from ..support.storage import ACME, DEADLINE_S, SYSTEM, Q, eventually, everybody, opened, put, query
from ..support.webhooks import SEALER, endpoint_of


async def test_a_read_that_takes_longer_than_five_seconds_is_ended(engine, tmp_path):
    clock, started = FakeClock(), threading.Event()

    async def endless(tx):
        started.set()
        await tx.all(Q.outlast, steps=2**60)

    async with opened(engine, tmp_path, Runtime(clock=clock)) as database:
        reading = asyncio.create_task(database.read(endless, scope=SYSTEM))
        await eventually(started.is_set)
        await clock.advance(4.9)
        assert not reading.done()
        await clock.advance(0.2)
        with pytest.raises(ReadTimeout):
            await reading
        assert await database.read(query, Q.count_facts, scope=SYSTEM) == [(0,)]


async def test_a_read_of_many_short_statements_is_ended_too(engine, tmp_path):
    clock = FakeClock()
    async with opened(engine, tmp_path, Runtime(clock=clock)) as database:
        done = []

        async def patient(tx):
            for _ in range(1000):
                await tx.all(Q.count_facts)
                done.append(1)
                clock._now_us += 1_000_000

        with pytest.raises(ReadTimeout):
            await database.read(patient, scope=SYSTEM)
        assert len(done) == 6


async def test_a_read_that_swallows_its_end_is_ended_all_the_same(engine, tmp_path):
    clock = FakeClock()
    async with opened(engine, tmp_path, Runtime(clock=clock)) as database:

        async def stubborn(tx):
            clock._now_us += 6_000_000
            for _ in range(2):
                try:
                    await tx.all(Q.outlast, steps=100_000)
                except DatabaseError:
                    continue
            return await tx.all(Q.count_facts)

        with pytest.raises(ReadTimeout):
            await database.read(stubborn, scope=SYSTEM)


async def test_a_read_sees_one_snapshot(database):
    first, go_on = threading.Event(), threading.Event()

    async def twice(tx):
        before = await tx.all(Q.count_facts)
        first.set()
        assert go_on.wait(DEADLINE_S)
        return before, await tx.all(Q.count_facts)

    reading = asyncio.create_task(database.read(twice, scope=SYSTEM))
    await eventually(first.is_set)
    await database.write(put, "meanwhile", scope=ACME)
    go_on.set()
    assert await reading == ([(0,)], [(0,)])
    assert await database.read(everybody, scope=SYSTEM) == {"meanwhile": 2}


async def test_a_read_cannot_write(database):
    with pytest.raises(DatabaseError):
        await database.read(put, "sneaky", scope=ACME)
    assert await database.read(everybody, scope=SYSTEM) == {}


async def test_a_cancelled_read_leaves_its_reader_usable(database):
    entered, go_on = threading.Event(), threading.Event()

    async def slow(tx):
        entered.set()
        assert go_on.wait(DEADLINE_S)
        return await tx.all(Q.count_facts)

    reading = [asyncio.create_task(database.read(slow, scope=SYSTEM)) for _ in range(4)]
    await eventually(entered.is_set)
    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)
    go_on.set()
    counts = await asyncio.gather(*(database.read(query, Q.count_facts, scope=SYSTEM) for _ in range(6)))
    assert counts == [[(0,)]] * 6


async def test_the_version_changes_with_any_commit_by_anybody(engine, tmp_path):
    async with opened(engine, tmp_path) as one, opened(engine, tmp_path) as two:
        seen = one.version()
        assert one.version() == seen
        await two.write(put, "theirs", scope=ACME)
        assert one.version() != seen
        seen = one.version()
        await one.write(put, "ours", scope=ACME)
        assert one.version() != seen


@asynccontextmanager
async def flooded(database):
    """ACME reads without end; yields whose reads of these have started."""
    release, started = threading.Event(), []

    async def endless(tx):
        started.append(tx.tenant)
        release.wait(DEADLINE_S)

    flood = [asyncio.create_task(database.read(endless, scope=ACME)) for _ in range(12)]
    try:
        await eventually(lambda: bool(started))
        yield started
    finally:
        release.set()
        await asyncio.gather(*flood)


async def test_a_tenant_that_reads_without_end_keeps_nobody_else_from_reading(engine, tmp_path):
    async with opened(engine, tmp_path) as database, flooded(database) as started:
        for scope in (Scope("globex"), SYSTEM):
            async with asyncio.timeout(DEADLINE_S):
                assert await database.read(query, Q.count_facts, scope=scope) == [(0,)]
        assert started == [ACME.tenant]


async def test_a_tenant_that_reads_without_end_keeps_no_sender_from_learning_its_endpoints(engine, tmp_path):
    """The sender looks at all tenants' deliveries in one round: who makes it wait for one's turn makes everybody wait."""
    async with opened(engine, tmp_path) as database:
        endpoint = await endpoint_of(database, ACME.tenant)
        async with flooded(database) as started, asyncio.timeout(DEADLINE_S):
            assert list((await Snapshots(database, SEALER).get(ACME.tenant)).endpoints) == [endpoint.id]
            assert started == [ACME.tenant]
