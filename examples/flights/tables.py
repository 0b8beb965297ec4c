"""The tables of the example, with the foreign keys that the data's own dirt runs into; one text for both engines."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import Final

TABLES: Final = (
    "create table if not exists airline (carrier text primary key, name text not null)",
    "create table if not exists airport (faa text primary key, name text not null, lat double precision, lon double precision)",
    "create table if not exists plane (tailnum text primary key, manufacturer text not null, seats bigint not null)",
    """create table if not exists flight (
  time_hour text not null, carrier text not null references airline, flight bigint not null, origin text not null references airport,
  dest text not null references airport, tailnum text not null references plane, dep_delay bigint not null, distance bigint not null,
  primary key (time_hour, carrier, flight, origin))""",
)


async def make(url: str) -> None:
    """Make them: in a SQLite file here and now, on PostgreSQL as the owner of the database (NETRA_MIGRATE_URL)."""
    if url.startswith("sqlite:///"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            for table in TABLES:
                connection.execute(table)
        return
    import asyncpg

    owner = await asyncpg.connect(os.environ["NETRA_MIGRATE_URL"])
    try:
        for table in TABLES:
            await owner.execute(table)
        await owner.execute("grant select, insert on airline, airport, plane, flight to netra_run")
    finally:
        await owner.close()
