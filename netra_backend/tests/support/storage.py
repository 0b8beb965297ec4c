"""An open database of every kind, and store functions on a table of the tests' own.

The contract suite asks for `database` and so runs over every engine in `EVERY_ENGINE`; tests of what only SQLite has run over
`ENGINES`. Nothing else of a test knows how many engines there are.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ...errors import NetraError, Unavailable
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, system_scope
from ...storage.database import Database
from ...storage.postgres import Postgres
from ...storage.sqlite import Sqlite
from ...storage.statements import Row, Statements
from .postgres import Postgres as PostgresServer

Q = Statements(__package__)
ACME = Scope("acme", "tester")
SYSTEM = system_scope("tester")
ENGINES = ("apsw", "sqlite3")
EVERY_ENGINE = (*ENGINES, "postgres")
UNCACHED = "postgres-uncached"
"""PostgreSQL as behind a pooler in transaction mode that does not follow prepared statements."""

POSTGRES = ("postgres", UNCACHED)
DEADLINE_S = 45.0
"""How long a condition may take on a busy machine before a test fails for it; none waits for it to pass."""

_URL = "postgres.url"
_servers: list[PostgresServer] = []
_SQLITE_ONLY = {"driver", "disk_reserve_bytes", "blocked_after_s", "migrate", "synchronous", "vfs"}


def new_database(engine: str, folder: Path, runtime: Runtime | None = None, **options: Any) -> Any:
    """A database of that engine under `folder`, not open yet; two of one folder are two processes' views of one database."""
    if engine in POSTGRES:
        assert not options.keys() & _SQLITE_ONLY, options
        if not (folder / _URL).exists():
            _give_postgres(folder, _servers[0].create_database(of=_postgres_template()))
        if engine == UNCACHED:
            options["statement_cache"] = 0
        return Postgres((folder / _URL).read_text(), runtime or Runtime(), lock_dir=folder / "locks", **options)
    return Sqlite(folder / "netra.db", runtime or Runtime(), driver=engine, disk_reserve_bytes=0, **options)


@asynccontextmanager
async def opened(engine: str, folder: Path, runtime: Runtime | None = None, **options: Any) -> AsyncIterator[Any]:
    """`new_database`, open, with the tests' tables."""
    database = new_database(engine, folder, runtime, **options)
    await database.open()
    try:
        if engine not in POSTGRES:  # there the template has them: Netra's role may not make tables
            await database.write(make_tables, scope=SYSTEM)
        yield database
    finally:
        await database.close()


@pytest.fixture(params=ENGINES)
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each SQLite driver in turn; a folder's conftest may ask for every engine."""
    return with_its_server(request)


def with_its_server(request: pytest.FixtureRequest) -> str:
    """The engine that a fixture's parameter names, with its server up."""
    if request.param in POSTGRES and not _servers:
        _servers.append(request.getfixturevalue("postgres_server"))
    return request.param


@cache
def _empty_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        made = new_database("apsw", Path(folder))
        made.migrate()
        return made.path.read_bytes()  # its last connection has written the log back


def fresh(path: Path) -> Path:
    """The path, with a migrated, empty SQLite file there unless one is: as in `templates`, and whatever driver opens it."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_empty_file())
        path.chmod(0o600)
    return path


@pytest.fixture(scope="session")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A migrated, empty file of each driver, to be copied: migrating hundreds of times would be most of the work."""
    made = {}
    for name in ENGINES:
        template = new_database(name, tmp_path_factory.mktemp(name))
        template.migrate()
        connection = template._connect()
        for statement in (Q.create_fact, Q.create_count):
            connection.run(statement.sqlite)
        connection.run("pragma wal_checkpoint(truncate)")
        connection.close()
        made[name] = template.path
    return made


@pytest.fixture
def prepared(engine: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder with a migrated, empty database of the engine."""
    if engine in POSTGRES:
        with _servers[0].database(of=_postgres_template()) as name:
            _give_postgres(tmp_path, name)
            yield tmp_path
        return
    shutil.copy(request.getfixturevalue("templates")[engine], tmp_path)
    yield tmp_path


@cache
def _postgres_template() -> str:
    """A database with the tests' tables beside Netra's, to be copied."""
    server, name = _servers[0], _servers[0].create_database()
    grant = "grant select, insert, update, delete on fact, tally to netra_run, netra_fleet"
    server.query(name, f"do $$ begin {Q.create_fact.text}; {Q.create_count.text}; {grant}; end $$")
    return name


def _give_postgres(folder: Path, name: str) -> None:
    """The folder's database is that one."""
    (folder / _URL).write_text(_servers[0].url(name))


def copy_database(folder: Path, to: Path) -> Path:
    """The folder's database as it stands, which nobody has open, under another folder: a backup, or what is put back from one."""
    shutil.copytree(folder, to)
    if (to / _URL).exists():
        _give_postgres(to, _servers[0].create_database(of=(folder / _URL).read_text().rpartition("/")[2]))
    return to


def drop_postgres(folder: Path) -> None:
    """Remove the folder's database from the server, if it has one there: a test of many examples would fill the disk."""
    if (folder / _URL).exists():
        _servers[0].drop_database((folder / _URL).read_text().rpartition("/")[2])


def database_url(folder: Path) -> str:
    """What a whole Netra on the folder's database is given."""
    shared = folder / _URL
    return shared.read_text() if shared.exists() else f"sqlite:///{fresh(folder / 'netra.db')}"


def everything_stored(database: Database) -> bytes:
    """All that stands in the database, for tests of what must not: the file and its log, or each row as text (bytes as hex)."""
    if isinstance(database, Sqlite):
        return database.path.read_bytes() + database.path.with_name("netra.db-wal").read_bytes()
    server, name = _servers[0], database.url.rpartition("/")[2]
    tables = [row[0] for row in server.query(name, "select relname from pg_class where relname like 'netra_%' and relkind = 'r'")]
    return "\n".join(row[0] for table in tables for row in server.query(name, f"select t::text from {table} t")).encode()


def connected(database: Postgres, user: str) -> AbstractAsyncContextManager[asyncpg.Connection]:
    """A connection of the test's own to that database, as another role."""
    return _servers[0].connected(database.url.rpartition("/")[2], user=user)


@pytest.fixture
async def database(engine: str, prepared: Path) -> AsyncIterator[Database]:
    """An open database on the real clock."""
    async with opened(engine, prepared) as database:
        yield database


@pytest.fixture
async def pair(engine: str, prepared: Path) -> AsyncIterator[tuple[Database, Database]]:
    """Two doors to one database, as two processes have them."""
    async with opened(engine, prepared) as one, opened(engine, prepared) as two:
        yield one, two


async def make_tables(tx):
    await tx.execute(Q.create_fact)
    await tx.execute(Q.create_count)


async def put(tx, who, parts=(1, 2), body=""):
    """Two rows and an item on a stream: what must be there as a whole or not at all."""
    for part in parts:
        await tx.execute(Q.insert_fact, who=who, part=part, body=body)
    tx.emit("events", {"who": who})
    return who


async def put_all(tx, names):
    """The batched form: one statement, one result for each item."""
    await tx.execute(Q.insert_facts, rows=[(name, part, None) for name in names for part in (1, 2)])
    return list(names)


async def everybody(tx) -> dict[str, int]:
    """Who has how many rows."""
    return dict(await tx.all(Q.everybody))


async def rows_of(tx, who) -> list[Row]:
    return await tx.all(Q.facts_of, who=who)


async def query(tx, statement, **params) -> list[Row]:
    """Any statement's rows, as a store function."""
    return await tx.all(statement, **params)


async def take_outbox(tx) -> list[Row]:
    """Every row of the outbox, which no leader has moved, taken away: what was told since the last time."""
    return await tx.all(Q.take_outbox)


async def run(tx, statement, **params) -> int:
    """Any statement's count, as a store function."""
    return await tx.execute(statement, **params)


async def eventually(condition: Callable[[], Any], deadline_s: float = DEADLINE_S) -> None:
    """Return once `condition()` is true (it may be a coroutine function); fail after the deadline."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + deadline_s
    while True:
        outcome = condition()
        if await outcome if asyncio.iscoroutine(outcome) else outcome:
            return
        assert loop.time() < ends, f"not so within {deadline_s} s"
        await asyncio.sleep(0.002)


async def write_when_it_can(database: Database, fn, *args, scope=SYSTEM, deadline_s: float = DEADLINE_S) -> Any:
    """A write that is repeated while the database refuses it: how a test sees that the writer recovered."""
    loop = asyncio.get_running_loop()
    ends = loop.time() + deadline_s
    while True:
        try:
            return await database.write(fn, *args, scope=scope)
        except Unavailable as error:
            assert loop.time() < ends, f"still refused after {deadline_s} s: {error}"
            await asyncio.sleep(0.002)


async def outcome_of(awaitable) -> Any:
    """The result, or the error, as a value."""
    try:
        return await awaitable
    except NetraError as error:
        return error


class Gate:
    """Holds the writer thread inside a store function until the test opens it: what is queued meanwhile is one group."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self._open = threading.Event()

    async def hold(self, tx) -> None:
        self.entered.set()
        assert self._open.wait(DEADLINE_S), "nobody opened the gate"

    def open(self) -> None:
        self._open.set()

    @asynccontextmanager
    async def closed(self, database: Database) -> AsyncIterator[None]:
        """Inside, the writer is busy; afterwards it goes on."""
        holding = asyncio.create_task(database.write(self.hold, scope=SYSTEM))
        try:
            await eventually(self.entered.is_set)
            yield
        finally:
            self.open()
            await holding


async def let_run(turns: int = 5) -> None:
    """A few turns of the loop, so that tasks just made have come as far as they can."""
    for _ in range(turns):
        await asyncio.sleep(0)


def refuse(monkeypatch: pytest.MonkeyPatch, database: Any, tenant: str) -> None:
    """From now on every write in the bulk lane for that tenant is an error, as where a row of his is damaged."""
    write = database.write

    async def refusing(fn: Any, *args: Any, scope: Scope, lane: str = "normal") -> Any:
        if (scope.tenant, lane) == (tenant, "bulk"):
            raise NetraError(f"a row of {tenant} is damaged")
        return await write(fn, *args, scope=scope, lane=lane)

    monkeypatch.setattr(database, "write", refusing)
