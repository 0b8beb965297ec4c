"""The same two durable inserts as others write them: a plain loop with a commit each, and an ORM's asyncio layer.

Both get what helps them: one connection, so that they never wait for SQLite's lock, prepared statements, no echo, no
expiry. Both run on the interpreter's `sqlite3`, because that is what they are made for.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from itertools import count
from pathlib import Path

from loop_load import loaded
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

PRAGMAS = ("pragma journal_mode = wal", "pragma synchronous = full")


class Base(DeclarativeBase):
    """The tables below."""


class Document(Base):
    __tablename__ = "document"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str]


class Change(Base):
    __tablename__ = "change"
    id: Mapped[int] = mapped_column(primary_key=True)
    document_id: Mapped[int]
    body: Mapped[str]


async def raw_loop(folder: Path, load: str, callers: int, seconds: float, body: str) -> tuple[int, float]:
    """One thread, one connection, a commit each."""
    del callers  # nothing is gained by more of them
    async with loaded(load):
        return await asyncio.to_thread(_insert_alone, folder / "peer.db", seconds, body)


def _insert_alone(path: Path, seconds: float, body: str) -> tuple[int, float]:
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(pragma)
    connection.execute("create table document (id integer primary key, body text not null)")
    connection.execute("create table change (id integer primary key, document_id integer not null, body text not null)")
    started = time.perf_counter()
    done = 0
    while time.perf_counter() - started < seconds:
        done += 1
        connection.execute("begin immediate")
        connection.execute("insert into document (id, body) values (?, ?)", (done, body))
        connection.execute("insert into change (id, document_id, body) values (?, ?, ?)", (done, done, body))
        connection.execute("commit")
    taken_s = time.perf_counter() - started
    connection.close()
    return done, taken_s


async def orm(folder: Path, load: str, callers: int, seconds: float, body: str) -> tuple[int, float]:
    """A session per caller, two objects added, one commit."""
    engine = create_async_engine(f"sqlite+aiosqlite:///{folder / 'peer.db'}", pool_size=1, max_overflow=0, pool_timeout=60)
    event.listen(engine.sync_engine, "connect", _set_up)
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
    try:
        async with loaded(load):
            return await _insert_objects(engine, callers, seconds, body)
    finally:
        await engine.dispose()


def _set_up(connection, _) -> None:
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


async def _insert_objects(engine: AsyncEngine, callers: int, seconds: float, body: str) -> tuple[int, float]:
    numbers = count(1)
    started = time.perf_counter()

    async def caller() -> int:
        done = 0
        while time.perf_counter() - started < seconds:
            async with AsyncSession(engine, expire_on_commit=False) as session:
                number = next(numbers)
                session.add_all([Document(id=number, body=body), Change(id=number, document_id=number, body=body)])
                await session.commit()
            done += 1
        return done

    done = sum(await asyncio.gather(*(caller() for _ in range(callers))))
    return done, time.perf_counter() - started


PEERS = {"raw ungrouped loop": raw_loop, "SQLAlchemy asyncio + aiosqlite": orm}
