"""S6 with row-level security off, and on SQLite, which has none: the statements' own predicates keep tenants apart."""

from __future__ import annotations

import pytest

from netra_backend.storage.errors import ConstraintViolated
from netra_backend.storage.transaction import ForeignTenant

from ..support.catalogue import STATEMENTS
from ..support.isolation.cases import CASES, REDUNDANT
from ..support.isolation.judging import leak
from ..support.isolation.mutants import holds, in_engine, without
from ..support.isolation.rows import ACME, GLOBEX, SYSTEM
from ..support.isolation.worlds import postgres_worlds, sqlite_worlds
from ..support.storage import EVERY_ENGINE, with_its_server


@pytest.fixture(params=EVERY_ENGINE)
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def worlds(engine, request, tmp_path):
    if engine == "postgres":
        made = postgres_worlds(request.getfixturevalue("postgres_server"), policies=False)
    else:
        made = sqlite_worlds(engine, request.getfixturevalue("templates")[engine], tmp_path)
    async with made as worlds:
        yield worlds


async def mutants_of(worlds, name):
    """What the product's text leaks, then each text with one hold fewer: (what was taken out, how it leaks)."""
    case, statement = CASES[name], in_engine(STATEMENTS[name], worlds.engine)
    alone = await worlds.alone.run(statement, case.params, case.tenant)
    assert alone.error is None, f"{name}: {alone.answer}"
    whole = await worlds.beside.run(statement, case.params, case.tenant)
    yield "", leak(alone, whole, worlds.beside.standing, case.tenant)
    for hold in holds(statement):
        beside = await worlds.beside.run(without(statement, [hold]), case.params, case.tenant)
        assert beside.error is None or isinstance(beside.error, ConstraintViolated), f"{name} is no SQL any more: {beside.answer}"
        yield statement.text[hold.start : hold.end], leak(alone, beside, worlds.beside.standing, case.tenant)


async def test_the_predicates_alone_keep_tenants_apart_and_the_loss_of_any_one_is_noticed(worlds):
    leaks, unnoticed, noticed = {}, set(), 0
    for name in CASES:  # also one that takes no tenant any more
        async for gone, words in mutants_of(worlds, name):
            if not gone and words:
                leaks[name] = words
            elif gone and not words:
                unnoticed.add((name, gone))
            noticed += bool(gone and words)
    assert leaks == {}, sorted(leaks)
    assert unnoticed == set(REDUNDANT)
    assert noticed > 60


async def test_in_a_tenants_scope_another_tenants_name_is_refused_before_anything_is_asked(worlds):
    """What the policies would do on PostgreSQL must not be missing on SQLite: both refuse, and say the same."""
    for name, case in CASES.items():
        outcome = await worlds.beside.run(STATEMENTS[name], {**case.params, "tenant": GLOBEX}, ACME)
        assert isinstance(outcome.error, ForeignTenant), name


async def test_of_the_operators_rows_a_tenant_may_ask_and_change_none(worlds):
    for name, case in CASES.items():
        outcome = await worlds.beside.run(STATEMENTS[name], {**case.params, "tenant": SYSTEM}, ACME)
        assert isinstance(outcome.error, ForeignTenant) == (not STATEMENTS[name].only_reads), name
