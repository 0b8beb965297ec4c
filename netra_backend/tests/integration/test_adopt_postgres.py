"""Adopted transactions on PostgreSQL: under which role a call runs, and what the caller gets back afterwards."""

from __future__ import annotations

import asyncio
import secrets

import pytest
import pytest_asyncio

from netra_backend.errors import Conflict, InvalidInput, NotFound
from netra_backend.storage import tenants
from netra_backend.storage.adopted.errors import ReadOnlyTransaction, RoleNotGranted
from netra_backend.storage.statements import Statements

from ..support.adopting import house, scope_of
from ..support.places import Shared
from ..support.postgres import OWNER, RUN
from ..support.shops import opened

pytestmark = pytest.mark.asyncio(loop_scope="module")
SUBSTRATE = Statements("netra_backend.storage")

CALLERS = """select current_setting('role'), current_user::text, current_setting('search_path'), current_setting('row_security'),
  coalesce(current_setting('netra.tenant', true), '')"""
EVERY_KIND = ["asyncpg", "psycopg", "psycopg-async", "sa-session-psycopg", "sa-async-session-asyncpg", "django-psycopg"]
PLAIN = ["asyncpg", "psycopg"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mine(tmp_path_factory, postgres_server):
    with postgres_server.database() as name:
        async with house(tmp_path_factory.mktemp("adopt"), Shared(postgres_server, name), workers=False) as mine:
            yield mine


@pytest.mark.parametrize("kind", EVERY_KIND)
async def test_role_path_and_tenant_are_the_callers_again_after_each_call_and_each_error(mine, kind):
    async with opened(kind, mine.place) as shop:
        await shop.begin()
        await shop.sql("set local search_path = shop, public")
        await shop.sql("set local row_security = off")
        before = await shop.sql(CALLERS)
        tx = mine.netra.adopt(shop.guest, tenant=mine.new_tenant())
        await shop.send(mine.netra, tx, {"ref": "1"})
        assert await shop.sql(CALLERS) == before
        with pytest.raises(InvalidInput):
            await shop.send(mine.netra, tx, {}, type="no type")
        assert await shop.sql(CALLERS) == before
        assert before[0][2:] == ("shop, public", "off", "")
        await shop.commit()
        await shop.begin()
        assert (await shop.sql(CALLERS))[0][0] == "none"
        await shop.rollback()


@pytest.mark.parametrize("how", ["set role", "set local role"])
@pytest.mark.parametrize("kind", PLAIN)
async def test_a_role_that_the_caller_has_set_itself_is_handed_back(mine, kind, how):
    async with opened(kind, mine.place) as shop:
        await shop.begin()
        await shop.sql(f"{how} netra_app")
        await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant=mine.new_tenant()), {"ref": "1"})
        assert (await shop.sql("select current_setting('role')")) == [("netra_app",)]
        await shop.commit()
        await shop.begin()
        assert (await shop.sql("select current_setting('role')")) == [("netra_app" if how == "set role" else "none",)]
        await shop.rollback()


@pytest.mark.parametrize("kind", PLAIN)
async def test_a_superuser_is_held_by_the_policies_during_a_call(mine, kind):
    one, other = mine.new_tenant(), mine.new_tenant()
    for tenant in (one, other):
        await mine.netra.tenant(tenant)
    async with opened(kind, mine.place, user="superuser") as shop:
        await shop.begin()
        tx = mine.netra.adopt(shop.guest, tenant=one)
        seen = await shop.do(lambda: _drive(_tenants_seen(tx))) if shop.synchronous else await _tenants_seen(tx)
        assert seen == [one]
        assert {name for (name,) in await shop.sql("select tenant from netra_tenant")} >= {one, other}
        await shop.rollback()


async def _tenants_seen(tx):
    async with tx.verb():
        rows = await tx.all(SUBSTRATE.list_tenants, created_us=-1, id=b"", limit=1000)
    return [row[0] for row in rows]


def _drive(coroutine):
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)
    return stopped.value.value


@pytest.mark.parametrize("user", [OWNER, RUN])
@pytest.mark.parametrize("kind", PLAIN)
async def test_a_role_that_may_not_act_for_netra_app_is_refused_with_the_grant(mine, kind, user):
    async with opened(kind, mine.place, user=user) as shop:
        await shop.begin()
        with pytest.raises(RoleNotGranted) as refused:
            await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant="nobody"), {})
        assert "grant netra_app to" in refused.value.fix
        assert await shop.sql("select current_setting('role')") == [("none",)]
        await shop.commit()
    assert mine.rows_of("nobody") == {}


@pytest.mark.parametrize("kind", PLAIN)
async def test_a_table_of_the_callers_session_never_answers_for_ours(mine, kind):
    tenant = mine.new_tenant()
    async with opened(kind, mine.place) as shop:
        await shop.begin()
        await shop.sql("create temp table netra_message (like public.netra_message) on commit drop")
        await shop.sql("grant all on pg_temp.netra_message to netra_app")
        await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant=tenant), {"ref": "1"})
        assert await shop.sql("select count(*) from pg_temp.netra_message") == [(0,)]
        await shop.commit()
    assert mine.messages(tenant) == {"1"}


@pytest.mark.parametrize("kind", PLAIN)
async def test_a_transaction_that_may_only_read_is_refused(mine, kind):
    async with opened(kind, mine.place) as shop:
        await shop.begin()
        await shop.sql("set transaction read only")
        with pytest.raises(ReadOnlyTransaction):
            await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant=mine.new_tenant()), {})
        await shop.rollback()


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
@pytest.mark.parametrize("kind", PLAIN)
async def test_a_stricter_isolation_level_is_the_callers_choice(mine, kind, level):
    tenant = mine.new_tenant()
    async with opened(kind, mine.place) as shop:
        if shop.synchronous:
            await shop.rollback()
            await shop.sql(f"set transaction isolation level {level}")
        else:
            await shop.begin()
            await shop.sql(f"set transaction isolation level {level}")
        await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant=tenant), {"ref": "1"}, event_id="one")
        await shop.commit()
    assert mine.messages(tenant) == {"1"}


@pytest.mark.parametrize("first_ends", ["commit", "rollback"])
@pytest.mark.parametrize("kind", PLAIN)
async def test_of_two_transactions_that_both_make_the_tenant_the_second_takes_what_the_first_left(mine, kind, first_ends):
    tenant = mine.new_tenant()
    async with opened(kind, mine.place) as one, opened("psycopg-async", mine.place) as two:
        await one.begin()
        await two.begin()
        await one.send(mine.netra, mine.netra.adopt(one.guest, tenant=tenant), {"ref": "1"})
        second = asyncio.create_task(two.send(mine.netra, mine.netra.adopt(two.guest, tenant=tenant), {"ref": "2"}))
        await _waits_for_a_lock(mine)
        await getattr(one, first_ends)()
        await second
        await two.commit()
    assert mine.messages(tenant) == ({"1", "2"} if first_ends == "commit" else {"2"})
    assert mine.rows_of(tenant)["netra_tenant"] == 1
    assert mine.rows_of(tenant)["netra_audit_entry"] == 1


async def _waits_for_a_lock(mine):
    while not mine.place.query("select 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"):
        await asyncio.sleep(0.005)


async def _tenant_with_another_uid(mine):
    """A tenant that is known by its id, by its name, and by a uid that it was given later."""
    name, uid = mine.new_tenant(), f"uid-{secrets.token_hex(4)}"
    found = await mine.netra.database.write(tenants.ensure, name, scope=scope_of("*"))
    await mine.netra.database.write(tenants.update, name, {"uid": uid}, scope=scope_of("*"))
    return name, uid, found.app_id


@pytest.mark.parametrize("kind", ["asyncpg", "psycopg", "sa-async-session-psycopg"])
async def test_a_tenant_is_adopted_by_name_id_or_uid_and_is_one_tenant(mine, kind):
    name, uid, app_id = await _tenant_with_another_uid(mine)
    sent = set()
    for reference in (name, uid, app_id):
        async with opened(kind, mine.place) as shop:
            await shop.begin()
            sent.add(await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant=reference), {"ref": "1"}, content_key=True))
            await shop.commit()
    assert len(sent) == 1
    assert mine.messages(name) == {"1"}
    assert mine.rows_of(uid) == mine.rows_of(app_id) == {}


async def test_on_netras_own_loop_a_synchronous_connection_takes_no_other_tenants_uid_for_a_new_name(mine):
    name, uid, app_id = await _tenant_with_another_uid(mine)
    async with opened("psycopg", mine.place) as shop:
        await shop.begin()
        for reference, error in ((uid, Conflict), (app_id, Exception)):
            with pytest.raises(error):
                await mine.netra.webhooks.send(mine.netra.adopt(shop.guest, tenant=reference), "order.made", {"ref": "1"})
        await mine.netra.webhooks.send(mine.netra.adopt(shop.guest, tenant=name), "order.made", {"ref": "2"})
        await shop.commit()
    assert mine.messages(name) == {"2"}


@pytest.mark.parametrize("kind", PLAIN)
async def test_a_deleted_tenants_name_is_not_taken_up_again_by_chance(mine, kind):
    tenant = mine.new_tenant()
    await mine.netra.database.write(tenants.ensure, tenant, scope=scope_of("*"))
    await mine.netra.database.write(tenants.bury, tenant, scope=scope_of("*"))
    async with opened(kind, mine.place) as shop:
        await shop.begin()
        with pytest.raises(NotFound, match="was deleted"):
            await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant=tenant), {"ref": "1"})
        await shop.commit()
    assert mine.messages(tenant) == set()
