"""The two schemas are one, column by column: what is written on SQLite and forgotten on PostgreSQL fails here."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from itertools import groupby
from operator import itemgetter

import pytest

from netra_backend.storage.migrate import migrations

from ..support.storage import new_database

TYPES = {"text": "TEXT", "bigint": "INTEGER", "bytea": "BLOB", "double precision": "REAL"}
ONLY_SQLITE = {
    ("netra_audit_entry", "netra_audit_entry_is_new"): "`insert or replace` fires no update trigger; PostgreSQL has no such insert",
}
ONLY_POSTGRES = {
    ("netra_audit_entry", "netra_audit_entry_stays_whole"): "truncate fires no delete trigger; SQLite has no truncate",
    ("netra_audit_use", "netra_audit_use_stays_whole"): "as above",
    ("netra_audit_tile", "netra_audit_tile_stays_whole"): "as above",
    ("netra_audit_page", "netra_audit_page_stays_whole"): "as above",
}


@dataclass(frozen=True)
class Schema:
    """One engine's schema in plain values, the same for both where they agree."""

    columns: dict
    primary_keys: dict
    foreign_keys: set
    indexes: dict
    unique_keys: set
    checks: list
    triggers: dict


def test_the_migrations_have_the_same_numbers_and_names():
    known = [[(each.number, each.name) for each in migrations(engine)] for engine in ("sqlite", "postgres")]
    assert known[0] == known[1]


@pytest.fixture
def sqlite_schema(tmp_path):
    database = new_database("apsw", tmp_path)
    database.migrate()
    connection = database._connect()
    yield _of_sqlite(connection.run)
    connection.close()


@pytest.fixture
async def postgres_schema(postgres_server, postgres_database):
    async with postgres_server.connected(postgres_database, user="superuser") as connection:
        return await _of_postgres(connection)


@pytest.mark.parametrize("aspect", [field.name for field in fields(Schema)])
def test_the_engines_have_the_same(aspect, sqlite_schema, postgres_schema):
    found = getattr(postgres_schema, aspect)
    assert found, "nothing was read"
    assert found == getattr(sqlite_schema, aspect)


@pytest.mark.parametrize("default", [False, True])
async def test_a_number_given_by_the_database_is_the_only_value_that_a_row_need_not_bring(default, postgres_server, postgres_database):
    async with postgres_server.connected(postgres_database, user="superuser") as connection:
        if default:
            await connection.execute("alter table netra_message alter payload set default ''")
        rows = await connection.fetch(
            """select attrelid::regclass::text from pg_attribute a join pg_class c on c.oid = a.attrelid
            where c.relname like 'netra\\_%' and c.relkind = 'r' and (atthasdef or attidentity <> '')"""
        )
    assert {row[0] for row in rows} == {"netra_outbox"} | ({"netra_message"} if default else set())


@pytest.mark.parametrize(
    ("aspect", "change"),
    [
        ("columns", "alter table netra_message alter payload drop not null"),
        ("columns", "alter table netra_message alter created_us type integer"),
        ("columns", "alter table netra_message alter payload type varchar(9)"),
        ("columns", "alter table netra_message add extra text"),
        ("columns", "alter table netra_message drop tags"),
        ("columns", "alter table netra_message rename tags to labels"),
        ("columns", "create table netra_extra (name text primary key)"),
        ("primary_keys", "alter table netra_attempt drop constraint netra_attempt_pkey, add primary key (tenant, id, message_id)"),
        ("foreign_keys", "alter table netra_message drop constraint netra_message_tenant_fkey"),
        ("foreign_keys", "alter table netra_message alter constraint netra_message_tenant_fkey deferrable"),
        ("indexes", "drop index netra_delivery_due"),
        ("indexes", "drop index netra_delivery_due; create index netra_delivery_due on netra_delivery (tenant, endpoint_id, due_us)"),
        ("indexes", "alter index netra_delivery_due rename to netra_delivery_now"),
        ("unique_keys", "alter table netra_tenant drop constraint netra_tenant_uid_key"),
        ("checks", "alter table netra_delivery drop constraint netra_delivery_state_check"),
        (
            "checks",
            "alter table netra_attempt drop constraint netra_attempt_outcome_check, add check (outcome in ('delivered', 'failed'))",
        ),
        ("triggers", "drop trigger netra_endpoint_audit_update on netra_endpoint"),
        ("triggers", "alter table netra_tenant disable trigger netra_tenant_tombstone"),
    ],
)
async def test_a_difference_is_seen(aspect, change, sqlite_schema, postgres_server, postgres_database):
    async with postgres_server.connected(postgres_database, user="superuser") as connection:
        await connection.execute(change)
        changed = await _of_postgres(connection)
    assert getattr(changed, aspect) != getattr(sqlite_schema, aspect)


# SQLite

TABLES = "select name, sql from sqlite_master where type = 'table' and name like 'netra\\_%' escape '\\' order by name"
TRIGGER = re.compile(r"\b(before|after)\s+(insert|update|delete)(?:\s+of\s+(.*?))?\s+on\s", re.DOTALL)


def _of_sqlite(run):
    tables = dict(run(TABLES))
    infos = {name: run(f"pragma table_info({name})") for name in tables}
    keys = {name: [row[1] for row in sorted(rows, key=itemgetter(5)) if row[5]] for name, rows in infos.items()}
    named, unnamed = _sqlite_indexes(run, tables)
    return Schema(
        columns={name: [(row[1], row[2], bool(row[3] or row[5])) for row in rows] for name, rows in infos.items()},
        primary_keys=keys,
        foreign_keys={key for name in tables for key in _sqlite_foreign_keys(run, name)},
        indexes=named,
        unique_keys=unnamed,
        checks=sorted(check for name, sql in tables.items() for check in _sqlite_checks(name, sql, {row[1] for row in infos[name]})),
        triggers=dict(_sqlite_triggers(run)),
    )


def _sqlite_foreign_keys(run, name):
    rows = sorted(run(f"pragma foreign_key_list({name})"))
    for _, group in groupby(rows, key=itemgetter(0)):
        parts = list(group)
        actions = {(row[5], row[6]) for row in parts}
        assert actions == {("NO ACTION", "NO ACTION")}
        yield name, tuple(row[3] for row in parts), parts[0][2], tuple(row[4] for row in parts)


def _sqlite_indexes(run, tables):
    named, unnamed = {}, set()
    for table in tables:
        for _, index, unique, origin, _ in run(f"pragma index_list({table})"):
            columns = tuple(row[2] for row in run(f"pragma index_info({index})"))
            if origin == "u":
                unnamed.add((table, columns))
            elif origin == "c":
                sql = run(f"select sql from sqlite_master where name = '{index}'")[0][0]
                named[index] = (table, bool(unique), columns, _predicate(sql.partition(" where ")[2]))
    return named, unnamed


def _sqlite_checks(name, sql, columns):
    for start in re.finditer(r"\bcheck \(", sql):
        text = sql[start.end() : _end_of_parenthesis(sql, start.end())]
        yield name, tuple(sorted(columns & set(re.findall(r"\w+", _wordless(text))))), _literals(text)


def _end_of_parenthesis(text, place):
    depth = 1
    while depth:
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        place += 1
    return place - 1


def _sqlite_triggers(run):
    for name, table, sql in run("select name, tbl_name, sql from sqlite_master where type = 'trigger'"):
        when, event, columns = TRIGGER.search(sql.lower()).groups()
        if (table, name) not in ONLY_SQLITE:
            yield (table, name), (when, event, frozenset(re.findall(r"\w+", columns or "")))


# PostgreSQL

OURS = "c.relnamespace = 'public'::regnamespace and c.relname like 'netra\\_%' and c.relkind = 'r'"
NAMES = """(select array_agg(named.attname::text order by place) from unnest({keys}::int2[]) with ordinality listed (number, place)
  join pg_attribute named on named.attrelid = {table} and named.attnum = number)"""
COLUMNS = f"""select c.relname::text, a.attname::text, format_type(a.atttypid, a.atttypmod), a.attnotnull
from pg_attribute a join pg_class c on c.oid = a.attrelid where {OURS} and a.attnum > 0 and not a.attisdropped order by 1, a.attnum"""
CONSTRAINTS = f"""select c.relname::text, k.contype::text, {NAMES.format(keys="k.conkey", table="k.conrelid")}, k.confrelid::regclass::text,
  {NAMES.format(keys="k.confkey", table="k.confrelid")}, pg_get_constraintdef(k.oid),
  k.condeferrable or not k.convalidated or k.confupdtype not in ('a', ' ') or k.confdeltype not in ('a', ' ')
from pg_constraint k join pg_class c on c.oid = k.conrelid where {OURS}"""
INDEXES = f"""select i.indexrelid::regclass::text, c.relname::text, i.indisunique, {NAMES.format(keys="i.indkey", table="c.oid")},
  coalesce(pg_get_expr(i.indpred, i.indrelid), '')
from pg_index i join pg_class c on c.oid = i.indrelid
where {OURS} and not exists (select from pg_constraint k where k.conindid = i.indexrelid and k.contype in ('p', 'u'))"""
TRIGGERS = f"""select c.relname::text, t.tgname::text, t.tgtype, {NAMES.format(keys="t.tgattr", table="c.oid")}
from pg_trigger t join pg_class c on c.oid = t.tgrelid where {OURS} and not t.tgisinternal and t.tgenabled = 'O'"""
EVENTS = {4: "insert", 8: "delete", 16: "update", 32: "truncate"}


async def _of_postgres(connection):
    columns = await connection.fetch(COLUMNS)
    constraints = await connection.fetch(CONSTRAINTS)
    assert {row[1] for row in constraints} <= set("pfucn")
    return Schema(
        columns={
            table: [(name, TYPES.get(kind, kind), required) for _, name, kind, required in rows]
            for table, rows in groupby(columns, key=itemgetter(0))
        },
        primary_keys={row[0]: row[2] for row in constraints if row[1] == "p"},
        foreign_keys={(row[0], tuple(row[2]), row[3], tuple(row[4]), *["odd"] * row[6]) for row in constraints if row[1] == "f"},
        indexes={row[0]: (row[1], row[2], tuple(row[3]), _predicate(row[4])) for row in await connection.fetch(INDEXES)},
        unique_keys={(row[0], tuple(row[2])) for row in constraints if row[1] == "u"},
        checks=sorted((row[0], tuple(sorted(row[2])), _literals(row[5])) for row in constraints if row[1] == "c"),
        triggers=dict(_postgres_triggers(await connection.fetch(TRIGGERS))),
    )


def _postgres_triggers(rows):
    for table, name, kind, columns in rows:
        if (table, name) not in ONLY_POSTGRES:
            events = [word for bit, word in EVENTS.items() if kind & bit]
            yield (table, name), ("before" if kind & 2 else "after", " or ".join(events), frozenset(columns or ()))


# Both


def _predicate(text):
    """An index's condition without what only one engine writes: parentheses and casts."""
    return " ".join(re.sub(r"[()]|::text", "", text.lower()).split())


def _literals(text):
    return tuple(sorted(set(re.findall(r"'[^']*'|\b\d+\b", text))))


def _wordless(text):
    return re.sub(r"'[^']*'", "", text)
