"""S6 on PostgreSQL with every tenant taken out of the statements: row-level security alone keeps tenants apart."""

from __future__ import annotations

import pytest

from ..support.catalogue import OF_A_TENANT
from ..support.catalogue import STATEMENTS as ALL
from ..support.isolation.cases import CASES, READ_BY_EVERYBODY
from ..support.isolation.judging import leak
from ..support.isolation.mutants import holds, in_engine, predicates, what_is_left, without
from ..support.isolation.rows import ACME, GLOBEX, SYSTEM, rows_of, shared_rows
from ..support.isolation.worlds import postgres_worlds

STATEMENTS = {name: in_engine(ALL[name], "postgres") for name in CASES}
POLICY_SAYS_NO = "42501"


@pytest.fixture(params=["netra_run", "netra_app"])
def login(request):
    """What Netra logs in as, and what it is in the transaction of a user who adopts it."""
    return request.param


@pytest.fixture
async def worlds(postgres_server, login):
    async with postgres_worlds(postgres_server, policies=True, login=login) as worlds:
        yield worlds


async def asked(worlds, name, statement):
    """How the statement leaks, answered beside globex and compared with the product's own text alone."""
    case = CASES[name]
    alone = await worlds.alone.run(STATEMENTS[name], case.params, case.tenant)
    beside = await worlds.beside.run(statement, case.params, case.tenant)
    assert alone.role == beside.role == worlds.alone.login, name
    return leak(alone, beside, worlds.beside.standing, case.tenant)


def test_every_statement_of_a_tenant_has_its_case():
    assert set(OF_A_TENANT) == set(CASES)


def test_every_place_that_holds_a_statement_to_its_tenant_is_known():
    assert {name: left for name, statement in STATEMENTS.items() if (left := what_is_left(statement))} == {}
    assert [name for name, statement in STATEMENTS.items() if not holds(statement)] == []


@pytest.mark.parametrize("login", ["netra_run"])
async def test_a_statement_does_what_it_is_for(worlds):
    """Or its case would show nothing: it answers with a row, or changes one, or is told no by the operator's name."""
    idle = []
    for name, statement in STATEMENTS.items():
        outcome = await worlds.alone.run(statement, CASES[name].params, CASES[name].tenant)
        assert outcome.error is None, f"{name}: {outcome.answer}"
        if not outcome.answer:
            idle.append(name)
    assert sorted(idle) == sorted(name for name in STATEMENTS if "event_type" in name and CASES[name].tenant != SYSTEM)


async def test_with_predicates_and_policies_no_statement_reaches_another_tenant(worlds):
    leaks = {name: words for name, statement in STATEMENTS.items() if (words := await asked(worlds, name, statement))}
    assert leaks == {}, sorted(leaks)


async def test_with_every_predicate_removed_the_policies_alone_keep_tenants_apart(worlds):
    mutants = {name: without(statement, gone) for name, statement in STATEMENTS.items() if (gone := predicates(statement))}
    assert len(mutants) > 45
    leaks = {name: words for name, mutant in mutants.items() if (words := await asked(worlds, name, mutant))}
    leaking = sorted(leaks.keys() - READ_BY_EVERYBODY.keys())
    assert not leaking, " ".join(leaking)


@pytest.mark.parametrize("login", ["netra_run"])
async def test_what_every_tenant_may_read_is_the_operators_alone(worlds):
    for name in READ_BY_EVERYBODY:
        statement = without(STATEMENTS[name], predicates(STATEMENTS[name]))
        seen = [await world.run(statement, CASES[name].params, ACME) for world in (worlds.alone, worlds.beside)]
        assert seen[0].answer == seen[1].answer != []


async def test_a_row_written_under_another_tenants_name_is_refused(worlds):
    written = {
        name: without(statement, gone)
        for name, statement in STATEMENTS.items()
        if (gone := [hold for hold in holds(statement) if hold.kind == "written"])
    }
    assert {"storage.insert_tenant", "webhooks.insert_endpoint", "webhooks.bump_version"} <= set(written)
    for name, statement in written.items():
        outcome = await worlds.beside.run(statement, CASES[name].params, CASES[name].tenant)
        assert outcome.error is not None and getattr(outcome.error.__cause__, "sqlstate", "") == POLICY_SAYS_NO, f"{name}: {outcome.answer}"


OF_TENANTS = """select c.relname::text from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relname like 'netra\\_%' and c.relkind = 'r' and a.attname = 'tenant'"""


def test_both_tenants_have_rows_in_every_table_that_has_tenants(postgres_server, postgres_database):
    tables = {table for (table,) in postgres_server.query(postgres_database, OF_TENANTS)}
    for tenant in (ACME, GLOBEX):
        assert tables - {table for table, _ in rows_of(tenant)} == {"netra_event_type"}
    assert {row["tenant"] for table, row in shared_rows() if table == "netra_event_type"} == {SYSTEM}, "by the table's own check"
