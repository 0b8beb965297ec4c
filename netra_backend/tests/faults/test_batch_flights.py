"""Real data under kills: flights of 2013 with the keys of airports, airlines and planes on, and the dirt that they have."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from examples.flights.__main__ import rows_of, unpack
from examples.flights.tables import TABLES

from ..support.batches import BatchWorld
from ..support.places import place_of
from ..support.world import TENANT
from ..support.zygote import until

ROWS = int(os.environ.get("NETRA_FLIGHT_ROWS", "2500"))
"""Of 336,776; `make soak PART=batch` asks for all."""
KILLS = 5


def make_tables(place):
    """As the example's owner does."""
    if hasattr(place, "server"):
        grant = "grant select, insert on airline, airport, plane, flight to netra_run"
        place.server.query(place.name, f"do $$ begin {'; '.join(TABLES)}; {grant}; end $$")
        return
    with closing(sqlite3.connect(place.path, timeout=20)) as connection:
        for table in TABLES:
            connection.execute(table)


def key_of(row):
    return row["time_hour"], row["carrier"], int(row["flight"]), row["origin"]


def expected(folder):
    """The keys of the flights that are good and of those that are not, by a plain look at the files."""
    airports = {row["faa"] for row in rows_of(folder, "airports")}
    planes = {row["tailnum"] for row in rows_of(folder, "planes")}
    good, dead = [], []
    for row in rows_of(folder, "flights"):
        clean = row["dep_delay"] != "NA" and row["dest"] in airports and row["tailnum"] in planes
        (good if clean else dead).append(key_of(row))
    return sorted(good), sorted(dead)


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_a_year_of_flights_survives_kills_row_by_row(zygote, tmp_path, request, engine):
    folder, chance = tmp_path / "input", random.Random(engine)
    unpack(folder, ROWS if ROWS < 336_776 else None)
    with closing(BatchWorld(zygote, tmp_path, place_of(engine, request), batch_jobs=("examples.flights.jobs",))) as world:
        make_tables(world.place)
        world.fill(2)
        for job in ("airlines", "airports", "planes"):
            assert world.ended(start(world, job, folder))["state"] == "completed"
        run = start(world, "flights", folder)
        for kill in range(1, KILLS + 1):
            until(lambda: world.has_come(run, ROWS * kill // (KILLS + 1)), f"kill {kill}", 600)  # noqa: B023
            world.kill(chance.choice(world.children))
            world.start()
        status = world.ended(run, 900)
        good, dead = expected(folder)
        stored = world.place.query("select time_hour, carrier, flight, origin from flight")
        assert sorted(map(tuple, stored)) == good
        letters = world.client.ask("run_failures", run=run, tenant=TENANT, within_s=120)
        assert sorted(key_of(letter["payload"]) for letter in letters) == dead
        assert (status["done"], status["failed"], status["total"]) == (len(good), len(letters), ROWS)
        if path := os.environ.get("NETRA_EVIDENCE"):
            with Path(path).open("a") as file:
                counts = {"rows": ROWS, "kills": KILLS, "good": len(good), "dead": len(letters), "restarts": status["restarts"]}
                file.write(json.dumps({"cell": engine, **counts}) + "\n")


def start(world, job, folder):
    """A run of that job over the folder's files, cut in four."""
    return world.client.ask("start_run", tenant=TENANT, job=job, params={"folder": str(folder)}, key=job, partitions=4)
