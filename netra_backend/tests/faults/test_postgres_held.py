"""A transaction held open on PostgreSQL: whatever its owner does or suffers, it is whole or absent, and its connection comes back clean."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from netra_backend.errors import NestedTransaction, TransactionTimeout
from netra_backend.kernel.runtime import Runtime
from netra_backend.storage.errors import ConstraintViolated, DatabaseUnreachable
from netra_backend.testing.clock import FakeClock

from ..support.cancelling import cancelled_at
from ..support.storage import ACME, SYSTEM, Q, eventually, everybody, opened, outcome_of, put, rows_of, with_its_server, write_when_it_can


@pytest.fixture(params=["postgres"])
def engine(request):
    return with_its_server(request)


async def names(database):
    return await database.read(everybody, scope=SYSTEM)


def outside(coroutine):
    """A task that is not inside the transaction of the code that makes it."""
    return contextvars.Context().run(asyncio.ensure_future, coroutine)


async def hold(database, who, followed=None):
    async with database.transaction(ACME) as tx:
        if followed is not None:
            tx.after_commit(lambda: followed.append(who))
        await put(tx, who)
        return await put(tx, who, parts=(3,))


async def test_what_is_done_inside_is_there_after_the_block_and_not_before(database):
    followed = []
    async with database.transaction(ACME) as tx:
        await put(tx, "held")
        tx.after_commit(lambda: followed.append(1 / 0))
        tx.after_commit(lambda: followed.append("done"))
        assert await rows_of(tx, "held") == [(1, ""), (2, "")]
        assert (await names(database), followed) == ({}, [])
    assert (await names(database), followed) == ({"held": 2}, ["done"])


@pytest.mark.parametrize("held", ["idle", "in a statement"])
async def test_one_that_is_held_too_long_is_undone_and_others_were_never_held_up(engine, prepared, postgres_server, held):
    async with opened(engine, prepared, transaction_timeout_s=0.1) as database:
        async with postgres_server.connected(database.url.rpartition("/")[2]) as other:
            await other.execute("begin; insert into fact (who, part) values ('locked', 1)")
            with pytest.raises(TransactionTimeout):
                async with database.transaction(ACME) as tx:
                    await put(tx, "held")
                    assert await outside(database.write(put, "other", scope=ACME)) == "other"
                    if held == "idle":
                        await eventually(lambda: not tx.is_open)
                    else:
                        await outcome_of(put(tx, "locked"))
                    await put(tx, "too late")
        assert await names(database) == {"other": 2}


@pytest.mark.parametrize("wish", ["a statement", "the commit"])
async def test_what_is_asked_after_its_time_is_refused_even_before_its_timer_has_looked(engine, prepared, wish):
    clock = FakeClock()
    async with opened(engine, prepared, Runtime(clock=clock), transaction_timeout_s=3600.0) as database:
        with pytest.raises(TransactionTimeout):
            async with database.transaction(ACME) as tx:
                await put(tx, "held")
                await clock.advance(3601.0)
                if wish == "a statement":
                    await put(tx, "too late", (1,))
        assert await database.write(put, "next", scope=ACME) == "next"
        assert await names(database) == {"next": 2}


async def test_a_second_write_inside_is_refused_at_once(database):
    async with database.transaction(ACME) as tx:
        for attempt in (database.write(put, "nested", scope=ACME), database.write_item(put, "nested"), hold(database, "nested")):
            with pytest.raises(NestedTransaction):
                await attempt
        with pytest.raises(NestedTransaction):
            await asyncio.create_task(database.write(put, "nested", scope=ACME))
        await put(tx, "held")
    assert await database.write(put, "next", scope=ACME) == "next"
    assert await names(database) == {"held": 2, "next": 2}


async def test_an_owner_cancelled_at_any_await_leaves_it_whole_or_absent_and_its_connection_clean(engine, prepared):
    """Two connections, one of which a transaction may hold: what a cancelled owner left in one would be met by the next."""
    async with opened(engine, prepared, connections=2, transaction_timeout_s=3600.0) as database:
        followed, expected, number = [], {}, 0
        while not await cancelled_at(number, hold(database, f"held-{number}", followed)):
            await asyncio.wait_for(database.write(put, f"next-{number}", scope=ACME), 20)
            await asyncio.wait_for(hold(database, f"after-{number}"), 20)
            expected |= {f"next-{number}": 2, f"after-{number}": 3}
            number += 1
            assert number < 100
        assert number >= 4
        await eventually(lambda: not database._tasks)
        assert await names(database) == expected | dict.fromkeys(followed, 3)
        assert followed[-1] == f"held-{number}"


async def test_an_owner_that_is_cancelled_while_its_commit_is_on_its_way_leaves_it_whole(database, postgres_server):
    """The commit waits for a lock: its outbox row, which is written last."""
    name, followed = database.url.rpartition("/")[2], []
    async with postgres_server.connected(name, user="superuser") as other:
        await other.execute("begin; lock table netra_outbox in exclusive mode")
        task = asyncio.create_task(hold(database, "held", followed))
        await eventually(lambda: postgres_server.query("", LOCKED, name) == [(1,)])
        for _ in range(2):  # and once more, while it is being cancelled
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await database.read(everybody, scope=SYSTEM) == {}
        await other.execute("commit")
    await eventually(lambda: followed == ["held"])
    assert await names(database) == {"held": 3}


LOCKED = "select count(*)::int from pg_stat_activity where datname = $1 and wait_event_type = 'Lock'"


async def test_an_error_of_the_commit_itself_leaves_nothing(database, postgres_server):
    postgres_server.query(database.url.rpartition("/")[2], REFUSE_AT_COMMIT)
    with pytest.raises(ConstraintViolated):
        await hold(database, "refused")
    assert await outcome_of(database.write(put, "refused", scope=ACME)) != "refused"
    assert await hold(database, "held") == "held"
    assert await names(database) == {"held": 3}


REFUSE_AT_COMMIT = """do $$ begin
  create function refuse() returns trigger language plpgsql as
    'begin if new.who = ''refused'' then raise exception ''no'' using errcode = ''check_violation''; end if; return null; end';
  create constraint trigger refuse after insert on fact deferrable initially deferred for each row execute function refuse();
end $$"""


async def test_a_swallowed_error_makes_the_commit_fail(database):
    with pytest.raises(ConstraintViolated):
        async with database.transaction(ACME) as tx:
            await put(tx, "held")
            with pytest.raises(ConstraintViolated):
                await put(tx, "held")
    assert await database.write(put, "next", scope=ACME) == "next"
    assert await names(database) == {"next": 2}


@pytest.mark.parametrize("then", ["a statement", "the commit"])
async def test_a_restart_of_the_server_inside_undoes_it_and_the_next_one_is_served(database, postgres_server, then):
    with pytest.raises(DatabaseUnreachable):
        async with database.transaction(ACME) as tx:
            await put(tx, "held")
            postgres_server.restart()
            if then == "a statement":
                await put(tx, "held", parts=(3,))
    await write_when_it_can(database, put, "next")
    assert await hold(database, "again") == "again"
    assert await names(database) == {"next": 2, "again": 3}


async def test_statements_asked_by_several_tasks_of_the_owner_take_turns(database):
    async with database.transaction(ACME) as tx:
        await asyncio.gather(*(tx.execute(Q.insert_fact, who="held", part=part, body="") for part in range(8)))
    assert await names(database) == {"held": 8}
