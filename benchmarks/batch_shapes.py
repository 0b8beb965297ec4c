"""Batches in the shapes that hurt: beside webhooks, with items that memory is not enough for, with many tenants, and at executors.

* `webhooks beside a batch`: messages sent at a steady pace, with and without a run of 336,776 flights beside them, on one SQLite file.
* `fat items under a cap`: 200 items in a control group of 384 MB, one of which wants 600 MB more. How many of them end, in the output or
  as a dead letter, and whether the process still lives. Peers: `concurrent.futures.ProcessPoolExecutor` and a Celery worker with two
  processes (prefork, acks_late, reject_on_worker_lost, over its file-system broker), which get the same items.
* `100 tenants, one noisy`: one tenant starts 200 runs, then 99 others one each; how long each waits for its first chunk. Beside the same
  without turns (each run in the order of its start), which is what a plain queue does.
* `executor overhead`: what a chunk of 1,000 items that need nothing costs at each executor, beside a thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from batch_load import DURABLE, JOB, Bench
from measure import RUNS, Row, percentile, scratch, show, tell

from netra_backend import Netra, batch
from netra_backend.batch import turns

CAP: Final = 384 << 20
HUNGER: Final = 600 << 20
ITEMS: Final = 200
WITHIN_S: Final = 60.0
PACE_S: Final = 0.01
ROOT: Final = Path("/sys/fs/cgroup")


async def keep(tx: Any, rows: batch.Rows) -> None:
    """Nothing is to be written."""


def eat(item: list[int]) -> int:
    """Needs what the item says."""
    return len(b"x" * item[1]) and item[0]


def same(item: int) -> int:
    """Needs nothing."""
    return item


async def wait(item: int) -> int:
    """Takes a moment of nobody's processor."""
    await asyncio.sleep(0.01)
    return item


def hungry(params: dict[str, Any]) -> list[list[int]]:
    """One of them wants more than there is."""
    del params
    return [[n, HUNGER if n == ITEMS // 2 else 1000] for n in range(ITEMS)]


FAT: Final = batch.job("bench-fat", read=batch.sequence(hungry), process=eat, write=keep, chunk=50)
TENANTS: Final = batch.job("bench-tenants", read=batch.sequence(lambda params: range(params["n"])), process=wait, write=keep, chunk=5)
EXECUTORS: Final = {
    "a thread": None,
    "threads(2)": batch.threads(2),
    "processes(2)": batch.processes(2),
}
DASK: Final = "dask(2)"


def at(name: str, executor: Any) -> batch.Job:
    """A job of 100 chunks whose items need nothing."""
    return batch.job(f"bench-at-{name}", read=batch.sequence(range(100_000)), process=same, write=keep, executor=executor)


AT: Final = {name: at(name, executor) for name, executor in EXECUTORS.items()}


@contextmanager
def opened_on(folder: Path) -> Iterator[str]:
    yield f"sqlite:///{folder / 'netra.db'}"


async def begin(netra: Netra, job: Any, params: dict[str, Any], tenant: str = "bench", key: str | None = None) -> str:
    async def go(tx: Any) -> str:
        return await netra.batch.start(tx, job, params, key)

    return await netra.write(go, tenant=tenant)


async def ended(netra: Netra, run: str) -> dict[str, Any]:
    while (status := await netra.batch.status(run))["state"] in {"queued", "running"}:
        await asyncio.sleep(0.01)
    return status


async def webhooks_p99(folder: Path, file: Path | None, messages: int) -> float:
    """Milliseconds within which 99 % of the messages are committed."""
    async with Netra(f"sqlite:///{folder / 'netra.db'}", data=folder / "data", role="cli", environ={}) as netra:
        await netra.tenant("bench")
        run = await begin(netra, JOB, {"file": str(file)}) if file else None
        took = []

        async def send(number: int) -> None:
            started = time.perf_counter()

            async def go(tx: Any) -> str:
                return await netra.webhooks.send(tx, "thing.happened", {"n": number})

            await netra.write(go, tenant="bench")
            took.append((time.perf_counter() - started) * 1000)

        sending = []
        for number in range(messages):
            sending.append(asyncio.ensure_future(send(number)))
            await asyncio.sleep(PACE_S)
        await asyncio.gather(*sending)
        if run:
            assert (await netra.batch.status(run))["state"] in {"running", "completed"}
        return percentile(took, 0.99)


def own_group() -> tuple[Path, str] | None:
    """The folder of this process's memory group, and the name of the file that limits one below it."""
    for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "memory":
            return ROOT / "memory" / path.lstrip("/"), "memory.limit_in_bytes"
        if not controllers and (ROOT / "cgroup.controllers").exists():
            return ROOT / path.lstrip("/"), "memory.max"
    return None


@contextmanager
def capped() -> Iterator[Path | None]:
    """A control group with the cap, or None where none may be made."""
    found = own_group()
    folder = found[0] / f"netra-bench-{os.getpid()}" if found else None
    if folder is None or found is None or os.geteuid():
        yield None
        return
    folder.mkdir()
    (folder / found[1]).write_text(str(CAP), encoding="ascii")
    try:
        yield folder
    finally:
        for _ in range(200):
            if not (folder / "cgroup.procs").read_text(encoding="ascii"):
                break
            time.sleep(0.05)
        folder.rmdir()


def fat(who: str, folder: Path) -> float:
    """How many of the items ended within a minute, each in a process that is started again whenever it has died."""
    with capped() as group:
        if group is None:
            return float("nan")
        ledger, ends, deaths = folder / f"{who}.ndjson", time.monotonic() + WITHIN_S, 0
        command = [sys.executable, str(Path(__file__)), "--as", who, "--folder", str(folder), "--group", str(group)]
        while time.monotonic() < ends and _counted(ledger) < ITEMS:
            process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
            while process.poll() is None and time.monotonic() < ends and _counted(ledger) < ITEMS:
                time.sleep(0.05)
            deaths += process.poll() not in {None, 0}
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            elif who != "netra" and process.returncode == 0:
                break
            elif who == "pool":
                break  # begun again it would only begin at its first item
        tell(f"{who}: {_counted(ledger)} of {ITEMS}, {deaths} deaths")
        return float(_counted(ledger))


def _counted(ledger: Path) -> int:
    if not ledger.exists():
        return 0
    return len({json.loads(line)["n"] for line in ledger.read_text(encoding="utf-8").splitlines()})


def _note(ledger: Path, number: int) -> None:
    with ledger.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"n": number}) + "\n")


async def _fat_netra(folder: Path, ledger: Path) -> None:
    async with Netra(f"sqlite:///{folder / 'fat.db'}", data=folder / "fat", role="cli", environ={}) as netra:
        run = await begin(netra, FAT, {})
        status = await ended(netra, run)
        for number in range(status["done"] + status["failed"]):
            _note(ledger, number)


def _fat_pool(ledger: Path) -> None:
    from concurrent.futures import ProcessPoolExecutor

    with ProcessPoolExecutor(2) as pool:
        for number in pool.map(eat, hungry({})):
            _note(ledger, number)


def _fat_celery(folder: Path, ledger: Path) -> None:
    from celery import Celery

    for name in ("in", "processed"):
        (folder / name).mkdir(exist_ok=True)
    options = {"data_folder_in": str(folder / "in"), "data_folder_out": str(folder / "in"), "processed_folder": str(folder / "processed")}
    options["control_folder"] = str(folder / "control")
    app = Celery("bench", broker="filesystem://")
    app.conf.update(broker_transport_options=options, task_acks_late=True, task_reject_on_worker_lost=True, worker_prefetch_multiplier=1)

    @app.task(name="eat")
    def one(number: int, size: int) -> None:
        _note(ledger, eat([number, size]))

    if not (folder / "sent").exists():
        for number, size in hungry({}):
            one.delay(number, size)
        (folder / "sent").touch()
    app.worker_main(["worker", "--pool=prefork", "--concurrency=2", "--loglevel=CRITICAL", "--without-gossip", "--without-mingle"])


def _as_started(self: turns.Turns, runs: Any, held: Any) -> Any:
    """What a plain queue does in the place of turns."""
    del self, held
    return min(runs, key=lambda run: run.place)


async def start_latency(folder: Path, *, in_turn: bool) -> float:
    """Milliseconds within which 99 % of the quiet tenants' runs have begun."""
    first = turns.Turns.first
    if not in_turn:
        turns.Turns.first = _as_started
    try:
        async with Netra(f"sqlite:///{folder / 'netra.db'}", data=folder / "data", role="cli", environ={}) as netra:
            for number in range(200):
                await begin(netra, TENANTS, {"n": 20}, "noisy", f"{number}")
            began, runs = {}, {}
            for number in range(99):
                runs[f"quiet-{number}"] = await begin(netra, TENANTS, {"n": 5}, f"quiet-{number}", "one")
                began[f"quiet-{number}"] = time.perf_counter()
            took: dict[str, float] = {}
            while len(took) < len(runs):
                for tenant in runs.keys() - took.keys():
                    status = await netra.batch.status(runs[tenant])
                    if status["state"] != "queued":
                        took[tenant] = (time.perf_counter() - began[tenant]) * 1000
                await asyncio.sleep(0.02)
            return percentile(took.values(), 0.99)
    finally:
        turns.Turns.first = first


def per_chunk(folder: Path, name: str) -> float:
    """Microseconds of a chunk of 1,000 items, from the first to the last commit."""
    if name != DASK:
        return asyncio.run(_per_chunk(folder, AT[name]))
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        return asyncio.run(_per_chunk(folder, at(DASK, batch.dask(cluster.scheduler_address))))


async def _per_chunk(folder: Path, job: batch.Job) -> float:
    async with Netra(f"sqlite:///{folder / 'netra.db'}", data=folder / "data", role="cli", environ={}) as netra:
        run = await begin(netra, job, {})
        status = await ended(netra, run)
        assert status["state"] == "completed", status
        return status["seconds"] / 100 * 1e6


def rows(*, quick: bool) -> list[Row]:
    """Measure everything, interleaved."""
    runs, found = 1 if quick else RUNS, []
    durability = DURABLE["sqlite"]
    with scratch() as folder:
        bench = Bench(folder, 20_000 if quick else None)
        beside: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(runs):
            for running in (True, False):
                with bench.database("sqlite") as (url, _owner):
                    place = Path(url.removeprefix("sqlite:///")).parent
                    file = bench.file("clean") if running else None
                    beside[running].append(asyncio.run(webhooks_p99(place, file, 100 if quick else 300)))
        name = "message committed, p99, beside a run of flights"
        found.append(Row(name, "sqlite", "ms", durability, beside[True], beside[False], "no run beside", better="lower"))
        ended_items: dict[str, list[float]] = {who: [] for who in ("netra", "pool", "celery")}
        for number in range(1 if quick else 2):
            for who, figures in ended_items.items():
                place = folder / f"{who}-{number}"
                place.mkdir()
                figures.append(fat(who, place))
        what = f"fat items in 384 MB: of {ITEMS} have ended within {WITHIN_S:g} s"
        for who, peer in (("pool", "ProcessPoolExecutor"), ("celery", "Celery, prefork, acks_late")):
            found.append(Row(what, "sqlite", "items", durability, ended_items["netra"], ended_items[who], peer, budget=ITEMS))
        latencies: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(runs):
            for in_turn in (True, False):
                with scratch() as place:
                    latencies[in_turn].append(asyncio.run(start_latency(place, in_turn=in_turn)))
        name = "100 tenants, one with 200 runs: start of the others', p99"
        found.append(Row(name, "sqlite", "ms", durability, latencies[True], latencies[False], "in the order of the start", better="lower"))
        costs: dict[str, list[float]] = {executor: [] for executor in (*EXECUTORS, DASK)}
        for _ in range(runs):
            for executor, figures in costs.items():
                with scratch() as place:
                    figures.append(per_chunk(place, executor))
        for executor in list(costs)[1:]:
            name = f"a chunk of 1,000 items at {executor}"
            found.append(Row(name, "sqlite", "us", durability, costs[executor], costs["a thread"], "a thread", better="lower"))
    return found


def main() -> None:
    """The table, or one of the processes that it measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--as", dest="who")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--group", type=Path)
    given = parser.parse_args()
    if not given.who:
        show([row.as_json() for row in rows(quick=given.quick)])
        return
    (given.group / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")
    ledger = given.folder / f"{given.who}.ndjson"
    if given.who == "netra":
        asyncio.run(_fat_netra(given.folder, ledger))
    elif given.who == "pool":
        _fat_pool(ledger)
    else:
        _fat_celery(given.folder, ledger)


if __name__ == "__main__":
    main()
