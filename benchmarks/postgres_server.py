"""A durable PostgreSQL for a benchmark: the wheel's server on this disk, with Netra's roles and schema."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import asyncpg

from netra_backend.storage.postgres_schema import create_roles, migrate_postgres, with_user
from netra_backend.testing.postgres import LocalPostgres

DURABILITY = "PostgreSQL 18, fsync and synchronous_commit on; answered after its commit"
PASSWORD = "bench"


class Urls(NamedTuple):
    """The same database as Netra's role and as its owner."""

    run: str
    owner: str


@contextmanager
def postgres(folder: Path) -> Iterator[Urls]:
    """A server with an empty, migrated database, gone afterwards."""
    with LocalPostgres(folder / "postgres", throw_away=True, settings={"shared_buffers": "128MB", "max_wal_size": "1GB"}) as server:
        yield asyncio.run(_prepared(server))


async def _prepared(server: LocalPostgres) -> Urls:
    owner = await server.owned_database()
    await create_roles(owner, PASSWORD)
    await migrate_postgres(owner, lambda: time.time_ns() // 1000)
    return Urls(with_user(owner, "netra_run", PASSWORD), owner)


async def make_bare_tables(owner: str) -> None:
    """The two tables of the design's measurement, which Netra's role may write."""
    connection = await asyncpg.connect(owner)
    await connection.execute("""
        create table document (id bigint primary key, body text not null);
        create table change (id bigint primary key, document_id bigint not null, body text not null);
        grant select, insert on document, change to netra_run, netra_fleet;
    """)
    await connection.close()
