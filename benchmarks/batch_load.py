"""A year of flights into a table with foreign keys: clean, with 2.3 % of dirt, and under SIGKILL.

The same CSV file, the same processing, chunks of 1,000, one durable transaction for each with its cursor. Peers: a hand-written
loop over the bare driver (`sqlite3`, asyncpg), which is what the engine gives without anything around it: no lease, no fence, no
dead letters, no takeover; and, for the dirty file, the same loop with the way out that Spring Batch has, which rolls a chunk back
that failed and then tries each of its items in a transaction of its own. Under SIGKILL `netra batch run` is killed every few
seconds and started again, and what it lost or wrote twice is counted: a figure stands only if both are nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
from measure import RUNS, Row, interleaved, scratch, show
from postgres_server import DURABILITY, postgres

from examples.flights.__main__ import rows_of, unpack
from netra_backend import Netra, batch

CHUNK: Final = 1000
KILL_EVERY_S: Final = 5.0
DURABLE: Final = {"sqlite": "SQLite, WAL, synchronous=FULL; a transaction per chunk", "postgresql": DURABILITY}
TABLES: Final = (
    "create table airport (faa text primary key)",
    """create table loaded (time_hour text not null, carrier text not null, flight bigint not null, origin text not null,
    dest text not null references airport, distance bigint not null, primary key (time_hour, carrier, flight, origin))""",
    "create table place (name text primary key, at bigint not null)",
    "create table letter (at bigint not null, error text not null)",
)
INSERT: Final = batch.sql(
    """insert into loaded (time_hour, carrier, flight, origin, dest, distance)
    select r.time_hour, r.carrier, r.flight, r.origin, r.dest, r.distance
    from rows(:rows, time_hour text, carrier text, flight int, origin text, dest text, distance int) as r"""
)
BY_HAND: Final = "insert into loaded (time_hour, carrier, flight, origin, dest, distance) values ({})"
LOOP, SCAN = "a loop over the bare driver", "the same loop, item by item where a chunk fails"


def made_of(row: dict[str, str]) -> tuple[Any, ...]:
    """A flight as the table wants it."""
    return row["time_hour"], row["carrier"], int(row["flight"]), row["origin"], row["dest"], int(row["distance"])


async def write(tx: Any, rows: batch.Rows) -> None:
    await tx.execute(INSERT, rows=list(rows))


JOB: Final = batch.job("bench-load", read=lambda params: batch.csv(params["file"]), process=made_of, write=write, chunk=CHUNK, partitions=1)


class Cell(NamedTuple):
    """One thing to measure."""

    engine: str
    who: str
    file: str


class Bench:
    """The input, and a fresh database for each figure."""

    def __init__(self, folder: Path, rows: int | None) -> None:
        unpack(folder, rows)
        self.folder = folder
        self.airports = [row["faa"] for row in rows_of(folder, "airports")]
        known = set(self.airports)
        flights = list(rows_of(folder, "flights"))
        self.counts = {"dirty": len(flights), "clean": 0}
        for name, kept in (("dirty", flights), ("clean", [row for row in flights if row["dest"] in known])):
            self.counts[name] = len(kept)
            with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, flights[0].keys())
                writer.writeheader()
                writer.writerows(kept)
        self.good = self.counts["clean"]

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.csv"

    def measured(self, cell: Cell) -> float:
        """Items per second from the start to the last commit."""
        with self.database(cell.engine) as (run_url, owner_url):
            if cell.who == "netra":
                taken_s = asyncio.run(self._ours(run_url, cell.file))
            elif cell.engine == "sqlite":
                taken_s = self._sqlite_loop(run_url, cell.file)
            else:
                taken_s = asyncio.run(self._postgres_loop(owner_url, cell.file))
            assert self.stored(owner_url) == self.good, f"{cell}: {self.stored(owner_url)} of {self.good}"
            return self.counts[cell.file] / taken_s

    @contextmanager
    def database(self, engine: str) -> Iterator[tuple[str, str]]:
        with scratch() as folder:
            if engine == "sqlite":
                url = f"sqlite:///{folder / 'netra.db'}"
                with closing(sqlite3.connect(folder / "netra.db")) as connection:
                    connection.execute("pragma journal_mode = wal")
                    for table in TABLES:
                        connection.execute(table)
                    connection.executemany("insert into airport values (?)", [(each,) for each in self.airports])
                    connection.commit()
                yield url, url
                return
            with postgres(folder) as urls:
                asyncio.run(self._make(urls.owner))
                yield urls.run, urls.owner

    async def _make(self, owner: str) -> None:
        connection = await asyncpg.connect(owner)
        for table in TABLES:
            await connection.execute(table)
        await connection.executemany("insert into airport values ($1)", [(each,) for each in self.airports])
        await connection.execute("grant select, insert on airport, loaded to netra_run")
        await connection.close()

    def stored(self, url: str) -> int:
        """How many flights are there; the key forbids that one is there twice."""
        if url.startswith("sqlite"):
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
                return connection.execute("select count(*) from loaded").fetchone()[0]
        return asyncio.run(_count(url))

    async def _ours(self, url: str, name: str) -> float:
        async with Netra(url, data=self.folder / "data", role="cli", environ={}) as netra:
            started = time.perf_counter()
            async with netra.transaction(tenant="bench") as tx:
                run = await netra.batch.start(tx, JOB, {"file": str(self.file(name))})
            while (status := await netra.batch.status(run))["state"] in {"queued", "running"}:
                await asyncio.sleep(0.02)
            assert status["failed"] == self.counts[name] - self.good, status
            return time.perf_counter() - started

    def _sqlite_loop(self, url: str, name: str) -> float:
        insert = BY_HAND.format(", ".join("?" * 6))
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            for pragma in ("synchronous = full", "foreign_keys = on"):
                connection.execute(f"pragma {pragma}")
            connection.execute("insert into place values ('bench', 0)")
            started = time.perf_counter()
            for number, part in enumerate(self._chunks(name)):
                connection.execute("begin immediate")
                try:
                    connection.executemany(insert, part)
                except sqlite3.IntegrityError:
                    connection.execute("rollback")
                    self._scan(connection, insert, part, number)
                    connection.execute("begin immediate")
                connection.execute("update place set at = ?", (number,))
                connection.execute("commit")
            return time.perf_counter() - started

    def _scan(self, connection: sqlite3.Connection, insert: str, part: list[Any], number: int) -> None:
        for item in part:
            connection.execute("begin immediate")
            try:
                connection.execute(insert, item)
            except sqlite3.IntegrityError as error:
                connection.execute("insert into letter values (?, ?)", (number, str(error)))
            connection.execute("commit")

    async def _postgres_loop(self, url: str, name: str) -> float:
        insert = BY_HAND.format(", ".join(f"${n}" for n in range(1, 7)))
        connection = await asyncpg.connect(url)
        await connection.execute("insert into place values ('bench', 0)")
        started = time.perf_counter()
        for number, part in enumerate(self._chunks(name)):
            try:
                async with connection.transaction():
                    await connection.executemany(insert, part)
                    await connection.execute("update place set at = $1", number)
            except asyncpg.ForeignKeyViolationError:
                for item in part:
                    try:
                        await connection.execute(insert, *item)
                    except asyncpg.ForeignKeyViolationError as error:
                        await connection.execute("insert into letter values ($1, $2)", number, str(error))
                await connection.execute("update place set at = $1", number)
        taken_s = time.perf_counter() - started
        await connection.close()
        return taken_s

    def _chunks(self, name: str) -> Iterator[list[Any]]:
        with self.file(name).open(newline="", encoding="utf-8") as file:
            items = map(made_of, csv.DictReader(file))
            while part := list(islice(items, CHUNK)):
                yield part

    def killed(self, engine: str, every_s: float) -> float:
        """Seconds to the end of the dirty file, the process killed every `every_s`."""
        with self.database(engine) as (run_url, owner_url), scratch() as data:
            asyncio.run(_tenant(run_url, data))
            words = ["batch", "run", "batch_load:bench-load", "--param", f"file={self.file('dirty')}", "--tenant", "bench", "--json"]
            command = [sys.executable, "-m", "netra_backend.cli.main", *words, "--database-url", run_url, "--data", str(data)]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
            started, kills = time.perf_counter(), 0
            while True:
                process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
                try:
                    out, _ = process.communicate(timeout=every_s)
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.communicate()
                    kills += 1
                    continue
                break
            taken_s = time.perf_counter() - started
            status = json.loads(out)
            lost = self.good - self.stored(owner_url)
            assert (lost, status["failed"]) == (0, self.counts["dirty"] - self.good), (kills, status)
            return taken_s


async def ours_in_chunks_of(url: str, data: Path, file: Path, size: int) -> float:
    """Seconds from the start to the end of a run whose chunks have at most so many items."""
    job = batch.job(f"bench-{size}", read=lambda params: batch.csv(params["file"]), process=made_of, write=write, chunk=size)
    async with Netra(url, data=data, role="cli", environ={}) as netra:
        started = time.perf_counter()
        async with netra.transaction(tenant="bench") as tx:
            run = await netra.batch.start(tx, job, {"file": str(file)}, f"{time.time_ns()}")
        while (await netra.batch.status(run))["state"] in {"queued", "running"}:
            await asyncio.sleep(0.02)
        return time.perf_counter() - started


async def _count(url: str) -> int:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval("select count(*) from loaded")
    finally:
        await connection.close()


async def _tenant(url: str, data: Path) -> None:
    async with Netra(url, data=data, workers=False, role="cli", environ={}) as netra:
        await netra.tenant("bench")


def rows(*, quick: bool) -> list[Row]:
    """Measure everything, interleaved."""
    found = []
    with scratch() as folder:
        bench = Bench(folder, 10_000 if quick else None)
        runs = 1 if quick else RUNS
        cells = [Cell(engine, who, file) for engine in DURABLE for file in ("clean", "dirty") for who in ("netra", "peer")]
        figures = interleaved(cells, runs, bench.measured)
        for engine, durability in DURABLE.items():
            for file, peer, aim in (("clean", LOOP, 0.9), ("dirty", SCAN, 5.0)):
                ours, theirs = (figures[Cell(engine, who, file)] for who in ("netra", "peer"))
                share = bench.counts[file] - bench.good
                name = f"{file} load of {bench.counts[file]:,} flights, {share:,} dead letters"
                found.append(Row(name, engine, "items/s", durability, ours, theirs, peer))
                ratio = sorted(ours)[len(ours) // 2] / sorted(theirs)[len(theirs) // 2]
                found.append(Row(f"{file} load compared", engine, "x", durability, [ratio], budget=aim))
            times = [bench.killed(engine, KILL_EVERY_S) for _ in range(runs)]
            name = f"dirty load, killed every {KILL_EVERY_S:g} s, nothing lost or doubled"
            found.append(Row(name, engine, "s", durability, times, better="lower"))
    return found


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one short run of each: shows that it works, measures little")
    show([row.as_json() for row in rows(quick=arguments.parse_args().quick)])
