"""The writer beside its callers: cancelled ones, lists, lanes, other processes that hold the lock, forks, the end."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import signal
import subprocess
import sys
import threading
import warnings

import pytest

from netra_backend.errors import ForkedRuntime, Unavailable
from netra_backend.kernel.runtime import Runtime
from netra_backend.storage.errors import ConstraintViolated, DatabaseIoError, WriterBlocked
from netra_backend.storage.jobs import AFTER_COMMIT, BEFORE_COMMIT, Job
from netra_backend.storage.transaction import drive
from netra_backend.testing.clock import FakeClock

from ..support.faulty import AFTER, Fault, Plan, failing_writer
from ..support.storage import (
    ACME,
    DEADLINE_S,
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
    put_all,
    write_when_it_can,
)

BLOCKER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin immediate")
print("held", flush=True)
sys.stdin.readline()
connection.execute("rollback")
print("free", flush=True)
sys.stdin.readline()
"""


# A cancelled caller


async def test_a_caller_cancelled_while_it_waits_leaves_its_write_whole(database):
    gate = Gate()
    async with gate.closed(database):
        waiting = asyncio.create_task(database.write(put, "cancelled", scope=ACME))
        await let_run()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await database.write(put, "next", scope=ACME)
    assert await database.read(everybody, scope=SYSTEM) == {"cancelled": 2, "next": 2}


async def test_a_caller_cancelled_between_two_statements_leaves_its_write_whole(database):
    between, go_on = threading.Event(), threading.Event()

    async def slow(tx):
        await tx.execute(Q.insert_fact, who="cancelled", part=1, body="")
        between.set()
        assert go_on.wait(DEADLINE_S)
        await tx.execute(Q.insert_fact, who="cancelled", part=2, body="")

    writing = asyncio.create_task(database.write(slow, scope=ACME))
    await eventually(between.is_set)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    go_on.set()
    await database.write(put, "next", scope=ACME)
    assert await database.read(everybody, scope=SYSTEM) == {"cancelled": 2, "next": 2}


async def test_a_caller_cancelled_after_the_commit_still_has_what_follows_it_done(engine, tmp_path):
    runtime, committed, go_on, followed = Runtime(), threading.Event(), threading.Event(), []

    async def with_follower(tx):
        tx.after_commit(lambda: followed.append("done"))
        await put(tx, "cancelled")

    def pause():
        committed.set()
        assert go_on.wait(DEADLINE_S)

    async with opened(engine, tmp_path, runtime) as database:
        runtime.failpoints.arm(AFTER_COMMIT, pause)
        writing = asyncio.create_task(database.write(with_follower, scope=ACME))
        await eventually(committed.is_set)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        assert followed == []
        go_on.set()
        await eventually(lambda: followed == ["done"])
        assert await database.read(everybody, scope=SYSTEM) == {"cancelled": 2}


# Nothing is acknowledged before its commit


async def test_nothing_is_acknowledged_before_its_commit(engine, tmp_path):
    runtime, reached, go_on = Runtime(), threading.Event(), threading.Event()

    def pause():
        reached.set()
        assert go_on.wait(DEADLINE_S)

    async with opened(engine, tmp_path, runtime) as database:
        runtime.failpoints.arm(BEFORE_COMMIT, pause)
        writing = [asyncio.create_task(database.write(put, name, scope=ACME)) for name in ("one", "two")]
        await eventually(reached.is_set)
        await let_run()
        seen_early = [task.done() for task in writing], await database.read(everybody, scope=SYSTEM)
        go_on.set()
        assert await asyncio.gather(*writing) == ["one", "two"]
        assert seen_early == ([False, False], {})


@pytest.mark.parametrize("place", [BEFORE_COMMIT, AFTER_COMMIT])
async def test_an_error_at_a_failpoint_of_the_commit_is_an_unknown_outcome_and_the_writer_lives(engine, tmp_path, place):
    runtime = Runtime()
    async with opened(engine, tmp_path, runtime) as database:
        told = []
        database.on_unknown_outcome.append(lambda: told.append(True))
        database.on_unknown_outcome.insert(0, _raise)
        runtime.failpoints.arm(place, "raise")
        outcome = await outcome_of(database.write(put, "unknown", scope=ACME))
        assert outcome.code == "outcome_unknown"
        assert told == [True]
        await write_when_it_can(database, put, "next")
        rows = await database.read(everybody, scope=SYSTEM)
        assert rows == {"next": 2} | ({"unknown": 2} if place == AFTER_COMMIT else {})


def _raise():
    raise LookupError("a listener's own")


async def test_after_an_unknown_outcome_every_write_is_refused_until_a_probe_has_committed(engine, tmp_path):
    plan, database = Plan(), new_database(engine, tmp_path)
    with failing_writer(database, plan):
        async with _open(database):
            plan.arm(Fault(DatabaseIoError, AFTER), only=lambda sql: sql == "commit")
            assert (await outcome_of(database.write(put, "unknown", scope=ACME))).code == "outcome_unknown"
            plan.arm(Fault(DatabaseIoError), only=lambda sql: "netra_probe" in sql)
            for refused in (database.write(put, "refused", scope=ACME), _intake(database)):
                outcome = await outcome_of(refused)
                assert outcome is None or isinstance(outcome, Unavailable) or outcome == "refused"
            await eventually(lambda: plan.struck or not database.writer.trouble)
            await write_when_it_can(database, put, "next")
            database.check_intake()
            assert (await database.read(everybody, scope=SYSTEM))["next"] == 2


async def _intake(database):
    database.check_intake()


class _open:  # noqa: N801
    """Open and close around a block, without the tests' tables being made by a writer that fails."""

    def __init__(self, database):
        self.database = database

    async def __aenter__(self):
        await self.database.open()
        await self.database.write(_table, scope=SYSTEM)

    async def __aexit__(self, *error):
        await self.database.close()


async def _table(tx):
    await tx.execute(Q.create_fact)


async def test_a_refusal_keeps_no_callers_frames_alive(database):
    database.writer.trouble = trouble = Unavailable("for a test")
    lengths = []
    for _ in range(3):
        with pytest.raises(Unavailable) as caught:
            database.check_intake()
        lengths.append(len(caught.traceback))
    assert len(set(lengths)) == 1
    database.writer.trouble = None
    assert trouble.code == "unavailable"


# Lists


async def test_items_that_wait_together_are_one_call_of_their_verb(database):
    calls = []

    async def verb(tx, names):
        calls.append(list(names))
        return await put_all(tx, names)

    gate, names = Gate(), [f"n{number}" for number in range(20)]
    async with gate.closed(database):
        writing = [asyncio.create_task(database.write_item(verb, name)) for name in names]
        await let_run()
    assert await asyncio.gather(*writing) == names
    assert calls == [names]
    assert await database.read(everybody, scope=SYSTEM) == dict.fromkeys(names, 2)


async def test_one_bad_item_of_a_list_fails_alone(database):
    gate = Gate()
    await database.write(put, "taken", scope=ACME)
    async with gate.closed(database):
        writing = [asyncio.create_task(database.write_item(put_all, name)) for name in ("a", "taken", "b")]
        await let_run()
    outcomes = await asyncio.gather(*writing, return_exceptions=True)
    assert outcomes[0] == "a" and outcomes[2] == "b"
    assert isinstance(outcomes[1], ConstraintViolated)
    assert await database.read(everybody, scope=SYSTEM) == {"a": 2, "b": 2, "taken": 2}


async def test_a_verb_may_refuse_single_items_and_its_followers_run_all_the_same(database):
    followed = []

    async def picky(tx, names):
        tx.after_commit(lambda: followed.append(tuple(names)))
        await put_all(tx, [name for name in names if name != "bad"])
        return [LookupError(name) if name == "bad" else name for name in names]

    gate = Gate()
    async with gate.closed(database):
        writing = [asyncio.create_task(database.write_item(picky, name)) for name in ("bad", "good")]
        await let_run()
    outcomes = await asyncio.gather(*writing, return_exceptions=True)
    assert isinstance(outcomes[0], LookupError) and outcomes[1] == "good"
    assert followed == [("bad", "good")]
    assert await database.read(everybody, scope=SYSTEM) == {"good": 2}


async def test_a_verb_that_answers_for_too_few_items_fails_each_of_them_alone(database):
    async def forgetful(tx, names):
        await put_all(tx, names)
        return names[1:]

    gate = Gate()
    async with gate.closed(database):
        writing = [asyncio.create_task(database.write_item(forgetful, name)) for name in ("a", "b")]
        await let_run()
    outcomes = await asyncio.gather(*writing, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [RuntimeError, RuntimeError]
    assert await database.read(everybody, scope=SYSTEM) == {}


# Lanes


async def test_an_urgent_write_overtakes_whatever_waits(engine, prepared):
    order, gate = [], Gate()

    async def note(tx, what):
        order.append(what)

    still = Runtime(clock=FakeClock())  # or on a busy machine the group may be over before its last caller's turn
    async with opened(engine, prepared, still) as database, gate.closed(database):
        writing = [asyncio.create_task(database.write(note, f"normal {n}", scope=SYSTEM)) for n in range(3)]
        writing.append(asyncio.create_task(database.write(note, "bulk", scope=SYSTEM, lane="bulk")))
        writing.append(asyncio.create_task(database.write(note, "urgent", scope=SYSTEM, lane="urgent")))
        await let_run()
        gate.open()
        await asyncio.gather(*writing)
    assert order == ["urgent", "normal 0", "normal 1", "normal 2", "bulk"]


async def test_bulk_work_never_runs_twice_in_a_row_while_callers_wait(database):
    order, gate, followers = [], Gate(), []

    async def note(tx, what):
        order.append(what)

    async def bulk(tx, number):
        order.append(f"bulk {number}")
        follower = Job(note, (f"caller {number}",), SYSTEM, None, concurrent.futures.Future())
        followers.append(follower)
        database.writer.submit(follower)

    async with gate.closed(database):
        writing = [asyncio.create_task(database.write(bulk, n, scope=SYSTEM, lane="bulk")) for n in range(3)]
        await let_run()
    await asyncio.gather(*writing)
    for follower in followers:
        follower.future.result(DEADLINE_S)
    assert order == ["bulk 0", "caller 0", "bulk 1", "caller 1", "bulk 2", "caller 2"]


async def test_bulk_work_has_a_commit_of_its_own(database):
    gate, before = Gate(), database.writer.commits
    async with gate.closed(database):
        writing = [asyncio.create_task(database.write(put, f"b{n}", scope=SYSTEM, lane="bulk")) for n in range(3)]
        await let_run()
    await asyncio.gather(*writing)
    assert database.writer.commits - before == 4


# Another process in the way


async def test_a_stopped_process_that_holds_the_lock_is_named_and_recovery_needs_no_restart(engine, tmp_path):
    async with opened(engine, tmp_path, blocked_after_s=0.1) as database:
        command = [sys.executable, "-c", BLOCKER, str(database.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as blocker:
            try:
                assert blocker.stdout.readline() == b"held\n"
                blocker.send_signal(signal.SIGSTOP)
                outcome = await outcome_of(database.write(put, "blocked", scope=ACME))
                assert isinstance(outcome, WriterBlocked)
                assert outcome.facts["pid"] == blocker.pid
                with pytest.raises(WriterBlocked):
                    database.check_intake()
                assert await database.read(everybody, scope=SYSTEM) == {}
                blocker.send_signal(signal.SIGCONT)
                blocker.stdin.write(b"\n")
                blocker.stdin.flush()
                assert blocker.stdout.readline() == b"free\n"
                await write_when_it_can(database, put, "next")
            finally:
                blocker.kill()
        assert await database.read(everybody, scope=SYSTEM) == {"next": 2}


async def test_a_process_that_holds_the_lock_for_a_moment_is_waited_for(engine, tmp_path):
    async with opened(engine, tmp_path, blocked_after_s=DEADLINE_S) as database:
        command = [sys.executable, "-c", BLOCKER, str(database.path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as blocker:
            assert blocker.stdout.readline() == b"held\n"
            writing = asyncio.create_task(database.write(put, "patient", scope=ACME))
            await let_run()
            assert not writing.done()
            blocker.communicate(b"\n\n")
            assert await writing == "patient"


async def test_a_forked_child_is_refused(database):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12 and later warn of what is tried here
        child = os.fork()
    if child == 0:
        codes = [_code_of(database.write(put, "child", scope=ACME)), _code_of(database.read(everybody, scope=SYSTEM))]
        os._exit(7 if codes == [ForkedRuntime.code] * 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert await database.write(put, "parent", scope=ACME) == "parent"


def _code_of(coroutine):
    try:
        drive(coroutine)
    except BaseException as error:
        return getattr(error, "code", type(error).__name__)
    return "none"


# The end


async def test_closing_finishes_what_waits_and_refuses_what_comes_later(engine, tmp_path):
    gate, interval = Gate(), sys.getswitchinterval()
    async with opened(engine, tmp_path) as database:
        holding = asyncio.create_task(database.write(gate.hold, scope=SYSTEM))
        await eventually(gate.entered.is_set)
        waiting = asyncio.create_task(database.write(put, "waiting", scope=ACME))
        await let_run()
        closing = asyncio.create_task(database.close())
        await eventually(lambda: database.writer._stopping)
        late = await outcome_of(database.write(put, "late", scope=ACME))
        gate.open()
        await asyncio.gather(holding, closing)
        assert await waiting == "waiting"
        assert isinstance(late, Unavailable)
        assert sys.getswitchinterval() == interval, "the writer left the interpreter in its hurry"
        straggler = Job(put, ("straggler",), ACME, None, concurrent.futures.Future())
        database.writer.submit(straggler)
        assert isinstance(straggler.future.exception(DEADLINE_S), Unavailable)
        await database.open()
        assert await database.read(everybody, scope=SYSTEM) == {"waiting": 2}
