"""No role may do more than its statements need: each grant is taken back in turn, and some statement must miss it."""

from __future__ import annotations

import asyncpg
import pytest

from ..support.catalogue import STATEMENTS as EVERY_STATEMENT

STATEMENTS = list(EVERY_STATEMENT.values())

NOT_BY_A_STATEMENT = {
    ("netra_run", "netra_audit_use", "INSERT"): "the triggers of audited tables",
    ("netra_run", "netra_tenant", "DELETE"): "a row that a tombstone has buried may be cleared away",
    ("netra_run", "netra_api_key", "DELETE"): "as above",
    ("netra_run", "netra_endpoint", "DELETE"): "as above",
    ("netra_run", "netra_endpoint_secret", "DELETE"): "as above",
    ("netra_run", "netra_event_type", "DELETE"): "as above",
}
OF_APP = {
    "netra_meta": {"SELECT"},
    "netra_migration": {"SELECT"},
    "netra_outbox": {"INSERT"},
    "netra_audit_entry": {"INSERT", "SELECT (tenant)", "SELECT (id)", "SELECT (target_table)", "SELECT (target)"},
    "netra_audit_use": {"SELECT", "INSERT"},
    "netra_audit_personal": {"INSERT"},
    "netra_tenant": {"SELECT", "INSERT"},
    "netra_idempotency": {"SELECT", "INSERT", "UPDATE (ref)", "DELETE"},
    "netra_webhook_version": {"SELECT"},
    "netra_endpoint": {"SELECT"},
    "netra_event_type": {"SELECT"},
    "netra_message": {"SELECT", "INSERT"},
    "netra_delivery": {"SELECT", "INSERT"},
    "netra_job_run": {"SELECT", "INSERT"},
    "netra_span": {"INSERT"},
    "netra_debug_mark": {"INSERT"},
    "netra_line": {"SELECT", "INSERT", "UPDATE (last_place)", "UPDATE (used_us)"},
}
"""What send, receive, record and invalidate need in a user's own transaction, and a tenant's first use."""

GRANTS = """select c.relname::text, x.privilege_type || coalesce(' (' || c.attname || ')', '')
from (select relname, relnamespace, relacl, null as attname from pg_class
      union all select c.relname, c.relnamespace, a.attacl, a.attname from pg_attribute a join pg_class c on c.oid = a.attrelid) c,
  aclexplode(c.relacl) x
where c.relnamespace = 'public'::regnamespace and x.grantee = $1::regrole"""
OF_TENANTS = """select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and a.attname = 'tenant'"""


@pytest.fixture
async def connection(postgres_server, postgres_database):
    async with postgres_server.connected(postgres_database, user="superuser") as connection:
        yield connection


async def test_what_an_adopting_role_may_do_is_this_and_no_more(connection):
    found = {}
    for table, verb in await connection.fetch(GRANTS, "netra_app"):
        found.setdefault(table, set()).add(verb)
    assert found == OF_APP


@pytest.mark.parametrize("role", ["netra_fleet", "netra_run"])
async def test_every_grant_is_needed_by_a_statement(role, connection):
    """On tables of tenants; a statement on any other runs under the role that its transaction has at the time."""
    statements = [each for each in STATEMENTS if role == "netra_run" or each.fleet]
    of_the_fleet_alone = {"netra_outbox", "netra_log", "netra_kpi_object", "netra_kpi_bucket", "netra_span"}
    assert await _refusals(connection, role, statements, "select 1") <= of_the_fleet_alone
    of_tenants = {row[0] for row in await connection.fetch(OF_TENANTS)}
    grants = [(table, verb) for table, verb in await connection.fetch(GRANTS, role) if table in of_tenants]
    assert len(grants) > 10
    unneeded = set()
    for table, verb in grants:
        on_table = [each for each in statements if table in (each.postgres_text or each.text)]
        if not await _refusals(connection, role, on_table, f"revoke {verb} on {table} from {role}"):
            unneeded.add((role, table, verb))
    assert unneeded == {grant for grant in NOT_BY_A_STATEMENT if grant[0] == role}


async def _refusals(connection, role, statements, change):
    """Which tables the role's statements are refused once the change is made; the change is undone."""
    outer = connection.transaction()
    await outer.start()
    await connection.execute(change)
    await connection.execute(f"set local role {role}")
    refused = set()
    for statement in statements:
        values = dict.fromkeys(statement.params) | dict.fromkeys(statement.tables, ())
        try:
            async with connection.transaction():
                await connection.fetch(f"explain {statement.postgres}", *statement.bind_postgres(values))
        except asyncpg.InsufficientPrivilegeError as error:
            refused.add(str(error).split()[-1])
    await outer.rollback()
    return refused
