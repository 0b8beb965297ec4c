"""Retention of runs on every engine: what is over goes after its time, and nothing that may go on or is rerun ever does."""

from __future__ import annotations

import asyncio
from functools import partial

from netra_backend.batch import retention, store
from netra_backend.batch.retention import Retention
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.storage import log, tenants
from netra_backend.storage.membership import Membership
from netra_backend.testing.clock import FakeClock

from ..support.audits import Standing
from ..support.members import new_node
from ..support.storage import ACME, SYSTEM, opened, refuse
from ..support.webhooks import A_DAY_S
from .test_batch_chunks import JOB, a_run, buried, chunk_of, commit

EVER_US = 2**60
GLOBEX = Scope("globex", "tester")


async def stored(database):
    return {each.id for each, _ in await database.read(store.runs, None, 1000, scope=ACME)}


async def finished(database, key, items=("good", "bad")):
    """A run that is over, with a dead letter."""
    run_id, (lease,) = await a_run(database, key)
    await commit(database, lease, chunk_of(items))
    await database.write(store.settle, run_id, JOB.too_many, scope=ACME)
    return run_id


async def expire(database, before_us=EVER_US):
    rounds = 1
    while await database.write(retention.expire, before_us, scope=ACME, lane="bulk"):
        rounds += 1
    return rounds


async def test_a_run_that_is_over_goes_with_its_partitions_and_dead_letters(database):
    run_id = await finished(database, "over")
    assert await buried(database, run_id) == [1]
    await expire(database)
    assert (await stored(database), await buried(database, run_id)) == (set(), [])
    assert (await database.read(store.totals, run_id, scope=ACME)).partitions == 0


async def test_what_is_queued_running_or_paused_stays_however_old(database):
    kept = set()
    for event in (None, "pause"):
        run_id, _ = await a_run(database, f"kept {event}")
        if event:
            await database.write(store.decide, run_id, event, scope=ACME)
        kept.add(run_id)
    queued, _ = await database.write(store.start, "job", "queued", {}, 1, scope=ACME)
    await finished(database, "over")
    cancelled, _ = await a_run(database, "cancelled")
    await database.write(store.decide, cancelled, "cancel", scope=ACME)
    await expire(database)
    assert await stored(database) == {*kept, queued}


async def test_a_run_goes_after_the_reruns_of_it(database):
    run_id = await finished(database, "over")
    child = await database.write(store.rerun, run_id, scope=ACME)
    await expire(database)
    assert await stored(database) == {run_id, child}
    await database.write(store.decide, child, "cancel", scope=ACME)
    await expire(database)
    assert await stored(database) == set()


async def test_a_run_that_another_one_still_comes_after_stays(database):
    before = [await finished(database, f"before {n}") for n in range(2)]
    after, _ = await database.write(partial(store.start, waits_for=before[1:]), "job", "after", {}, 1, scope=ACME)
    await expire(database)
    assert await stored(database) == {before[1], after}
    await database.write(store.decide, after, "cancel", scope=ACME)
    await expire(database)
    assert await stored(database) == set()


async def test_a_runs_many_dead_letters_go_in_parts(database, monkeypatch):
    monkeypatch.setattr(retention, "LETTERS_AT_ONCE", 3)
    run_id = await finished(database, "many", ["bad"] * 8)
    assert await expire(database) > 3
    assert (await stored(database), await buried(database, run_id)) == (set(), [])


async def test_one_process_does_it_and_what_is_over_goes_after_its_time(engine, tmp_path):
    clock = FakeClock()
    async with opened(engine, tmp_path, Runtime(clock=clock)) as database:
        await finished(database, "old")
        await clock.advance(20 * A_DAY_S)
        young = await finished(database, "young")
        members = [Membership(database, Runtime(clock=clock), tmp_path / f"locks{n}", ttl_s=60.0, role="test") for n in range(2)]
        for member in members:
            await member.start()
        try:
            await asyncio.gather(*(Retention(database, Runtime(clock=clock), member, 10 * A_DAY_S).run() for member in members))
            assert await stored(database) == {young}
            later = [Retention(database, Runtime(clock=clock), member, -1.0) for member in members]
            had_it = await database.write(log.has_lead, retention.LEASE, members[0].id, scope=SYSTEM)
            await later[had_it].run()
            assert await stored(database) == {young}, "the other one worked without the lease"
            await later[not had_it].run()
            assert await stored(database) == set()
        finally:
            for member in members:
                await member.stop()


async def test_an_error_with_one_tenant_is_told_and_keeps_no_run_of_those_behind_him(database, monkeypatch, caplog):
    node = await new_node(database)
    mine = await finished(database, "over")
    await database.write(tenants.ensure, "globex", scope=SYSTEM)
    theirs, _ = await database.write(store.start, "job", "theirs", {}, 1, scope=GLOBEX)
    await database.write(store.decide, theirs, "cancel", scope=GLOBEX)
    refuse(monkeypatch, database, "acme")
    await Retention(database, Runtime(), Standing(node), -1.0).run()
    assert (await stored(database), await database.read(store.runs, None, 1000, scope=GLOBEX)) == ({mine}, [])
    assert "runs of tenant acme stays until the next pass: a row of acme is damaged" in caplog.text
    monkeypatch.undo()
    await Retention(database, Runtime(), Standing(node), -1.0).run()
    assert await stored(database) == set()
