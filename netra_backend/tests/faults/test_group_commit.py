"""S1: exactly the acknowledged functions are in the database, whatever fails at whatever statement.

A group of three functions is queued before the writer starts, so that it is one group each time, and one fault strikes
at each of its statements in turn: begin, savepoint, the functions' own, release, the outbox, commit.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import shutil
import time
from dataclasses import dataclass

import apsw
import orjson
import pytest

from netra_backend.errors import NetraError, OutcomeUnknown, Unavailable
from netra_backend.kernel.runtime import Runtime
from netra_backend.storage.errors import (
    ConstraintViolated,
    Corrupt,
    DatabaseBusy,
    DatabaseError,
    DatabaseIoError,
    DiskFull,
    Interrupted,
    OutOfMemory,
)
from netra_backend.storage.jobs import Job
from netra_backend.storage.sqlite_writer import SqliteWriter
from netra_backend.storage.statements import Statements
from netra_backend.storage.transaction import drive
from netra_backend.testing.clock import FakeClock

from ..support.faulty import AFTER, INSTEAD, LOST, FailingVfs, Fault, FaultyConnection, Plan
from ..support.storage import ACME, DEADLINE_S, Q, new_database, put

OUTBOX = Statements("netra_backend.storage").insert_outbox.sqlite
NAMES = ("one", "two", "three")
SPARSELY = (apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_NOMEM)
TRANSACTION_ENDERS = (DiskFull, DatabaseIoError, OutOfMemory, Interrupted)
FAULTS = [
    *(Fault(kind, mode) for kind in TRANSACTION_ENDERS for mode in (INSTEAD, LOST)),
    *(Fault(kind) for kind in (ConstraintViolated, DatabaseBusy, DatabaseError, Corrupt, RuntimeError, MemoryError)),
]


class Exit(BaseException):
    """What is no Exception: SystemExit, a cancellation."""


async def stubborn(tx, who):
    """Swallows every error of the database, as no store function should."""
    for part in (1, 2):
        with contextlib.suppress(NetraError, RuntimeError, MemoryError):
            await tx.execute(Q.insert_fact, who=who, part=part, body="")
    tx.emit("events", {"who": who})
    return who


async def raises(tx, who, error):
    await put(tx, who)
    raise error


@dataclass
class End:
    """What three callers were told, and what is in the file."""

    outcomes: dict[str, object]
    rows: dict[str, int]
    emitted: list[str]

    @property
    def acknowledged(self):
        return [name for name, outcome in self.outcomes.items() if outcome == name]

    @property
    def unknown(self):
        return [name for name, outcome in self.outcomes.items() if isinstance(outcome, OutcomeUnknown)]

    def check(self):
        """S1 of the three, and that a later write committed."""
        for name in NAMES:
            whole = self.rows.get(name, 0) == 2 and self.emitted.count(name) == 1
            absent = name not in self.rows and name not in self.emitted
            if name in self.acknowledged:
                assert whole, f"{name} was acknowledged: {self}"
            elif name in self.unknown:
                assert whole or absent, f"{name} is half there: {self}"
            else:
                assert absent, f"{name} failed and is there: {self}"
        assert self.rows["later"] == 2, f"the writer does not live: {self}"


@pytest.fixture
def fresh(templates, tmp_path):
    """A function that makes an engine, not open, over a new copy of the template. Syncing is not the subject here."""
    numbers = itertools.count()

    def make(driver, **options):
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        shutil.copy(templates[driver], folder / "netra.db")
        return new_database(driver, folder, **{"synchronous": "off"} | options)

    return make


def job(fn, *args):
    return Job(fn, args, ACME, None, concurrent.futures.Future())


def result_of(queued):
    error = queued.future.exception(DEADLINE_S)
    return error if error is not None else queued.future.result()


def run_group(database, connect, functions, start=lambda: None, heal=lambda: None):
    """Run the functions as one group on a writer of its own, then write once more, and look at the file.

    Time stands still for it: on a busy machine its 5 ms would make two groups of the three functions.
    """
    writer = SqliteWriter(connect, database.path, Runtime(clock=FakeClock()), blocked_after_s=0.2)
    jobs = {name: job(*function) for name, function in zip(NAMES, functions, strict=True)}
    for queued in jobs.values():
        writer.submit(queued)
    writer._connection = writer._connect()
    start()
    writer._thread.start()
    outcomes = {name: result_of(queued) for name, queued in jobs.items()}
    heal()
    write_later(writer)
    writer.stop()
    connection = database._connect()
    try:
        rows = dict(connection.run("select who, count(*) from fact group by who"))
        items = [orjson.loads(text) for (text,) in connection.run("select items from netra_outbox order by id")]
        assert connection.run("pragma integrity_check") == [("ok",)]
    finally:
        connection.close()
    return End(outcomes, rows, [item["who"] for group in items for _, item in group])


def write_later(writer):
    ends = time.monotonic() + DEADLINE_S
    while True:
        try:
            writer.refuse()
            queued = job(put, "later")
            writer.submit(queued)
            outcome = result_of(queued)
            if outcome == "later":
                return
            assert isinstance(outcome, Unavailable), outcome
        except Unavailable:
            time.sleep(0.001)
        assert time.monotonic() < ends, "the writer never came back"


def strike(fresh, driver, middle, fault, nth):
    """One group with one fault; also what the group asked of the database."""
    database, plan = fresh(driver), Plan()
    functions = [(put, "one"), (middle, "two"), (put, "three")]
    end = run_group(
        database,
        lambda: FaultyConnection(database._connect(), plan),
        functions,
        start=lambda: plan.arm(fault, nth),
    )
    return end, plan


def statements_of_a_group(fresh, driver, middle):
    end, plan = strike(fresh, driver, middle, Fault(DiskFull), 10**6)
    assert end.acknowledged == list(NAMES)
    return plan.asked[: plan.asked.index("commit") + 1]


def test_a_group_of_three_is_what_is_thought(fresh, engine):
    insert = Q.insert_fact.sqlite
    one = ["savepoint netra", insert, "select changes()", insert, "select changes()", "release netra"]
    asked = statements_of_a_group(fresh, engine, put)
    assert asked == ["begin immediate", *[sql for sql in one * 3 if not sql.startswith("select")], OUTBOX, "commit"]


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_exactly_the_acknowledged_functions_are_there_after_an_error_at_any_statement(fresh, engine, fault):
    s1_holds_at_any_statement(fresh, engine, put, fault)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.mode == LOST or not issubclass(fault.error, NetraError)], ids=str)
def test_a_function_that_swallows_the_error_is_not_acknowledged_either(fresh, engine, fault):
    s1_holds_at_any_statement(fresh, engine, stubborn, fault)


def s1_holds_at_any_statement(fresh, engine, middle, fault):
    asked = statements_of_a_group(fresh, engine, middle)
    for nth, sql in enumerate(asked):
        end, plan = strike(fresh, engine, middle, fault, nth)
        assert plan.struck
        end.check()
        if sql == "commit":
            assert end.unknown == list(NAMES)
        elif sql == "begin immediate":
            assert not end.unknown
        else:
            assert len(end.acknowledged) >= 2, f"{sql} of one function failed more than one: {end}"


@pytest.mark.parametrize("kind", [DiskFull, DatabaseIoError, DatabaseBusy, RuntimeError])
def test_a_commit_that_took_effect_and_answered_with_an_error_is_unknown_and_whole(fresh, engine, kind):
    asked = statements_of_a_group(fresh, engine, put)
    end, _ = strike(fresh, engine, put, Fault(kind, AFTER), asked.index("commit"))
    end.check()
    assert end.unknown == list(NAMES)
    assert {end.rows[name] for name in NAMES} == {2}


@pytest.mark.parametrize(
    "error", [LookupError("no"), Exit("no"), SystemExit(3), StopIteration(), GeneratorExit()], ids=lambda e: type(e).__name__
)
def test_whatever_a_function_raises_is_its_callers_alone(fresh, engine, error):
    database = fresh(engine)
    end = run_group(database, database._connect, [(put, "one"), (raises, "two", error), (put, "three")])
    end.check()
    assert end.acknowledged == ["one", "three"]
    assert isinstance(end.outcomes["two"], type(error) if not isinstance(error, StopIteration) else RuntimeError)


def test_a_function_that_awaits_something_else_is_refused_alone(fresh, engine):
    class Elsewhere:
        def __await__(self):
            yield self

    async def suspends(tx, who):
        await put(tx, who)
        await Elsewhere()

    database = fresh(engine)
    end = run_group(database, database._connect, [(put, "one"), (suspends, "two"), (put, "three")])
    end.check()
    assert end.acknowledged == ["one", "three"]
    assert end.outcomes["two"].code == "suspended_store_function"


def test_a_statement_that_escapes_its_function_is_refused(fresh, engine):
    kept, refusals = [], []

    async def leaks(tx, who):
        kept.append(tx)
        return await put(tx, who)

    database = fresh(engine)
    end = run_group(
        database,
        database._connect,
        [(put, "one"), (leaks, "two"), (put, "three")],
        heal=lambda: refusals.append(_error_of(put(kept[0], "escaped"))),
    )
    end.check()
    assert [error.code for error in refusals] == ["usage"]
    assert end.acknowledged == list(NAMES)
    assert "escaped" not in end.rows


def _error_of(coroutine):
    try:
        return drive(coroutine)
    except NetraError as error:
        return error


def test_an_interrupt_that_ends_the_whole_transaction_fails_one_function(fresh, engine):
    """The engine's own: SQLite rolls back everything when it interrupts an insert in a transaction."""
    open_after = []

    async def interrupted(tx, who):
        tx.connection.limit_time(lambda: True)
        try:
            await tx.execute(Q.insert_many, who=who, steps=200_000)
        finally:
            tx.connection.limit_time(None)
            open_after.append(tx.connection.in_transaction())

    database = fresh(engine)
    end = run_group(database, database._connect, [(put, "one"), (interrupted, "two"), (put, "three")])
    end.check()
    assert open_after == [False, False], "this SQLite did not roll back: the case is not the one meant"
    assert end.acknowledged == ["one", "three"]
    assert isinstance(end.outcomes["two"], Interrupted)


def test_a_unique_violation_fails_one_function(fresh, engine):
    database = fresh(engine)
    end = run_group(database, database._connect, [(put, "one"), (put, "two", (1, 1)), (put, "three")])
    end.check()
    assert isinstance(end.outcomes["two"], ConstraintViolated)
    assert end.acknowledged == ["one", "three"]


# Through SQLite itself: the disk fails below it


@pytest.fixture
def vfs():
    made = FailingVfs("netra-failing")
    yield made
    made.unregister()


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        ("xWrite", apsw.SQLITE_FULL),
        ("xWrite", apsw.SQLITE_IOERR_WRITE),
        ("xWrite", apsw.SQLITE_NOMEM),
        ("xSync", apsw.SQLITE_IOERR_FSYNC),
        ("xSync", apsw.SQLITE_FULL),
    ],
)
def test_exactly_the_acknowledged_functions_are_there_after_the_disk_failed(fresh, vfs, operation, code):
    """A cache of a few pages makes the functions' own statements write to the disk, not only the commit."""
    body = "x" * 12_000
    functions = [(put, name, (1, 2), body) for name in NAMES]

    def group(nth):
        database = fresh("apsw", vfs=vfs.name, synchronous="full")

        def connect():
            connection = database._connect()
            connection.run("pragma cache_size = 5")
            return connection

        return run_group(database, connect, functions, start=lambda: vfs.arm(operation, nth, code), heal=vfs.heal)

    assert group(10**6).acknowledged == list(NAMES)
    operations = vfs.counts[operation]
    assert operations >= (20 if operation == "xWrite" else 1)
    ends = [group(nth) for nth in range(0, operations, 3 if code in SPARSELY else 1)]
    for end in ends:
        end.check()
    assert any(end.unknown for end in ends)
    assert operation == "xSync" or any(not end.unknown for end in ends), "no statement before the commit met the disk"
