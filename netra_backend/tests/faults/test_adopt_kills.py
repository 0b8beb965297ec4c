"""A shop killed anywhere in its transaction: there is an order if and only if there is its message, never half of either."""

from __future__ import annotations

import asyncio

import pytest

from ..support.adopting import house, settings_of
from ..support.places import File, Shared
from ..support.shop_program import AFTER_COMMIT, BEFORE_COMMIT, spec_of
from ..support.shops import KINDS
from ..support.storage import eventually
from ..support.zygote import Zygote, until

KINDS_KILLED = ["sqlite3", "psycopg", "sa-session-psycopg"]
INSIDE = ["webhooks.keys_claimed", "webhooks.messages_written", "webhooks.deliveries_written"]
KILLS_AT_RANDOM = 6
ORDERS_AT_LEAST = (1, 3, 2, 5)


@pytest.fixture(scope="module")
def warm():
    with Zygote("netra_backend.tests.support.shop_program") as zygote:
        yield zygote


@pytest.fixture
def place(tmp_path, postgres_server, kind):
    if KINDS[kind].engine == "sqlite":
        yield File(tmp_path / "netra.db")
        return
    with postgres_server.database() as name:
        yield Shared(postgres_server, name)


class Killings:
    """Shops of one kind on one database, killed one after the other."""

    def __init__(self, warm, folder, mine, kind, tenant):
        self.ledger = folder / "ledger"
        self._warm, self._folder, self._mine, self._kind, self._tenant = warm, folder, mine, kind, tenant
        self._number = 0

    def start(self, **more):
        self._number += 1
        spec = spec_of(self._mine.place, self._kind, tenant=self._tenant, prefix=f"life{self._number}", ledger=str(self.ledger), **more)
        return self._warm.fork("shop", {**spec, "settings": settings_of(self._folder)}, log=self._folder / "shop.log")

    def acknowledged(self):
        return set(self.ledger.read_text().split()) if self.ledger.exists() else set()

    def check(self):
        """Never half, and what returned is there."""
        orders = self._mine.orders()
        keys = self._mine.place.query(f"select key from netra_idempotency where tenant = '{self._tenant}'")
        deliveries = self._mine.place.query(f"select count(*) from netra_delivery where tenant = '{self._tenant}'")
        assert self._mine.messages(self._tenant) == orders == {key for (key,) in keys}, "half of a transaction"
        assert deliveries == [(len(orders),)]
        assert self.acknowledged() <= orders, "a commit that returned is lost"
        return orders


@pytest.mark.parametrize("kind", KINDS_KILLED)
async def test_a_shop_killed_anywhere_has_its_order_if_and_only_if_it_has_its_message(warm, tmp_path, place, kind):
    async with house(tmp_path, place, workers=False) as mine:
        tenant = await mine.tenant_with_endpoint()
        shops = Killings(warm, tmp_path, mine, kind, tenant)
        for failpoint in INSIDE:
            await asyncio.to_thread(_dies, shops.start(failpoint=f"{failpoint}@3=kill"))
            assert len(shops.check()) == len(shops.acknowledged())
        await asyncio.to_thread(_dies, shops.start(stage=BEFORE_COMMIT, dies_at=2))
        assert len(shops.check()) == len(shops.acknowledged())
        await asyncio.to_thread(_dies, shops.start(stage=AFTER_COMMIT, dies_at=2))
        assert len(shops.check()) == len(shops.acknowledged()) + 1
        for n in range(KILLS_AT_RANDOM):
            await asyncio.to_thread(_killed_amid, shops, len(shops.acknowledged()) + ORDERS_AT_LEAST[n % 4])
            shops.check()
        orders = shops.check()
        await mine.netra.stop()
    async with house(tmp_path, place, tables=False) as mine:
        await mine.point_endpoints_here(tenant)
        await eventually(lambda: all(mine.arrived(ref) == 1 for ref in orders))


def _dies(child):
    assert child.died() == 9, child.last_words()


def _killed_amid(shops, count):
    """SIGKILL while it takes orders; where in one it is just then is chance."""
    child = shops.start()
    until(lambda: len(shops.acknowledged()) >= count, "orders are taken")
    child.kill()
