"""Two copies of each verb of batches at once, through two doors to one database: as if one of them had run before the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

from netra_backend.batch import chunks, retention, schedules, store
from netra_backend.batch.errors import LeaseLost
from netra_backend.batch.schedules import Wanted
from netra_backend.errors import NotFound
from netra_backend.kernel.states import IllegalTransition

from ..support.storage import ACME
from ..support.webhooks import live_node
from .test_batch_chunks import JOB, LONG_S, a_run, buried, chunk_of, written
from .test_batch_retention import EVER_US
from .test_concurrent_webhook_copies import in_some_order, verbs_of

PACKAGE = Path(__file__).parents[2]
NIGHTLY = Wanted("nightly", "job", "0 3 * * *", "UTC", {}, 1, 0)
READS = {
    "store.active", "store.waiting", "store.count_under_way",
    "store.count_failures", "store.failures", "store.has_free", "store.run", "store.run_and_totals", "store.runs",
    "store.holds", "store.spec", "store.tenant_of", "store.totals", "retention.next_tenant",
    "store.states_of", "schedules.get", "schedules.listed", "schedules.due",
}  # fmt: skip
HERE = {
    "store.start", "store.rerun", "store.plan", "store.claim", "store.release", "store.decide", "store.settle", "store.fail",
    "chunks.commit", "retention.expire", "store.begin_to_write", "store.park", "store.take_pace", "schedules.put", "schedules.remove", "schedules.fire",
}  # fmt: skip


async def both(pair, verb, *arguments):
    return await asyncio.gather(*(door.write(verb, *arguments, scope=ACME) for door in pair), return_exceptions=True)


async def test_two_starts_are_one_run(pair):
    await a_run(pair[0])
    one, two = await both(pair, store.start, "job", "at once", {}, 1)
    assert one[0] == two[0]
    assert sorted([one[1], two[1]]) == [False, True]


async def test_two_reruns_are_one_child(pair):
    run_id, (lease,) = await a_run(pair[0])
    await pair[0].write(chunks.commit, lease, JOB, chunk_of(["bad"]), LONG_S, scope=ACME)
    await pair[0].write(store.settle, run_id, JOB.too_many, scope=ACME)
    one, two = await both(pair, store.rerun, run_id)
    assert one == two


async def test_a_run_is_planned_once(pair):
    await a_run(pair[0])
    run_id, _ = await pair[0].write(store.start, "job", "planned", {}, 1, scope=ACME)
    assert sorted(await both(pair, store.plan, run_id, [], 10)) == [False, True]


async def test_two_processes_that_claim_at_once_share_the_partitions(pair):
    run_id, leases = await a_run(pair[0], parts=6)
    for lease in leases:
        await pair[0].write(store.release, lease, scope=ACME)
    nodes = [await live_node(door) for door in pair]
    claims = (door.write(store.claim, run_id, node, 4, scope=ACME) for door, node in zip(pair, nodes, strict=True))
    taken = [lease.number for leases in await asyncio.gather(*claims) for lease in leases]
    assert len(taken) == len(set(taken)) <= 6
    rest = await pair[0].write(store.claim, run_id, await live_node(pair[0]), 6, scope=ACME)
    assert sorted([*taken, *(lease.number for lease in rest)]) == list(range(6))


async def test_a_partition_is_given_back_once(pair):
    _, (lease,) = await a_run(pair[0])
    assert sorted(await both(pair, store.release, lease)) == [False, True]


async def test_a_decision_is_made_once_and_the_second_is_told(pair):
    run_id, _ = await a_run(pair[0])
    assert in_some_order(await both(pair, store.decide, run_id, "cancel"), ["cancelled", IllegalTransition])


async def test_two_that_claim_at_once_keep_the_jobs_limit_together(pair):
    """Of a job that may have three of its partitions worked on, whoever claims and however many runs it has."""
    runs = []
    for key in ("one", "two"):
        run_id, leases = await a_run(pair[0], key, parts=4)
        for lease in leases:
            await pair[0].write(store.release, lease, scope=ACME)
        runs.append(run_id)
    nodes = [await live_node(door) for door in pair]
    most = ("job", 3)
    claims = (door.write(store.claim, run, node, 4, most, scope=ACME) for door, run, node in zip(pair, runs, nodes, strict=True))
    assert sum(len(leases) for leases in await asyncio.gather(*claims)) == 3
    assert await pair[0].write(store.claim, runs[0], nodes[0], 4, most, scope=ACME) == []


async def test_two_that_take_a_pace_at_once_get_one_place_after_the_other(pair):
    await a_run(pair[0])
    places = sorted(await both(pair, store.take_pace, "job", 7_000_000, 7_000_000))
    assert places[1] - places[0] == 7_000_000


async def test_a_place_that_was_taken_before_the_clock_was_put_back_delays_nobody(pair):
    await a_run(pair[0])
    an_hour_us, second_us = 3_600_000_000, 1_000_000
    first = await pair[0].write(store.take_pace, "job", an_hour_us, an_hour_us, scope=ACME)
    second = await pair[1].write(store.take_pace, "job", second_us, an_hour_us, scope=ACME)
    assert second == first + an_hour_us
    assert await pair[1].write(store.take_pace, "job", second_us, second_us, scope=ACME) < first + an_hour_us


async def test_a_schedule_is_fired_once_for_each_time(pair):
    await a_run(pair[0])
    await pair[0].write(schedules.put, NIGHTLY, scope=ACME)
    (at_us,) = [each.next_us for each in await pair[0].read(schedules.listed, "", 10, scope=ACME)]
    fired = await both(pair, schedules.fire, "nightly", at_us)
    assert sorted(each is None for each in fired) == [False, True]
    assert len(await pair[0].read(store.runs, None, 10, scope=ACME)) == 2


async def test_a_schedule_is_made_once_and_removed_once(pair):
    await a_run(pair[0])
    await pair[0].write(schedules.put, NIGHTLY, scope=ACME)
    one, two = await both(pair, schedules.put, NIGHTLY)
    assert one.id == two.id
    outcomes = await both(pair, schedules.remove, "nightly")
    assert in_some_order(outcomes, [None, NotFound])


async def test_a_run_that_cannot_go_on_is_parked_once(pair):
    run_id, (lease,) = await a_run(pair[0])
    assert sorted(await both(pair, store.park, run_id, "the scheduler is gone", lease)) == [False, True]
    found = await pair[0].read(store.run, run_id, scope=ACME)
    assert (found.state, found.reason) == ("paused", "the scheduler is gone")


async def test_a_run_ends_once(pair):
    run_id, (lease,) = await a_run(pair[0])
    await pair[0].write(chunks.commit, lease, JOB, chunk_of([1]), LONG_S, scope=ACME)
    assert in_some_order(await both(pair, store.settle, run_id, JOB.too_many), ["completed", None])
    other, (held,) = await a_run(pair[0], "other")
    assert sorted(await both(pair, store.fail, other, "why", held)) == [False, True]
    queued, _ = await pair[0].write(store.start, "job", "queued", {}, 1, scope=ACME)
    assert sorted(await both(pair, store.fail, queued, "why", None)) == [False, True]


async def test_one_chunk_is_committed_once(pair):
    run_id, (lease,) = await a_run(pair[0])
    outcomes = await both(pair, chunks.commit, lease, JOB, chunk_of([1, "bad"]), LONG_S)
    assert in_some_order(outcomes, [chunks.Committed, Exception])
    refused = next(outcome for outcome in outcomes if isinstance(outcome, Exception))
    assert isinstance(refused, LeaseLost)
    assert (await written(pair[0]), await buried(pair[0], run_id)) == ([0], [1])


async def test_a_pause_and_a_chunk_at_once_leave_the_chunk_whole_or_absent(pair):
    run_id, (lease,) = await a_run(pair[0])
    await asyncio.gather(
        pair[0].write(chunks.commit, lease, JOB, chunk_of([1, "bad"], last=False), LONG_S, scope=ACME),
        pair[1].write(store.decide, run_id, "pause", scope=ACME),
        return_exceptions=True,
    )
    totals = await pair[0].read(store.totals, run_id, scope=ACME)
    assert (totals.done, totals.failed) in {(0, 0), (1, 1)}
    assert (len(await written(pair[0])), len(await buried(pair[0], run_id))) == (totals.done, totals.failed)
    assert (await pair[0].read(store.run, run_id, scope=ACME)).state == "paused"


async def test_two_that_begin_to_write_at_once_are_both_counted(pair):
    _, (lease,) = await a_run(pair[0])
    assert sorted(await both(pair, store.begin_to_write, lease)) == [1, 2]


async def test_two_that_delete_a_run_at_once_delete_it_once(pair):
    run_id, (lease,) = await a_run(pair[0])
    await pair[0].write(chunks.commit, lease, JOB, chunk_of(["bad"]), LONG_S, scope=ACME)
    await pair[0].write(store.settle, run_id, JOB.too_many, scope=ACME)
    assert sorted(await both(pair, retention.expire, EVER_US)) == [False, True]
    assert await pair[0].read(store.runs, None, 10, scope=ACME) == []


async def test_a_rerun_and_retention_at_once_leave_the_run_whole_or_gone(pair):
    run_id, (lease,) = await a_run(pair[0])
    await pair[0].write(chunks.commit, lease, JOB, chunk_of(["bad"]), LONG_S, scope=ACME)
    await pair[0].write(store.settle, run_id, JOB.too_many, scope=ACME)
    expired, child = await asyncio.gather(
        pair[0].write(retention.expire, EVER_US, scope=ACME), pair[1].write(store.rerun, run_id, scope=ACME), return_exceptions=True
    )
    left = {each.id for each, _ in await pair[0].read(store.runs, None, 10, scope=ACME)}
    if isinstance(child, Exception):
        assert (expired, left) == (True, set())
    else:
        assert (expired, left, await buried(pair[0], run_id)) == (False, {run_id, child}, [0])


def test_every_verb_that_writes_has_a_test_of_two_copies():
    verbs = {verb for path in (PACKAGE / "batch").glob("*.py") for verb in verbs_of(path)}
    assert verbs - READS - HERE == set(), "add a test of two copies at once, or say that it only reads"
    assert (READS | HERE) - verbs == set(), "no such verb any more"
