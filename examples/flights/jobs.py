"""Four jobs: airlines, airports, planes, and the 336,776 flights that left New York in 2013.

    netra batch run examples.flights.jobs:flights --param folder=build/flights --tenant airline --data build/flights/data

What is wrong in the data becomes dead letters: 8,255 flights that never left have no delay, others went to airports or were
flown by planes that nobody has listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netra_backend import batch

Row = dict[str, str]

AIRLINES = batch.sql("insert into airline (carrier, name) select r.carrier, r.name from rows(:rows, carrier text, name text) as r")
AIRPORTS = batch.sql(
    """insert into airport (faa, name, lat, lon)
    select r.faa, r.name, r.lat, r.lon from rows(:rows, faa text, name text, lat real, lon real) as r"""
)
PLANES = batch.sql(
    """insert into plane (tailnum, manufacturer, seats)
    select r.tailnum, r.manufacturer, r.seats from rows(:rows, tailnum text, manufacturer text, seats int) as r"""
)
FLIGHTS = batch.sql(
    """insert into flight (time_hour, carrier, flight, origin, dest, tailnum, dep_delay, distance)
    select r.time_hour, r.carrier, r.flight, r.origin, r.dest, r.tailnum, r.dep_delay, r.distance
    from rows(:rows, time_hour text, carrier text, flight int, origin text, dest text, tailnum text, dep_delay int, distance int) as r"""
)


def table(name: str) -> Any:
    """A reader of one of the data's files, in the folder that the run names."""

    def reader(params: Mapping[str, Any]) -> Any:
        return batch.csv(Path(params["folder"]) / f"{name}.csv")

    return reader


async def write_airlines(tx: Any, rows: batch.Rows) -> None:
    """As they are."""
    await tx.execute(AIRLINES, rows=[(row["carrier"], row["name"]) for row in rows])


async def write_airports(tx: Any, rows: batch.Rows) -> None:
    """Without what the flights do not need."""
    await tx.execute(AIRPORTS, rows=[(row["faa"], row["name"], float(row["lat"]), float(row["lon"])) for row in rows])


async def write_planes(tx: Any, rows: batch.Rows) -> None:
    """As above."""
    await tx.execute(PLANES, rows=[(row["tailnum"], row["manufacturer"], int(row["seats"])) for row in rows])


def departed(row: Row) -> tuple[Any, ...]:
    """A flight as its table wants it; `ValueError` where it has no delay, because it never left."""
    delay = int(row["dep_delay"])
    keys = (row["time_hour"], row["carrier"], int(row["flight"]), row["origin"], row["dest"], row["tailnum"])
    return (*keys, delay, int(row["distance"]))


async def write_flights(tx: Any, rows: batch.Rows) -> None:
    """The foreign keys judge them."""
    await tx.execute(FLIGHTS, rows=list(rows))


airlines = batch.job("airlines", read=table("airlines"), write=write_airlines)
airports = batch.job("airports", read=table("airports"), write=write_airports)
planes = batch.job("planes", read=table("planes"), write=write_planes)
flights = batch.job("flights", read=table("flights"), process=departed, write=write_flights, partitions=4)
