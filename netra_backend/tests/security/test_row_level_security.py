"""What each role can do on PostgreSQL, in raw SQL: whatever a statement of ours forgets, the database refuses."""

from __future__ import annotations

from contextlib import asynccontextmanager

import asyncpg
import pytest

from netra_backend.storage import postgres_schema
from netra_backend.storage.migrate import Migration, migrations
from netra_backend.storage.postgres_schema import migrate_postgres, roles_sql

from ..support.postgres import ADOPTER, OWNER, RUN

TENANTS = ("acme", "globex")
READABLE = (
    "netra_tenant",
    "netra_audit_entry",
    "netra_audit_use",
    "netra_api_key",
    "netra_data_key",
    "netra_endpoint",
    "netra_endpoint_secret",
    "netra_webhook_version",
    "netra_idempotency",
    "netra_message",
    "netra_delivery",
    "netra_attempt",
)
ENTRY = "insert into netra_audit_entry values ('{tenant}', '\\x{id}', 0, 'a', 'b', '{table}', '{target}', 'ok', '', '', null, null)"
SEED = (
    ENTRY.format(tenant="{t}", id="01", table="netra_tenant", target="{t}"),
    "insert into netra_tenant values ('{t}', '{t}', '{t}', 'A', '{{}}', null, 0, 0, null, '\\x01')",
    ENTRY.format(tenant="{t}", id="02", table="netra_api_key", target="02"),
    "insert into netra_api_key values ('{t}', '\\x02', '{t}', 'ci', '[]', 0, null, null, null, '\\x02')",
    ENTRY.format(tenant="{t}", id="03", table="netra_endpoint", target="03"),
    "insert into netra_endpoint values ('{t}', '\\x03', null, 'u', '', null, null, 0, null, '{{}}', '{{}}', 0, 0, null, '\\x03')",
    ENTRY.format(tenant="{t}", id="04", table="netra_endpoint_secret", target="04"),
    "insert into netra_endpoint_secret values ('{t}', '\\x04', '\\x03', 's', 0, null, null, '\\x04')",
    "insert into netra_data_key values ('{t}', 1, 'r1', 'w', 0)",
    "insert into netra_webhook_version values ('{t}', 1)",
    "insert into netra_idempotency values ('{t}', 'r', 'k', 'h', '\\x05', 202, 0)",
    "insert into netra_message values ('{t}', '\\x05', 'e', null, '{{}}', null, null, null, 0, '', '')",
    "insert into netra_delivery values ('{t}', '\\x05', '\\x03', 'due', 0, 0, 0, 0, null, null, null, null)",
    "insert into netra_attempt values ('{t}', '\\x05', '\\x06', '\\x03', 1, 0, 0, 0, 'failed', 500, '', '', '', 'u', 0, '', '')",
    "insert into netra_outbox (stream, tenant, items, at_us) values ('events', '{t}', '[]', 0)",
)
INHERITING = """do $$ begin  -- up to 15 a matter of the member, then of the membership
  if current_setting('server_version_num')::int < 160000 then alter role netra_run inherit;
  else execute 'grant netra_fleet to netra_run with inherit true'; end if;
end $$"""
EVENT_TYPE = "insert into netra_event_type values ('*', 'e', '', 0, 0, null, null, 0, 0, null, '\\x01')"


@pytest.fixture
async def seeded(postgres_server, postgres_database):
    """A database with a row of each of two tenants on every table, and an event type of the operator's."""
    async with postgres_server.connected(postgres_database) as connection:
        for tenant in TENANTS:
            async with acting(connection, tenant):
                for statement in SEED:
                    await connection.execute(statement.format(t=tenant))
        async with acting(connection, "*"):
            await connection.execute(ENTRY.format(tenant="*", id="01", table="netra_event_type", target="e"))
            await connection.execute(EVENT_TYPE)
            await connection.execute(ENTRY.format(tenant="*", id="02", table="order", target="1"))
    return postgres_database


@pytest.fixture
async def run(postgres_server, seeded):
    """What Netra logs in as."""
    async with postgres_server.connected(seeded, user=RUN) as connection:
        yield connection


@pytest.fixture
async def shop(postgres_server, seeded):
    """A user's own role, which adopts its transactions."""
    async with postgres_server.connected(seeded, user=ADOPTER) as connection:
        yield connection


@pytest.fixture
async def owner(postgres_server, seeded):
    """Whoever migrates."""
    async with postgres_server.connected(seeded, user=OWNER) as connection:
        yield connection


@asynccontextmanager
async def acting(connection, tenant="", role=""):
    """A transaction under the tenant's setting and, where one is given, another role."""
    async with connection.transaction():
        if tenant:
            await connection.execute("select set_config('netra.tenant', $1, true)", tenant)
        if role:
            await connection.execute(f"set local role {role}")
        yield


async def tenants_in(connection, table):
    return {row[0] for row in await connection.fetch(f"select tenant from {table}")}


async def refused(connection, statement, tenant="acme", role=""):
    """The server's words for its refusal."""
    with pytest.raises(asyncpg.InsufficientPrivilegeError) as caught:
        async with acting(connection, tenant, role):
            await connection.execute(statement)
    return str(caught.value)


@pytest.mark.parametrize(("tenant", "seen"), [("acme", {"acme"}), ("globex", {"globex"}), ("", set()), ("initech", set())])
async def test_a_transaction_sees_the_rows_of_the_tenant_that_it_has_set(run, tenant, seen):
    async with acting(run, tenant):
        assert {table: await tenants_in(run, table) for table in READABLE} == dict.fromkeys(READABLE, seen)


async def test_what_one_transaction_has_set_the_next_does_not_have(run):
    async with acting(run, "acme"):
        assert await tenants_in(run, "netra_message") == {"acme"}
    assert await tenants_in(run, "netra_message") == set()


async def test_a_row_of_another_tenant_is_not_written(run):
    for statement in SEED:
        assert "row-level security" in await refused(run, statement.format(t="globex"))


async def test_a_row_of_another_tenant_is_not_changed_and_not_taken(run):
    async with acting(run, "acme"):
        assert await run.execute("update netra_delivery set number = 9 where tenant = 'globex'") == "UPDATE 0"
        assert await run.execute("delete from netra_idempotency") == "DELETE 1"
    async with acting(run, "globex"):
        assert await tenants_in(run, "netra_idempotency") == {"globex"}


async def test_a_row_is_not_moved_to_another_tenant(run):
    assert "row-level security" in await refused(run, "update netra_idempotency set tenant = 'globex', key = 'moved'")


async def test_a_row_does_not_point_at_another_tenants(run):
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        async with acting(run, "acme"):
            await run.execute("insert into netra_message values ('acme', '\\x07', 'e', null, '{}', null, null, null, 0, '', '')")
            async with acting(run, "globex"):
                await run.execute(
                    "insert into netra_delivery values ('globex', '\\x07', '\\x03', 'due', 0, 0, 0, 0, null, null, null, null)"
                )


async def test_every_tenant_reads_the_operators_event_types_and_only_the_operator_writes_them(run, shop):
    for connection in (run, shop):
        async with acting(connection, "acme"):
            assert await tenants_in(connection, "netra_event_type") == {"*"}
    async with acting(run, "acme"):
        assert await run.execute("update netra_event_type set updated_us = 1") == "UPDATE 0"
    async with acting(run, "*"):
        assert await run.execute("update netra_event_type set updated_us = 1") == "UPDATE 1"
    assert "row-level security" in await refused(run, EVENT_TYPE.replace("'e'", "'f'"))


# The fleet


async def test_the_fleet_sees_every_tenant_until_the_transaction_ends(run):
    async with acting(run, role="netra_fleet"):
        assert await tenants_in(run, "netra_delivery") == set(TENANTS)
        assert await tenants_in(run, "netra_outbox") == set(TENANTS)
    assert await run.fetchval("select current_user") == RUN
    assert await tenants_in(run, "netra_delivery") == set()


async def test_without_entering_it_the_fleets_rights_are_nobodys(run):
    await refused(run, "select items from netra_outbox")
    await refused(run, "select items from netra_log")


@pytest.mark.parametrize(
    "statement",
    [
        "select sealed from netra_endpoint_secret",
        "select url from netra_endpoint",
        "insert into netra_audit_entry (tenant) values ('acme')",
        "select data from netra_audit_personal",
        "update netra_audit_log set size = 0",
        "insert into netra_audit_use values ('acme', '\\x09')",
        "update netra_tenant set name = 'x'",
        "update netra_delivery set tenant = 'globex'",
        "update netra_delivery set message_id = '\\x09'",
        "update netra_delivery set deadline_us = 0",
        "delete from netra_message",
        "delete from netra_attempt",
        "update netra_data_key set wrapped = 'x'",
    ],
)
async def test_the_fleet_does_what_its_list_needs_and_no_more(run, statement):
    assert "permission denied" in await refused(run, statement, role="netra_fleet")


@pytest.mark.parametrize("role", ["netra_fleet", "netra_run", OWNER])
async def test_an_adopting_role_enters_no_other(shop, role):
    assert "permission denied to set role" in await refused(shop, "select 1", role=role)


@pytest.mark.parametrize("role", ["netra_app", OWNER])
async def test_netra_itself_enters_no_other_than_the_fleet(run, role):
    assert "permission denied to set role" in await refused(run, "select 1", role=role)


# An adopting user's own role


async def test_an_adopting_role_sends_and_records_in_its_tenant(shop):
    async with acting(shop, "acme"):
        await shop.execute("insert into netra_idempotency values ('acme', 'r', 'k2', 'h', '\\x08', 202, 0)")
        await shop.execute("update netra_idempotency set ref = '\\x05' where key = 'k2'")
        await shop.execute("delete from netra_idempotency where key = 'k2'")
        await shop.execute("insert into netra_message values ('acme', '\\x08', 'e', null, '{}', null, null, null, 0, '', '')")
        await shop.execute("insert into netra_delivery values ('acme', '\\x08', '\\x03', 'due', 0, 0, 0, 0, null, null, null, null)")
        await shop.execute(ENTRY.format(tenant="acme", id="08", table="order", target="1"))
        await shop.execute("insert into netra_outbox (stream, tenant, items, at_us) values ('events', 'acme', '[]', 0)")
        for table in ("netra_tenant", "netra_endpoint", "netra_webhook_version", "netra_message", "netra_delivery"):
            assert await tenants_in(shop, table) == {"acme"}


async def test_an_adopting_role_writes_for_no_other_tenant(shop):
    for statement in SEED:
        if any(
            table in statement for table in ("netra_audit_entry", "netra_idempotency", "netra_message", "netra_delivery", "netra_outbox")
        ):
            assert "row-level security" in await refused(shop, statement.format(t="globex"))


@pytest.mark.parametrize("table", ["netra_endpoint_secret", "netra_data_key", "netra_api_key", "netra_attempt", "netra_audit_entry"])
async def test_an_adopting_role_reads_no_secret_no_key_and_no_trail(shop, table):
    assert "permission denied" in await refused(shop, f"select * from {table}")


@pytest.mark.parametrize(
    "statement",
    [
        "select * from netra_outbox",
        "select * from netra_log",
        "select * from netra_node",
        "update netra_tenant set name = 'x'",
        "delete from netra_tenant",
        "update netra_endpoint set url = 'x'",
        "update netra_delivery set state = 'dead'",
        "update netra_idempotency set body_hash = 'x'",
        "select actor from netra_audit_entry",
        "update netra_audit_entry set actor = 'x'",
        "update netra_audit_use set audit_id = audit_id",
        "update netra_meta set value = 'x'",
    ],
)
async def test_an_adopting_role_may_do_nothing_else(shop, statement):
    assert "permission denied" in await refused(shop, statement)


# What would go round it all


@pytest.mark.parametrize("user", [RUN, ADOPTER])
@pytest.mark.parametrize(
    "statement",
    [
        "truncate netra_message cascade",
        "drop table netra_message",
        "alter table netra_message disable row level security",
        "alter table netra_audit_entry disable trigger all",
        "create policy p on netra_message using (true)",
        "create trigger t before insert on netra_message for each row execute function netra_audit_refuse('x')",
        "create table public.netra_mine (i int)",
        "create function public.netra_audit_serve() returns int language sql return 1",
        "set session_replication_role = replica",
        "set session authorization postgres",
        "alter role current_user bypassrls",
        "set local row_security = off; select * from netra_message",
        "copy netra_message to program 'true'",
    ],
)
async def test_a_way_round_the_policies_is_closed(user, statement, postgres_server, seeded):
    async with postgres_server.connected(seeded, user=user) as connection:
        await refused(connection, statement)


async def forge(connection):
    """Have a temporary table of the trail's name say that an entry about something else is about a tenant."""
    async with acting(connection, "acme"):
        await connection.execute(ENTRY.format(tenant="acme", id="99", table="order", target="1"))
        await connection.execute("create temporary table netra_audit_entry (like public.netra_audit_entry) on commit drop")
        await connection.execute(ENTRY.format(tenant="acme", id="99", table="netra_tenant", target="acme"))
        await connection.execute("update netra_tenant set name = 'evil', audit_id = '\\x99'")


async def test_a_temporary_table_does_not_stand_in_for_the_audit_trail(run):
    with pytest.raises(asyncpg.IntegrityConstraintViolationError, match="has no audit entry of its own"):
        await forge(run)


async def test_it_would_if_the_functions_did_not_name_their_search_path_to_its_end(run, owner):
    await owner.execute("alter function netra_audit_serve set search_path = pg_catalog, public")
    await forge(run)


# The audit trail


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("update netra_audit_entry set actor = 'nobody'", "netra_audit: an audit entry is never changed"),
        ("delete from netra_audit_entry", "netra_audit: an audit entry is never deleted"),
        ("truncate netra_audit_entry cascade", "netra_audit: an audit entry is never deleted"),
        ("update netra_audit_use set audit_id = '\\x09'", "netra_audit: the use of an audit entry is never changed"),
        ("delete from netra_audit_use", "netra_audit: the use of an audit entry is never deleted"),
        ("truncate netra_audit_use", "netra_audit: the use of an audit entry is never deleted"),
        ("update netra_tenant set name = 'evil'", "netra_audit: this audit entry has served another change"),
        ("update netra_tenant set audit_id = '\\x02'", "netra_audit: this change of netra_tenant has no audit entry of its own"),
        ("update netra_api_key set audit_id = '\\x01'", "netra_audit: this change of netra_api_key has no audit entry of its own"),
        ("update netra_endpoint set audit_id = '\\x01'", "netra_audit: this change of netra_endpoint has no audit entry of its own"),
        ("update netra_endpoint_secret set audit_id = '\\x01'", "this change of netra_endpoint_secret has no audit entry of its own"),
        ("update netra_event_type set audit_id = '\\x02'", "netra_audit: this change of netra_event_type has no audit entry of its own"),
        ("update netra_delivery set audit_id = '\\x01'", "netra_audit: this change of netra_delivery has no audit entry of its own"),
        (
            "delete from netra_attempt; delete from netra_delivery; delete from netra_message; delete from netra_tenant",
            "by a tombstone update first",
        ),
    ],
)
async def test_the_trail_binds_the_owner_too(owner, statement, words):
    with pytest.raises(asyncpg.IntegrityConstraintViolationError) as caught:
        await owner.execute(statement)
    assert words in str(caught.value) and caught.value.sqlstate == "23000"


async def test_a_delivery_is_decided_upon_with_an_entry_of_its_own(run):
    async with acting(run, "acme"):
        await run.execute(ENTRY.format(tenant="acme", id="09", table="netra_delivery", target="05/03"))
        assert await run.execute("update netra_delivery set state = 'cancelled', audit_id = '\\x09'") == "UPDATE 1"


# Owner and roles


async def migrated_with(monkeypatch, url, sql):
    known = [*migrations("postgres"), Migration(len(migrations("postgres")) + 1, "data", sql)]
    monkeypatch.setattr(postgres_schema, "migrations", lambda _: known)
    return await migrate_postgres(url, lambda: 0)


async def test_a_migration_changes_the_rows_of_every_tenant(postgres_server, seeded, run, monkeypatch):
    await migrated_with(monkeypatch, postgres_server.url(seeded, user=OWNER), "update netra_message set payload = 'new'")
    async with acting(run, role="netra_fleet"):
        assert {tuple(row) for row in await run.fetch("select tenant, payload from netra_message")} == {(t, "new") for t in TENANTS}


async def test_without_the_owners_policy_a_migration_would_find_no_row(owner):
    await owner.execute("drop policy of_owner on netra_message")
    assert await owner.execute("update netra_message set payload = 'new'") == "UPDATE 0"


async def test_the_roles_are_made_once_and_a_second_run_changes_nothing(owner):
    before = await owner.fetch("select * from pg_roles order by oid")
    async with owner.transaction():
        await owner.execute(roles_sql())
        await owner.execute(roles_sql())
    assert await owner.fetch("select * from pg_roles order by oid") == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("alter role netra_run bypassrls", "netra_run exists with other rights"),
        ("alter role netra_run inherit", "netra_run exists with other rights"),
        ("alter role netra_app superuser", "netra_app exists with other rights"),
        ("alter role netra_fleet login", "netra_fleet exists with other rights"),
        (INHERITING, "netra_run (inherits|exists with other rights)"),
        (f"grant netra_fleet to {ADOPTER}", f"{ADOPTER} may act as netra_fleet"),
    ],
)
async def test_roles_that_were_there_with_other_rights_are_refused(postgres_server, postgres_database, change, words):
    async with postgres_server.connected(postgres_database, user="superuser") as connection, acting(connection):
        await connection.execute(change)
        with pytest.raises(asyncpg.PostgresError, match=words):
            await connection.execute(roles_sql())


@pytest.mark.parametrize(
    ("before", "error", "words"),
    [
        ("alter role netra_fleet rename to netra_elsewhere", asyncpg.UndefinedObjectError, "netra migrate --create-roles"),
        ("create schema mine; set local search_path = mine, public", asyncpg.InvalidSchemaNameError, "search path is public"),
    ],
)
async def test_a_migration_that_cannot_be_right_says_what_to_do(postgres_server, before, error, words):
    with postgres_server.database(migrated=False) as empty:
        async with postgres_server.connected(empty, user="superuser") as connection:
            await connection.execute(f"begin; {before}")
            with pytest.raises(error) as caught:
                await connection.execute(migrations("postgres")[0].sql)
    assert words in caught.value.hint
