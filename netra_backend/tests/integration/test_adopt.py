"""`adopt()`: what is sent in a caller's transaction exists if and only if that commits, for every kind of connection."""

from __future__ import annotations

import asyncio
import statistics

import pytest
import pytest_asyncio

from netra_backend.errors import InvalidInput, KeyReused
from netra_backend.kernel.ids import to_text
from netra_backend.kernel.scope import Scope
from netra_backend.observability.audit.reading import Filter
from netra_backend.observability.audit.verifying import verify_receipt
from netra_backend.storage.adopted.errors import OneTenant
from netra_backend.webhooks.errors import PayloadTooLarge
from netra_backend.webhooks.keys import decode_secret
from netra_backend.webhooks.signing import SignatureMismatch, signature_header

from ..support.adopting import houses
from ..support.shops import KINDS, opened
from ..support.storage import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")

SENDS = 8
LOOKS_EVERY_S = 0.1
ATTEMPT_S = 0.15
"""What a claim and an attempt may take on a machine that does other things too."""


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


async def test_a_received_message_is_new_until_a_transaction_that_took_it_commits(kind):
    shop, house = kind
    tenant, secret, body = house.new_tenant(), "whsec_" + "QUJD" * 10, b'{"n":1}'
    now_s = house.netra.runtime.clock.wall_us() // 1_000_000
    signature = signature_header([decode_secret(secret)], "msg_1", now_s, body)
    request = {"webhook-id": "msg_1", "webhook-timestamp": str(now_s), "webhook-signature": signature}, body, secret
    tx = house.netra.adopt(shop.guest, tenant=tenant)
    seen = []
    for end in (shop.rollback, shop.commit, shop.commit):
        await shop.begin()
        await shop.order(f"{tenant}-{len(seen)}")
        with pytest.raises(SignatureMismatch):
            await shop.receive(house.netra, tx, request[0], b"{}", secret)
        seen.append((await shop.receive(house.netra, tx, *request)).new)
        await end()
    assert seen == [True, True, False]


async def test_an_error_of_one_call_leaves_the_transaction_and_its_other_calls_as_they_were(kind):
    shop, house = kind
    tenant = await house.tenant_with_endpoint()
    tx = house.netra.adopt(shop.guest, tenant=tenant)
    await shop.begin()
    await shop.order(f"{tenant}-before")
    await shop.send(house.netra, tx, {"ref": f"{tenant}-1"}, event_id="one")
    with pytest.raises(KeyReused):
        await shop.send(house.netra, tx, {"ref": f"{tenant}-2"}, event_id="one")
    with pytest.raises(PayloadTooLarge):
        await shop.send(house.netra, tx, {"ref": "x" * 2_000_000})
    with pytest.raises(InvalidInput):
        await shop.send(house.netra, tx, {}, type="no type")
    with pytest.raises(KeyReused):
        await shop.send_many(house.netra, tx, [{"ref": f"{tenant}-4"}, {"ref": f"{tenant}-5"}], event_ids=[None, "one"])
    await shop.order(f"{tenant}-after")
    await shop.send(house.netra, tx, {"ref": f"{tenant}-3"})
    await shop.commit()
    assert house.messages(tenant) == {f"{tenant}-1", f"{tenant}-3"}
    assert {f"{tenant}-before", f"{tenant}-after"} <= house.orders()
    await eventually(lambda: [house.arrived(f"{tenant}-{n}") for n in range(1, 6)] == [1, 0, 1, 0, 0])


async def test_after_the_callers_savepoint_is_rolled_back_the_next_call_has_its_tenant_again(kind):
    shop, house = kind
    tenant = house.new_tenant()
    tx = house.netra.adopt(shop.guest, tenant=tenant)
    await shop.begin()
    await shop.order(f"{tenant}-1")
    await shop.sql("savepoint of_mine")
    await shop.order(f"{tenant}-2")
    await shop.send(house.netra, tx, {"ref": "undone"}, event_id="key")
    await shop.sql("rollback to savepoint of_mine")
    await shop.send(house.netra, tx, {"ref": "done"}, event_id="key")
    await shop.commit()
    assert house.messages(tenant) == {"done"}
    assert {f"{tenant}-1"} == {ref for ref in house.orders() if ref.startswith(f"{tenant}-")}


async def test_one_transaction_is_one_tenants(kind):
    shop, house = kind
    one, other = house.new_tenant(), house.new_tenant()
    first, second = house.netra.adopt(shop.guest, tenant=one), house.netra.adopt(shop.guest, tenant=other)
    for _ in range(2):  # the next transaction is a new one, also where the last one is a moment ago
        await shop.begin()
        await shop.sql(f"insert into shop_order (ref) select '{one}-begun' where false")
        await shop.send(house.netra, first, {"ref": "1"})
        with pytest.raises(OneTenant, match=f"for the tenant '{one}' before, and for '{other}' now"):
            await shop.send(house.netra, second, {"ref": "2"})
        await shop.send(house.netra, first, {"ref": "3"})
        await shop.commit()
        first, second, one, other = second, first, other, one
    assert house.messages(one) == house.messages(other) == {"1", "3"}


async def test_after_a_rollback_the_connection_is_free_for_another_tenant(kind):
    shop, house = kind
    one, other = house.new_tenant(), house.new_tenant()
    await shop.begin()
    await shop.send(house.netra, house.netra.adopt(shop.guest, tenant=one), {"ref": "1"})
    await shop.rollback()
    await shop.begin()
    await shop.send(house.netra, house.netra.adopt(shop.guest, tenant=other), {"ref": "2"})
    await shop.commit()
    assert house.messages(other) == {"2"}
    assert house.rows_of(one) == {}


async def test_one_event_id_is_one_message_whoever_sends_it(kind):
    shop, house = kind
    tenant = house.new_tenant()
    options = {"event_id": "paid", "type": "order.made"}
    async with house.netra.transaction(tenant=tenant) as tx:
        first = await house.netra.webhooks.send(tx, payload={"ref": "1"}, **options)
    await shop.begin()
    await shop.sql(f"insert into shop_order (ref) values ('{tenant}-1')")
    again = await shop.send(house.netra, house.netra.adopt(shop.guest, tenant=tenant), {"ref": "1"}, event_id="paid")
    later = await shop.send(house.netra, house.netra.adopt(shop.guest, tenant=tenant), {"ref": "2"}, event_id="sent")
    await shop.commit()
    async with house.netra.transaction(tenant=tenant) as tx:
        last = await house.netra.webhooks.send(tx, "order.made", {"ref": "2"}, event_id="sent")
    assert (first, later) == (again, last)
    assert house.place.query(f"select count(*) from netra_message where tenant = '{tenant}'") == [(2,)]


async def test_an_entry_and_an_event_of_the_callers_own_stand_if_and_only_if_that_commits(kind):
    """A1. The entry comes into the tenant's log, and its receipt holds."""
    shop, house = kind
    tenant, netra = house.new_tenant(), house.netra
    for end in (shop.rollback, shop.commit):
        await shop.begin()
        await shop.order(f"{tenant}-1")
        tx = netra.adopt(shop.guest, tenant=tenant)
        entry = await shop.record(netra, tx, "order.approve", f"{tenant}-1", after={"state": "approved"}, personal={"by": "ada"})
        assert await shop.tell(netra, tx, "order.approved", {"order": 1}, "1")
        await end()
        if end == shop.rollback:
            assert house.rows_of(tenant) == {}
    scope = Scope(tenant, "tester")
    await netra.audit.settle(scope)
    (found,) = await netra.audit.search(scope, Filter(action="order.approve"))
    personal = await netra.audit.personal(scope, entry)
    assert (to_text("aud", found.id), found.after, personal["data"]) == (entry, {"state": "approved"}, {"by": "ada"})
    receipt = await netra.audit.prove(scope, entry)
    assert verify_receipt(receipt.text.encode(), (await netra.audit.log(scope)).vkey.text).ok
    await shop.begin()
    assert not await shop.tell(netra, netra.adopt(shop.guest, tenant=tenant), "order.approved", {"order": 1}, "1")
    await shop.rollback()


async def test_the_scopes_trace_and_tenant_arrive_in_the_message(kind):
    shop, house = kind
    tenant = house.new_tenant()
    await shop.begin()
    with house.netra.scope(tenant=tenant, trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
        await shop.send(house.netra, house.netra.adopt(shop.guest), {"ref": "1"})
    await shop.commit()
    rows = house.place.query(f"select trace_id, span_id from netra_message where tenant = '{tenant}'")
    assert rows == [("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")]


@pytest.mark.parametrize("kind", ["sqlite3", "psycopg"])
async def test_a_delivery_is_due_and_nobodys_until_the_caller_has_committed(both, kind):
    """Leased to this process it would wait for a hand-over that nobody makes: we do not see the commit."""
    house = both[KINDS[kind].engine]
    tenant = await house.tenant_with_endpoint()
    await house.netra.write(house.netra.webhooks.send, "order.made", {"ref": f"{tenant}-0"}, tenant=tenant)
    await eventually(lambda: house.arrived(f"{tenant}-0") == 1)  # from here on the sender knows the endpoint, and would take more for it
    async with opened(kind, house.place, user="superuser") as shop:
        await shop.begin()
        await shop.send(house.netra, house.netra.adopt(shop.guest, tenant=tenant), {"ref": f"{tenant}-1"})
        found = await shop.sql(f"select state, owner from netra_delivery where tenant = '{tenant}' order by message_id desc")
        assert found[0] == ("due", None)
        await shop.rollback()
    assert house.arrived(f"{tenant}-1") == 0


@pytest.mark.parametrize("kind", ["sqlite3", "sa-connection-pysqlite", "psycopg", "asyncpg"])
async def test_without_a_hook_the_delivery_begins_within_a_tenth_of_a_second(both, kind):
    mine = both[KINDS[kind].engine]
    took_s = []
    async with opened(kind, mine.place) as shop:
        tenant = await mine.tenant_with_endpoint()
        for n in range(SENDS):
            await shop.begin()
            await shop.send(mine.netra, mine.netra.adopt(shop.guest, tenant=tenant), {"ref": f"{tenant}-{n}"})
            await shop.commit()
            committed = asyncio.get_running_loop().time()
            await mine.receiver.until(lambda _, ref=f"{tenant}-{n}": mine.arrived(ref) == 1)
            took_s.append(asyncio.get_running_loop().time() - committed)
    assert statistics.median(took_s) < LOOKS_EVERY_S + ATTEMPT_S, took_s
