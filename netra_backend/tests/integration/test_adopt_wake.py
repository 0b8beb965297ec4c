"""After the caller's commit the framework's hook, where it has one, begins the delivery; nobody has to look."""

from __future__ import annotations

import asyncio

import pytest
import pytest_asyncio

from netra_backend.storage import postgres_watch
from netra_backend.webhooks import worker

from ..support.adopting import houses
from ..support.shops import KINDS, opened
from ..support.storage import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

WITH_A_HOOK = [
    "sa-session-pysqlite",
    "sa-async-session-aiosqlite",
    "django-sqlite",
    "sa-session-psycopg",
    "sa-async-session-asyncpg",
    "django-psycopg",
]
NEVER_S = 300.0
"""How often these look by themselves; what looks at the database otherwise is in test_adopt.py."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def blind(tmp_path_factory, postgres_server):
    """Two that do not look by themselves."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "SCAN_EVERY_S", NEVER_S)
        patch.setattr(postgres_watch, "POLL_S", NEVER_S)
        async with houses(tmp_path_factory.mktemp("adopt"), postgres_server, lease_ttl="60s") as both:
            yield both


@pytest.mark.parametrize("kind", WITH_A_HOOK)
async def test_the_hook_alone_begins_the_delivery(blind, kind):
    mine = blind[KINDS[kind].engine]
    async with opened(kind, mine.place) as shop:
        tenant = await mine.tenant_with_endpoint()
        for n in range(3):
            await shop.begin()
            await shop.order(f"{tenant}-{n}")
            await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant=tenant), {"ref": f"{tenant}-{n}"})
            await shop.commit()
            await eventually(lambda ref=f"{tenant}-{n}": mine.arrived(ref) == 1, 10)


@pytest.mark.parametrize("kind", ["sa-session-pysqlite", "sa-async-session-asyncpg"])
async def test_a_savepoint_that_is_released_is_no_commit(blind, kind):
    mine = blind[KINDS[kind].engine]
    woken = []
    mine.netra.database.on_wake.append(lambda: woken.append(1))
    async with opened(kind, mine.place) as shop:
        await shop.begin()
        await shop.do(_nested, shop, mine) if shop.synchronous else await _nested_async(shop, mine)
        await asyncio.sleep(0)
        assert woken == []
        await shop.commit()
        await eventually(lambda: woken == [1])


def _nested(shop, mine):
    with shop.guest.begin_nested():
        mine.netra.sync.webhooks.send(mine.netra.adopt(shop.guest, tenant="acme"), "order.made", {"ref": "nested"})


async def _nested_async(shop, mine):
    async with shop.guest.begin_nested():
        await mine.netra.webhooks.send(mine.netra.adopt(shop.guest, tenant="acme"), "order.made", {"ref": "nested"})


async def test_a_rollback_wakes_nobody_and_the_next_commit_does_once(blind):
    mine = blind["sqlite"]
    woken = []
    mine.netra.database.on_wake.append(lambda: woken.append(1))
    async with opened("sa-session-pysqlite", mine.place) as shop:
        tx = mine.netra.adopt(shop.guest, tenant="acme")
        for end in (shop.rollback, shop.commit):
            await shop.begin()
            for ref in "12":
                await shop.send(mine.netra, tx, {"ref": ref})
            await end()
        await eventually(lambda: woken == [1])


async def test_a_hook_that_comes_after_netra_is_closed_harms_nobody(tmp_path_factory, postgres_server):
    folder = tmp_path_factory.mktemp("adopt")
    async with houses(folder, postgres_server, workers=False) as both:
        mine = both["sqlite"]
        async with opened("sa-session-pysqlite", mine.place) as shop:
            await shop.begin()
            await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant="acme"), {"ref": "late"})
            await mine.netra.stop()
            await shop.commit()
        assert mine.messages("acme") == {"late"}
