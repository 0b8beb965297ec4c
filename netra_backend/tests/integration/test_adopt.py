"""`adopt()`: what is sent in a caller's transaction exists if and only if that commits, for every kind of connection."""

from __future__ import annotations

import pytest
import pytest_asyncio

from ..support.adopting import houses
from ..support.shops import KINDS, opened
from ..support.storage import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both(tmp_path_factory, postgres_server):
    async with houses(tmp_path_factory.mktemp("adopt"), postgres_server) as both:
        yield both


@pytest_asyncio.fixture(params=KINDS, loop_scope="module")
async def kind(request, both):
    """A shop of each kind, and the house that it shares a database with."""
    house = both[KINDS[request.param].engine]
    async with opened(request.param, house.place) as shop:
        yield shop, house


async def test_a_message_sent_in_a_transaction_that_commits_is_delivered_once(kind):
    shop, house = kind
    tenant = await house.tenant_with_endpoint()
    await shop.begin()
    await shop.order(f"{tenant}-1")
    await shop.send(house.netra, house.netra.adopt(shop.guest, tenant=tenant), {"ref": f"{tenant}-1"})
    assert house.messages(tenant) == set()
    await shop.commit()
    assert house.messages(tenant) == {f"{tenant}-1"}
    assert f"{tenant}-1" in house.orders()
    await eventually(lambda: house.arrived(f"{tenant}-1") == 1)


async def test_a_rollback_takes_everything_of_ours_with_it(kind):
    shop, house = kind
    tenant = house.new_tenant()
    await shop.begin()
    await shop.order(f"{tenant}-1")
    await shop.send(house.netra, house.netra.adopt(shop.guest, tenant=tenant), {"ref": "1"}, event_id="1")
    await shop.rollback()
    assert house.rows_of(tenant) == {}
    assert f"{tenant}-1" not in house.orders()
