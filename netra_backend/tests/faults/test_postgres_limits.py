"""What PostgreSQL's engine refuses and bounds: reads, statements, store functions, forks, standbys; and how it ends."""

from __future__ import annotations

import asyncio
import os
import warnings

import pytest

from netra_backend.errors import ForkedRuntime, Unavailable
from netra_backend.kernel.scope import Scope
from netra_backend.storage import postgres
from netra_backend.storage.errors import DatabaseError, DatabaseUnreachable, ReadTimeout, StatementTimeout
from netra_backend.storage.transaction import SuspendedStoreFunction, drive

from ..support.storage import (
    ACME,
    DEADLINE_S,
    SYSTEM,
    Q,
    eventually,
    everybody,
    let_run,
    opened,
    outcome_of,
    put,
    query,
    with_its_server,
    write_when_it_can,
)

LOCKED = "select count(*)::int from pg_stat_activity where datname = $1 and wait_event_type = 'Lock'"


@pytest.fixture(params=["postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
def name(prepared):
    return (prepared / "postgres.url").read_text().rpartition("/")[2]


# Reads


@pytest.fixture
async def short(engine, prepared, monkeypatch):
    """An engine whose reads end after a moment."""
    monkeypatch.setattr(postgres, "READ_LIMIT_S", 0.2)
    async with opened(engine, prepared) as database:
        yield database


async def test_a_read_that_takes_longer_than_it_may_is_ended(short):
    with pytest.raises(ReadTimeout):
        await short.read(endless, scope=SYSTEM)
    assert await short.read(query, Q.count_facts, scope=SYSTEM) == [(0,)]


async def endless(tx):
    await tx.all(Q.outlast, steps=2**30)


async def test_a_read_of_many_short_statements_is_ended_too(short):
    done = []

    async def patient(tx):
        while True:
            await tx.all(Q.count_facts)
            done.append(1)

    with pytest.raises(ReadTimeout):
        await short.read(patient, scope=SYSTEM)
    assert len(done) > 1
    assert await short.read(query, Q.count_facts, scope=SYSTEM) == [(0,)]


async def test_a_read_cannot_write(database):
    with pytest.raises(DatabaseError):
        await database.read(put, "sneaky", scope=ACME)
    assert await database.read(everybody, scope=SYSTEM) == {}


async def test_a_tenant_that_reads_without_end_keeps_nobody_else_from_reading(database, postgres_server, name):
    started = []

    async def slow(tx):
        started.append(tx.tenant)
        return await tx.all(Q.count_facts)

    async with postgres_server.connected(name, user="superuser") as other:
        await other.execute("begin; lock table fact in access exclusive mode")
        flood = [asyncio.create_task(database.read(slow, scope=ACME)) for _ in range(30)]
        await eventually(lambda: postgres_server.query("", LOCKED, name) == [(1,)])
        for scope in (Scope("globex"), SYSTEM):
            async with asyncio.timeout(DEADLINE_S):
                assert await database.read(query, Q.actions_of, scope=scope) == []
        assert started == [ACME.tenant]
        await other.execute("rollback")
    assert await asyncio.gather(*flood) == [[(0,)]] * 30


async def test_cancelled_reads_leave_their_connections_usable(database, postgres_server, name):
    async with postgres_server.connected(name, user="superuser") as other:
        await other.execute("begin; lock table fact in access exclusive mode")
        reading = [asyncio.create_task(database.read(query, Q.count_facts, scope=SYSTEM)) for _ in range(4)]
        await eventually(lambda: postgres_server.query("", LOCKED, name) == [(4,)])
        for _ in range(2):  # the second one meets the first one's rollback
            for task in reading:
                task.cancel()
            await let_run(1)
        await asyncio.gather(*reading, return_exceptions=True)
        await other.execute("rollback")
    counts = await asyncio.gather(*(database.read(query, Q.count_facts, scope=SYSTEM) for _ in range(6)))
    assert counts == [[(0,)]] * 6
    assert await asyncio.gather(*(database.write(put, f"w{n}", scope=ACME) for n in range(6))) == [f"w{n}" for n in range(6)]


async def test_a_reader_is_spared_the_end_of_its_connection(database, postgres_server, name):
    await asyncio.gather(*(database.read(query, Q.count_facts, scope=SYSTEM) for _ in range(8)))
    postgres_server.terminate_backends(name)
    counts = await asyncio.gather(*(database.read(query, Q.count_facts, scope=SYSTEM) for _ in range(8)))
    assert counts == [[(0,)]] * 8


# Statements and functions


async def test_a_statement_that_takes_longer_than_it_may_is_ended_and_others_go_on(engine, prepared, postgres_server, name):
    async with opened(engine, prepared, statement_limit_s=0.1) as database, postgres_server.connected(name) as other:
        await other.execute("begin; insert into fact (who, part) values ('locked', 1)")
        locked = asyncio.create_task(database.write(put, "locked", scope=ACME))
        assert await database.write(put, "other", scope=ACME) == "other"
        assert isinstance(await outcome_of(locked), StatementTimeout)
        assert await database.read(everybody, scope=SYSTEM) == {"other": 2}


async def test_a_function_that_awaits_something_else_than_its_transaction_is_refused_and_leaves_nothing(database):
    async def sleepy(tx, *_):
        await put(tx, "asleep")
        await asyncio.sleep(0)
        return ["x"]

    for attempt in (database.write(sleepy, scope=ACME), database.write_item(sleepy, "x"), database.read(sleepless, scope=ACME)):
        assert isinstance(await outcome_of(attempt), SuspendedStoreFunction)
    assert await database.write(put, "next", scope=ACME) == "next"
    assert await database.read(everybody, scope=SYSTEM) == {"next": 2}


async def sleepless(tx):
    await tx.all(Q.count_facts)
    await asyncio.sleep(0)


async def test_a_forked_child_is_refused(database):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later warn of what is tried here
        child = os.fork()
    if child == 0:
        attempts = (database.write(put, "child", scope=ACME), database.write_item(put, "child"), database.read(everybody, scope=SYSTEM))
        os._exit(7 if [_code_of(attempt) for attempt in attempts] == [ForkedRuntime.code] * 3 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert await database.write(put, "parent", scope=ACME) == "parent"


def _code_of(coroutine):
    try:
        drive(coroutine)
    except BaseException as error:
        return getattr(error, "code", type(error).__name__)
    return "none"


# The server


async def test_a_server_that_became_a_standby_refuses_writes_and_is_left_as_soon_as_there_is_another(database, postgres_server, name):
    await database.write(put, "before", scope=ACME)
    postgres_server.query("", f"alter database {name} set default_transaction_read_only = on")
    postgres_server.terminate_backends(name)
    outcome = await outcome_of(database.write(put, "early", scope=ACME))
    assert isinstance(outcome, DatabaseUnreachable) and "read-only" in outcome.detail
    assert await database.read(everybody, scope=SYSTEM) == {"before": 2}
    postgres_server.query("", f"alter database {name} reset default_transaction_read_only")
    assert await write_when_it_can(database, put, "next") == "next"


async def test_no_more_connections_are_opened_than_were_asked_for(engine, prepared, postgres_server, name):
    async with opened(engine, prepared, connections=3) as database:
        await asyncio.gather(*(database.write(put, f"w{n}", scope=ACME) for n in range(50)))
        await asyncio.gather(*(database.write_item(_all, f"i{n}") for n in range(50)))
        assert postgres_server.backends(name) <= 3 + 2
    await eventually(lambda: postgres_server.backends(name) == 0)


async def _all(tx, items):
    return list(items)


# The end


async def test_closing_finishes_what_was_begun_and_refuses_what_comes_later(engine, prepared, postgres_server, name):
    async with opened(engine, prepared) as database:
        inside, let_go = asyncio.Event(), asyncio.Event()

        async def hold():
            async with database.transaction(ACME) as tx:
                await put(tx, "held")
                inside.set()
                await let_go.wait()

        async with postgres_server.connected(name, user="superuser") as other:
            holding = asyncio.create_task(hold())
            await inside.wait()
            await other.execute("begin; lock table netra_outbox in exclusive mode")
            waiting = [database.write(put, "written", scope=ACME), database.write_item(put_each, "coalesced")]
            waiting = [asyncio.create_task(each) for each in waiting]
            await eventually(lambda: postgres_server.query("", LOCKED, name) == [(2,)])
            closing = asyncio.create_task(database.close())
            await let_run()
            for late in (database.write(put, "late", scope=ACME), database.write_item(put_each, "late")):
                assert isinstance(await outcome_of(late), Unavailable)
            await other.execute("commit")
            assert await asyncio.gather(*waiting) == ["written", "coalesced"]
            assert not closing.done(), "a held transaction was cut off"
            let_go.set()
            await asyncio.gather(holding, closing)
    rows = postgres_server.query(name, "select who, count(*)::int from fact group by who order by who")
    assert rows == [("coalesced", 1), ("held", 2), ("written", 2)]


async def put_each(tx, names):
    for who in names:
        await tx.execute(Q.insert_fact, who=who, part=1, body="")
    tx.emit("events", list(names))
    return list(names)
