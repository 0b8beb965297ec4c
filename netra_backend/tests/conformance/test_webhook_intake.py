"""Ingest on every engine: one key, one message (W3), each item whole or not at all, leased only to a node that lives."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.errors import KeyReused
from netra_backend.kernel.runtime import Runtime
from netra_backend.webhooks import endpoints, store
from netra_backend.webhooks.errors import DuplicateEventId
from netra_backend.webhooks.intake import Accepted, StaleSnapshot, Target, ingest

from ..support.storage import ENGINES, SYSTEM, Q, opened, outcome_of
from ..support.webhooks import SEALER, described, endpoint_of, in_tenant, intake, live_node, reap, version_of


class Handed:
    """A sender that only counts."""

    def __init__(self):
        self.deliveries = []

    def __call__(self, deliveries):
        self.deliveries.extend(deliveries)


async def stored(database, tenant="acme"):
    return await database.read(store.messages, None, 1000, scope=in_tenant(tenant))


async def together(database, items, hand_over=None):
    return await database.write(ingest, items, hand_over, scope=SYSTEM)


async def one(database, item):
    """As the REST route does: one item, coalesced with whoever else waits."""
    return await outcome_of(database.write_item(ingest, item))


@pytest.mark.parametrize("key", ["event_id", "idempotency_key"])
async def test_a_repeated_key_with_the_same_body_gets_the_first_message_again(database, key):
    endpoint = await endpoint_of(database)
    version = await version_of(database)
    first = await one(database, intake(endpoint, version, **{key: "k"}))
    again = await one(database, intake(endpoint, version, **{key: "k"}))
    assert (first.replayed, again.replayed) == (False, True)
    assert again.message == first.message
    assert len(await stored(database)) == 1


@pytest.mark.parametrize("key", ["event_id", "idempotency_key"])
async def test_a_repeated_key_with_another_body_is_refused_with_422(database, key):
    endpoint = await endpoint_of(database)
    version = await version_of(database)
    await one(database, intake(endpoint, version, **{key: "k"}))
    refused = await one(database, intake(endpoint, version, payload='{"n":2}', **{key: "k"}))
    assert isinstance(refused, KeyReused) and refused.status == 422
    assert len(await stored(database)) == 1


@pytest.mark.parametrize("key", ["event_id", "idempotency_key"])
async def test_copies_at_once_through_two_doors_make_one_message(engine, tmp_path, key):
    async with opened(engine, tmp_path) as ours, opened(engine, tmp_path) as theirs:
        endpoint = await endpoint_of(ours)
        version = await version_of(ours)
        answers = await asyncio.gather(*(one(door, intake(endpoint, version, **{key: "k"})) for door in (ours, theirs) * 10))
        assert all(isinstance(answer, Accepted) for answer in answers)
        assert len({answer.message.id for answer in answers}) == 1
        assert [answer.replayed for answer in answers].count(False) == 1
        assert len(await stored(ours)) == 1


async def test_one_key_belongs_to_one_tenant(database):
    for tenant in ("acme", "globex"):
        endpoint = await endpoint_of(database, tenant)
        answer = await one(database, intake(endpoint, await version_of(database, tenant), event_id="k"))
        assert not answer.replayed
    assert len(await stored(database, "acme")) == len(await stored(database, "globex")) == 1


async def test_copies_in_one_group_are_decided_like_copies_one_after_the_other(database):
    endpoint = await endpoint_of(database)
    version = await version_of(database)
    items = [intake(endpoint, version, event_id="k", payload=payload) for payload in ("{}", "{}", '{"n":2}')]
    first, same, other = await together(database, items)
    assert not first.replayed and same.replayed and same.message == first.message
    assert isinstance(other, KeyReused)


async def test_an_own_key_that_is_new_leads_to_the_message_that_its_event_id_had_made(database):
    endpoint = await endpoint_of(database)
    version = await version_of(database)
    first = await one(database, intake(endpoint, version, event_id="e"))
    for _ in range(2):
        again = await one(database, intake(endpoint, version, event_id="e", idempotency_key="k"))
        assert again.message == first.message
    alone = await one(database, intake(endpoint, version, idempotency_key="k"))
    assert alone.message == first.message


async def test_an_own_key_is_free_again_after_its_event_id_was_refused(database):
    endpoint = await endpoint_of(database)
    version = await version_of(database)
    await one(database, intake(endpoint, version, event_id="e"))
    refused = await one(database, intake(endpoint, version, event_id="e", idempotency_key="k", payload='{"n":2}'))
    assert isinstance(refused, KeyReused)
    fresh = await one(database, intake(endpoint, version, idempotency_key="k", payload='{"n":3}'))
    assert isinstance(fresh, Accepted) and not fresh.replayed


async def test_a_neighbour_whose_event_id_is_refused_takes_nobody_with_it(database):
    endpoint = await endpoint_of(database)
    version = await version_of(database)
    await one(database, intake(endpoint, version, event_id="e"))
    items = [intake(endpoint, version, idempotency_key="k", payload='{"n":2}', **extra) for extra in ({"event_id": "e"}, {})]
    refused, kept = await asyncio.gather(*(one(database, item) for item in items))
    assert isinstance(refused, KeyReused)
    assert isinstance(kept, Accepted) and not kept.replayed
    with pytest.raises(StaleSnapshot):  # in one indivisible call it is undone as a whole
        await together(
            database, [intake(endpoint, version, idempotency_key="k2", payload='{"n":2}', **extra) for extra in ({"event_id": "e"}, {})]
        )


async def test_a_known_event_id_is_a_conflict_where_svix_says_so(database):
    endpoint = await endpoint_of(database)
    version = await version_of(database)
    first = await one(database, intake(endpoint, version, event_id="e", strict=True))
    assert isinstance(first, Accepted)
    assert isinstance(await one(database, intake(endpoint, version, event_id="e", strict=True)), DuplicateEventId)


async def test_a_fan_out_by_an_old_list_of_endpoints_stores_nothing(database):
    endpoint = await endpoint_of(database)
    version = await version_of(database)
    await endpoint_of(database)
    stale, current = await together(database, [intake(endpoint, version), intake(endpoint, version + 1)])
    assert isinstance(stale, StaleSnapshot) and isinstance(current, Accepted)
    assert len(await stored(database)) == 1


async def test_a_delivery_is_leased_to_a_living_node_and_handed_over_by_the_commit(database):
    endpoint, node, handed = await endpoint_of(database), await live_node(database), Handed()
    (answer,) = await together(database, [intake(endpoint, await version_of(database), node=node)], handed)
    assert [(each.message, each.owner) for each in handed.deliveries] == [(answer.message, node)]
    assert await database.read(store.owned_by, node, scope=SYSTEM) == [handed.deliveries[0].key]


async def test_a_delivery_is_never_leased_to_a_dead_node(database):
    endpoint, dead, living, handed = await endpoint_of(database), await live_node(database), await live_node(database), Handed()
    version = await version_of(database)
    await reap(database, dead)
    await together(database, [intake(endpoint, version, node=living), intake(endpoint, version, node=dead)], handed)
    assert [each.owner for each in handed.deliveries] == [living]
    assert await database.read(store.owners, scope=SYSTEM) == [living]


async def test_nothing_is_leased_in_a_transaction_of_the_callers(database):
    endpoint, node, handed = await endpoint_of(database), await live_node(database), Handed()

    async def as_adopted(tx, items):
        tx.own = False
        return await ingest(tx, items, handed)

    await database.write(as_adopted, [intake(endpoint, await version_of(database), node=node)], scope=SYSTEM)
    assert handed.deliveries == []
    assert await database.read(store.owners, scope=SYSTEM) == []


async def test_a_message_for_later_is_due_then_and_its_deadline_counts_from_then(database):
    endpoint, node, handed = await endpoint_of(database), await live_node(database), Handed()
    then_us = Runtime().clock.wall_us() + 30 * 24 * 3600 * 1_000_000
    item = intake(endpoint, await version_of(database), node=node, deliver_at_us=then_us)
    (answer,) = await together(database, [item], handed)
    assert handed.deliveries == []
    assert (await database.read(store.delivery, answer.message.id, endpoint.id, scope=in_tenant("acme"))).due_us == then_us
    assert await database.read(deadlines, scope=in_tenant("acme")) == [then_us + 24 * 3600 * 1_000_000]


async def deadlines(tx):
    return [row[0] for row in await tx.all(Q.deadlines)]


async def test_a_disabled_endpoint_is_recorded_as_skipped_with_the_reason(database):
    endpoint = await endpoint_of(database)
    item = intake(endpoint, await version_of(database), targets=[Target(endpoint.id, skip="the endpoint is disabled")])
    (answer,) = await together(database, [item])
    found = await database.read(store.delivery, answer.message.id, endpoint.id, scope=in_tenant("acme"))
    assert (found.state, found.reason) == ("skipped", "the endpoint is disabled")


@pytest.mark.parametrize("failpoint", ["webhooks.keys_claimed", "webhooks.messages_written", "webhooks.deliveries_written"])
@pytest.mark.parametrize("engine", ENGINES[:1])
async def test_an_error_anywhere_in_ingest_leaves_neither_message_nor_key(engine, tmp_path, failpoint):
    runtime = Runtime()
    async with opened(engine, tmp_path, runtime) as database:
        endpoint = await endpoint_of(database)
        version = await version_of(database)
        runtime.failpoints.arm(failpoint, "raise")
        failed = await outcome_of(together(database, [intake(endpoint, version, event_id="e")]))
        assert failed.code == "failpoint"
        assert await stored(database) == []
        fresh = await one(database, intake(endpoint, version, event_id="e"))
        assert isinstance(fresh, Accepted) and not fresh.replayed


async def test_a_wide_fan_out_takes_as_many_statements_as_a_narrow_one(database):
    """1 to 1,000 in no more round trips than 1 to 1."""
    await endpoint_of(database)

    async def widen(tx):
        for _ in range(999):
            await endpoints.create(tx, SEALER, described(), None)

    async def statements(tx, items):
        done = []
        plain = {name: getattr(type(tx), name) for name in ("all", "execute")}

        def counted(name):
            async def run(self, statement, **params):
                if self is tx:
                    done.append(statement.name)
                return await plain[name](self, statement, **params)

            return run

        with pytest.MonkeyPatch.context() as patch:
            for name in plain:
                patch.setattr(type(tx), name, counted(name))
            await ingest(tx, items, None)
        return done

    async def taken() -> list[str]:
        found = await database.read(endpoints.snapshot, SEALER, "acme", scope=in_tenant("acme"))
        wanted = [Target(endpoint_id) for endpoint_id in found.endpoints]
        item = intake(next(iter(found.endpoints.values())), found.version, targets=wanted, event_id=f"to {len(wanted)}")
        return await database.write(statements, [item], scope=SYSTEM)

    narrow = await taken()
    await database.write(widen, scope=in_tenant("acme"))
    assert await taken() == narrow
    assert len(await stored(database)) == 2
    assert len(await database.read(store.deliveries, (await stored(database))[0].id, scope=in_tenant("acme"))) == 1000
