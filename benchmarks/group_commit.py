"""Durable two-row transactions per second, grouped and alone, beside an event loop that is idle, busy or saturated.

Ours is the SQLite engine as it ships, with both drivers. `batched` hands 200 callers' items to one verb over a list,
`function` ships 200 callers' own functions, `alone` is one caller that waits for each commit; `ingest` is the webhook
intake on its real tables. The peers do the same two inserts: a plain loop with a commit each, and SQLAlchemy's asyncio
layer over aiosqlite. Everybody writes with a write-ahead log and `synchronous=FULL`, on the same disk, and what is in
the file afterwards is counted: a figure stands only if every acknowledged transaction is there.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import uvloop
from group_commit_peers import PEERS
from loop_load import LOADS, loaded
from measure import RUNS, Row, interleaved, percentile, scratch, show

from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope, system_scope
from netra_backend.storage import tenants
from netra_backend.storage.sealing import Sealer, load_root_keys
from netra_backend.storage.sqlite import Sqlite
from netra_backend.storage.statements import parse
from netra_backend.webhooks import endpoints, intake
from netra_backend.webhooks.intake import Intake, Target
from netra_backend.webhooks.model import Endpoint, NewMessage

CALLERS: Final = 200
BODY: Final = "x" * 100
DURABILITY: Final = "WAL, synchronous=FULL, answered after its commit"
Q: Final = parse((Path(__file__).parent / "bare.sql").read_text(encoding="utf-8"))
ACME: Final = Scope("acme", "bench")
ENDPOINT: Final = Endpoint(
    "acme", b"", None, "http://127.0.0.1/", "", None, None,
    disabled=False, rate_limit=None, metadata={}, headers={}, created_us=0, updated_us=0,
)  # fmt: skip


class Cell(NamedTuple):
    """One thing to measure."""

    subject: str
    driver: str
    load: str


@dataclass(frozen=True)
class Measured:
    """Transactions per second, and how long the write lock was held at most by 99 % of the groups."""

    per_second: float
    held_p99_ms: float = 0.0


Once = Callable[[], Awaitable[Any]]


async def put_pair(tx, number):
    await tx.execute(Q["insert_document"], id=number, body=BODY)
    await tx.execute(Q["insert_change"], id=number, body=BODY)


async def put_pairs(tx, numbers):
    rows = [(number, BODY) for number in numbers]
    await tx.execute(Q["insert_documents"], rows=rows)
    await tx.execute(Q["insert_changes"], rows=rows)
    return numbers


async def put_message(tx, item):
    return await intake.ingest(tx, [item])


async def make_tables(tx):
    await tx.execute(Q["create_document"])
    await tx.execute(Q["create_change"])


async def how_many(tx, statement):
    return (await tx.one(Q[statement]))[0]


async def bare(database: Sqlite, subject: str) -> Once:
    """Ways to write two rows into two tables with a key each."""
    await database.write(make_tables, scope=ACME)
    numbers = count(1)
    if subject == "batched":
        return lambda: database.write_item(put_pairs, next(numbers))
    return lambda: database.write(put_pair, next(numbers), scope=ACME)


async def real(database: Sqlite, subject: str, folder: Path) -> Once:
    """Ways to take a message in: message, delivery and event on the tables and indexes that ship."""
    runtime = Runtime()
    sealer = Sealer(load_root_keys(folder / "root.keys", runtime.chance))
    await database.write(tenants.ensure, "acme", scope=system_scope())
    endpoint = await database.write(endpoints.create, sealer, ENDPOINT, None, scope=ACME)
    snapshot = await database.read(endpoints.snapshot, sealer, ACME.tenant, scope=ACME)
    new = NewMessage("document.changed", '{"body":"' + BODY + '"}')

    def item() -> Intake:
        return Intake("acme", runtime.ids.new(), new, snapshot.version, [Target(endpoint.id)], 3600.0)

    if subject == "ingest, batched":
        return lambda: database.write_item(intake.ingest, item())
    return lambda: database.write(put_message, item(), scope=ACME)


async def ours(cell: Cell, folder: Path, seconds: float) -> Measured:
    database = Sqlite(folder / "bench.db", Runtime(), driver=cell.driver, disk_reserve_bytes=0)
    await database.open()
    try:
        real_tables = cell.subject.startswith("ingest")
        once = await (real(database, cell.subject, folder) if real_tables else bare(database, cell.subject))
        database.writer.held_s.clear()
        async with loaded(cell.load):
            done, taken_s = await call(once, 1 if cell.subject == "alone" else CALLERS, seconds)
        held = percentile(database.writer.held_s, 0.99)
        found = await database.read(how_many, "count_messages" if real_tables else "count_changes", scope=system_scope())
    finally:
        await database.close()
    if found != done:
        raise SystemExit(f"{cell}: {done} were acknowledged, {found} are in the file")
    return Measured(done / taken_s, held * 1000)


async def call(once: Once, callers: int, seconds: float) -> tuple[int, float]:
    """Let so many callers repeat it for so long; how many were acknowledged, and the time until the last one."""
    started = time.perf_counter()
    ends = started + seconds

    async def caller() -> int:
        acknowledged = 0
        while time.perf_counter() < ends:
            await once()
            acknowledged += 1
        return acknowledged

    done = sum(await asyncio.gather(*(caller() for _ in range(callers))))
    return done, time.perf_counter() - started


def measured(cell: Cell, seconds: float) -> Measured:
    gc.collect()
    with scratch() as folder:
        peer = PEERS.get(cell.subject)
        if peer is None:
            return uvloop.run(ours(cell, folder, seconds))
        done, taken_s = uvloop.run(peer(folder, cell.load, CALLERS, seconds, BODY))
        return Measured(done / taken_s)


LOOP, ORM = PEERS
SUBJECTS: Final = {"batched": LOOP, "function": ORM, "alone": LOOP, "ingest, batched": None, "ingest, function": None}
"""Ours, and the peer that it is set beside."""
AIMS: Final = {("batched", "idle"): 50_000, ("batched", "saturated"): 2_000}


def cells() -> list[Cell]:
    """All of them, peers included."""
    mine = [Cell(subject, driver, load) for subject in SUBJECTS for driver in ("apsw", "sqlite3") for load in LOADS]
    return [*mine, *(Cell(peer, "sqlite3", load) for peer in PEERS for load in LOADS)]


def rows(*, quick: bool) -> list[Row]:
    """Measure, and compare each of ours with its peer under the same load."""
    seconds, runs = (0.15, 1) if quick else (0.5, RUNS)
    results = interleaved(cells(), runs, lambda cell: measured(cell, seconds))
    compared = []
    for cell, mine in results.items():
        if cell.subject in PEERS:
            continue
        peer = SUBJECTS[cell.subject]
        theirs = results[Cell(peer, "sqlite3", cell.load)] if peer else []
        compared.append(
            Row(
                f"{cell.subject}, loop {cell.load}",
                f"sqlite/{cell.driver}",
                "transactions/s",
                DURABILITY,
                [one.per_second for one in mine],
                [one.per_second for one in theirs],
                peer,
                AIMS.get((cell.subject, cell.load)) if cell.driver == "apsw" else None,
            )
        )
    return [*compared, *held(results)]


def held(results: dict[Cell, list[Measured]]) -> list[Row]:
    """How long a group keeps the write lock from others, where the loop is saturated."""
    return [
        Row(
            f"write lock held p99: {cell.subject}, loop saturated",
            f"sqlite/{cell.driver}",
            "ms",
            DURABILITY,
            [one.held_p99_ms for one in mine],
            budget=50 if cell.driver == "apsw" else None,
            better="lower",
        )
        for cell, mine in results.items()
        if cell.load == "saturated" and cell.subject not in PEERS
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each: shows that it works, measures little")
    show([row.as_json() for row in rows(quick=parser.parse_args().quick)])
