"""Tenants: one name for ever, a uid that may change, and a tombstone at the end."""

from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

from netra_backend.errors import Conflict, InvalidInput, NotFound
from netra_backend.kernel.scope import Scope
from netra_backend.storage import tenants

from ..support.storage import SYSTEM, opened


async def create(database, name, **options):
    return await database.write(partial(tenants.create, **options), name, scope=SYSTEM)


async def test_a_tenant_is_found_by_its_id_its_uid_and_its_name(database):
    made = await create(database, "Acme", uid="acme", metadata={"plan": "pro"}, rate_limit=5)
    assert made.tenant == made.uid == "acme"
    for reference in (made.app_id, "acme"):
        assert await database.read(tenants.get, reference, scope=SYSTEM) == made
    nameless = await create(database, "Nameless")
    assert nameless.tenant == nameless.app_id
    assert await database.read(tenants.find, "no-such", scope=SYSTEM) is None
    assert await database.read(tenants.find, "*", scope=SYSTEM) is None
    with pytest.raises(NotFound, match="no-such"):
        await database.read(tenants.get, "no-such", scope=SYSTEM)


async def test_a_uid_that_is_taken_is_a_conflict(database):
    await create(database, "Acme", uid="acme")
    with pytest.raises(Conflict):
        await create(database, "Other", uid="acme")


async def test_two_first_uses_at_once_make_one_tenant(database):
    made = await asyncio.gather(*(database.write(tenants.ensure, "acme", scope=SYSTEM) for _ in range(4)))
    assert len({tenant.id for tenant in made}) == 1


async def test_two_creations_of_one_uid_at_once_make_one(database):
    outcomes = await asyncio.gather(*(create(database, "Acme", uid="acme") for _ in range(3)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(Conflict) == 2


async def test_the_name_stays_when_the_uid_changes_and_nobody_else_may_take_it(database):
    acme = await create(database, "Acme", uid="acme")
    renamed = await database.write(tenants.update, "acme", {"uid": "acme-2", "name": "Acme 2"}, scope=SYSTEM)
    assert (renamed.tenant, renamed.uid, renamed.id) == ("acme", "acme-2", acme.id)
    assert await database.read(tenants.get, "acme-2", scope=SYSTEM) == renamed
    assert await database.read(tenants.get, "acme", scope=SYSTEM) == renamed
    with pytest.raises(Conflict):
        await create(database, "Another", uid="acme")


async def test_what_an_update_does_not_name_stays(database):
    before = await create(database, "Acme", uid="acme", metadata={"a": 1}, rate_limit=7)
    after = await database.write(tenants.update, "acme", {"name": "New"}, scope=SYSTEM)
    assert (after.uid, after.metadata, after.rate_limit, after.created_us) == ("acme", {"a": 1}, 7, before.created_us)
    with pytest.raises(Conflict):
        await create(database, "Other", uid="other")
        await database.write(tenants.update, "other", {"uid": "acme"}, scope=SYSTEM)


async def test_a_buried_tenant_is_found_no_more_and_its_uid_is_free_again(database):
    gone = await create(database, "Acme", uid="acme")
    await database.write(tenants.bury, "acme", scope=SYSTEM)
    for reference in ("acme", gone.app_id):
        assert await database.read(tenants.find, reference, scope=SYSTEM) is None
    with pytest.raises(NotFound):
        await database.write(tenants.bury, "acme", scope=SYSTEM)
    again = await create(database, "Acme", uid="acme")
    assert again.uid == "acme"
    assert again.tenant != gone.tenant


async def test_pages_go_forth_and_back_over_every_living_tenant(database):
    made = [await create(database, f"T{n}", uid=f"t{n}") for n in range(5)]
    await database.write(tenants.bury, "t2", scope=SYSTEM)
    kept = [tenant.tenant for tenant in made if tenant.tenant != "t2"]
    seen, after = [], (0, b"")
    while page := await database.read(tenants.page, after, 2, scope=SYSTEM):
        seen += [tenant.tenant for tenant in page]
        after = (page[-1].created_us, page[-1].id)
    assert seen == kept
    back = await database.read(partial(tenants.page, back=True), after, 10, scope=SYSTEM)
    assert [tenant.tenant for tenant in back] == kept[-2::-1]


@pytest.mark.parametrize("uid", ["*", "a b", "a/b", "é", "a" * 257, "a\n"])
async def test_a_text_that_cannot_name_a_tenant_is_refused(database, uid):
    with pytest.raises(InvalidInput):
        await create(database, "x", uid=uid)
    with pytest.raises(InvalidInput):
        await database.write(tenants.ensure, uid, scope=SYSTEM)


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)  # on SQLite nobody else writes meanwhile
async def test_a_tenant_that_another_process_makes_between_two_looks_is_taken(engine, tmp_path, monkeypatch):
    look, elsewhere = tenants.find, []

    async def made_elsewhere():
        async with opened(engine, tmp_path) as database:
            elsewhere.append(await database.write(tenants.ensure, "acme", scope=SYSTEM))

    async def find(tx, reference):
        found = await look(tx, reference)
        if threading.current_thread() is threading.main_thread() and not elsewhere:
            other = threading.Thread(target=asyncio.run, args=(made_elsewhere(),))
            other.start()
            other.join(60)
        return found

    async with opened(engine, tmp_path) as database:
        monkeypatch.setattr(tenants, "find", find)
        assert [await database.write(tenants.ensure, "acme", scope=Scope("acme", "tester"))] == elsewhere
