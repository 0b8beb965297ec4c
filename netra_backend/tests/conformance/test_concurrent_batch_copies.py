"""Two copies of each verb of batches at once, through two doors to one database: as if one of them had run before the other."""

from __future__ import annotations

import asyncio
from pathlib import Path

from netra_backend.batch import chunks, store
from netra_backend.batch.errors import LeaseLost
from netra_backend.kernel.states import IllegalTransition

from ..support.storage import ACME
from ..support.webhooks import live_node
from .test_batch_chunks import JOB, LONG_S, a_run, buried, chunk_of, written
from .test_concurrent_webhook_copies import in_some_order, verbs_of

PACKAGE = Path(__file__).parents[2]
READS = {
    "store.active", "store.count_failures", "store.failures", "store.has_free", "store.run", "store.run_and_totals", "store.runs",
    "store.holds", "store.spec", "store.tenant_of", "store.totals",
}  # fmt: skip
HERE = {
    "store.start", "store.rerun", "store.plan", "store.claim", "store.release", "store.decide", "store.settle", "store.fail",
    "chunks.commit",
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


def test_every_verb_that_writes_has_a_test_of_two_copies():
    verbs = {verb for path in (PACKAGE / "batch").glob("*.py") for verb in verbs_of(path)}
    assert verbs - READS - HERE == set(), "add a test of two copies at once, or say that it only reads"
    assert (READS | HERE) - verbs == set(), "no such verb any more"
