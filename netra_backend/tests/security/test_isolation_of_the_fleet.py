"""S6 for the statements that serve all tenants: a listed few, each with its tenant in every join and written row.

No policy holds them, so their own text must. They run as `netra_fleet` in the system's scope, and as nobody but the tenant's
own role in a tenant's.
"""

from __future__ import annotations

import pytest

from netra_backend.storage.errors import ConstraintViolated
from netra_backend.storage.transaction import ForeignTenant

from ..support.catalogue import OF_A_TENANT, OF_THE_FLEET, STATEMENTS
from ..support.isolation.cases import CASES
from ..support.isolation.fleet_cases import BOTH, OF_ALL, OF_ROWS
from ..support.isolation.judging import leak, leak_between
from ..support.isolation.mutants import holds, in_engine, predicates, what_is_left, without
from ..support.isolation.rows import ACME, GLOBEX, SYSTEM
from ..support.isolation.worlds import postgres_worlds, sqlite_worlds
from ..support.storage import EVERY_ENGINE, with_its_server

POLICY_SAYS_NO = "42501"
ENTER = OF_THE_FLEET["storage.outbox_has_rows"]
"""Any statement of the fleet's, to be in its role."""


@pytest.fixture
async def policed(postgres_server):
    async with postgres_worlds(postgres_server, policies=True) as worlds:
        yield worlds


@pytest.fixture(params=EVERY_ENGINE)
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def worlds(engine, request, tmp_path):
    if engine == "postgres":
        made = postgres_worlds(request.getfixturevalue("postgres_server"), policies=True)
    else:
        made = sqlite_worlds(engine, request.getfixturevalue("templates")[engine], tmp_path)
    async with made as worlds:
        yield worlds


def asked_by(tenant, name):
    """Parameters that name that tenant, if any, and reach globex's rows where they name none."""
    return OF_ROWS[name](tenant) if name in OF_ROWS else OF_ALL[name][1]


def test_the_fleet_list_is_exactly_these_statements_each_with_its_reason():
    assert set(OF_THE_FLEET) == set(OF_ROWS) | set(OF_ALL)
    assert not set(OF_ROWS) & set(OF_ALL)
    assert all(len(statement.fleet) > 15 for statement in OF_THE_FLEET.values())
    assert all(len(reason) > 15 for reason, _ in OF_ALL.values())


@pytest.mark.parametrize("engine", ["apsw", "postgres"])
def test_those_that_hold_to_no_tenant_are_the_ones_that_serve_all_on_purpose(engine):
    texts = {name: in_engine(statement, engine) for name, statement in OF_THE_FLEET.items()}
    assert {name for name, statement in texts.items() if not holds(statement)} == set(OF_ALL)
    assert {name: left for name, statement in texts.items() if (left := what_is_left(statement))} == {}


def test_no_statement_is_both_a_tenants_and_the_fleets():
    assert not set(OF_A_TENANT) & set(OF_THE_FLEET)


async def leaks_of(worlds, name, statement, params, alone):
    beside = await worlds.beside.run(statement, params, SYSTEM)
    assert beside.error is None or isinstance(beside.error, ConstraintViolated), f"{name}: {beside.answer}"
    if params == BOTH.get(name):
        return leak_between(alone, beside, ACME)
    return leak(alone, beside, worlds.beside.standing, ACME)


async def test_one_tenants_rows_are_served_alone_and_the_loss_of_any_one_tenant_in_the_text_is_noticed(worlds):
    leaks, unnoticed = {}, []
    for name, of_rows in OF_ROWS.items():
        statement = in_engine(OF_THE_FLEET[name], worlds.engine)
        asked = [params for params in (of_rows(ACME), BOTH.get(name)) if params is not None]
        alone = [await worlds.alone.run(statement, params, SYSTEM) for params in asked]
        assert [outcome.answer for outcome in alone if outcome.error] == [], name
        for params, outcome in zip(asked, alone, strict=True):
            if words := await leaks_of(worlds, name, statement, params, outcome):
                leaks[name] = words
        for hold in holds(statement):
            mutant = without(statement, [hold])
            words = [await leaks_of(worlds, name, mutant, params, outcome) for params, outcome in zip(asked, alone, strict=True)]
            if not any(words):
                unnoticed.append((name, statement.text[hold.start : hold.end]))
    assert leaks == {}, sorted(leaks)
    assert unnoticed == []


async def test_in_a_tenants_scope_no_statement_runs_as_the_fleet_and_the_policies_alone_keep_tenants_apart(policed):
    leaks = {}
    for name, statement in OF_THE_FLEET.items():
        text, params = in_engine(statement, "postgres"), asked_by(ACME, name)
        gone = predicates(text)
        alone = await policed.alone.run(text, params, ACME)
        beside = await policed.beside.run(without(text, gone) if gone else text, params, ACME)
        assert beside.role == "netra_run", name
        if words := leak(alone, beside, policed.beside.standing, ACME):
            leaks[name] = words
    assert leaks == {}, sorted(leaks)


async def test_in_a_tenants_scope_a_row_written_under_another_tenants_name_is_refused(policed):
    for name in OF_ROWS:
        text = in_engine(OF_THE_FLEET[name], "postgres")
        if gone := [hold for hold in holds(text) if hold.kind == "written"]:
            outcome = await policed.beside.run(without(text, gone), asked_by(ACME, name), ACME)
            assert getattr(outcome.error.__cause__, "sqlstate", "") == POLICY_SAYS_NO, f"{name}: {outcome.answer}"


async def test_in_a_tenants_scope_rows_that_name_another_tenant_are_refused_before_anything_is_asked(worlds):
    naming = [name for name in OF_ROWS if OF_ROWS[name](GLOBEX) != OF_ROWS[name](ACME)]
    assert len(naming) > 15
    for name in naming:
        outcome = await worlds.beside.run(OF_THE_FLEET[name], asked_by(GLOBEX, name), ACME)
        assert isinstance(outcome.error, ForeignTenant), name


async def test_a_statement_that_is_not_on_the_list_leaves_the_fleets_role_first(policed):
    for name, statement in OF_A_TENANT.items():
        case = CASES[name]
        params = {**case.params, "tenant": case.tenant}
        outcome = await policed.beside.run(statement, params, SYSTEM, before=ENTER)
        assert (outcome.role, outcome.error) == ("netra_run", None), f"{name}: {outcome.answer}"


async def test_a_statement_on_the_list_runs_as_the_fleet_in_the_systems_scope(policed):
    for name, statement in OF_THE_FLEET.items():
        outcome = await policed.beside.run(statement, asked_by(GLOBEX, name), SYSTEM)
        assert (outcome.role, outcome.error) == ("netra_fleet", None), f"{name}: {outcome.answer}"


def test_the_rest_of_the_statements_are_on_tables_without_tenants():
    rest = set(STATEMENTS) - set(OF_A_TENANT) - set(OF_THE_FLEET)
    assert all("tenant" not in STATEMENTS[name].text for name in rest)
