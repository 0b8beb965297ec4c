"""S1 on PostgreSQL: exactly the acknowledged callers' rows are there, whatever the server answers to whatever statement.

Three callers are one group: begin, the verb's two statements, the change of role, the outbox, commit. One of the server's own
errors meets each of these in turn; so it does for a single write and for a held transaction.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter

import orjson
import pytest

from netra_backend.errors import OutcomeUnknown
from netra_backend.storage.errors import ConstraintViolated, DatabaseError, StatementTimeout

from ..support.faulty_postgres import ENDS, REFUSALS, deadlock, failed_quietly, failing, unique_violation
from ..support.storage import ACME, DEADLINE_S, SYSTEM, Q, everybody, opened, outcome_of, put, query, with_its_server, write_when_it_can

RUN_AGAIN = (deadlock, unique_violation, *ENDS)
"""What a single write is run again for, because it may be nobody's own error; a group is run again, one by one, for everything."""

COMMITS = ("commit", "notify netra; commit")


@pytest.fixture(params=["postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
def quick_deadlocks(postgres_server, prepared):
    """A deadlock is looked for after 1 ms, not a second; only the owner of a session's settings may say so."""
    name = (prepared / "postgres.url").read_text().rpartition("/")[2]
    postgres_server.query("", f"alter database {name} set deadlock_timeout = '1ms'")
    return prepared


@pytest.fixture
async def open_database(engine, quick_deadlocks):
    async with opened(engine, quick_deadlocks) as database:
        yield database


async def store_all(tx, items):
    """A verb over a list: two statements, whatever the length, and an item on a stream for each."""
    for part in (1, 2):
        await tx.execute(Q.insert_facts, rows=[(who, part, body) for who, body in items])
    for who, _ in items:
        tx.emit("events", who)
    tx.wake_others()
    return [who for who, _ in items]


async def by_group(database, names):
    return await asyncio.gather(*(outcome_of(database.write_item(store_all, (name, ""))) for name in names))


async def by_write(database, names):
    return [await outcome_of(database.write(put, name, scope=ACME)) for name in names[:1]]


async def by_hand(database, names):
    async def hold():
        async with database.transaction(ACME) as tx:
            return await put(tx, names[0])

    return [await outcome_of(hold())]


DOORS = {"group": (by_group, 6), "write": (by_write, 5), "held": (by_hand, 5)}


async def check(database, names, outcomes):
    """S1 of these callers; who was acknowledged."""
    rows = await database.read(everybody, scope=SYSTEM)
    items = itertools.chain.from_iterable(orjson.loads(items) for (items,) in await database.read(query, Q.outbox_items, scope=SYSTEM))
    emitted = Counter(item if isinstance(item, str) else item["who"] for _, item in items)
    for name, outcome in zip(names, outcomes, strict=False):
        whole, absent = (rows.get(name), emitted[name]) == (2, 1), (rows.get(name), emitted[name]) == (None, 0)
        if outcome == name:
            assert whole, f"{name} was acknowledged: {rows}, {emitted}"
        elif isinstance(outcome, OutcomeUnknown):
            assert whole or absent, f"{name} is half there: {rows}, {emitted}"
        else:
            assert absent, f"{name} failed with {outcome!r} and is there: {rows}, {emitted}"
    return [name for name, outcome in zip(names, outcomes, strict=False) if outcome == name]


async def strike_everywhere(database, plan, strike, door):
    """Every statement that was struck, and who of its callers was acknowledged."""
    attempt, ended = DOORS[door][0], []
    for nth in itertools.count():
        names = [f"{nth}-{who}" for who in ("one", "two", "three")]
        plan.arm(strike, nth)
        outcomes = await asyncio.wait_for(attempt(database, names), DEADLINE_S)
        plan.disarm()
        asked = [sql for sql in plan.asked if sql != "rollback"]
        if not plan.struck:
            assert await check(database, names, outcomes) == names[: len(outcomes)]
            return ended
        assert await write_when_it_can(database, put, f"later-{nth}", scope=ACME) == f"later-{nth}"
        ended.append((asked[nth], await check(database, names, outcomes), outcomes))
        assert await database.read(everybody, scope=SYSTEM) | {f"later-{nth}": 2} == await database.read(everybody, scope=SYSTEM)
    raise AssertionError


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("strike", [*REFUSALS, *ENDS], ids=lambda strike: strike.__name__)
async def test_exactly_the_acknowledged_are_there_after_an_error_of_the_server_at_any_statement(
    open_database, postgres_server, strike, door
):
    async with failing(open_database, postgres_server) as plan:
        ended = await strike_everywhere(open_database, plan, strike, door)
    places = [sql for sql, _, _ in ended]
    assert len(places) == DOORS[door][1]
    assert places[0].startswith("begin") and "insert into netra_outbox" in places[-2] and places[-1] in COMMITS
    for sql, acknowledged, outcomes in ended:
        unknown = strike in ENDS and sql in COMMITS
        assert all(isinstance(outcome, OutcomeUnknown) == unknown for outcome in outcomes), outcomes
        if not unknown and (door == "group" or (door == "write" and strike in RUN_AGAIN)):
            assert len(acknowledged) == len(outcomes), f"an error that struck once is nobody's own: {outcomes}"


@pytest.mark.parametrize("door", ["write", "held"])
async def test_a_commit_that_the_server_answers_with_a_rollback_is_not_acknowledged(open_database, postgres_server, door):
    async with failing(open_database, postgres_server) as plan:
        plan.arm(failed_quietly, DOORS[door][1] - 1)
        (outcome,) = await DOORS[door][0](open_database, ["one"])
        assert plan.asked[-2:] == ["commit", "rollback"]
        assert isinstance(outcome, DatabaseError), outcome
    assert await open_database.read(everybody, scope=SYSTEM) == {}
    assert await open_database.write(put, "next", scope=ACME) == "next"


POISONS = {
    "nul byte": (("bad", "\0"), DatabaseError),
    "unique violation": (("taken", ""), ConstraintViolated),
    "statement timeout": (("locked", ""), StatementTimeout),
}


@pytest.mark.parametrize("poison", POISONS)
async def test_one_callers_own_error_is_its_alone(engine, prepared, postgres_server, poison):
    item, error = POISONS[poison]
    async with opened(engine, prepared, statement_limit_s=0.2) as database:
        await database.write(put, "taken", scope=ACME)
        async with postgres_server.connected(database.url.rpartition("/")[2]) as other:
            await other.execute("begin; insert into fact (who, part) values ('locked', 1)")
            items = [("one", ""), item, ("three", "")]
            outcomes = await asyncio.gather(*(outcome_of(database.write_item(store_all, each)) for each in items))
        assert (outcomes[0], outcomes[2]) == ("one", "three")
        assert isinstance(outcomes[1], error), outcomes
        assert await database.read(everybody, scope=SYSTEM) == {"one": 2, "taken": 2, "three": 2}
        assert await database.write(put, "next", scope=ACME) == "next"


async def test_a_lock_that_some_callers_wait_for_keeps_no_other_caller_waiting(engine, prepared, postgres_server):
    """The lock is a transaction's of its own, such as an adopted one, and lasts as long as that."""
    async with opened(engine, prepared, statement_limit_s=600.0) as database:
        async with postgres_server.connected(database.url.rpartition("/")[2]) as other:
            await other.execute("begin; insert into fact (who, part) values ('locked', 1)")
            blocked = [asyncio.create_task(outcome_of(database.write_item(store_all, ("locked", "")))) for _ in range(8)]
            for nth in range(4):
                async with asyncio.timeout(DEADLINE_S):
                    assert await database.write_item(store_all, (f"free-{nth}", "")) == f"free-{nth}"
            await other.execute("rollback")
        assert [outcome for outcome in await asyncio.gather(*blocked) if not isinstance(outcome, Exception)] == ["locked"]
        assert await database.read(everybody, scope=SYSTEM) == {"locked": 2, **{f"free-{nth}": 2 for nth in range(4)}}
