"""Where `process` may run: threads, processes, a Dask cluster of real workers; what breaks there, and what that costs."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import closing

import pytest

from netra_backend import batch
from netra_backend.batch import elsewhere, seam, worker
from netra_backend.errors import InvalidInput
from netra_backend.kernel.backoff import Exponential

from ..support.batch_items import swallow
from ..support.dask_cluster import DaskCluster
from ..support.platform import platform
from ..support.storage import Q, eventually, rows_of
from ..support.webhooks import in_tenant

pytestmark = pytest.mark.filterwarnings("default:::distributed", "default:::tornado")
ACME = in_tenant("acme")
OVER = {"completed", "completed_with_failures", "failed", "paused"}


@pytest.fixture
def engine():
    return "apsw"


@pytest.fixture
async def netra(prepared):
    async with platform(prepared) as netra:
        await netra.tenant("acme")
        yield netra


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with closing(DaskCluster(tmp_path_factory.mktemp("dask"))) as cluster:
        yield cluster


async def write(tx, rows):
    await tx.execute(Q.insert_facts, rows=[("who", n, word) for n, word in rows])


def some(params):
    return [(n, n in params["poison"]) for n in range(params["n"])]


def refuse_some(item):
    """Every tenth is refused; a kind of error that may pass comes once in each process."""
    if item[0] % 10 == 3:
        raise ValueError(f"{item[0]} is refused")
    return swallow(item)


def refuse_some_of_many(items):
    return [refuse_some(item) for item in items]


def job_of(name, executor, process=refuse_some, **more):
    kind = {"process_chunk": process} if process is refuse_some_of_many else {"process": process}
    return batch.job(name, read=batch.sequence(some), write=write, chunk=50, executor=executor, **kind, **more)


async def begun(netra, job, n=120, poison=(), **more):
    async def go(tx):
        return await netra.batch.start(tx, job, {"n": n, "poison": [*poison]}, **more)

    return await netra.write(go, tenant="acme")


async def over(netra, run, within_s=60.0, states=OVER):
    async def is_over():
        return (await netra.batch.status(run))["state"] in states

    await eventually(is_over, within_s)
    return await netra.batch.status(run)


async def written(netra):
    return [part for part, _ in await netra.database.read(rows_of, "who", scope=ACME)]


@pytest.mark.parametrize("process", [refuse_some, refuse_some_of_many])
@pytest.mark.parametrize("kind", ["none", "threads", "processes", "own", "function", "dask"])
async def test_wherever_it_is_processed_the_outcome_is_the_same(netra, kind, process, request):
    kinds = {
        "none": lambda: None,
        "threads": lambda: batch.threads(3),
        "processes": lambda: batch.processes(2),
        "own": lambda: ThreadPoolExecutor(2),
        "function": lambda: lambda: ThreadPoolExecutor(2),
        "dask": lambda: batch.dask(request.getfixturevalue("cluster").address),
    }
    job = job_of(f"same-{kind}-{process.__name__}", kinds[kind](), process)
    status = await over(netra, await begun(netra, job, partitions=2))
    assert (status["state"], status["done"], status["failed"]) == ("completed_with_failures", 108, 12)
    assert await written(netra) == [n for n in range(120) if n % 10 != 3]
    letters = await netra.batch.failures(status["run"], tenant="acme")
    assert {(letter["cause"], letter["error"]) for letter in letters} == {
        ("error", f"ValueError: {n} is refused") for n in range(3, 120, 10)
    }


class Counting(Executor):
    """Threads that count how much was out at once."""

    def __init__(self):
        self._pool, self._lock = ThreadPoolExecutor(1), threading.Lock()
        self.out = self.most = 0

    def submit(self, fn, /, *args, **kwargs) -> Future:
        with self._lock:
            self.out += 1
            self.most = max(self.most, self.out)
        future = self._pool.submit(fn, *args, **kwargs)
        future.add_done_callback(self._done)
        return future

    def _done(self, _):
        with self._lock:
            self.out -= 1


async def test_no_more_is_submitted_at_once_than_the_window_holds(netra):
    counting = Counting()
    job = job_of("window", elsewhere.Elsewhere("counting", lambda: counting, 2, ends_it=False))
    await over(netra, await begun(netra, job, 400, partitions=4))
    assert 2 <= counting.most <= 2 * seam.WINDOW_PER_WORKER


async def test_what_cannot_be_sent_fails_the_run_with_the_words(netra):
    job = job_of("a lambda", batch.processes(1), lambda item: item)
    status = await over(netra, await begun(netra, job))
    assert (status["state"], status["done"]) == ("failed", 0)
    assert "cannot be sent" in status["reason"] and "lambda" in status["reason"]


async def coroutine(item):
    return item


@pytest.mark.parametrize("wrong", [{"executor": 7}, {"process": coroutine}, {"process": None}])
def test_a_job_that_cannot_run_there_is_refused(wrong):
    with pytest.raises(InvalidInput):
        batch.job("refused", **{"read": batch.sequence([]), "write": write, "executor": batch.threads(1), "process": refuse_some, **wrong})


def test_an_executor_has_a_worker():
    for make in (batch.processes, batch.threads):
        with pytest.raises(InvalidInput):
            make(-1)


async def test_a_dask_worker_killed_in_the_middle_costs_no_item(netra, cluster):
    job = job_of("dask-killed", batch.dask(cluster.address))
    run = await begun(netra, job, 400, partitions=2)
    for share in (1, 2):
        await eventually(lambda: has_come(netra, run, share * 100), 60)  # noqa: B023
        await asyncio.to_thread(cluster.kill_a_worker)
    status = await over(netra, run)
    assert (status["state"], status["done"], status["failed"]) == ("completed_with_failures", 360, 40)
    assert await written(netra) == [n for n in range(400) if n % 10 != 3]


async def test_an_item_that_kills_dask_workers_costs_one_dead_letter(netra, cluster):
    job = job_of("dask-poison", batch.dask(cluster.address))
    run, tending = await begun(netra, job, 60, [20], partitions=1), asyncio.ensure_future(tend(cluster))
    status = await over(netra, run)
    tending.cancel()
    assert (status["state"], status["done"], status["failed"]) == ("completed_with_failures", 53, 7)
    letters = await netra.batch.failures(run, tenant="acme")
    assert [(each["offset"], each["attempts"]) for each in letters if each["cause"] == "crash"] == [(20, 2)]
    assert await written(netra) == [n for n in range(60) if n % 10 != 3 and n != 20]


async def test_a_scheduler_that_is_gone_pauses_the_run_with_the_reason_and_a_resume_goes_on(netra, tmp_path, monkeypatch):
    monkeypatch.setattr(elsewhere, "CONNECT_S", 0.5)
    monkeypatch.setattr(seam, "PAUSES", Exponential(base_s=0.01, cap_s=0.02))
    with closing(DaskCluster(tmp_path)) as cluster:
        job = job_of("dask-gone", batch.dask(cluster.address))
        run = await begun(netra, job, 2000, partitions=1)
        await eventually(lambda: has_come(netra, run, 1), 60)
        cluster.close()
        status = await over(netra, run)
        assert status["state"] == "paused"
        await eventually(lambda: idle(netra, run))
        assert "dask" in status["reason"] and "ExecutorLost" in status["reason"]
        assert status["done"] + status["failed"] < 2000
        before = await written(netra)
        cluster.start()
        await netra.batch.resume(run)
        status = await over(netra, run)
        assert (status["state"], status["done"], status["failed"]) == ("completed_with_failures", 1800, 200)
        assert await written(netra) == [n for n in range(2000) if n % 10 != 3]
        assert len(before) < 1800


class Silent(Executor):
    """Takes what it is given and never says a word."""

    def submit(self, fn, /, *args, **kwargs):
        return Future()


async def test_what_a_lost_connection_has_forgotten_without_a_word_pauses_the_run(netra, monkeypatch):
    monkeypatch.setattr(elsewhere, "CONNECT_S", 0.05)
    monkeypatch.setattr(seam, "PAUSES", Exponential(base_s=0.01, cap_s=0.02))
    silent = elsewhere.Elsewhere("silent", Silent, 1, connection=lambda _: object())
    status = await over(netra, await begun(netra, job_of("silent", silent), 20))
    assert status["state"] == "paused"
    assert "has lost what it was given" in status["reason"]


async def test_a_worker_stops_although_a_chunk_never_ends(prepared, monkeypatch):
    monkeypatch.setattr(worker, "DRAIN_S", 0.1)
    async with platform(prepared) as netra:
        await netra.tenant("acme")
        run = await begun(netra, job_of("endless", elsewhere.Elsewhere("endless", Silent, 1)), 20)
        await eventually(lambda: works(netra, run))
    async with platform(prepared) as netra:
        assert (await netra.batch.status(run))["done"] == 0


async def works(netra, run):
    return (await netra.batch.status(run))["working"]


async def has_come(netra, run, items):
    status = await netra.batch.status(run)
    return status["done"] + status["failed"] >= items


async def idle(netra, run):
    return not (await netra.batch.status(run))["working"]


async def tend(cluster):
    while True:
        await asyncio.to_thread(cluster.tend)
        await asyncio.sleep(0.1)
