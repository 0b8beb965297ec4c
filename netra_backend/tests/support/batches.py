"""Jobs for tests, and a world of processes that work on them and may be killed.

The output table has no key, so that an item written twice is seen; a value `bad` is refused by its check.
"""

from __future__ import annotations

import itertools
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from ... import batch
from .batch_items import BAD_EVERY, digest, linger, note, process, swallow, swallow_all
from .places import File, Place, Shared
from .world import FAST, TENANT
from .zygote import Child, Zygote, until

TABLE: Final = "create table if not exists batch_out (run text not null, n bigint not null, v text not null check (v <> 'bad'))"
INSERT: Final = batch.sql("insert into batch_out (run, n, v) select r.run, r.n, r.v from rows(:rows, run text, n int, v text) as r")
ENDED: Final = {"completed", "completed_with_failures", "failed", "cancelled"}

LOOK_EVERY_S: Final = 0.02
PATIENCE_S: Final = 4.0
"""For how long a test waits for a death that may be impossible; leases here last a second."""


def numbers(params: Mapping[str, Any]) -> range:
    return range(params["n"])


async def write(tx, rows) -> None:
    run = rows.keys[0].partition(":")[0] if rows else ""
    await tx.execute(INSERT, rows=[(run, n, v) for n, v in rows])


NUMBERS: Final = batch.job("numbers", read=batch.sequence(numbers), process=process, write=write, chunk=40)


def noted(params: Mapping[str, Any]) -> list[tuple[int, str]]:
    return [(n, params["ledger"]) for n in range(params["n"])]


def poisoned(params: Mapping[str, Any]) -> list[tuple[int, bool]]:
    return [(n, n in params["poison"]) for n in range(params["n"])]


def fat(params: Mapping[str, Any], cursor: int | None) -> Iterator[tuple[int, tuple[int, bytes, int]]]:
    """Items of `bytes` each, made when they are read; one of them wants `hunger` bytes more when it is processed."""
    for n in range(cursor or 0, params["n"]):
        yield n + 1, (n, b"x" * params["bytes"], params["hunger"] if n == params.get("hungry") else 0)


POISONED: Final = batch.job("poisoned", read=batch.sequence(poisoned), process=swallow, write=write, chunk=40)
POISONED_WHOLE: Final = batch.job("poisoned-whole", read=batch.sequence(poisoned), process_chunk=swallow_all, write=write, chunk=40)
POISONED_POOL: Final = batch.job(
    "poisoned-pool", read=batch.sequence(poisoned), process=swallow, write=write, chunk=40, executor=batch.processes(2)
)
FAT: Final = batch.job("fat", read=batch.iterate(fat), process=digest, write=write, chunk=1000)
NOTED: Final = batch.job("noted", read=batch.sequence(noted), process=note, write=write, chunk=40)
LINGERING: Final = batch.job("lingering", read=batch.sequence(noted), process=linger, write=write, chunk=40)


def expected(n: int) -> tuple[set[int], set[int]]:
    """What must be in the output, and what must be a dead letter."""
    refused = {i for i in range(n) if i % 23 == 5}
    left_out = {i for i in range(n) if i % 29 == 3} - refused
    bad = {i for i in range(n) if i % BAD_EVERY == 4} - refused - left_out
    return set(range(n)) - refused - left_out - bad, refused | bad


def make_output(place: Place) -> None:
    """The output's table, as a program's own migration makes it."""
    if isinstance(place, Shared):
        place.server.query(place.name, f"do $$ begin {TABLE}; grant select, insert on batch_out to netra_run; end $$")
        return
    assert isinstance(place, File)
    with closing(sqlite3.connect(place.path, timeout=20)) as connection:
        connection.execute(TABLE)


class BatchWorld:
    """A database and processes that work on its runs; every one may be killed."""

    def __init__(self, zygote: Zygote, folder: Path, place: Place | None = None, logs: Path | None = None, **settings: Any) -> None:
        self.folder = folder
        self.logs = logs or folder
        self.place: Place = place or File(folder / "netra.db")
        self.children: list[Child] = []
        self.cap: dict[str, Any] = {}
        self.died = 0
        self._zygote = zygote
        self._numbers = itertools.count()
        self._settings = {
            **FAST,
            "batch_jobs": (__name__,),
            "postgres_connections": 4,  # a process of these tests lives for a second
            "root_keys": str(folder / "root.keys"),
            "data": str(folder),
            **settings,
        }
        self.client = self.start(workers=False, seconds=600)
        self.children.remove(self.client)
        self.client.ask("node")
        make_output(self.place)

    def start(self, failpoint: str = "", *, workers: bool = True, seconds: int = 300) -> Child:
        """One more process."""
        number = next(self._numbers)
        spec = {
            "url": self.place.url,
            "ledger": str(self.folder / f"unused-{number:05}.ndjson"),
            "failpoint": failpoint,
            "workers": workers,
            "settings": self._settings,
            "cap": self.cap if workers else {},
        }
        child = self._zygote.fork("platform", spec, log=self.logs / f"batch-{number}.log", seconds=seconds)
        self.children.append(child)
        return child

    def fill(self, processes: int) -> None:
        """As many processes as there should be."""
        while len(self.children) < processes:
            self.start()

    def begin(self, n: int, key: str, partitions: int = 4, job: str = "numbers", **more: Any) -> str:
        """Start a run of a job."""
        params = {"n": n, "ledger": str(self.ledger), **more}
        return self.client.ask("start_run", tenant=TENANT, job=job, params=params, key=key, partitions=partitions)

    @property
    def ledger(self) -> Path:
        """Where `note` writes."""
        return self.folder / "processed.txt"

    def processed(self) -> list[int]:
        """Every item that was processed, as often as it was."""
        return [int(line) for line in self.ledger.read_text().split()]

    def decide(self, run: str, event: str) -> str:
        """Pause, resume or cancel it."""
        return self.client.ask("decide_run", tenant=TENANT, run=run, event=event)

    def state(self, run: str) -> str:
        return self.status(run)["state"]

    def status(self, run: str) -> dict[str, Any]:
        """As the client sees it; asked no oftener than does not slow those down that are looked at."""
        time.sleep(LOOK_EVERY_S)
        return self.client.ask("run_status", run=run, tenant=TENANT)

    def ended(self, run: str, within_s: float = 120.0) -> dict[str, Any]:
        """Its status once it has ended."""
        return self._awaited(run, lambda: self.state(run) in ENDED, within_s)

    def _awaited(self, run: str, is_over: Callable[[], bool], within_s: float) -> dict[str, Any]:
        try:
            until(is_over, f"{run} ends", within_s)
        except AssertionError as error:
            said = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in sorted(self.logs.glob("batch-*.log")))
            raise AssertionError(f"{error}\n{self.status(run)}\n{said}") from None
        return self.status(run)

    def has_come(self, run: str, items: int) -> bool:
        """Whether so many items have ended, or the run has."""
        now = self.status(run)
        return now["done"] + now["failed"] >= items or now["state"] in ENDED

    def declared_dead(self, life: str) -> None:
        """Wait until that node's row is gone. Where whoever was stopped holds SQLite's one writer, nobody can take it away."""
        ends = time.monotonic() + PATIENCE_S

        def is_over() -> bool:
            gone = life not in {row[0].hex() for row in self.place.query("select id from netra_node")}
            return gone or (isinstance(self.place, File) and time.monotonic() > ends)

        until(is_over, f"{life} is declared dead")

    def deaths(self) -> int:
        """How many have died of themselves since the last look; they are taken off the list."""
        dead = [child for child in self.children if child.has_ended()]
        for child in dead:
            self.children.remove(child)
        return len(dead)

    def kill(self, child: Child) -> None:
        """SIGKILL."""
        child.kill()
        self.children.remove(child)

    def kill_all(self) -> None:
        """SIGKILL to every worker."""
        for child in [*self.children]:
            self.kill(child)

    def nursed(self, run: str, within_s: float = 120.0) -> dict[str, Any]:
        """Its status at its end, where somebody starts a process anew whenever one has died, as a supervisor does."""

        def is_over() -> bool:
            self.died += self.deaths()
            self.fill(1)
            return self.state(run) in ENDED

        return self._awaited(run, is_over, within_s)

    def letters(self, run: str) -> list[tuple[int, str, int]]:
        """Offset, cause and attempts of each dead letter."""
        found = self.client.ask("run_failures", run=run, tenant=TENANT)
        return [(letter["offset"], letter["cause"], letter["attempts"]) for letter in found]

    def output(self, run: str) -> list[int]:
        """What stands in the output, duplicates and all."""
        return [row[0] for row in self.place.query(f"select n from batch_out where run = '{run}' order by n")]

    def dead_letters(self, run: str) -> list[int]:
        """The items of the dead letters."""
        found = self.client.ask("run_failures", run=run, tenant=TENANT)
        return sorted(letter["payload"] for letter in found)

    def verify(self, run: str, n: int) -> dict[str, Any]:
        """B1 and B2: every item once, in the output or among the dead letters, and the counters say so."""
        status = self.ended(run)
        good, dead = expected(n)
        out = self.output(run)
        twice, lost = sorted(n for n, count in Counter(out).items() if count > 1), sorted(good - set(out))
        assert (len(twice), len(lost)) == (0, 0), f"{status}: twice {twice[:50]}, lost {lost[:50]}"
        assert out == sorted(good)
        assert self.dead_letters(run) == sorted(dead)
        assert (status["state"], status["failed"], status["done"]) == ("completed_with_failures", len(dead), n - len(dead))
        assert status["done"] - status["skipped"] == len(good)
        assert status["total"] == n
        return status

    def stop_all(self) -> None:
        """End every worker as a deployment does."""
        for child in [*self.children]:
            child.stop()
            self.children.remove(child)

    def close(self) -> None:
        """End whatever is left."""
        for child in [*self.children, self.client]:
            if not child.gone:
                child.thaw()
                child.kill()
