"""PostgreSQL's schema is made by its owner, each migration once and whole, and only checked by everybody else."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from netra_backend.errors import CannotStart
from netra_backend.kernel.runtime import Runtime
from netra_backend.storage import postgres_schema
from netra_backend.storage.errors import DatabaseError, NotTheOwner, PrivilegedRole, SchemaTooNew, SchemaTooOld, WrongRole
from netra_backend.storage.migrate import Migration, migrations
from netra_backend.storage.postgres import Postgres
from netra_backend.storage.postgres_schema import create_roles, migrate_postgres, with_user

from ..support.postgres import ADOPTER, OWNER, RUN

KNOWN = migrations("postgres")


@pytest.fixture
def empty(postgres_server):
    """The owner's address of a database without anything."""
    with postgres_server.database(migrated=False) as name:
        yield postgres_server.url(name, user=OWNER)


def now_us():
    return 1


async def opens(url, folder):
    database = Postgres(url, Runtime(), lock_dir=folder / "locks")
    await database.open()
    await database.close()


def test_both_engines_have_the_same_migrations():
    assert [(each.number, each.name) for each in KNOWN] == [(each.number, each.name) for each in migrations("sqlite")]


async def test_what_is_applied_is_not_applied_again(empty):
    assert await migrate_postgres(empty, now_us) == KNOWN
    assert await migrate_postgres(empty, now_us) == []


async def test_several_that_migrate_at_once_apply_each_migration_once(empty):
    applied = await asyncio.gather(*(migrate_postgres(empty, now_us) for _ in range(4)))
    assert sorted(migration.number for done in applied for migration in done) == [each.number for each in KNOWN]


async def test_a_migration_that_fails_leaves_nothing_of_itself(empty, monkeypatch, postgres_server):
    bad = Migration(len(KNOWN) + 1, "bad", "create table half (i integer); create table half (i integer);")
    monkeypatch.setattr(postgres_schema, "migrations", lambda _: [*KNOWN, bad])
    with pytest.raises(DatabaseError, match="half"):
        await migrate_postgres(empty, now_us)
    name = empty.rpartition("/")[2]
    assert postgres_server.query(name, "select to_regclass('half')::text, max(number) from netra_migration") == [(None, len(KNOWN))]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ("insert into netra_migration values (9999, 'future', 'x', 0)", SchemaTooNew),
        ("update netra_migration set checksum = 'other' where number = 1", CannotStart),
        ("delete from netra_migration where number = (select max(number) from netra_migration)", SchemaTooOld),
    ],
)
async def test_a_schema_that_is_not_this_releases_is_refused(postgres_server, postgres_database, tmp_path, change, error):
    await opens(postgres_server.url(postgres_database), tmp_path)
    async with postgres_server.connected(postgres_database, user=OWNER) as owner:
        await owner.execute(change)
    with pytest.raises(error):
        await opens(postgres_server.url(postgres_database), tmp_path)


async def test_an_empty_database_asks_for_its_migration(postgres_server, empty, tmp_path):
    with pytest.raises(SchemaTooOld):
        await opens(postgres_server.url(empty.rpartition("/")[2]), tmp_path)


@pytest.mark.parametrize("user", [OWNER, "superuser"])
async def test_a_role_that_policies_do_not_bind_is_refused_with_the_command(postgres_server, postgres_database, tmp_path, user):
    with pytest.raises(PrivilegedRole) as caught:
        await opens(postgres_server.url(postgres_database, user=user), tmp_path)
    assert "netra migrate --create-roles" in caught.value.fix


async def test_a_role_that_may_not_serve_the_fleet_is_refused(postgres_server, postgres_database, tmp_path):
    with pytest.raises(WrongRole):
        await opens(postgres_server.url(postgres_database, user=ADOPTER), tmp_path)


async def test_the_runs_role_is_made_once_and_keeps_its_password(postgres_server, empty):
    assert await create_roles(empty, "another") is None
    name = empty.rpartition("/")[2]
    async with postgres_server.connected(name, user=RUN) as connection:
        assert await connection.fetchval("select current_user") == RUN


def test_the_url_of_another_role_keeps_everything_else():
    assert with_user("postgresql://o:p@h:1/d?sslmode=require", "netra_run", "x") == "postgresql://netra_run:x@h:1/d?sslmode=require"


async def test_nobody_but_the_owner_can_migrate(postgres_server, empty):
    url = postgres_server.url(empty.rpartition("/")[2], user=RUN)
    with pytest.raises(NotTheOwner, match="permission denied"):
        await migrate_postgres(url, now_us)
    with pytest.raises(asyncpg.UndefinedTableError):
        async with postgres_server.connected(empty.rpartition("/")[2], user=OWNER) as owner:
            await owner.fetch("select 1 from netra_migration")
