"""A transaction held open across awaits: whatever its owner does or suffers, it is whole or absent, and the writer is free again."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

from netra_backend.errors import NestedTransaction, OutcomeUnknown, TransactionTimeout, Unavailable
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.storage.errors import ConstraintViolated, DatabaseIoError, DiskFull
from netra_backend.storage.jobs import AFTER_COMMIT, BEFORE_COMMIT
from netra_backend.testing.clock import FakeClock

from ..support.faulty import AFTER, INSTEAD, LOST, Fault, Plan, failing_writer
from ..support.storage import (
    ACME,
    SYSTEM,
    Gate,
    Q,
    eventually,
    everybody,
    let_run,
    new_database,
    opened,
    outcome_of,
    put,
    query,
    rows_of,
    write_when_it_can,
)


def outside(coroutine):
    """A task that is not inside the transaction of the code that makes it."""
    return contextvars.Context().run(asyncio.ensure_future, coroutine)


async def names(database):
    return await database.read(everybody, scope=SYSTEM)


async def test_what_is_done_inside_is_there_after_the_block_and_not_before(database):
    followed = []
    async with database.transaction(ACME) as tx:
        assert tx.own and tx.tenant == "acme"
        await put(tx, "held")
        tx.after_commit(lambda: followed.append(1 / 0))
        tx.after_commit(lambda: followed.append("done"))
        assert await rows_of(tx, "held") == [(1, ""), (2, "")]
        assert await tx.execute(Q.insert_fact, who="held", part=3, body="") == 1
        assert await names(database) == {}
    assert await names(database) == {"held": 3}
    assert followed == ["done"]
    assert len(await database.read(query, Q.outbox_items, scope=SYSTEM)) == 1


async def test_an_error_inside_undoes_everything(database):
    with pytest.raises(LookupError):
        async with database.transaction(ACME) as tx:
            await put(tx, "held")
            raise LookupError
    assert await database.write(put, "next", scope=ACME) == "next"
    assert await names(database) == {"next": 2}


async def test_a_transaction_that_is_held_too_long_is_undone_and_others_go_on(engine, tmp_path):
    async with opened(engine, tmp_path, transaction_timeout_s=0.05) as database:
        with pytest.raises(TransactionTimeout):
            async with database.transaction(ACME) as tx:
                await put(tx, "held")
                assert await outside(database.write(put, "other", scope=ACME)) == "other"
                await put(tx, "too late", (1,))
        assert await names(database) == {"other": 2}
        with pytest.raises(TransactionTimeout):
            async with database.transaction(ACME) as tx:
                await put(tx, "held")
                await outside(database.write(put, "another", scope=ACME))
        assert await names(database) == {"other": 2, "another": 2}


@pytest.mark.parametrize("wish", ["a statement", "the commit"])
async def test_what_is_asked_after_its_time_is_refused_even_if_it_was_asked_before_anybody_looked(engine, tmp_path, wish):
    """A process that was stopped finds both on waking: its time is over, and its owner's next command waits."""
    clock = FakeClock()
    async with opened(engine, tmp_path, Runtime(clock=clock), transaction_timeout_s=3600.0) as database:
        with pytest.raises(TransactionTimeout):
            async with database.transaction(ACME) as tx:
                await put(tx, "held")
                await clock.advance(3601.0)
                if wish == "a statement":
                    await put(tx, "too late", (1,))
        assert await database.write(put, "next", scope=ACME) == "next"
        assert await names(database) == {"next": 2}


async def test_a_second_write_inside_is_refused_at_once(database):
    async def nested():
        async with database.transaction(ACME):
            raise AssertionError("two at once")

    async with database.transaction(ACME) as tx:
        for attempt in (database.write(put, "nested", scope=ACME), database.write_item(put, "nested"), nested()):
            with pytest.raises(NestedTransaction):
                await attempt
        with pytest.raises(NestedTransaction):
            await asyncio.create_task(database.write(put, "nested", scope=ACME))
        await put(tx, "held")
    assert await database.write(put, "next", scope=ACME) == "next"
    assert await names(database) == {"held": 2, "next": 2}


async def test_a_task_started_inside_may_write_once_the_transaction_is_over(database):
    over = asyncio.Event()

    async def background():
        await over.wait()
        return await database.write(put, "later", scope=ACME)

    async with database.transaction(ACME) as tx:
        await put(tx, "held")
        task = asyncio.create_task(background())
    over.set()
    assert await task == "later"


async def test_an_owner_cancelled_inside_leaves_nothing_and_frees_the_writer(database):
    inside = asyncio.Event()

    async def owner():
        async with database.transaction(ACME) as tx:
            await put(tx, "held")
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(owner())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.write(put, "next", scope=ACME) == "next"
    assert await names(database) == {"next": 2}


@pytest.mark.parametrize("turns", range(8))
async def test_an_owner_cancelled_while_it_waits_for_the_lock_does_not_hold_it(engine, tmp_path, turns):
    """Cancelled before the writer comes to it, in between, and after it was told: the writer is free in each case."""
    async with opened(engine, tmp_path, transaction_timeout_s=3600.0) as database:
        gate = Gate()

        async def owner():
            async with database.transaction(ACME) as tx:
                await put(tx, "held")
                await asyncio.Event().wait()

        async with gate.closed(database):
            task = asyncio.create_task(owner())
            await let_run()
        await let_run(turns)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.wait_for(database.write(put, "next", scope=ACME), 20) == "next"
        assert await names(database) == {"next": 2}


async def test_an_owner_cancelled_after_the_lock_was_given_and_before_it_woke_does_not_hold_it(engine, tmp_path, monkeypatch):
    async with opened(engine, tmp_path, transaction_timeout_s=3600.0) as database:
        holds = []
        hold = database.writer.hold
        monkeypatch.setattr(database.writer, "hold", lambda held: (holds.append(held), hold(held)))

        async def owner():
            async with database.transaction(ACME):
                raise AssertionError("it was cancelled before")

        task = asyncio.create_task(owner())
        await let_run(1)
        holds[0].ready.add_done_callback(lambda _: task.cancel())
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.wait_for(database.write(put, "next", scope=ACME), 20) == "next"


async def test_an_owner_cancelled_during_the_commit_leaves_it_whole(engine, tmp_path):
    runtime, reached, go_on = Runtime(), threading.Event(), threading.Event()

    def pause():
        reached.set()
        assert go_on.wait(20)

    async with opened(engine, tmp_path, runtime) as database:
        followed = []

        async def owner():
            async with database.transaction(ACME) as tx:
                tx.after_commit(lambda: followed.append("done"))
                await put(tx, "held")
                runtime.failpoints.arm(BEFORE_COMMIT, pause)

        task = asyncio.create_task(owner())
        await eventually(reached.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go_on.set()
        await eventually(lambda: followed == ["done"])
        assert await names(database) == {"held": 2}


async def test_a_swallowed_error_makes_the_commit_fail(database):
    with pytest.raises(ConstraintViolated):
        async with database.transaction(ACME) as tx:
            await put(tx, "held")
            with pytest.raises(ConstraintViolated):
                await put(tx, "held")
            with pytest.raises(ConstraintViolated):
                await put(tx, "other")
    assert await database.write(put, "next", scope=ACME) == "next"
    assert await names(database) == {"next": 2}


FAULTS = [Fault(DiskFull, LOST), Fault(DiskFull, INSTEAD), Fault(DatabaseIoError, LOST), Fault(RuntimeError), Fault(MemoryError)]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
@pytest.mark.parametrize("swallow", [False, True])
async def test_an_error_at_any_statement_leaves_it_absent(engine, tmp_path, fault, swallow):
    """S1 for the small door; `begin immediate` and the outbox are among the statements."""
    for nth in range(4):
        plan, database = Plan(), new_database(engine, tmp_path, transaction_timeout_s=3600.0)
        with failing_writer(database, plan):
            await database.open()
            await database.write(_table, scope=SYSTEM)
            outcome = await outcome_of_any(_hold(database, plan, fault, nth, f"held {nth}", swallow=swallow))
            assert isinstance(outcome, Exception) and not isinstance(outcome, OutcomeUnknown), outcome
            assert plan.struck
            await asyncio.wait_for(write_when_it_can(database, put, f"next {nth}"), 20)
            assert await names(database) == {f"next {number}": 2 for number in range(nth + 1)}
        await database.close()


async def _table(tx):
    await tx.execute(Q.create_fact)


async def _hold(database, plan, fault, nth, who, *, swallow):
    plan.arm(fault, nth)
    async with database.transaction(ACME) as tx:
        for part in (1, 2):
            try:
                await tx.execute(Q.insert_fact, who=who, part=part, body="")
            except Exception:
                if not swallow:
                    raise
        tx.emit("events", who)


async def outcome_of_any(awaitable):
    try:
        return await awaitable
    except Exception as error:
        return error


@pytest.mark.parametrize("mode", [INSTEAD, AFTER])
async def test_an_error_of_the_commit_is_an_unknown_outcome(engine, tmp_path, mode):
    plan, database = Plan(), new_database(engine, tmp_path)
    with failing_writer(database, plan):
        await database.open()
        await database.write(_table, scope=SYSTEM)
        told = []
        database.on_unknown_outcome.append(lambda: told.append(True))
        plan.arm(Fault(DatabaseIoError, mode), only=lambda sql: sql == "commit")
        with pytest.raises(OutcomeUnknown):
            async with database.transaction(ACME) as tx:
                await put(tx, "held")
        await write_when_it_can(database, put, "next")
        assert told == [True]
        assert await names(database) == {"next": 2} | ({"held": 2} if mode == AFTER else {})
    await database.close()


async def test_an_error_of_the_rollback_costs_the_connection_and_no_more(engine, tmp_path):
    plan, database = Plan(), new_database(engine, tmp_path)
    with failing_writer(database, plan):
        await database.open()
        await database.write(_table, scope=SYSTEM)
        plan.arm(Fault(DatabaseIoError), only=lambda sql: sql == "rollback")
        with pytest.raises(LookupError):
            async with database.transaction(ACME) as tx:
                await put(tx, "held")
                raise LookupError
        await write_when_it_can(database, put, "next")
        assert plan.struck
        assert await names(database) == {"next": 2}
    await database.close()


@pytest.mark.parametrize("place", [BEFORE_COMMIT, AFTER_COMMIT])
async def test_an_error_at_a_failpoint_of_the_commit_is_an_unknown_outcome(engine, tmp_path, place):
    runtime = Runtime()
    async with opened(engine, tmp_path, runtime) as database:
        with pytest.raises(OutcomeUnknown):
            async with database.transaction(ACME) as tx:
                await put(tx, "held")
                runtime.failpoints.arm(place, "raise")
        await write_when_it_can(database, put, "next")
        assert await names(database) == {"next": 2} | ({"held": 2} if place == AFTER_COMMIT else {})


async def test_an_item_that_is_no_json_frees_the_writer_at_once(engine, tmp_path):
    async with opened(engine, tmp_path, transaction_timeout_s=3600.0) as database:
        with pytest.raises(TypeError):
            async with database.transaction(ACME) as tx:
                await put(tx, "held")
                tx.emit("events", b"bytes")
        assert await asyncio.wait_for(database.write(put, "next", scope=ACME), 20) == "next"
        assert await names(database) == {"next": 2}


async def test_the_lock_cannot_be_had_while_the_writer_is_in_trouble(database):
    database.writer.trouble = Unavailable("for a test")

    async def held():
        async with database.transaction(ACME):
            raise AssertionError("it was begun")

    assert (await outcome_of(held())).detail == "for a test"


async def test_transactions_and_writes_take_turns(database):
    async def raise_by_hand(tenant):
        async with database.transaction(Scope(tenant)) as tx:
            return await tx.one(Q.raise_tally, name="n")

    async def raise_it(tx):
        return await tx.one(Q.raise_tally, name="n")

    work = [raise_by_hand("acme") if n % 2 else database.write(raise_it, scope=ACME) for n in range(20)]
    values = await asyncio.gather(*(asyncio.create_task(each) for each in work))
    assert sorted(value for (value,) in values) == list(range(1, 21))
