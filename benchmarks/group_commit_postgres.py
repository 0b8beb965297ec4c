"""Durable two-row transactions per second on PostgreSQL: coalesced, each by itself, and one after the other.

The same subjects as `group_commit.py` has on SQLite, on the engine as it ships. The peer is asyncpg as a careful team uses it:
a pool of as many connections as ours, prepared statements, one transaction per caller. What is in the tables afterwards is
counted: a figure stands only if every acknowledged transaction is there.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import asyncpg
import uvloop
from group_commit import BODY, CALLERS, Once, call, put_pair, put_pairs, real
from loop_load import LOADS, loaded
from measure import RUNS, Row, interleaved, scratch, show
from postgres_server import DURABILITY, Urls, make_bare_tables, postgres

from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.storage.postgres import Postgres

CONNECTIONS: Final = 10
PEER: Final = "asyncpg, a transaction each"
ACME: Final = Scope("acme", "bench")
SUBJECTS: Final = ("batched", "function", "alone", "ingest, batched", "ingest, function")
COUNTS: Final = {True: "select count(*) from netra_delivery", False: "select count(*) from change"}


class Cell(NamedTuple):
    """One thing to measure."""

    subject: str
    load: str


def bare(database: Postgres, subject: str) -> Once:
    """Ways to write two rows into two tables with a key each."""
    numbers = count(1)
    if subject == "batched":
        return lambda: database.write_item(put_pairs, next(numbers))
    return lambda: database.write(put_pair, next(numbers), scope=ACME)


async def ours(cell: Cell, urls: Urls, folder: Path, seconds: float) -> float:
    await make_bare_tables(urls.owner)
    database = Postgres(urls.run, Runtime(), lock_dir=folder / "locks", connections=CONNECTIONS)
    await database.open()
    ingests = cell.subject.startswith("ingest")
    try:
        once = await real(database, cell.subject, folder) if ingests else bare(database, cell.subject)
        async with loaded(cell.load):
            done, taken_s = await call(once, 1 if cell.subject == "alone" else CALLERS, seconds)
    finally:
        await database.close()
    await check(urls, COUNTS[ingests], done, cell)
    return done / taken_s


async def peer(cell: Cell, urls: Urls, folder: Path, seconds: float) -> float:
    del folder
    await make_bare_tables(urls.owner)
    numbers = count(1)
    async with asyncpg.create_pool(urls.owner, min_size=CONNECTIONS, max_size=CONNECTIONS) as pool:

        async def once() -> None:
            number = next(numbers)
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute("insert into document (id, body) values ($1, $2)", number, BODY)
                await connection.execute("insert into change (id, document_id, body) values ($1, $1, $2)", number, BODY)

        async with loaded(cell.load):
            done, taken_s = await call(once, 1 if cell.subject.endswith("alone") else CALLERS, seconds)
    await check(urls, COUNTS[False], done, cell)
    return done / taken_s


async def check(urls: Urls, statement: str, done: int, cell: Cell) -> None:
    """Every acknowledged transaction is there."""
    connection = await asyncpg.connect(urls.owner)
    found = await connection.fetchval(statement)
    await connection.close()
    if found != done:
        raise SystemExit(f"{cell}: {done} were acknowledged, {found} are in the database")


def measured(cell: Cell, seconds: float) -> float:
    gc.collect()
    run: Callable[..., Awaitable[Any]] = peer if cell.subject.startswith("peer") else ours
    with scratch() as folder, postgres(folder) as urls:
        return uvloop.run(run(cell, urls, folder, seconds))


def rows(*, quick: bool) -> list[Row]:
    """Measure, and compare each of ours with its peer under the same load."""
    seconds, runs = (0.3, 1) if quick else (1.0, RUNS)
    cells = [Cell(subject, load) for subject in (*SUBJECTS, "peer", "peer alone") for load in LOADS]
    results = interleaved(cells, runs, lambda cell: measured(cell, seconds))
    return [compared(cell, results) for cell in cells if not cell.subject.startswith("peer")]


def compared(cell: Cell, results: dict[Cell, list[float]]) -> Row:
    """Ours beside the peer that does the same; webhook intake does more and stands alone."""
    name = {"alone": "peer alone", "batched": "peer", "function": "peer"}.get(cell.subject)
    theirs = results[Cell(name, cell.load)] if name else []
    words = f"{cell.subject}, loop {cell.load}"
    return Row(words, "postgresql", "transactions/s", DURABILITY, results[cell], theirs, PEER if name else None)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each: shows that it works, measures little")
    show([row.as_json() for row in rows(quick=parser.parse_args().quick)])
