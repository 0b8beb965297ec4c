"""Two databases, one with acme alone and one with globex beside it, and statements run in them without a trace.

Each statement runs in a transaction of the real `PostgresTx` or `SqliteTx` that is rolled back, after all rows were read in
that same transaction. On PostgreSQL the connection is the superuser's that acts as the login role
(`set session authorization`): inside the transaction it can step back and see what policies would hide.
"""

from __future__ import annotations

import re
import shutil
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import asyncpg

from ....errors import NetraError
from ....kernel.runtime import Runtime
from ....kernel.scope import Scope
from ....storage.postgres_transaction import PostgresTx
from ....storage.sqlite_transaction import SqliteTx
from ....storage.statements import Statement
from ....storage.transaction import Tx
from ..catalogue import verb_of
from ..postgres import RUN, Postgres
from ..storage import new_database
from . import rows

RUNTIME: Final = Runtime()
_UNCOUNTED: Final = {"netra_migration", "netra_outbox.id"}
"""Differs from database to database, and from try to try (a number is given once, even to what is rolled back)."""

_TABLES: Final = "select relname::text from pg_class where relname like 'netra\\_%' and relkind = 'r' order by 1"
_TENANT_TABLES: Final = """select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relname like 'netra\\_%' and c.relkind = 'r' and a.attname = 'tenant'"""
_FILES: Final = "select name from sqlite_master where type = 'table' and name like 'netra\\_%' escape '\\' order by name"

_RETURNING: Final = re.compile(r"\breturning\b")

Stored = frozenset[tuple[str, str, str, int]]
"""Rows as (table, tenant or nothing, everything in it, how many such)."""


@dataclass(frozen=True)
class Outcome:
    """What a statement answered (sorted rows, a count, or an error's words), what stood afterwards, and who it ran as."""

    answer: Any
    stored: Stored
    error: NetraError | None = None
    role: str = ""


class World(ABC):
    """A database of one connection. `standing` is what it holds between statements."""

    standing: Stored

    async def run(self, statement: Statement, params: dict[str, Any], tenant: str, *, before: Statement | None = None) -> Outcome:
        """Run it for that tenant (`*`: the system), behind another one if given, and leave no trace."""
        tx = self._begin(Scope(tenant, "tester"))
        try:
            if before is not None:
                await tx.all(before)
            answer = await self._ask(tx, statement, dict(params))
            return Outcome(answer, await self._stored(), role=self._role())
        except NetraError as error:
            return Outcome(f"{type(error).__name__}: {error}", self.standing, error, self._role())
        finally:
            await self._undo(tx)

    async def fill(self, tenants: Iterable[str]) -> None:
        """Store the tenants' rows."""
        for table, row in [*rows.shared_rows(), *(each for tenant in tenants for each in rows.rows_of(tenant))]:
            await self._insert(table, row)
        self.standing = await self._stored()

    async def _ask(self, tx: Tx, statement: Statement, params: dict[str, Any]) -> Any:
        if verb_of(statement) in {"insert", "update", "delete"} and not _RETURNING.search(statement.text):
            return await tx.execute(statement, **params)
        return sorted(map(repr, await tx.all(statement, **params)))

    def _role(self) -> str:
        return ""

    @abstractmethod
    def _begin(self, scope: Scope) -> Any: ...

    @abstractmethod
    async def _undo(self, tx: Any) -> None: ...

    @abstractmethod
    async def _insert(self, table: str, row: dict[str, Any]) -> None: ...

    @abstractmethod
    async def _stored(self) -> Stored: ...


class SqliteWorld(World):
    """A SQLite file through one of its drivers."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self._columns = {table: [row[1] for row in connection.run(f"pragma table_info({table})")] for (table,) in connection.run(_FILES)}

    def _begin(self, scope: Scope) -> SqliteTx:
        self.connection.run("begin immediate")
        return SqliteTx(self.connection, scope, RUNTIME)

    async def _undo(self, tx: SqliteTx) -> None:
        if self.connection.in_transaction():
            self.connection.run("rollback")

    async def _insert(self, table: str, row: dict[str, Any]) -> None:
        self.connection.run(f"insert into {table} ({', '.join(row)}) values ({', '.join(f':{name}' for name in row)})", row)

    async def _stored(self) -> Stored:
        return _counted(row for table in self._columns if table not in _UNCOUNTED for row in self._rows(table))

    def _rows(self, table: str) -> Iterable[tuple[str, str, str]]:
        names = [name for name in self._columns[table] if f"{table}.{name}" not in _UNCOUNTED]
        tenant = names.index("tenant") if "tenant" in names else None
        for row in self.connection.run(f"select {', '.join(names)} from {table}"):
            yield table, "" if tenant is None else row[tenant], repr(row)


class PostgresWorld(World):
    """A PostgreSQL database as the login role sees it."""

    def __init__(self, connection: asyncpg.Connection, login: str = RUN) -> None:
        self.connection = connection
        self.login = login
        self.heard: list[str] = []

    async def start(self) -> None:
        """Act as the login role from here on; learn the tables."""
        tables = [row[0] for row in await self.connection.fetch(_TABLES) if row[0] not in _UNCOUNTED]
        parts = [f"select '{t}', coalesce(to_jsonb(x) ->> 'tenant', ''), {_contents(t)} from {t} x" for t in tables]
        self._everything = " union all ".join(parts)

    async def switch_policies_off(self) -> None:
        """Leave the predicates alone with it."""
        for (table,) in await self.connection.fetch(_TENANT_TABLES):
            await self.connection.execute(f"alter table {table} disable row level security")

    async def fill(self, tenants: Iterable[str]) -> None:
        """See `World.fill`; done by the superuser."""
        await self.start()
        await super().fill(tenants)
        await self.connection.execute(f"set session authorization {self.login}")

    async def fetch(self, sql: str, *arguments: Any, **options: Any) -> Any:
        """Listen to who runs what, for `PostgresTx`."""
        self.heard.append(await self.connection.fetchval("select current_user::text"))
        return await self.connection.fetch(sql, *arguments, **options)

    async def execute(self, sql: str, *arguments: Any, **options: Any) -> Any:
        """See `fetch`."""
        if arguments or not sql.startswith(("begin", "set", "rollback")):
            self.heard.append(await self.connection.fetchval("select current_user::text"))
        return await self.connection.execute(sql, *arguments, **options)

    def is_closed(self) -> bool:
        """See `asyncpg.Connection`."""
        return self.connection.is_closed()

    def _begin(self, scope: Scope) -> PostgresTx:
        self.heard.clear()
        return PostgresTx(self, scope, RUNTIME, "begin")

    async def _undo(self, tx: PostgresTx) -> None:
        await tx.rollback()

    def _role(self) -> str:
        return self.heard[-1] if self.heard else ""

    async def _insert(self, table: str, row: dict[str, Any]) -> None:
        places = ", ".join(f"${n}" for n in range(1, len(row) + 1))
        await self.connection.execute(f"insert into {table} ({', '.join(row)}) values ({places})", *row.values())

    async def _stored(self) -> Stored:
        if self.connection.is_in_transaction():
            await self.connection.execute("set local session authorization default")
        return _counted(tuple(row) for row in await self.connection.fetch(self._everything))


def _counted(rows: Iterable[tuple[str, str, str]]) -> Stored:
    return frozenset((*row, times) for row, times in Counter(rows).items())


def _contents(table: str) -> str:
    return f"(to_jsonb(x){' - ' + chr(39) + 'id' + chr(39) if f'{table}.id' in _UNCOUNTED else ''})::text"


@dataclass(frozen=True)
class Worlds:
    """The same database twice: with acme alone, and with globex beside it."""

    engine: str
    alone: World
    beside: World


@asynccontextmanager
async def sqlite_worlds(driver: str, template: Path, folder: Path) -> AsyncIterator[Worlds]:
    """Two copies of a migrated file."""
    worlds = []
    try:
        for name in ("alone", "beside"):
            (folder / name).mkdir()
            shutil.copy(template, folder / name)
            worlds.append(SqliteWorld(new_database(driver, folder / name)._connect()))
        await worlds[0].fill([rows.ACME])
        await worlds[1].fill([rows.ACME, rows.GLOBEX])
        yield Worlds(driver, *worlds)
    finally:
        for world in worlds:
            world.connection.close()


@asynccontextmanager
async def postgres_worlds(server: Postgres, *, policies: bool, login: str = RUN) -> AsyncIterator[Worlds]:
    """Two migrated databases as `login` sees them, with row-level security as Netra makes it or without any."""
    with server.database() as one, server.database() as two:
        async with server.connected(one, user="superuser") as first, server.connected(two, user="superuser") as second:
            worlds = PostgresWorld(first, login), PostgresWorld(second, login)
            for world in worlds:
                if not policies:
                    await world.switch_policies_off()
            await worlds[0].fill([rows.ACME])
            await worlds[1].fill([rows.ACME, rows.GLOBEX])
            yield Worlds("postgres", *worlds)
