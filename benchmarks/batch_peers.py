"""The same load by systems that keep their promises in the same PostgreSQL: DBOS, procrastinate, pgqueuer.

Each loads a year of flights in chunks of 100 and of 1,000, read from the same CSV file by the same function, each chunk a durable
transaction. What they promise differs, and stands in the row's peer:

* DBOS: a workflow with one transactional step per chunk; the step's result is recorded in the chunk's own transaction, so each is
  written exactly once through kills, as ours. Recovery starts the workflow again and walks over the recorded steps.
* procrastinate and pgqueuer: one job per chunk, written by its task in a transaction of its own; a kill between that and the job's end
  writes the chunk twice, unless a key refuses it: at least once.

Run by `batch_load`; each peer is a process of its own, `python batch_peers.py NAME URL CSV CHUNK`, and prints seconds.
"""

from __future__ import annotations

import asyncio
import csv
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import asyncpg

PEERS: Final = {
    "dbos": "DBOS, a transactional step per chunk",
    "procrastinate": "procrastinate, a job per chunk (at least once)",
    "pgqueuer": "pgqueuer, a job per chunk (at least once)",
}
SIZES: Final = (100, 1000)
ROWS: Final = 100_000
COLUMNS: Final = "time_hour, carrier, flight, origin, dest, distance"
INSERT: Final = f"insert into loaded ({COLUMNS}) values ($1, $2, $3, $4, $5, $6)"


def made_of(row: dict[str, str]) -> tuple[Any, ...]:
    """A flight as the table wants it."""
    return row["time_hour"], row["carrier"], int(row["flight"]), row["origin"], row["dest"], int(row["distance"])


def chunks(path: str, size: int) -> Iterator[list[tuple[Any, ...]]]:
    """The file in chunks."""
    with Path(path).open(newline="", encoding="utf-8") as file:
        items = map(made_of, csv.DictReader(file))
        while part := list(islice(items, size)):
            yield part


def measured(name: str, url: str, path: Path, size: int) -> float:
    """Seconds that the peer takes, in a process of its own."""
    command = [sys.executable, str(Path(__file__)), name, url, str(path), str(size)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr[-3000:]}")
    return float(done.stdout.split()[-1])


def dbos(url: str, path: str, size: int) -> float:
    """A workflow that walks over the chunks, each a step whose result is recorded with its rows."""
    import sqlalchemy
    from dbos import DBOS, SQLAlchemyDatasource

    psycopg = url.replace("postgresql://", "postgresql+psycopg://")
    source = SQLAlchemyDatasource.create(psycopg)
    DBOS(config={"name": "bench", "system_database_url": psycopg, "log_level": "ERROR"})
    parts: list[list[tuple[Any, ...]]] = []
    names = [name.strip() for name in COLUMNS.split(",")]
    insert = sqlalchemy.text(f"insert into loaded ({COLUMNS}) values ({', '.join(':' + name for name in names)})")

    @source.transaction(isolation_level="READ COMMITTED")
    def write(number: int) -> int:
        source.sql_session().execute(insert, [dict(zip(names, row, strict=True)) for row in parts[number]])
        return len(parts[number])

    @DBOS.workflow()
    def load() -> int:
        total = 0
        for number, part in enumerate(chunks(path, size)):
            parts.append(part)
            total += write(number)
            parts[number] = []
        return total

    DBOS.launch()
    started = time.perf_counter()
    load()
    taken_s = time.perf_counter() - started
    DBOS.destroy()
    return taken_s


async def procrastinate(url: str, path: str, size: int) -> float:
    """Jobs whose argument is the chunk's number; the rows are in memory, which favours it."""
    from procrastinate import App, PsycopgConnector

    pool = await asyncpg.create_pool(url, min_size=4, max_size=4)
    app = App(connector=PsycopgConnector(conninfo=url, min_size=4, max_size=10))
    parts: list[list[tuple[Any, ...]]] = []

    @app.task(name="write")
    async def write(number: int) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.executemany(INSERT, parts[number])

    async with app.open_async():
        await app.schema_manager.apply_schema_async()
        started = time.perf_counter()
        parts += chunks(path, size)
        await write.batch_defer_async(*({"number": number} for number in range(len(parts))))
        await app.run_worker_async(wait=False, concurrency=4, install_signal_handlers=False, listen_notify=False)
        taken_s = time.perf_counter() - started
    await pool.close()
    return taken_s


async def pgqueuer(url: str, path: str, size: int) -> float:
    """The same with pgqueuer, drained."""
    from pgqueuer import PgQueuer
    from pgqueuer.db import AsyncpgDriver
    from pgqueuer.models import Job
    from pgqueuer.queries import Queries
    from pgqueuer.types import QueueExecutionMode

    pool, own = await asyncpg.create_pool(url, min_size=4, max_size=4), await asyncpg.connect(url)
    driver = AsyncpgDriver(own)
    queries, queue = Queries(driver), PgQueuer(driver)
    await queries.install()
    parts: list[list[tuple[Any, ...]]] = []

    @queue.entrypoint("write", concurrency_limit=4)
    async def write(job: Job) -> None:
        async with pool.acquire() as connection, connection.transaction():
            await connection.executemany(INSERT, parts[int(job.payload or b"0")])

    started = time.perf_counter()
    parts += chunks(path, size)
    numbers = range(len(parts))
    await queries.enqueue(["write"] * len(parts), [str(number).encode() for number in numbers], [0] * len(parts))
    await queue.run(mode=QueueExecutionMode.drain, batch_size=10)
    taken_s = time.perf_counter() - started
    await pool.close()
    await own.close()
    return taken_s


def rows(*, quick: bool) -> list[Any]:
    """Ours and the peers', interleaved."""
    from batch_load import Bench, ours_in_chunks_of
    from measure import RUNS, Row, interleaved, scratch
    from postgres_server import DURABILITY

    found = []
    with scratch() as folder:
        bench = Bench(folder, 10_000 if quick else ROWS)
        file = bench.file("clean")

        def measure(cell: tuple[str, int]) -> float:
            who, size = cell
            with bench.database("postgresql") as (run_url, owner_url):
                if who == "netra":
                    taken_s = asyncio.run(ours_in_chunks_of(run_url, folder / "data", file, size))
                else:
                    taken_s = measured(who, owner_url, file, size)
                assert bench.stored(owner_url) == bench.good, (who, bench.stored(owner_url), bench.good)
            return bench.good / taken_s

        cells = [(who, size) for size in SIZES for who in ("netra", *PEERS)]
        figures = interleaved(cells, 1 if quick else RUNS, measure)
        for size in SIZES:
            for who, words in PEERS.items():
                ours, theirs = figures["netra", size], figures[who, size]
                name = f"clean load of {bench.good:,} flights, chunks of {size:,}"
                found.append(Row(name, "postgresql", "items/s", DURABILITY, ours, theirs, words))
            aim = [ours / theirs for ours, theirs in zip(figures["netra", size], figures["dbos", size], strict=True)]
            if size == SIZES[0]:
                found.append(Row(f"compared with DBOS, chunks of {size:,}", "postgresql", "x", DURABILITY, aim, budget=2.0))
    return found


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    who, database, file, count = sys.argv[1:]
    if who == "dbos":
        print(dbos(database, file, int(count)))
    else:
        print(asyncio.run({"procrastinate": procrastinate, "pgqueuer": pgqueuer}[who](database, file, int(count))))
