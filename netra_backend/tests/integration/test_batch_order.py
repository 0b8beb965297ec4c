"""In which order runs go: after others, by priority and tenant, within limits, and at their times."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from netra_backend import batch
from netra_backend.batch import schedules, store
from netra_backend.batch.model import Part
from netra_backend.errors import InvalidInput, NotFound
from netra_backend.kernel.ids import from_text

from ..support.platform import platform
from ..support.storage import SYSTEM, eventually, with_its_server
from ..support.webhooks import in_tenant

ACME = in_tenant("acme")
OVER = {"completed", "completed_with_failures", "failed", "cancelled"}


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@asynccontextmanager
async def opened(prepared, **settings):
    async with platform(prepared, **settings) as netra:
        for tenant in ("acme", "globex"):
            await netra.tenant(tenant)
        try:
            yield netra
        finally:
            for gate in GATES:  # or a worker that is told to stop would wait for them
                gate.let(10_000)
            GATES.clear()


@pytest.fixture
async def netra(prepared):
    async with opened(prepared) as netra:
        yield netra


async def keep(tx, rows):
    """Nothing is to be written: what is asked is when it happened."""


GATES = []


class Gate:
    """A job whose items wait until they are let through, one by one, and note who came."""

    def __init__(self, name, **options):
        self.came, self._open = [], asyncio.Semaphore(0)
        GATES.append(self)
        self.job = batch.job(
            name, read=batch.sequence(lambda params: [params["who"]] * params["n"]), process=self._pass, write=keep, **options
        )

    async def _pass(self, who):
        self.came.append(who)
        await self._open.acquire()

    def let(self, count):
        for _ in range(count):
            self._open.release()


async def begin(netra, job, who="acme", n=1, tenant="acme", **more):
    async def go(tx):
        return await netra.batch.start(tx, job, {"who": who, "n": n}, **more)

    return await netra.write(go, tenant=tenant)


async def state(netra, run):
    return (await netra.batch.status(run))["state"]


async def over(netra, run):
    async def is_over():
        return await state(netra, run) in OVER

    await eventually(is_over)
    return await netra.batch.status(run)


async def test_a_run_begins_when_those_before_it_are_completed(netra):
    first = Gate("before")
    one = await begin(netra, first.job, "one")
    two = await begin(netra, first.job, "two")
    last = await begin(netra, Gate("behind").job, "last", n=0, after=[one, two])
    await eventually(lambda: len(first.came) == 2)
    first.let(1)
    await eventually(lambda: any_over(netra, one, two))
    assert await state(netra, last) == "queued"
    assert (await netra.batch.status(last))["after"] == [one, two]
    first.let(1)
    assert (await over(netra, last))["state"] == "completed"


async def any_over(netra, *runs):
    return any([await state(netra, run) in OVER for run in runs])


async def test_a_run_behind_a_cancelled_one_fails_and_behind_a_failed_one_waits(netra):
    gate = Gate("gone")
    one = await begin(netra, "nobody knows this job", "one")
    last = await begin(netra, gate.job, "last", after=[one])
    await netra.batch.cancel(one)
    found = await over(netra, last)
    assert found["state"] == "failed" and "was cancelled" in found["reason"]
    with pytest.raises(NotFound):
        await begin(netra, gate.job, "nobody", after=["run_00000000000000000000000000"])
    with pytest.raises(InvalidInput):
        await begin(netra, gate.job, "too many", after=[one] * 101)


async def test_a_higher_priority_takes_the_slot_between_two_chunks(prepared):
    async with opened(prepared, batch_slots=1) as netra:
        gate = Gate("priority", chunk=1)
        low = await begin(netra, gate.job, "low", 50)
        await eventually(lambda: gate.came == ["low"])
        high = await begin(netra, gate.job, "high", 2, priority=5)
        await eventually(lambda: netra.batch.worker._giving_way)
        gate.let(1)  # the chunk that is under way ends
        await eventually(lambda: len(gate.came) == 2)
        assert gate.came == ["low", "high"]
        gate.let(2)
        assert (await over(netra, high))["state"] == "completed"
        gate.let(60)
        assert (await over(netra, low))["done"] == 50


async def test_a_tenant_with_many_runs_leaves_a_slot_to_one_with_few(prepared):
    """By time slices of a second where it must be: the quiet tenant's run begins although every slot is taken."""
    async with opened(prepared, batch_slots=2) as netra:
        noisy, quiet = Gate("noisy", chunk=1), Gate("quiet", chunk=1)
        runs = [await begin(netra, noisy.job, f"noisy {n}", 30) for n in range(4)]
        await eventually(lambda: len(noisy.came) == 2)
        other = await begin(netra, quiet.job, "quiet", 2, tenant="globex")
        quiet.let(2)
        await eventually(lambda: netra.batch.worker._giving_way)
        noisy.let(2)  # the chunks that are under way end
        assert (await over(netra, other))["state"] == "completed"
        assert len(noisy.came) < 8
        noisy.let(500)
        assert [(await over(netra, run))["done"] for run in runs] == [30] * 4


async def test_a_jobs_limit_holds_over_its_runs(netra):
    gate = Gate("limited", concurrency=2, chunk=1)
    runs = [await begin(netra, gate.job, f"{n}", 3) for n in range(3)]
    await eventually(lambda: len(gate.came) == 2)
    assert sum([(await netra.batch.status(run))["working"] for run in runs]) == 2
    gate.let(100)
    assert [(await over(netra, run))["state"] for run in runs] == ["completed"] * 3


async def test_a_jobs_rate_holds_over_its_partitions(netra):
    """60 items at 40 a second take a second and a half at least."""
    gate = Gate("paced", rate=40.0, chunk=10)
    gate.let(100)
    clock = netra.runtime.clock
    began = clock.monotonic()
    run = await begin(netra, gate.job, n=60, partitions=3)
    assert (await over(netra, run))["done"] == 60
    assert clock.monotonic() - began >= (60 - 10 * 3) / 40


async def scheduled(netra, name, cron, **more):
    async def go(tx):
        return await netra.batch.schedule(tx, name, "nightly-job", cron, **more)

    return await netra.write(go, tenant="acme")


async def test_a_schedule_starts_one_run_for_each_time_and_ends_when_it_is_removed(netra):
    batch.job("nightly-job", read=batch.sequence([1]), write=keep)
    made = await scheduled(netra, "nightly", "0 3 * * *", params={"x": 1}, zone="Europe/Zurich")
    assert made["last_run"] is None and made["zone"] == "Europe/Zurich"
    (stored,) = await netra.database.read(schedules.listed, "", 10, scope=ACME)
    later = stored.next_us + 3 * 86_400_000_000 + 5
    first = await netra.database.write(schedules.fire, "nightly", later, scope=ACME)
    assert first is not None
    assert await netra.database.write(schedules.fire, "nightly", later, scope=ACME) is None
    (run,) = await netra.batch.runs(tenant="acme")
    assert run["key"].startswith("cron:nightly:") and run["params"]["x"] == 1
    assert run["params"]["scheduled_at"] == run["key"].removeprefix("cron:nightly:")
    assert (await netra.batch.schedules(tenant="acme"))[0]["last_run"] == run["run"]
    assert (await over(netra, run["run"]))["state"] == "completed"
    changed = await scheduled(netra, "nightly", "@hourly")
    assert (changed["cron"], len(await netra.batch.schedules(tenant="acme"))) == ("@hourly", 1)

    async def end(tx):
        await netra.batch.unschedule(tx, "nightly")

    await netra.write(end, tenant="acme")
    assert await netra.batch.schedules(tenant="acme") == []
    assert await netra.database.write(schedules.fire, "nightly", 2**60, scope=ACME) is None
    with pytest.raises(NotFound):
        await netra.write(end, tenant="acme")
    again = await scheduled(netra, "nightly", "@daily")
    assert again["name"] == "nightly"


async def test_workers_fire_what_is_due(netra):
    batch.job("nightly-job", read=batch.sequence([1]), write=keep)
    await scheduled(netra, "due", "@yearly")

    async def make_due(tx):
        (found,) = await schedules.listed(tx, "", 10)
        await tx.execute(store.Q.move_schedule, id=found.id, next_us=tx.now_us - 1, run_id=None)

    await netra.database.write(make_due, scope=ACME)

    async def has_run():
        return [run["state"] for run in await netra.batch.runs(tenant="acme")] == ["completed"]

    await eventually(has_run)


async def test_a_schedule_that_cannot_be_fired_here_keeps_no_other_one_and_no_run_waiting(netra, monkeypatch):
    batch.job("nightly-job", read=batch.sequence([1]), write=keep)
    await scheduled(netra, "abroad", "@yearly", zone="Europe/Zurich")
    await scheduled(netra, "here", "@yearly")
    parse = schedules.cron.parse

    def without_zones(text, zone):
        if zone != "UTC":
            raise InvalidInput(f"{zone!r} is no time zone that this machine knows")
        return parse(text, zone)

    monkeypatch.setattr(schedules.cron, "parse", without_zones)

    async def make_due(tx):
        for past, found in enumerate(await schedules.listed(tx, "", 10)):
            await tx.execute(store.Q.move_schedule, id=found.id, next_us=tx.now_us - 1000 + past, run_id=None)

    await netra.database.write(make_due, scope=ACME)

    async def has_run():
        return await netra.batch.runs(tenant="acme")

    await eventually(has_run)
    (run,) = await netra.batch.runs(tenant="acme")
    assert run["key"].startswith("cron:here:") and (await over(netra, run["run"]))["state"] == "completed"
    assert (await over(netra, await begin(netra, "nightly-job")))["state"] == "completed"


class Slow:
    """A reader whose input takes its time to be cut."""

    def __init__(self):
        self.begun, self.goes_on = asyncio.Event(), asyncio.Event()

    async def split(self, source, partitions):
        self.begun.set()
        await self.goes_on.wait()
        return [Part(None)]

    def read(self, source, spec, cursor):
        return iter([(1, "item")])


async def test_inputs_that_take_long_to_be_cut_keep_no_other_tenant_waiting(netra):
    slow = Slow()
    job = batch.job("unhurried", read=slow, write=keep)
    run, *_ = [await begin(netra, job, f"{n}") for n in range(netra.batch.settings.slots + 1)]
    await asyncio.wait_for(slow.begun.wait(), 20)
    other = await begin(netra, batch.job("short", read=batch.sequence([1, 2]), write=keep), tenant="globex")
    assert (await over(netra, other))["done"] == 2
    assert await state(netra, run) == "queued"
    slow.goes_on.set()
    assert (await over(netra, run))["done"] == 1


async def test_a_reader_that_cannot_be_made_any_more_fails_its_run_and_a_resume_goes_on(netra):
    made = []

    def reader(params):
        made.append(1)
        if len(made) == 2:  # the first is for the plan
            raise FileNotFoundError("the input is gone")
        return batch.sequence([1, 2])

    run = await begin(netra, batch.job("gone-input", read=reader, write=keep))
    found = await over(netra, run)
    assert (found["state"], found["reason"]) == ("failed", "FileNotFoundError: the input is gone")
    await netra.batch.resume(run)

    async def is_completed():
        return await state(netra, run) == "completed"

    await eventually(is_completed)


async def test_of_many_that_wait_each_is_looked_at_and_hides_no_other(netra, monkeypatch):
    monkeypatch.setattr(store, "WAITING_AT_ONCE", 2)
    job = batch.job("behind-others", read=batch.sequence([1]), write=keep)
    never = await begin(netra, "nobody knows this job either")
    first = await begin(netra, job)
    waiting = [await begin(netra, job, f"{n}", after=[never], priority=5) for n in range(store.ACTIVE_OF_EACH + 1)]
    last = await begin(netra, job, "last", after=[first])
    assert (await over(netra, last))["state"] == "completed"
    assert {await state(netra, run) for run in waiting} == {"queued"}


async def test_a_run_whose_predecessor_is_gone_fails_with_words(netra):
    never = await begin(netra, "nobody knows this job either")
    last = await begin(netra, batch.job("behind-nothing", read=batch.sequence([1]), write=keep), after=[never])

    async def forget(tx):
        await tx.execute(store.Q.delete_run, id=from_text("run", never))

    await netra.write(forget, tenant="acme")
    found = await over(netra, last)
    assert (found["state"], found["reason"]) == ("failed", f"PredecessorCancelled: {never}, which it comes after, is gone")


async def test_what_is_no_schedule_is_refused(netra):
    for name, cron in (("", "@daily"), ("x", "never"), ("x\n", "@daily")):
        with pytest.raises(InvalidInput):
            await scheduled(netra, name, cron)
    with pytest.raises(InvalidInput):
        await begin(netra, "job", priority=10**7)


async def test_a_tenants_first_runs_are_looked_at_however_many_another_has_started(engine, prepared):
    async with platform(prepared, workers=False) as netra:
        for tenant, count in (("noisy", 120), ("quiet", 1)):
            for n in range(count):
                await begin(netra, "some job", f"{n}", tenant=tenant)
        found = await netra.database.read(store.active, ["some job"], scope=SYSTEM)
        assert [run.tenant for run in found].count("noisy") == store.ACTIVE_OF_EACH
        assert {run.tenant for run in found[:2]} == {"noisy", "quiet"}
        known = await begin(netra, "known job", tenant="noisy")
        found = await netra.database.read(store.active, ["known job"], scope=SYSTEM)
        assert [(run.tenant, run.id) for run in found] == [("noisy", from_text("run", known))]


async def test_a_worker_for_one_run_finds_it_behind_however_many_others(engine, prepared):
    async with platform(prepared, workers=False) as netra:
        job = batch.job("the-only-one", read=batch.sequence([1, 2]), write=keep)
        for n in range(store.ACTIVE_OF_EACH + 1):
            await begin(netra, job, f"{n}", priority=5)
        run = await begin(netra, job, "mine")
        worker = netra.batch.new_worker(only=run)
        await worker.start()
        try:
            assert (await over(netra, run))["done"] == 2
        finally:
            await worker.stop()
