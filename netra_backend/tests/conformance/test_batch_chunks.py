"""One transaction per chunk, on every engine: what is written, what is buried, where the cursor stands."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from netra_backend.batch import chunks, store
from netra_backend.batch.errors import LeaseLost, RunStopped
from netra_backend.batch.model import Chunk, Failure, Part
from netra_backend.batch.registry import Job
from netra_backend.batch.sizing import MOST_SAVEPOINTS
from netra_backend.errors import NetraError
from netra_backend.kernel.failpoints import FailpointError
from netra_backend.kernel.states import IllegalTransition
from netra_backend.storage import tenants
from netra_backend.storage.errors import DiskFull

from ..support.storage import ACME, SYSTEM, Q, everybody, opened, rows_of
from ..support.webhooks import live_node, reap

LONG_S = 1e9


async def write(tx, rows):
    """Refused where `who` is null: by the database, as dirty data is."""
    await tx.execute(Q.insert_facts, rows=list(rows))


JOB = Job("job", read=None, write=write)


def chunk_of(items, start=0, *, last=True, failures=None):
    """Items that write themselves: None is left out, `bad` is refused."""
    values = [None if item is None else (None if item == "bad" else "who", start + i, str(item)) for i, item in enumerate(items)]
    after = [start + i + 1 for i in range(len(items))]
    return Chunk(start, start or None, list(items), after, values, failures or {}, last)


async def a_run(database, key="key", parts=1):
    """A running run and its partitions, claimed by a living node."""
    await database.write(tenants.ensure, "acme", scope=SYSTEM)
    run_id, _ = await database.write(store.start, "job", key, {}, parts, scope=ACME)
    await database.write(store.plan, run_id, [Part(None)] * parts, 1000, scope=ACME)
    node = await live_node(database)
    return run_id, await database.write(store.claim, run_id, node, parts, scope=ACME)


async def commit(database, lease, chunk, job=JOB, target_s=LONG_S):
    return await database.write(chunks.commit, lease, job, chunk, target_s, scope=ACME, lane="bulk")


async def written(database):
    return [part for part, _ in await database.read(rows_of, "who", scope=ACME)]


async def buried(database, run_id):
    return [letter.offset for letter in await database.read(store.failures, run_id, (-1, -1), 1000, scope=ACME)]


async def figures(database, run_id):
    totals = await database.read(store.totals, run_id, scope=ACME)
    return totals.done, totals.failed, totals.skipped


async def test_a_clean_chunk_is_written_and_ends_its_partition(database):
    run_id, (lease,) = await a_run(database)
    done = await commit(database, lease, chunk_of([1, 2, None, 4]))
    assert (done.end, done.failed, done.finished) == (4, 0, True)
    assert await written(database) == [0, 1, 3]
    assert await figures(database, run_id) == (4, 0, 1)
    assert await database.write(store.settle, run_id, JOB.too_many, scope=ACME) == "completed"
    assert (await database.read(store.run, run_id, scope=ACME)).state == "completed"


@pytest.mark.parametrize("place", [0, 1, 6, 7])
async def test_one_poison_item_costs_one_dead_letter(database, place):
    run_id, (lease,) = await a_run(database)
    items = ["bad" if i == place else i for i in range(8)]
    await commit(database, lease, chunk_of(items))
    assert await written(database) == [i for i in range(8) if i != place]
    (letter,) = await database.read(store.failures, run_id, (-1, -1), 10, scope=ACME)
    assert (letter.offset, letter.payload, letter.cause, letter.attempts) == (place, "bad", "error", 1)
    assert letter.error.startswith("ConstraintViolated")
    assert letter.place == (place or None)
    assert await database.write(store.settle, run_id, JOB.too_many, scope=ACME) == "completed_with_failures"


async def test_what_process_refused_and_what_the_table_refused_are_dead_letters_together(database):
    run_id, (lease,) = await a_run(database)
    failures = {1: Failure("ValueError: no", 3)}
    chunk = chunk_of([0, None, "bad", 3], failures=failures)
    await commit(database, lease, chunk)
    assert await written(database) == [0, 3]
    letters = await database.read(store.failures, run_id, (-1, -1), 10, scope=ACME)
    assert [(letter.offset, letter.attempts) for letter in letters] == [(1, 3), (2, 1)]
    assert await figures(database, run_id) == (2, 2, 0)


async def test_the_learned_failure_rate_cuts_the_next_chunk_first(database):
    _, (lease,) = await a_run(database)
    done = await commit(database, lease, chunk_of(["bad" if i % 20 == 3 else i for i in range(200)], last=False))
    assert done.failure_ppm > 1000
    tried = []

    async def counted(tx, rows):
        tried.append(len(rows))
        await write(tx, rows)

    lease = replace(lease, cursor=200, position=200, failure_ppm=100_000)
    await commit(database, lease, chunk_of([1] * 70, 200), replace(JOB, write=counted))
    assert tried == [7] * 10


async def test_a_chunk_with_too_many_parts_ends_early_and_its_rest_is_the_next_one(database):
    run_id, (lease,) = await a_run(database)
    items = ["bad" if i % 2 else i for i in range(300)]
    chunk = chunk_of(items)
    done = await commit(database, lease, chunk)
    assert MOST_SAVEPOINTS <= done.end < 300
    assert not done.finished
    assert len(await written(database)) <= MOST_SAVEPOINTS + 1
    while not done.finished:
        chunk = chunk.rest(done.end)
        lease = replace(lease, cursor=chunk.before, position=chunk.start, failure_ppm=done.failure_ppm)
        done = await commit(database, lease, chunk)
    assert await written(database) == [i for i in range(300) if i % 2 == 0]
    assert await buried(database, run_id) == [i for i in range(300) if i % 2]


async def test_a_chunk_that_takes_too_long_ends_behind_its_first_part(database):
    _, (lease,) = await a_run(database)
    done = await commit(database, replace(lease, failure_ppm=100_000), chunk_of(range(21)), target_s=-1.0)
    assert done.end == 7
    assert await written(database) == list(range(7))


async def test_a_lost_lease_commits_nothing(database):
    run_id, (lease,) = await a_run(database)
    await reap(database, lease.node)
    node = await live_node(database)
    (second,) = await database.write(store.claim, run_id, node, 5, scope=ACME)
    assert second.fence == lease.fence + 1
    for stale in (lease, replace(lease, node=node), replace(second, node=lease.node)):
        with pytest.raises(LeaseLost):
            await commit(database, stale, chunk_of([1, "bad"]))
    assert (await written(database), await buried(database, run_id)) == ([], [])
    await commit(database, second, chunk_of([1]))
    assert await written(database) == [0]


async def test_whoever_lost_a_partition_fails_no_run(database):
    run_id, (lease,) = await a_run(database)
    await reap(database, lease.node)
    assert not await database.write(store.fail, run_id, "mine", lease, scope=ACME)
    assert not await database.write(store.fail, run_id, "nobody's", None, scope=ACME)
    (second,) = await database.write(store.claim, run_id, await live_node(database), 5, scope=ACME)
    assert not await database.write(store.fail, run_id, "mine", lease, scope=ACME)
    assert await database.write(store.fail, run_id, "theirs", second, scope=ACME)
    assert (await database.read(store.run, run_id, scope=ACME)).reason == "theirs"


async def test_a_node_that_was_declared_dead_commits_nothing_although_nobody_has_its_partition_yet(database):
    _, (lease,) = await a_run(database)
    await reap(database, lease.node)
    with pytest.raises(LeaseLost):
        await commit(database, lease, chunk_of([1]))
    assert await written(database) == []


@pytest.mark.parametrize("event", ["pause", "cancel"])
async def test_a_stopped_run_commits_nothing(database, event):
    run_id, (lease,) = await a_run(database)
    await database.write(store.decide, run_id, event, scope=ACME)
    with pytest.raises(RunStopped):
        await commit(database, lease, chunk_of([1, "bad"]))
    assert (await written(database), await figures(database, run_id)) == ([], (0, 0, 0))


async def test_a_partition_of_a_paused_run_is_claimed_by_nobody_and_after_the_resume_by_one(database):
    run_id, (lease,) = await a_run(database)
    await database.write(store.release, lease, scope=ACME)
    await database.write(store.decide, run_id, "pause", scope=ACME)
    node = await live_node(database)
    assert await database.write(store.claim, run_id, node, 5, scope=ACME) == []
    assert await database.write(store.decide, run_id, "resume", scope=ACME) == "queued"
    assert await database.write(store.plan, run_id, [], 10, scope=ACME)
    assert len(await database.write(store.claim, run_id, node, 5, scope=ACME)) == 1


async def test_what_is_final_is_not_decided_about(database):
    run_id, (lease,) = await a_run(database)
    await commit(database, lease, chunk_of([]))
    await database.write(store.settle, run_id, JOB.too_many, scope=ACME)
    for event in ("pause", "resume", "cancel"):
        with pytest.raises(IllegalTransition):
            await database.write(store.decide, run_id, event, scope=ACME)


async def test_an_error_of_the_machine_is_no_items_failure(database):
    run_id, (lease,) = await a_run(database)

    async def full(tx, rows):
        await write(tx, rows)
        raise DiskFull

    with pytest.raises(DiskFull):
        await commit(database, lease, chunk_of([1, 2]), replace(JOB, write=full))
    assert (await written(database), await buried(database, run_id)) == ([], [])
    assert await figures(database, run_id) == (0, 0, 0)


async def test_a_writer_that_awaits_something_else_ends_the_chunk(database):
    _, (lease,) = await a_run(database)

    async def sleepy(tx, rows):
        await asyncio.sleep(0)

    with pytest.raises(NetraError) as caught:
        await commit(database, lease, chunk_of([1]), replace(JOB, write=sleepy))
    assert caught.value.code == "suspended_store_function"


async def test_what_a_failed_part_has_announced_is_undone_with_it(database):
    _, (lease,) = await a_run(database)
    seen = []

    async def telling(tx, rows):
        tx.emit("told", [row[1] for row in rows])
        tx.after_commit(lambda: seen.append(len(rows)))
        await write(tx, rows)

    await commit(database, lease, chunk_of([0, "bad", 2, 3]), replace(JOB, write=telling))
    told = [item for (items,) in await database.read(_outbox, scope=SYSTEM) for _, item in json.loads(items) if isinstance(item, list)]
    assert told == [[0], [2, 3]]
    assert seen == [1, 2]


async def _outbox(tx):
    return await tx.all(Q.outbox_items)


@pytest.mark.parametrize(
    "failpoint", ["batch.rows_written_before_cursor", "batch.cursor_moved_before_commit", "batch.part_undone_mid_bisection"]
)
async def test_an_error_at_any_boundary_leaves_nothing_of_the_chunk(database, failpoint):
    run_id, (lease,) = await a_run(database)
    database._runtime.failpoints.arm(failpoint, "raise")
    with pytest.raises(FailpointError):
        await commit(database, lease, chunk_of([0, "bad", 2]))
    database._runtime.failpoints.disarm()
    assert (await written(database), await buried(database, run_id), await figures(database, run_id)) == ([], [], (0, 0, 0))
    await commit(database, lease, chunk_of([0, "bad", 2]))
    assert await written(database) == [0, 2]


@settings(max_examples=40, deadline=None, phases=set(Phase) - {Phase.explain}, suppress_health_check=list(HealthCheck))
@given(kinds=st.lists(st.sampled_from(["good", "good", "bad", "refused", None]), max_size=60), ppm=st.integers(0, 999_999))
async def test_any_mixture_of_items_ends_as_its_items_are(templates, tmp_path_factory, kinds, ppm):
    """B1 and B2 as arithmetic: good in the output, bad and refused among the dead letters, whatever rate was learned."""
    folder = tmp_path_factory.mktemp("any")
    shutil.copy(templates["apsw"], folder)
    async with opened("apsw", folder) as database:
        run_id, (lease,) = await a_run(database)
        failures = {i: Failure("x", 1) for i, kind in enumerate(kinds) if kind == "refused"}
        chunk = chunk_of([None if kind in {"refused", None} else kind for kind in kinds], failures=failures)
        lease = replace(lease, failure_ppm=ppm)
        while not (done := await commit(database, lease, chunk)).finished:
            chunk = chunk.rest(done.end)
            lease = replace(lease, cursor=chunk.before, position=chunk.start)
        assert await written(database) == [i for i, kind in enumerate(kinds) if kind == "good"]
        assert await buried(database, run_id) == [i for i, kind in enumerate(kinds) if kind in {"bad", "refused"}]
        assert (await database.read(everybody, scope=SYSTEM)).get("who", 0) == kinds.count("good")
