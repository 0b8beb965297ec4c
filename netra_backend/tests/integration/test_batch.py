"""Batches through a whole Netra, on both engines: start, follow, decide, rerun, and what the log and others hear of it."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing

import pytest

from netra_backend import batch
from netra_backend.batch import registry, store
from netra_backend.errors import InvalidInput, MissingTenant, NotFound
from netra_backend.kernel.states import IllegalTransition
from netra_backend.storage import log
from netra_backend.storage.errors import DatabaseUnreachable, DiskFull

from ..support.batches import ENDED
from ..support.platform import platform
from ..support.storage import SYSTEM, Q, eventually, rows_of, with_its_server
from ..support.webhooks import in_tenant

ACME = in_tenant("acme")


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(prepared):
    async with platform(prepared) as netra:
        await netra.tenant("acme")
        yield netra


async def write(tx, rows):
    await tx.execute(Q.insert_facts, rows=list(rows))


def process(n):
    if n == 5:
        raise ValueError("five")
    return ("who" if n % 10 else None, n, str(n))


TENS = batch.job("tens", read=batch.sequence(lambda params: range(params["n"])), process=process, write=write, chunk=7)


async def start(netra, job, params=None, key=None, **options):
    async def go(tx):
        return await netra.batch.start(tx, job, params, key, **options)

    return await netra.write(go, tenant="acme")


async def ended(netra, run):
    async def is_over():
        return (await netra.batch.status(run))["state"] in ENDED

    await eventually(is_over)
    return await netra.batch.status(run)


async def written(netra):
    return [part for part, _ in await netra.database.read(rows_of, "who", scope=ACME)]


async def test_a_run_ends_with_its_good_items_written_and_its_bad_ones_told(netra):
    run = await start(netra, TENS, {"n": 40}, partitions=3)
    status = await ended(netra, run)
    expected = {"state": "completed_with_failures", "total": 40, "done": 35, "failed": 5, "skipped": 0, "restarts": 0, "job": "tens"}
    assert expected.items() <= status.items()
    assert status["seconds"] > 0
    assert await written(netra) == [n for n in range(40) if n % 10 and n != 5]
    failures = await netra.batch.failures(run)
    assert sorted(failure["payload"] for failure in failures) == [0, 5, 10, 20, 30]
    by_item = {failure["payload"]: failure for failure in failures}
    assert (by_item[5]["error"], by_item[5]["cause"], by_item[5]["attempts"]) == ("ValueError: five", "error", 1)
    assert by_item[5]["key"] == f"{run}:{by_item[5]['partition']}:{by_item[5]['offset']}"


async def test_the_same_start_is_one_run_whenever_it_is_made(netra):
    one = await start(netra, TENS, {"n": 3})
    await ended(netra, one)
    assert await start(netra, TENS, {"n": 3}) == one
    assert await start(netra, "tens", {"n": 4}) != one
    assert await start(netra, TENS, {"n": 3}, "another") != one
    assert await start(netra, TENS, {"n": 99}, "another") == await start(netra, TENS, {}, "another")
    many = await asyncio.gather(*(start(netra, TENS, {"n": 2}, "at once") for _ in range(8)))
    assert len(set(many)) == 1


async def test_a_run_exists_if_and_only_if_its_transaction_commits(netra):
    with pytest.raises(ZeroDivisionError):
        async with netra.transaction(tenant="acme") as tx:
            gone = await netra.batch.start(tx, TENS, {"n": 1}, "rolled back")
            raise ZeroDivisionError
    with pytest.raises(NotFound):
        await netra.batch.status(gone)
    async with netra.transaction(tenant="acme") as tx:
        there = await netra.batch.start(tx, TENS, {"n": 1}, "committed")
    assert (await ended(netra, there))["total"] == 1


async def test_a_run_is_another_tenants_nobody(netra):
    run = await start(netra, TENS, {"n": 1})
    await netra.tenant("globex")
    for ask in (netra.batch.status, netra.batch.failures, netra.batch.pause, netra.batch.cancel, netra.batch.rerun):
        with pytest.raises(NotFound):
            await ask(run, tenant="globex")
    assert (await netra.batch.status(str(run)))["run"] == run
    with pytest.raises(NotFound):
        await netra.batch.status("run_00000000000000000000000001")
    with pytest.raises(MissingTenant):
        await netra.batch.runs()
    assert [each["run"] for each in await netra.batch.runs(tenant="acme")] == [run]
    assert await netra.batch.runs(tenant="globex") == []


async def test_a_rerun_takes_the_dead_letters_alone_and_keeps_their_keys(netra):
    async def write_fixed(tx, rows):
        await write(tx, [(who or "fixed", part, body) for who, part, body in rows])

    run = await start(netra, TENS, {"n": 40}, partitions=2)
    await ended(netra, run)
    fixed = registry.Job("tens", TENS.read, write_fixed, process, chunk=7)
    registry.JOBS["tens"] = fixed
    try:
        child = await netra.batch.rerun(run)
        status = await ended(netra, child)
    finally:
        registry.JOBS["tens"] = TENS
    assert (status["state"], status["done"], status["failed"], status["parent"]) == ("completed_with_failures", 4, 1, run)
    assert [part for part, _ in await netra.database.read(rows_of, "fixed", scope=ACME)] == [0, 10, 20, 30]
    (left,) = await netra.batch.failures(child)
    assert (left["payload"], left["key"]) == (5, next(each["key"] for each in await netra.batch.failures(run) if each["payload"] == 5))
    assert await netra.batch.rerun(run) == child
    with pytest.raises(IllegalTransition):
        await netra.batch.resume(run)


async def test_what_json_cannot_say_is_read_again_from_its_source(netra):
    asked = []

    def tuples(params, cursor):
        return ((n + 1, (n, "x")) for n in range(cursor or 0, 10))

    def refuse(item):
        asked.append(item)
        if item[0] % 4 == 1:
            raise ValueError(item)

    job = batch.job("tuples", read=batch.iterate(tuples), process=refuse, write=write, chunk=3)
    run = await start(netra, job)
    assert (await ended(netra, run))["failed"] == 3
    asked.clear()
    await ended(netra, await netra.batch.rerun(run))
    assert asked == [(1, "x"), (5, "x"), (9, "x")]


async def test_a_query_reads_its_keys_up_to_the_bound_of_its_start(netra):
    async def fill(tx):
        await tx.execute(Q.insert_facts, rows=[("source", n, str(n)) for n in range(1, 1502)])

    await netra.write(fill, tenant="acme")
    page = "select part, body from fact where who = 'source' and part > :after and part <= :until order by part limit :limit"
    reader = batch.query(page, "select min(part), max(part) from fact where who = 'source'")
    seen = []

    async def copy(tx, rows):
        seen.extend(key for key, _ in rows)
        await tx.execute(Q.insert_facts, rows=[("source", key + 10_000, body) for key, body in rows])

    job = batch.job("copy", read=reader, write=copy, chunk=400)
    status = await ended(netra, await start(netra, job, partitions=3))
    assert (status["state"], status["done"]) == ("completed", 1501)
    assert sorted(seen) == list(range(1, 1502))


async def test_transient_errors_are_tried_again_and_others_are_not(netra):
    tries = {}

    def flaky(n):
        tries[n] = tries.get(n, 0) + 1
        if n == 1 and tries[n] < 3:
            raise ConnectionError("not yet")
        if n == 2:
            raise TimeoutError("never")
        if n == 3:
            raise KeyError("wrong")
        return "who", n, ""

    job = batch.job("flaky", read=batch.sequence(range(5)), process=flaky, write=write, retry=3)
    run = await start(netra, job)
    status = await ended(netra, run)
    assert (status["done"], status["failed"]) == (3, 2)
    assert tries == {0: 1, 1: 3, 2: 3, 3: 1, 4: 1}
    assert [(failure["payload"], failure["attempts"]) for failure in await netra.batch.failures(run)] == [(2, 3), (3, 1)]


def leave(n):
    """What a library does that takes itself for a program."""
    if n == 2:
        sys.exit("no such file")
    if n == 4:
        raise asyncio.CancelledError
    return ("who", n, "x")


async def leave_async(n):
    return leave(n)


async def write_or_leave(tx, rows):
    await tx.execute(Q.insert_facts, rows=[leave(n) for n in rows])


WAYS_TO_LEAVE = {
    "process": {"process": leave},
    "coroutine": {"process": leave_async},
    "chunk": {"process_chunk": lambda items: [leave(n) for n in items]},
    "threads": {"process": leave, "executor": batch.threads(2)},
    "writer": {"write": write_or_leave},
}


@pytest.mark.parametrize("way", WAYS_TO_LEAVE)
async def test_an_item_over_which_a_function_leaves_the_program_is_a_dead_letter(netra, way):
    job = batch.job("leaving-" + way, read=batch.sequence(range(6)), **{"write": write, **WAYS_TO_LEAVE[way]})
    run = await start(netra, job)
    status = await ended(netra, run)
    assert (status["state"], status["done"], status["failed"]) == ("completed_with_failures", 4, 2)
    errors = [failure["error"] for failure in await netra.batch.failures(run)]
    assert "SystemExit: no such file" in errors[0] and "CancelledError" in errors[1]
    assert await written(netra) == [0, 1, 3, 5]


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_reader_that_leaves_the_program_fails_its_run(netra, asynchronous):
    def plainly(params, cursor):
        yield 1, ("who", 1, "x")
        sys.exit("no such file")

    async def slowly(params, cursor):
        for pair in plainly(params, cursor):
            yield pair

    run = await start(netra, batch.job("leaving-reader", read=batch.iterate(slowly if asynchronous else plainly), write=write))
    status = await ended(netra, run)
    assert status["state"] == "failed" and "SystemExit: no such file" in status["reason"]


@pytest.mark.parametrize("kind", ["async item", "chunk", "async chunk"])
async def test_every_kind_of_process_gives_the_same(netra, kind):
    async def item(n):
        return process(n)

    def chunk(items):
        return [process(n) for n in items]

    async def async_chunk(items):
        return chunk(items)

    how = {"async item": {"process": item}, "chunk": {"process_chunk": chunk}, "async chunk": {"process_chunk": async_chunk}}[kind]
    job = batch.job(f"kind {kind}", read=batch.sequence(range(12)), write=write, chunk=12, **how)
    status = await ended(netra, await start(netra, job))
    assert (status["done"], status["failed"]) == (9, 3)
    assert await written(netra) == [n for n in range(12) if n % 10 and n != 5]


@pytest.mark.parametrize(("limit", "state"), [(1, "failed"), (0.05, "failed"), (13, "completed_with_failures")])
async def test_a_skip_limit_fails_the_run_with_its_reason(netra, limit, state):
    job = registry.Job(f"limited {limit}", TENS.read, write, process, chunk=20, skip_limit=limit)
    registry.JOBS[job.name] = job
    status = await ended(netra, await start(netra, job, {"n": 120}, partitions=2))
    assert status["state"] == state
    assert (status["reason"] is not None) == (state == "failed")
    assert status["done"] + status["failed"] < 120 or state != "failed"


async def test_a_reader_that_fails_fails_the_run_and_a_resume_goes_on_behind_its_cursor(netra):
    broken = [True]

    def reads(params, cursor):
        for n in range(cursor or 0, 30):
            if n == 20 and broken:
                raise OSError("the tape is torn")
            yield n + 1, ("who", n, "")

    job = batch.job("torn", read=batch.iterate(reads), write=write, chunk=8)
    run = await start(netra, job)
    status = await ended(netra, run)
    assert (status["state"], status["reason"], status["done"]) == ("failed", "OSError: the tape is torn", 16)
    broken.clear()
    assert await netra.batch.resume(run) == "queued"
    assert (await ended(netra, run))["state"] == "completed"
    assert await written(netra) == list(range(30))


async def test_a_database_that_is_away_for_a_while_fails_no_run(netra):
    """Neither while an input is read from it, nor while a partition is given back."""
    away = ["reading", "releasing"]

    def reads(params, cursor):
        for n in range(cursor or 0, 12):
            if n == 8 and "reading" in away:
                away.remove("reading")
                raise DatabaseUnreachable
            yield n + 1, ("who", n, "")

    release, write_of = store.release, netra.database.write

    async def refuses(fn, *args, **options):
        if fn is release and "releasing" in away:
            away.remove("releasing")
            raise DatabaseUnreachable
        return await write_of(fn, *args, **options)

    netra.database.write = refuses
    job = batch.job("away", read=batch.iterate(reads), write=write, chunk=4)
    status = await ended(netra, await start(netra, job))
    assert (status["state"], status["done"], away) == ("completed", 12, [])
    assert await written(netra) == list(range(12))


async def test_a_cancelled_run_keeps_what_it_has_and_does_no_more(netra):
    gate, going = asyncio.Event(), asyncio.Event()

    async def wait(n):
        if n == 20:
            going.set()
            await gate.wait()
        return "who", n, ""

    job = batch.job("waits", read=batch.sequence(range(100)), process=wait, write=write, chunk=10)
    run = await start(netra, job)
    await going.wait()
    assert await netra.batch.cancel(run) == "cancelled"
    before = await written(netra)
    gate.set()
    await eventually(lambda: not netra.batch.worker._working)
    assert await written(netra) == before == list(range(20))
    with pytest.raises(IllegalTransition):
        await netra.batch.resume(run)


async def test_a_stop_ends_between_two_chunks_and_the_next_process_goes_on(prepared):
    going = asyncio.Event()

    async def note(n):
        if n == 30:
            going.set()
        return "who", n, ""

    job = batch.job("stops", read=batch.sequence(range(400)), process=note, write=write, chunk=10)
    async with platform(prepared) as first:
        run = await start(first, job)
        await going.wait()
    async with platform(prepared, workers=False) as looking:
        status = await looking.batch.status(run, tenant="acme")
        assert status["working"] == 0
        assert len(await written(looking)) == status["done"]
    async with platform(prepared) as second:
        assert (await ended(second, run))["done"] == 400
        assert await written(second) == list(range(400))


async def test_the_log_hears_of_start_chunks_failures_and_the_end(netra):
    run = await start(netra, TENS, {"n": 12})
    await ended(netra, run)

    async def events():
        entries = await netra.database.read(log.read_after, "events", 0, 1000, scope=SYSTEM)
        return [item for entry in entries for tenant, item in entry.items if tenant == "acme" and item.get("run") == run]

    async def has_ended():
        return any(item["type"] == "run.finished" for item in await events())

    await eventually(has_ended)
    found = await events()
    kinds = [item["type"] for item in found]
    assert (kinds[0], kinds[-1]) == ("run.started", "run.finished")
    assert kinds.count("item.failed") == 3
    chunks = [item for item in found if item["type"] == "chunk.committed"]
    assert (sum(item["done"] for item in chunks), sum(item["failed"] for item in chunks)) == (9, 3)
    assert found[-1]["state"] == "completed_with_failures"


async def test_a_run_started_in_a_users_own_transaction_stands_or_falls_with_it(prepared, engine):
    if engine == "postgres":
        await _started_by_a_shop(prepared)
        return
    path = prepared / "netra.db"
    async with platform(prepared, sqlite_driver="sqlite3") as netra:
        await netra.tenant("acme")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            for end in ("rollback", "commit"):
                connection.execute("begin immediate")
                run = await netra.batch.start(netra.adopt(connection, tenant="acme"), TENS, {"n": 2}, "adopted")
                connection.execute(end)
        assert (await ended(netra, run))["total"] == 2
        assert len(await netra.batch.runs(tenant="acme")) == 1


async def _started_by_a_shop(prepared):
    import asyncpg

    from ..support import storage
    from ..support.postgres import ADOPTER

    name = storage.database_url(prepared).rpartition("/")[2]
    async with platform(prepared) as netra:
        await netra.tenant("acme")
        connection = await asyncpg.connect(storage._servers[0].url(name, user=ADOPTER), timeout=10)
        try:
            for end in ("rollback", "commit"):
                await connection.execute("begin")
                run = await netra.batch.start(netra.adopt(connection, tenant="acme"), TENS, {"n": 2}, "adopted")
                await connection.execute(end)
        finally:
            await connection.close()
        assert (await ended(netra, run))["total"] == 2
        assert len(await netra.batch.runs(tenant="acme")) == 1


async def test_a_full_disk_makes_no_dead_letters_and_the_run_goes_on_when_there_is_room(netra):
    full = [True, True]

    async def write_when_there_is_room(tx, rows):
        await write(tx, rows)
        if full:
            full.pop()
            raise DiskFull

    job = batch.job("full", read=batch.sequence(range(20)), process=lambda n: ("who", n, ""), write=write_when_there_is_room, chunk=10)
    status = await ended(netra, await start(netra, job))
    assert (status["state"], status["done"], status["failed"]) == ("completed", 20, 0)
    assert await written(netra) == list(range(20))


async def test_what_is_no_run_is_refused(netra):
    for params, key, partitions in (({"x": object()}, None, 1), ({}, "", 1), ({}, "\n", 1), ({}, None, 0), ({}, None, 10**6)):
        with pytest.raises(InvalidInput):
            await start(netra, TENS, params, key, partitions=partitions)


async def test_a_run_whose_job_nobody_knows_waits(netra):
    registry.JOBS.pop("not there yet", None)
    run = await start(netra, "not there yet", {})
    other = await start(netra, TENS, {"n": 1})
    await ended(netra, other)
    assert (await netra.batch.status(run))["state"] == "queued"
    batch.job("not there yet", read=batch.sequence([]), write=write)
    assert (await ended(netra, run))["state"] == "completed"
