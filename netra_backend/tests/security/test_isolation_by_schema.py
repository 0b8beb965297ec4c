"""S6 in PostgreSQL's catalogue: every table with a tenant is under policies, keys and references that carry the tenant.

A new table fails here until it has all of it, or stands on a list with the reason.
"""

from __future__ import annotations

import pytest

from ..support.isolation.rows import ACME, GLOBEX, SYSTEM, rows_of, shared_rows
from ..support.postgres import OWNER

OURS = "c.relnamespace = 'public'::regnamespace and c.relname like 'netra\\_%' and c.relkind = 'r'"
HAS_TENANT = "exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant' and not a.attisdropped)"
TABLES = f"select c.relname::text, c.relrowsecurity and c.relforcerowsecurity, {HAS_TENANT} from pg_class c where {OURS}"
POLICIES = """select tablename::text, policyname::text, permissive, roles::text[], cmd, coalesce(qual, ''), coalesce(with_check, '')
from pg_policies"""
KEYS = f"""select c.relname::text, k.contype::text, pg_get_constraintdef(k.oid),
  (select array_agg(a.attname::text order by p.place) from unnest(k.conkey) with ordinality p (number, place)
   join pg_attribute a on a.attrelid = c.oid and a.attnum = p.number)
from pg_constraint k join pg_class c on c.oid = k.conrelid where {OURS} and {HAS_TENANT} and k.contype in ('p', 'u', 'f')"""
OTHERS = """select relname::text, relkind::text from pg_class
where relnamespace = 'public'::regnamespace and relkind in ('v', 'm', 'f', 'p') or (relkind = 'r' and relispartition)"""
DEFINERS = "select proname::text from pg_proc where pronamespace = 'public'::regnamespace and prosecdef"

OF_THE_TENANT = "(tenant = current_setting('netra.tenant'::text, true))"
NO_TENANT = {"netra_cursor", "netra_lease", "netra_meta", "netra_migration", "netra_node", "netra_probe", "netra_stream"}
"""Tables of the installation: numbers, names and leases, nothing of a tenant's."""

READ_BY_EVERYBODY = {"netra_event_type": "the operator's names of events, which every tenant may know"}
NOT_BY_TENANT = {
    ("netra_outbox", "PRIMARY KEY (id)"): "a queue of all tenants, taken in the order of its numbers",
    ("netra_log", "PRIMARY KEY (stream, seq)"): "a stream of all tenants, dense",
    ("netra_tenant", "UNIQUE (id)"): "a tenant is found by its id before anybody knows which it is",
    ("netra_tenant", "UNIQUE (uid)"): "as above; a uid is one tenant's in the whole installation",
    ("netra_api_key", "UNIQUE (hash)"): "a key is found by its hash before anybody knows whose it is",
}
NO_ROWS_OF_A_TENANT = {"netra_event_type": "every row stands under the operator's name, by the table's own check"}


@pytest.fixture
async def ask(postgres_server, postgres_database):
    async with postgres_server.connected(postgres_database, user="superuser") as connection:

        async def ask(sql):
            return [tuple(row) for row in await connection.fetch(sql)]

        ask.connection = connection
        yield ask


async def unguarded(ask):
    return {table for table, forced, has_tenant in await ask(TABLES) if has_tenant and not forced}


async def test_a_table_has_a_tenant_and_forced_policies_or_stands_on_the_list(ask):
    assert {table for table, _, has_tenant in await ask(TABLES) if not has_tenant} == NO_TENANT
    assert await unguarded(ask) == set()
    assert await ask(OTHERS) == [], "a view or a partition is a way round the policies of its tables"
    assert await ask(DEFINERS) == [], "a function with its owner's rights sees every tenant"


def offence_of(policy):
    """What is wrong with a policy: who may see more than the tenant that the transaction has set."""
    table, name, permissive, roles, command, using, check = policy
    if permissive != "PERMISSIVE" or not roles:
        return "is of another kind"
    if set(roles) <= {"netra_run", "netra_app"}:
        everybody = (using, check, command) == ("true", "", "SELECT") and table in READ_BY_EVERYBODY
        mine = {using, check} - {""} == {OF_THE_TENANT} and (check or command in {"SELECT", "DELETE"})
        return "" if everybody or mine else "gives a tenant's role more than its tenant"
    return "" if roles in (["netra_fleet"], [OWNER]) else f"is {roles}'s"


async def test_a_tenants_roles_see_the_tenant_that_is_set_and_nobody_else_has_a_policy(ask):
    policies = await ask(POLICIES)
    assert {(policy[0], policy[1], words) for policy in policies if (words := offence_of(policy))} == set()
    guarded = {table for table, _, has_tenant in await ask(TABLES) if has_tenant}
    assert {policy[0] for policy in policies} == guarded


async def keys_without_their_tenant(ask):
    return {(table, text) for table, _, text, columns in await ask(KEYS) if columns[0] != "tenant"}


async def test_every_key_and_reference_begins_with_the_tenant(ask):
    assert await keys_without_their_tenant(ask) == set(NOT_BY_TENANT)
    references = [text for _, kind, text, _ in await ask(KEYS) if kind == "f"]
    assert references
    assert [text for text in references if "(tenant" not in text.partition(" REFERENCES ")[2]] == []


@pytest.mark.parametrize(
    "change",
    [
        "alter table netra_message no force row level security",
        "alter table netra_message disable row level security",
        "create table netra_new (tenant text, primary key (tenant))",
    ],
)
async def test_a_table_that_is_not_done_is_seen(ask, change):
    await ask.connection.execute(change)
    assert await unguarded(ask) != set()


@pytest.mark.parametrize(
    "change",
    [
        "create policy more on netra_message to netra_run using (true)",
        "create policy more on netra_message using (tenant = current_setting('netra.tenant', true))",
        "create policy more on netra_message for update to netra_run using (tenant = current_setting('netra.tenant', true)) with check (true)",
        "create policy more on netra_message for select to netra_fleet, netra_run using (true)",
        "alter policy of_tenant on netra_message to public",
    ],
)
async def test_a_policy_that_gives_more_is_seen(ask, change):
    await ask.connection.execute(change)
    assert [policy for policy in await ask(POLICIES) if offence_of(policy)] != []


async def test_a_reference_without_its_tenant_is_seen(ask):
    await ask.connection.execute(
        "alter table netra_tenant add constraint more unique (audit_id);"
        "alter table netra_endpoint add constraint of foreign key (audit_id) references netra_tenant (audit_id)"
    )
    assert len(await keys_without_their_tenant(ask)) == len(NOT_BY_TENANT) + 2


async def test_the_scenario_has_rows_of_both_tenants_in_every_table_that_has_tenants(ask):
    guarded = {table for table, _, has_tenant in await ask(TABLES) if has_tenant} - set(NO_ROWS_OF_A_TENANT)
    for tenant in (ACME, GLOBEX):
        assert guarded - {table for table, _ in rows_of(tenant)} == {"netra_audit_use"}, "a trigger writes that one"
    assert {row["tenant"] for table, row in shared_rows() if table in NO_ROWS_OF_A_TENANT} == {SYSTEM}
