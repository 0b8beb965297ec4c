"""Retention on every engine: what is over goes after its time, and nothing that is due or on its way ever does."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.storage import idempotency, log
from netra_backend.storage.idempotency import Claim
from netra_backend.storage.membership import Membership
from netra_backend.testing.clock import FakeClock
from netra_backend.webhooks import lines, retention, store
from netra_backend.webhooks.intake import Target, ingest
from netra_backend.webhooks.retention import Retention

from ..support.audits import Standing
from ..support.storage import SYSTEM, opened, refuse
from ..support.webhooks import A_DAY_S, attempts_of, claimed, due, endpoint_of, in_tenant, intake, live_node, outcome, version_of

ACME = in_tenant("acme")
EVER_US = 2**60


async def stored(database, tenant="acme"):
    """The ids of the tenant's messages."""
    return {each.id for each in await database.read(store.messages, None, 1000, scope=in_tenant(tenant))}


async def ended(database, endpoint, node, count=1, state="delivered"):
    """Messages that are over, each with an attempt."""
    messages = await due(database, endpoint, count)
    await database.write(store.acknowledge, [outcome(each, state) for each in await claimed(database, node, endpoint, count)], scope=SYSTEM)
    return messages


async def expire(database, before_us=EVER_US, limit=100, tenant="acme"):
    return await database.write(retention.expire, before_us, limit, scope=in_tenant(tenant))


async def trim_keys(database):
    return await database.write(idempotency.trim, EVER_US, 100, scope=SYSTEM)


async def repeated(database, endpoint, **key):
    """What a producer is answered that sends the message of a key once more."""
    (answer,) = await database.write(ingest, [intake(endpoint, await version_of(database), **key)], None, scope=SYSTEM)
    return answer


@pytest.mark.parametrize("state", ["delivered", "dead", "skipped", "cancelled"])
async def test_a_message_that_is_over_goes_with_its_deliveries_and_attempts(database, state):
    endpoint, node = await endpoint_of(database), await live_node(database)
    (message,) = await ended(database, endpoint, node, state=state)
    assert len(await attempts_of(database, endpoint, message)) == 1
    assert await expire(database) == 1
    assert await stored(database) == set()
    assert await attempts_of(database, endpoint, message) == []
    assert await database.read(store.deliveries, message, scope=ACME) == []


async def test_what_is_due_or_on_its_way_stays_however_old(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    (leased,) = await due(database, endpoint)
    assert len(await claimed(database, node, endpoint)) == 1
    (waiting,) = await due(database, endpoint)
    await ended(database, await endpoint_of(database), node)
    assert await expire(database) == 1
    assert await stored(database) == {leased, waiting}


@pytest.mark.parametrize("key", ["event_id", "idempotency_key"])
async def test_a_key_stays_as_long_as_its_message_however_old(database, key):
    endpoint = await endpoint_of(database)
    (waiting,) = await due(database, endpoint, **{key: "k"})
    assert (await expire(database), await trim_keys(database)) == (0, 0)
    again = await repeated(database, endpoint, **{key: "k"})
    assert (again.replayed, again.message.id) == (True, waiting)


@pytest.mark.parametrize("key", ["event_id", "idempotency_key"])
async def test_a_key_is_free_once_its_message_is_gone_whether_or_not_it_was_forgotten_itself(database, key):
    endpoint, node = await endpoint_of(database), await live_node(database)
    first = await repeated(database, endpoint, **{key: "k"})
    await database.write(store.acknowledge, [outcome(each) for each in await claimed(database, node, endpoint)], scope=SYSTEM)
    assert await expire(database) == 1
    again = await repeated(database, endpoint, **{key: "k"})
    assert not again.replayed and again.message.id != first.message.id
    assert (await repeated(database, endpoint, **{key: "k"})).message == again.message
    await database.write(store.acknowledge, [outcome(each) for each in await claimed(database, node, endpoint)], scope=SYSTEM)
    assert (await expire(database), await trim_keys(database)) == (1, 1)


async def test_copies_in_one_call_whose_key_is_an_orphan_make_one_message(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    await repeated(database, endpoint, event_id="k")
    await database.write(store.acknowledge, [outcome(each) for each in await claimed(database, node, endpoint)], scope=SYSTEM)
    await expire(database)
    version = await version_of(database)
    copies = [intake(endpoint, version, event_id="k", idempotency_key=f"own {n}") for n in range(3)]
    answers = await database.write(ingest, copies, None, scope=SYSTEM)
    assert [answer.replayed for answer in answers] == [False, True, True]
    assert await stored(database) == {answers[0].message.id}


async def test_what_is_younger_stays_and_a_batch_is_bounded(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    await ended(database, endpoint, node, 5)
    assert await expire(database, before_us=0) == 0
    assert [await expire(database, limit=2) for _ in range(4)] == [2, 2, 1, 0]


async def test_another_tenants_messages_stay(database):
    node = await live_node(database)
    await ended(database, await endpoint_of(database), node)
    theirs = await ended(database, await endpoint_of(database, "globex"), node)
    assert await expire(database) == 1
    assert await stored(database, "globex") == set(theirs)


async def test_one_that_is_sent_again_at_the_same_moment_is_kept_whole_or_gone_whole(engine, tmp_path):
    async with opened(engine, tmp_path) as ours, opened(engine, tmp_path) as theirs:
        endpoint, other, node = await endpoint_of(ours), await endpoint_of(ours), await live_node(ours)
        for _ in range(5):
            version = await version_of(ours)
            item = intake(endpoint, version, targets=[Target(endpoint.id), Target(other.id)])
            (answer,) = await ours.write(ingest, [item], None, scope=SYSTEM)
            message = answer.message.id
            for each in (endpoint, other):
                done = [outcome(delivery) for delivery in await claimed(ours, node, each)]
                await ours.write(store.acknowledge, done, scope=SYSTEM)
            resent, _ = await asyncio.gather(
                theirs.write(store.resend, message, endpoint.id, A_DAY_S, scope=ACME), expire(ours), return_exceptions=True
            )
            is_kept = message in await stored(ours)
            assert is_kept == (not isinstance(resent, Exception))
            states = sorted(each.state for each in await ours.read(store.deliveries, message, scope=ACME))
            assert states == (["delivered", "due"] if is_kept else [])
            await claimed(ours, node, endpoint)


async def test_idle_lines_go_and_those_in_which_somebody_stands_stay(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    version = await version_of(database)
    items = [intake(endpoint, version, targets=[Target(endpoint.id, line=key)]) for key in ("a", "b", "c")]
    await database.write(ingest, items, None, scope=SYSTEM)
    first, *_ = await claimed(database, node, endpoint)
    await database.write(store.acknowledge, [outcome(first)], scope=SYSTEM)
    assert await database.write(retention.prune_lines, 0, (b"", ""), 10, scope=ACME) is None
    after, pages = (b"", ""), 0
    while after is not None:
        after, pages = await database.write(retention.prune_lines, EVER_US, after, 2, scope=ACME), pages + 1
    assert pages == 2
    left = {line for _, _, line in await database.write(lines.hold, [("acme", endpoint.id, key) for key in "abc"], scope=SYSTEM)}
    assert left == {"a", "b", "c"} - {first.line}


async def test_one_process_does_it_and_what_is_over_goes_after_its_time(engine, tmp_path):
    clock = FakeClock()
    async with opened(engine, tmp_path, Runtime(clock=clock)) as database:
        endpoint, node = await endpoint_of(database), await live_node(database)
        old = await ended(database, endpoint, node, 3)
        await database.write(idempotency.claim, Claim("r", "old", ""), old[0], 202, scope=ACME)
        await clock.advance(10 * A_DAY_S)
        young = await ended(database, endpoint, node)
        await database.write(idempotency.claim, Claim("r", "young", ""), old[0], 202, scope=ACME)
        members = [Membership(database, Runtime(clock=clock), tmp_path / f"locks{n}", ttl_s=60.0, role="test") for n in range(2)]
        for member in members:
            await member.start()
        try:
            both = [Retention(database, Runtime(clock=clock), member, 5 * A_DAY_S) for member in members]
            await asyncio.gather(*(each.run() for each in both))
            assert await stored(database) == set(young)
            assert await database.write(idempotency.claim, Claim("r", "old", ""), young[0], 202, scope=ACME) is None
            assert await database.write(idempotency.claim, Claim("r", "young", ""), young[0], 202, scope=ACME) is not None
            later = [Retention(database, Runtime(clock=clock), member, -1.0) for member in members]
            had_it = await database.write(log.has_lead, retention.LEASE, members[0].id, scope=SYSTEM)
            await later[had_it].run()
            assert await stored(database) == set(young), "the other one worked without the lease"
            await later[not had_it].run()
            assert await stored(database) == set(), "the one that has the lease did not work a second time"
        finally:
            for member in members:
                await member.stop()


async def test_an_error_with_one_tenant_is_told_and_keeps_nothing_of_those_behind_him(database, monkeypatch, caplog):
    node = await live_node(database)
    endpoints = {tenant: await endpoint_of(database, tenant) for tenant in ("acme", "globex")}
    outlived = {}
    for tenant, endpoint in endpoints.items():
        await ended(database, endpoint, node)
        line = [Target(endpoint.id, line="idle")]
        await due(database, endpoint, targets=line)
        await database.write(store.acknowledge, [outcome(each) for each in await claimed(database, node, endpoint)], scope=SYSTEM)
        (outlived[tenant],) = await due(database, endpoint, keep_payload_us=-1)
    refuse(monkeypatch, database, "acme")
    await Retention(database, Runtime(), Standing(node), -1.0).run()
    assert (len(await stored(database)), await stored(database, "globex")) == (3, {outlived["globex"]})
    assert [await is_erased(database, tenant, message) for tenant, message in outlived.items()] == [False, True]
    assert [await lines_of(database, endpoint) for endpoint in endpoints.values()] == [1, 0]
    told = [record.getMessage() for record in caplog.records if "stays until the next pass" in record.getMessage()]
    assert [message.partition(" stays")[0] for message in told] == [
        f"what is old of the {what} of tenant acme" for what in ("messages", "lines", "payloads")
    ]
    assert all("a row of acme is damaged" in message for message in told)
    monkeypatch.undo()
    await Retention(database, Runtime(), Standing(node), -1.0).run()
    assert (await stored(database), await is_erased(database, "acme", outlived["acme"])) == ({outlived["acme"]}, True)


async def is_erased(database, tenant, message):
    return (await database.read(store.message, message, scope=in_tenant(tenant))).is_expunged


async def lines_of(database, endpoint):
    return len(await database.write(lines.hold, [(endpoint.tenant, endpoint.id, "idle")], scope=SYSTEM))
