"""Every named statement of the package, on every engine: it prepares, and it keeps to its tenant."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from netra_backend.storage.statements import overridden, parse

from ..support.catalogue import STATEMENTS, tables_named_in
from ..support.storage import ENGINES, SYSTEM, query

ONE_OF = {"text": "x", "int": 1, "real": 1.0, "uuid": bytes(16)}
FEW = "netra_endpoint_health"
"""A table with as many rows of a tenant as he has endpoints."""

TENANT_TABLES = parse(
    """-- name: sqlite
select m.name from sqlite_master m join pragma_table_info(m.name) c where m.type = 'table' and c.name = 'tenant';
-- name: postgresql
select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and a.attname = 'tenant';
"""
)


@pytest.fixture
async def tenant_tables(database):
    rows = await database.read(query, TENANT_TABLES[database.engine], scope=SYSTEM)
    return {name for (name,) in rows}


def test_the_package_has_statements():
    assert len(STATEMENTS) > 40
    assert "storage.insert_outbox" in STATEMENTS


async def test_every_statement_prepares_and_its_role_may_run_it(database):
    """On PostgreSQL by the very role that runs it: the plan of a statement is refused to who may not execute it."""
    failures = {}
    for name, statement in STATEMENTS.items():
        explained = replace(
            statement, text=f"explain {statement.text}", postgres_text=f"explain {statement.postgres_text or statement.text}"
        )
        values = dict.fromkeys(statement.params) | {table: [] for table in statement.tables}
        if statement.takes_tenant:
            values["tenant"] = "acme"
        try:
            await database.read(partial(query, statement=explained, **values), scope=SYSTEM)
        except Exception as error:
            failures[name] = str(error)
    assert failures == {}


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
async def test_what_a_list_or_a_trace_names_is_sought_by_its_key_and_not_by_its_tenant_alone(database):
    """SQLite's planner knows of no statistics here: it may read all of a tenant's rows to find a few."""
    offenders = {}
    for name, statement in STATEMENTS.items():
        has_keys = any(column.name != "tenant" for columns in statement.tables.values() for column in columns)
        if not has_keys and not name.startswith("tracing."):
            continue
        lists = {table: [tuple(ONE_OF[column.type] for column in columns)] for table, columns in statement.tables.items()}
        explained = replace(statement, text=f"explain query plan {statement.text}")
        values = dict.fromkeys(statement.params) | lists | ({"tenant": "acme"} if statement.takes_tenant else {})
        plan = await database.read(partial(query, statement=explained, **values), scope=SYSTEM)
        if walked := [step for *_, step in plan if step.endswith("(tenant=?)") and FEW not in step]:
            offenders[name] = walked
    assert offenders == {}


def test_an_override_takes_what_the_statement_takes():
    with pytest.raises(ValueError, match="override of x"):
        overridden(parse("-- name: x\nselect :a"), parse("-- name: x\nselect :b"))
    with pytest.raises(ValueError, match="override of y"):
        overridden(parse("-- name: x\nselect :a"), parse("-- name: y\nselect :a"))


async def test_every_statement_on_a_tenant_table_names_its_tenant_or_says_why_not(tenant_tables):
    assert {"netra_tenant", "netra_api_key", "netra_idempotency", "netra_outbox"} <= tenant_tables
    offenders = {
        name: sorted(tables_named_in(statement.text, tenant_tables))
        for name, statement in STATEMENTS.items()
        if tables_named_in(statement.text, tenant_tables) and not statement.takes_tenant and not statement.fleet
    }
    assert offenders == {}


async def test_a_statement_that_serves_the_fleet_writes_the_tenant_of_each_row(tenant_tables):
    """Rows that it inserts take their tenant from the list, never from the scope of whoever is first in it."""
    inserts = {
        name: statement
        for name, statement in STATEMENTS.items()
        if statement.fleet
        and statement.tables
        and statement.text.lstrip().startswith("insert")
        and tables_named_in(statement.text, tenant_tables)
    }
    assert inserts
    for name, statement in inserts.items():
        assert any(column.name == "tenant" for columns in statement.tables.values() for column in columns), name


@pytest.mark.parametrize(
    "text", ["select 'netra_tenant'", "select 1 -- netra_tenant\n", "select 1 /* netra_tenant */", "select netra_tenants from x"]
)
def test_a_table_named_in_a_string_a_comment_or_a_longer_word_is_not_named(text):
    statement = replace(STATEMENTS["storage.get_meta"], text=text)
    assert tables_named_in(statement.text, {"netra_tenant"}) == set()


def test_a_table_behind_a_join_is_named():
    statement = replace(STATEMENTS["storage.get_meta"], text='select 1 from x join "netra_tenant" t on true')
    assert tables_named_in(statement.text, {"netra_tenant"}) == {"netra_tenant"}
