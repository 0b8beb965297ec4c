"""The company's own tables, whose foreign keys the data's dirt runs into; one text for both engines."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

TABLES: Final = (
    "create table if not exists company_airport (faa text primary key)",
    "create table if not exists company_plane (tailnum text primary key)",
    """create table if not exists company_flight (
  flown text not null, carrier text not null, flight bigint not null, origin text not null references company_airport,
  dest text not null references company_airport, tailnum text not null references company_plane, late_min bigint not null,
  primary key (flown, carrier, flight, origin))""",
    "create index if not exists company_flight_late on company_flight (late_min)",
)
_GRANT: Final = "grant select, insert on company_airport, company_plane, company_flight to netra_run"


def make_in_file(path: Path) -> None:
    """In a SQLite file, which need not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        for table in TABLES:
            connection.execute(table)


async def make_on_server(owner_url: str) -> None:
    """On PostgreSQL, as the owner of the database; Netra's role may read and insert."""
    import asyncpg

    owner = await asyncpg.connect(owner_url)
    try:
        for statement in (*TABLES, _GRANT):
            await owner.execute(statement)
    finally:
        await owner.close()
