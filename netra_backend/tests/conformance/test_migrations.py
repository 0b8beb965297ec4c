"""Forward only, each whole, each once, and never over what a newer or another release made."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.errors import CannotStart
from netra_backend.storage import migrate
from netra_backend.storage.errors import DatabaseError, SchemaTooNew, SchemaTooOld
from netra_backend.storage.migrate import Migration, migrations, statements

from ..support.storage import ENGINES, SYSTEM, everybody, new_database, opened


@pytest.fixture(params=ENGINES)
def engine(request):
    """PostgreSQL's are tried in `test_migrations_postgres.py`: only its owner migrates, and a script runs there whole."""
    return request.param


SCRIPT = """-- A comment; with a semicolon.
create table a (i integer); -- and one behind

create trigger t after insert on a begin
  select 1; -- inside
  select 2;
end;
insert into a values (';');
"""


A_CONNECTION = """insert into netra_connection
  (tenant, id, name, client, state, generation, fence, attempt_at, attempts, failures, created_us, updated_us, kind)
values (:tenant, :id, :name, x'00', 'active', 1, 0, 0, 0, 0, 1, 1, :kind)"""
KINDS = {"a": None, "b": "client_credentials", "c": "api_key"}


def connected(engine, folder):
    return new_database(engine, folder)._connect()


def test_a_script_is_split_at_its_statements_and_a_trigger_stays_whole():
    parts = list(statements(SCRIPT))
    assert len(parts) == 3
    assert parts[1].count(";") == 3 and parts[1].endswith("end;")


def test_a_script_that_ends_in_the_middle_is_refused():
    with pytest.raises(ValueError, match="unfinished"):
        list(statements("create table a (i integer);\ncreate table b ("))


def test_numbers_are_dense_and_start_at_one():
    known = migrations("sqlite")
    assert [migration.number for migration in known] == list(range(1, len(known) + 1))


def test_what_is_applied_is_not_applied_again(engine, tmp_path):
    database = new_database(engine, tmp_path)
    assert database.migrate() == migrations("sqlite")
    assert database.migrate() == []


def test_where_nothing_is_missing_a_process_starts_beside_one_that_keeps_the_write_lock(engine, tmp_path):
    new_database(engine, tmp_path).migrate()
    busy = connected(engine, tmp_path)
    busy.run("begin immediate")
    try:
        assert new_database(engine, tmp_path, blocked_after_s=0.1).migrate() == []
    finally:
        busy.close()


async def test_several_that_migrate_at_once_apply_each_migration_once(engine, tmp_path):
    databases = [new_database(engine, tmp_path) for _ in range(4)]
    applied = await asyncio.gather(*(asyncio.to_thread(database.migrate) for database in databases))
    assert sorted(migration.number for done in applied for migration in done) == [m.number for m in migrations("sqlite")]


def test_connections_keep_their_kind_when_its_column_is_made_anew(engine, tmp_path, monkeypatch):
    """0027: SQLite changes no check in place."""
    before = [each for each in migrations("sqlite") if each.number < 27]
    with monkeypatch.context() as patched:
        patched.setattr(migrate, "migrations", lambda _: before)
        assert new_database(engine, tmp_path).migrate() == before
    connection = connected(engine, tmp_path)
    connection.run("pragma foreign_keys = off")
    connection.run("drop trigger netra_connection_audit_insert")  # nobody decides anything here
    for name, kind in KINDS.items():
        connection.run(A_CONNECTION, {"tenant": "acme", "id": name.encode(), "name": name, "kind": kind})
    connection.close()
    assert [each.number for each in new_database(engine, tmp_path).migrate()][:1] == [27]
    connection = connected(engine, tmp_path)
    assert dict(connection.run("select name, kind from netra_connection where tenant = :tenant", {"tenant": "acme"})) == KINDS
    connection.run("pragma foreign_keys = off")
    with pytest.raises(DatabaseError):
        connection.run(A_CONNECTION, {"tenant": "acme", "id": b"e", "name": "e", "kind": "other"})
    connection.close()


def test_a_migration_that_fails_leaves_nothing_of_itself(engine, tmp_path, monkeypatch):
    known = migrations("sqlite")
    bad = Migration(len(known) + 1, "bad", "create table half (i integer);\ncreate table half (i integer);")
    monkeypatch.setattr(migrate, "migrations", lambda _: [*known, bad])
    database = new_database(engine, tmp_path)
    with pytest.raises(DatabaseError):
        database.migrate()
    connection = connected(engine, tmp_path)
    assert connection.run("select count(*) from sqlite_master where name = 'half'") == [(0,)]
    assert connection.run("select max(number) from netra_migration") == [(len(known),)]
    connection.close()


@pytest.mark.parametrize("may_migrate", [True, False])
async def test_a_schema_newer_than_this_release_is_refused(engine, tmp_path, may_migrate):
    new_database(engine, tmp_path).migrate()
    connection = connected(engine, tmp_path)
    connection.run("insert into netra_migration values (9999, 'future', 'x', 0)")
    connection.close()
    with pytest.raises(SchemaTooNew, match="9999"):
        await new_database(engine, tmp_path, migrate=may_migrate).open()


@pytest.mark.parametrize("may_migrate", [True, False])
async def test_a_migration_that_was_applied_with_another_text_is_refused(engine, tmp_path, may_migrate):
    new_database(engine, tmp_path).migrate()
    connection = connected(engine, tmp_path)
    connection.run("update netra_migration set checksum = 'other' where number = 1")
    connection.close()
    with pytest.raises(CannotStart, match="another text"):
        await new_database(engine, tmp_path, migrate=may_migrate).open()


async def test_a_process_that_may_not_migrate_asks_for_it(engine, tmp_path):
    with pytest.raises(SchemaTooOld):
        await new_database(engine, tmp_path, migrate=False).open()
    new_database(engine, tmp_path).migrate()
    connection = connected(engine, tmp_path)
    connection.run("delete from netra_migration where number = (select max(number) from netra_migration)")
    connection.close()
    with pytest.raises(SchemaTooOld, match="has not been applied"):
        await new_database(engine, tmp_path, migrate=False).open()


async def test_one_that_may_not_migrate_works_on_what_another_migrated(engine, tmp_path):
    async with opened(engine, tmp_path), opened(engine, tmp_path, migrate=False) as database:
        assert await database.read(everybody, scope=SYSTEM) == {}
