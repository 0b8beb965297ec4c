"""What one tenant may put in: refused before anything is stored, and nobody else's business."""

from __future__ import annotations

import pytest

from netra_backend.kernel.scope import Scope
from netra_backend.testing.clock import FakeClock
from netra_backend.webhooks import store
from netra_backend.webhooks.errors import QuotaExceeded
from netra_backend.webhooks.intake import Accepted

from ..support.platform import add_endpoint, deliveries, on_a_clock
from ..support.server import API, client_of, create_app, endpoint, message, new_netra
from ..support.storage import SYSTEM
from ..support.webhooks import claimed, live_node, outcome


@pytest.fixture
def clock():
    return FakeClock()


def opened(tmp_path, clock, **settings):
    return on_a_clock(tmp_path, clock, workers=False, **settings)


async def accept(netra, count, tenant="acme"):
    await netra.tenant(tenant)
    news = [netra.webhooks.new_message(tenant, "thing.happened", {"n": number}) for number in range(count)]
    return await netra.webhooks.accept(Scope(tenant, "tester"), news)


async def test_what_is_over_the_rate_is_refused_with_the_time_to_wait_and_the_rest_is_stored(tmp_path, clock):
    async with opened(tmp_path, clock, webhooks_quota_rate=10) as netra:
        await add_endpoint(netra, "http://127.0.0.1:9/")
        answers = await accept(netra, 14)
        assert [isinstance(each, Accepted) for each in answers] == [True] * 10 + [False] * 4
        assert all(isinstance(each, QuotaExceeded) for each in answers[10:])
        assert answers[10].retry_after_s == pytest.approx(0.1)
        assert len(await deliveries(netra)) == 10
        await clock.jump(0.5)
        assert sum(isinstance(each, Accepted) for each in await accept(netra, 14)) == 5


async def test_another_tenants_flood_takes_nothing_from_anybody(tmp_path, clock):
    async with opened(tmp_path, clock, webhooks_quota_rate=10) as netra:
        await accept(netra, 100, "globex")
        assert all(isinstance(each, Accepted) for each in await accept(netra, 10))


async def test_a_list_in_a_transaction_goes_in_whole_or_not_at_all(tmp_path, clock):
    async with opened(tmp_path, clock, webhooks_quota_rate=10) as netra:
        await add_endpoint(netra, "http://127.0.0.1:9/")
        items = [{"type": "thing.happened", "payload": {"n": number}} for number in range(6)]
        async with netra.transaction(tenant="acme") as tx:
            await netra.webhooks.send_many(tx, items)
            with pytest.raises(QuotaExceeded) as refused:
                await netra.webhooks.send_many(tx, items)
        assert refused.value.retry_after_s == pytest.approx(0.2)
        assert len(await deliveries(netra)) == 6
        await clock.jump(0.2)
        async with netra.transaction(tenant="acme") as tx:
            await netra.webhooks.send_many(tx, items)


async def test_a_tenant_with_too_much_waiting_gets_in_again_when_that_is_less(tmp_path, clock):
    async with opened(tmp_path, clock, webhooks_quota_queue=5) as netra:
        hook = await add_endpoint(netra, "http://127.0.0.1:9/")
        await accept(netra, 5)
        await clock.jump(1)
        with pytest.raises(QuotaExceeded):
            await accept(netra, 1)
        assert all(isinstance(each, Accepted) for each in await accept(netra, 1, "globex"))

        node = await live_node(netra.database)
        (one, *_) = await claimed(netra.database, node, hook)
        await netra.database.write(store.acknowledge, [outcome(one)], scope=SYSTEM)
        await clock.jump(1)
        assert all(isinstance(each, Accepted) for each in await accept(netra, 1))


async def test_without_a_quota_nobody_counts(tmp_path, clock):
    async with opened(tmp_path, clock) as netra:
        assert all(isinstance(each, Accepted) for each in await accept(netra, 1000))


async def test_over_rest_it_is_429_with_retry_after(tmp_path):
    async with new_netra(tmp_path, webhooks_quota_rate=1) as netra, client_of(create_app(netra)) as operator:
        await operator.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})
        await endpoint(operator)
        await message(operator)
        body = {"eventType": "thing.happened", "payload": {"n": 1}}
        refused = await operator.post(f"{API}/app/acme/msg", json=body)
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (429, "quota_exceeded", "1")
        batch = await operator.post(f"{API}/app/acme/msg/batch", json=[body, body])
        assert batch.status_code == 207
        assert {each["error"]["status"] for each in batch.json()} == {429}
