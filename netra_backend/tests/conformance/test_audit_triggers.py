"""No change of an audited table without an entry of its own, whoever writes it and however."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from netra_backend.errors import NetraError
from netra_backend.kernel.scope import Scope, TraceContext
from netra_backend.storage import api_keys, tenants
from netra_backend.storage.audit_append import Q, audit_append
from netra_backend.storage.postgres_errors import translated
from netra_backend.storage.statements import parse

from ..support.postgres import OWNER
from ..support.storage import ACME, SYSTEM, connected, query

FREE_COLUMNS = {"created_us", "updated_us", "granted_us", "ended_us", "actor", "ended_by", "dropped", "last_seq"}
"""Columns of an audited table that record when, by whom or how much, not what: a change of them alone is no decision."""

COLUMNS = {
    "sqlite": """-- name: columns
select m.name, c.name, c."notnull" from sqlite_master m join pragma_table_info(m.name) c where m.type = 'table';
-- name: triggers
select tbl_name, sql from sqlite_master where type = 'trigger';
-- name: keys
select m.name, k."table", k."from" from sqlite_master m join pragma_foreign_key_list(m.name) k where m.type = 'table';
""",
    "postgresql": """-- name: columns
select c.relname::text, a.attname::text, a.attnotnull::int from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and a.attnum > 0;
-- name: triggers
select c.relname::text, pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = t.tgrelid where not t.tgisinternal;
-- name: keys
select c.relname::text, f.relname::text, a.attname::text
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_class f on f.oid = k.confrelid
join pg_attribute a on a.attrelid = k.conrelid and a.attnum = any (k.conkey)
where k.contype = 'f';
""",
}
RAW = """-- name: tenant_insert
insert into netra_tenant values ('globex', x'02', 'globex', 'Globex', '{}', null, 0, 0, null, :entry);
-- name: tenant_update
update netra_tenant set name = 'evil' where tenant = 'acme';
-- name: tenant_update_with
update netra_tenant set name = 'evil', audit_id = :entry where tenant = 'acme';
-- name: tenant_update_or_ignore
update or ignore netra_tenant set name = 'evil' where tenant = 'acme';
-- name: tenant_update_or_replace
update or replace netra_tenant set name = 'evil' where tenant = 'acme';
-- name: tenant_renamed
update netra_tenant set tenant = 'evil' where tenant = 'acme';
-- name: tenant_id_changed
update netra_tenant set id = x'03' where tenant = 'acme';
-- name: tenant_revived
update netra_tenant set deleted_us = null where tenant = 'acme';
-- name: tenant_replaced
insert or replace into netra_tenant select tenant, id, uid, 'evil', metadata, null, 0, 0, null, audit_id from netra_tenant where tenant = 'acme';
-- name: tenant_delete
delete from netra_tenant where tenant = 'acme';
-- name: key_insert
insert into netra_api_key values ('acme', x'09', x'09', 'evil', '[]', 0, null, null, null, :entry, null);
-- name: key_update
update netra_api_key set scopes = '["tenant"]' where tenant = 'acme';
-- name: key_update_with
update netra_api_key set scopes = '["tenant"]', audit_id = :entry where tenant = 'acme';
-- name: key_moved
update netra_api_key set tenant = 'globex' where tenant = 'acme';
-- name: key_revived
update or replace netra_api_key set revoked_us = null where tenant = 'acme';
-- name: key_delete
delete from netra_api_key where tenant = 'acme';
-- name: entry_update
update netra_audit_entry set actor = 'nobody';
-- name: entry_delete
delete from netra_audit_entry;
-- name: entry_replaced
insert or replace into netra_audit_entry select tenant, id, at_us, 'nobody', action, target_table, target, outcome, trace_id, span_id, before, after, personal from netra_audit_entry;
-- name: use_delete
delete from netra_audit_use;
-- name: use_update
update netra_audit_use set audit_id = x'00';
-- name: use_replaced
insert or replace into netra_audit_use select tenant, audit_id from netra_audit_use;
-- name: everything
select 'tenant', tenant, name, hex(id), deleted_us from netra_tenant
union all select 'key', tenant, scopes, hex(id), revoked_us from netra_api_key
union all select 'entry', tenant, actor, hex(id), at_us from netra_audit_entry
union all select 'use', tenant, '', hex(audit_id), 0 from netra_audit_use
order by 1, 2, 3, 4, 5;
"""
R = parse(RAW)
REPLACED = {
    "tenant_replaced": " on conflict (tenant) do update set name = excluded.name",
    "entry_replaced": " on conflict (tenant, id) do update set actor = excluded.actor",
    "use_replaced": " on conflict (tenant, audit_id) do update set audit_id = excluded.audit_id",
}
"""What SQLite says as `insert or replace`, in PostgreSQL's words."""


def in_postgres(name):
    """The raw statement as PostgreSQL spells it: the same trick where it has it, the plain change where it has not."""
    text = re.sub(r"x'([0-9a-f]+)'", r"'\\x\1'::bytea", R[name].text)
    text = re.sub(r"\bhex\((\w+)\)", r"upper(encode(\1, 'hex'))", text)
    text = re.sub(r"^(insert|update) or (?:replace|ignore)", r"\1", text)
    return replace(R[name], text=text + REPLACED.get(name, ""))


@pytest.fixture
async def raw(database):
    """A function that runs a raw statement: on PostgreSQL as the owner of the tables, whom no policy holds back."""
    if database.engine == "sqlite":

        async def in_sqlite(name, entry=None):
            return await database.write(attempt, name, entry, scope=SYSTEM)

        yield in_sqlite
        return
    async with connected(database, user=OWNER) as connection:

        async def by_the_owner(name, entry=None):
            statement = in_postgres(name)
            try:
                status = await connection.execute(statement.postgres, *([entry] if statement.params else []))
            except Exception as error:
                raise translated(error) from error
            return int(status.rpartition(" ")[2])

        yield by_the_owner


async def everything(database):
    """All audited rows, to compare."""
    if database.engine == "sqlite":
        return await database.read(query, R["everything"], scope=SYSTEM)
    async with connected(database, user=OWNER) as connection:
        return [tuple(row) for row in await connection.fetch(in_postgres("everything").postgres)]


@pytest.fixture
async def acme(database):
    """A tenant with a key, each changed once since."""

    async def arrange(tx):
        await tenants.create(tx, "Acme", uid="acme")
        key, _ = await api_keys.create(tx, tenant="acme", pepper=b"p", name="ci", scopes=["tenant"])
        await api_keys.revoke(tx, "acme", key.id)
        await tenants.bury(tx, "acme")
        return key

    return await database.write(arrange, scope=ACME)


async def attempt(tx, name, entry=None):
    return await tx.execute(R[name], **({"entry": entry} if ":entry" in R[name].text else {}))


async def refused(database, raw, name, entry=None):
    """That the raw statement fails and leaves everything as it was."""
    before = await everything(database)
    with pytest.raises(NetraError) as caught:
        await raw(name, entry)
    assert await everything(database) == before
    return str(caught.value)


RAW_CHANGES = [name for name in R if "entry" not in R[name].params and name not in {"everything", "tenant_delete", "key_delete"}]


@pytest.mark.parametrize("name", RAW_CHANGES)
async def test_a_raw_change_without_an_entry_of_its_own_is_refused(database, raw, acme, name):
    await refused(database, raw, name)


@pytest.mark.parametrize("name", ["tenant_insert", "tenant_update_with", "key_insert", "key_update_with"])
@pytest.mark.parametrize(
    ("tenant", "table", "target"),
    [
        ("acme", "netra_elsewhere", None),
        ("initech", None, None),
        ("globex", None, "initech"),
        ("acme", None, "another row"),
    ],
)
async def test_an_entry_of_another_tenant_table_or_row_is_no_entry(database, raw, acme, name, tenant, table, target):
    own_table, own_target = ("netra_tenant", "acme") if name.startswith("tenant") else ("netra_api_key", acme.id)
    entry = await database.write(_entry, tenant, table or own_table, target or own_target, scope=SYSTEM)
    await refused(database, raw, name, entry)


async def _entry(tx, tenant, table, target):
    return await audit_append(tx, "test.forge", target, table=table, tenant=tenant)


@pytest.mark.parametrize("name", ["tenant_insert", "key_insert"])
async def test_no_entry_at_all_is_refused(database, raw, acme, name):
    await refused(database, raw, name, None)
    await refused(database, raw, name, b"\x00" * 16)


async def test_an_entry_serves_one_change(database, raw, acme):
    entry = await database.write(_entry, "acme", "netra_tenant", "acme", scope=SYSTEM)
    await raw("tenant_update_with", entry)
    assert "served" in await refused(database, raw, "tenant_update_with", entry)


@pytest.mark.parametrize("table", ["tenant", "key"])
async def test_a_row_without_a_tombstone_is_not_deleted(database, raw, table):
    async def arrange(tx):
        await tenants.create(tx, "Acme", uid="acme")
        await api_keys.create(tx, tenant="acme", pepper=b"p", name="ci", scopes=[])

    await database.write(arrange, scope=ACME)
    assert "tombstone" in await refused(database, raw, f"{table}_delete")


async def test_a_tombstone_may_be_cleared_away(database, raw, acme):
    assert await raw("tenant_delete") == 1


async def test_an_entry_tells_who_what_and_in_which_trace(database):
    scope = Scope("acme", "key:key_1", TraceContext("a" * 32, "b" * 16))
    await database.write(_told, scope=scope)
    (row,) = await database.read(_entries, scope=scope)
    _, at_us, actor, action, table, target, outcome, trace_id, before, after = row
    assert at_us > 0
    assert (actor, action, table, target, outcome) == ("key:key_1", "thing.do", "netra_thing", "0102", "ok")
    assert (trace_id, before, after) == ("a" * 32, '{"a":1}', '{"a":2,"b":null}')


async def _told(tx):
    await audit_append(tx, "thing.do", b"\x01\x02", table="netra_thing", before={"a": 1}, after={"b": None, "a": 2})


async def _entries(tx):
    return await tx.all(Q.list_audit_entries, after=b"", limit=10)


# The schema, whatever tables it has by now


@pytest.fixture
async def schema(database):
    statements = parse(COLUMNS[database.engine])
    return [await database.read(query, statements[name], scope=SYSTEM) for name in ("columns", "triggers", "keys")]


async def test_every_audited_table_has_its_reference_and_its_triggers(schema):
    columns, triggers, keys = schema
    audited = {table: bool(required) for table, column, required in columns if column == "audit_id" and table != "netra_audit_use"}
    assert {"netra_tenant", "netra_api_key"} <= audited.keys()
    for table, required in audited.items():
        words = [sql.lower() for owner, sql in triggers if owner == table]
        updates = [sql for sql in words if re.search(r"after update of", sql)]
        assert updates, f"{table}: no trigger on its updates"
        if not required:
            assert any("audit_id" in _watched(sql) for sql in updates), table
            continue
        assert any(table == owner and column == "audit_id" for owner, _, column in keys), f"{table}: audit_id references no entry"
        assert any("after insert" in sql for sql in words), f"{table}: no trigger on its inserts"
        assert any("before delete" in sql and _asks_for_a_tombstone(sql) for sql in words), f"{table}: no tombstone"
        watched = set().union(*(_watched(sql) for sql in updates))
        every = {column for owner, column, _ in columns if owner == table}
        assert every - FREE_COLUMNS - watched <= _key_columns(table), f"{table}: {every - FREE_COLUMNS - watched} change without an entry"


def _asks_for_a_tombstone(sql):
    """Or refuses every deletion, of a table whose rows stay."""
    functions = "execute function netra_audit_tombstone()", "execute function netra_audit_never_deleted()"
    said = "old.deleted_us is null", "is never deleted", *functions
    return any(words in sql for words in said)


def _watched(sql):
    return {name.strip() for name in re.search(r"after update of (.*?)\son\s", sql, re.DOTALL)[1].split(",")}


def _key_columns(table):
    """Columns of the primary key are left to the reference by (tenant, audit_id) and to the entry's target."""
    return {"tenant", "id", "name"} if table != "netra_tenant" else set()
