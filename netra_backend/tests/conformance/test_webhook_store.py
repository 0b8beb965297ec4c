"""Deliveries and attempts on every engine: claimed once, fenced by a living owner, due again when the owner is dead."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest

from netra_backend.errors import NotFound
from netra_backend.kernel.states import IllegalTransition
from netra_backend.storage.audit_append import Q
from netra_backend.webhooks import store
from netra_backend.webhooks.intake import ingest

from ..support.storage import SYSTEM, query
from ..support.webhooks import attempts_of, claimed, due, endpoint_of, in_tenant, intake, live_node, outcome, reap, row, version_of


async def acknowledged(database, *outcomes):
    return await database.write(store.acknowledge, list(outcomes), scope=SYSTEM)


async def test_what_is_claimed_is_leased_to_the_node_and_claimed_by_nobody_else(database):
    endpoint, node, other = await endpoint_of(database), await live_node(database), await live_node(database)
    messages = await due(database, endpoint, 3)
    taken = await claimed(database, node, endpoint)
    assert sorted(delivery.message.id for delivery in taken) == sorted(messages)
    assert {delivery.owner for delivery in taken} == {node}
    assert await claimed(database, other, endpoint) == []


async def test_two_claims_at_once_share_the_work_and_take_nothing_twice(database):
    endpoint, nodes = await endpoint_of(database), [await live_node(database), await live_node(database)]
    messages = await due(database, endpoint, 12)
    halves = await asyncio.gather(*(claimed(database, node, endpoint) for node in nodes))
    taken = [delivery.message.id for half in halves for delivery in half]
    assert sorted(taken) == sorted(messages)


async def test_a_claim_takes_no_more_than_the_free_slots_and_the_longest_due_first(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    messages = [(await due(database, endpoint))[0] for _ in range(4)]
    assert [delivery.message.id for delivery in await claimed(database, node, endpoint, free=2)] == messages[:2]


async def test_a_dead_node_claims_nothing(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    await due(database, endpoint)
    await reap(database, node)
    assert await claimed(database, node, endpoint) == []


async def test_an_outcome_is_recorded_with_its_attempt(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    (message,) = await due(database, endpoint)
    (delivery,) = await claimed(database, node, endpoint)
    assert await acknowledged(database, outcome(delivery)) == [True]
    stands = await row(database, endpoint, message)
    assert (stands.state, stands.number, stands.last_status) == ("delivered", 1, 200)
    (attempt,) = await attempts_of(database, endpoint, message)
    assert not attempt.late


async def test_a_retry_is_due_when_its_verdict_says_and_not_before(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    (message,) = await due(database, endpoint)
    (delivery,) = await claimed(database, node, endpoint)
    in_an_hour = delivery.deadline_us - 23 * 3600 * 1_000_000
    assert await acknowledged(database, outcome(delivery, "due", due_us=in_an_hour, reason="status 503")) == [True]
    stands = await row(database, endpoint, message)
    assert (stands.state, stands.due_us, stands.reason) == ("due", in_an_hour, "status 503")
    assert await claimed(database, node, endpoint) == []


async def test_an_owner_that_lost_its_lease_to_another_changes_no_state_and_its_attempt_is_late(database):
    endpoint, zombie, heir = await endpoint_of(database), await live_node(database), await live_node(database)
    (message,) = await due(database, endpoint)
    (lost,) = await claimed(database, zombie, endpoint)
    assert await database.write(store.release, zombie, [lost.key], scope=SYSTEM) == 1
    (held,) = await claimed(database, heir, endpoint)
    before = await row(database, endpoint, message)

    assert await acknowledged(database, outcome(lost, "dead", reason="no")) == [False]
    assert await row(database, endpoint, message) == before
    assert [attempt.late for attempt in await attempts_of(database, endpoint, message)] == [True]
    assert await acknowledged(database, outcome(held)) == [True]


async def test_an_owner_that_was_declared_dead_changes_no_state_although_nobody_has_its_rows_yet(database):
    endpoint, zombie = await endpoint_of(database), await live_node(database)
    (message,) = await due(database, endpoint)
    (lost,) = await claimed(database, zombie, endpoint)
    await reap(database, zombie)
    assert await acknowledged(database, outcome(lost)) == [False]
    assert (await row(database, endpoint, message)).state == "leased"
    assert [attempt.late for attempt in await attempts_of(database, endpoint, message)] == [True]


async def test_two_outcomes_of_one_delivery_in_one_group_are_told_apart_by_their_owners(database):
    endpoint, zombie, heir = await endpoint_of(database), await live_node(database), await live_node(database)
    (message,) = await due(database, endpoint)
    (lost,) = await claimed(database, zombie, endpoint)
    await database.write(store.release, zombie, [lost.key], scope=SYSTEM)
    (held,) = await claimed(database, heir, endpoint)
    assert await acknowledged(database, outcome(lost, "dead", reason="no"), outcome(held)) == [False, True]
    assert (await row(database, endpoint, message)).state == "delivered"
    assert sorted(attempt.late for attempt in await attempts_of(database, endpoint, message)) == [False, True]


async def test_two_acknowledgements_at_once_of_one_lease_count_once(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    (message,) = await due(database, endpoint)
    (delivery,) = await claimed(database, node, endpoint)
    first, second = outcome(delivery), outcome(delivery, "dead", reason="no")
    kept = await asyncio.gather(*(database.write(store.acknowledge, [each], scope=SYSTEM) for each in (first, second)))
    assert kept == [[True], [False]]
    assert (await row(database, endpoint, message)).state == "delivered"


async def test_the_rows_of_a_dead_node_are_due_again_and_those_of_a_living_one_are_not(database):
    endpoint, dead, living = await endpoint_of(database), await live_node(database), await live_node(database)
    await due(database, endpoint, 4)
    await claimed(database, dead, endpoint, free=2)
    await claimed(database, living, endpoint, free=2)
    await reap(database, dead)
    assert await database.read(store.owners, scope=SYSTEM) == sorted([dead, living])
    assert await database.write(store.release_dead, living, 100, scope=SYSTEM) == 0
    assert await database.write(store.release_dead, dead, 1, scope=SYSTEM) == 1
    assert await database.write(store.release_dead, dead, 100, scope=SYSTEM) == 1
    assert await database.read(store.owners, scope=SYSTEM) == [living]
    assert len(await claimed(database, living, endpoint)) == 2


async def test_two_sweeps_at_once_release_each_row_once(database):
    endpoint, dead = await endpoint_of(database), await live_node(database)
    await due(database, endpoint, 5)
    await claimed(database, dead, endpoint)
    await reap(database, dead)
    released = await asyncio.gather(*(database.write(store.release_dead, dead, 100, scope=SYSTEM) for _ in range(2)))
    assert sorted(released) == [0, 5]


async def test_a_node_gives_back_only_what_it_owns(database):
    endpoint, node, other = await endpoint_of(database), await live_node(database), await live_node(database)
    await due(database, endpoint, 2)
    (mine,), (theirs,) = [await claimed(database, owner, endpoint, free=1) for owner in (node, other)]
    assert await database.read(store.owned_by, node, scope=SYSTEM) == [mine.key]
    assert await database.write(store.release, node, [mine.key, theirs.key], scope=SYSTEM) == 1
    assert await database.read(store.owned_by, other, scope=SYSTEM) == [theirs.key]


@pytest.mark.parametrize("state", ["delivered", "dead", "skipped", "cancelled"])
async def test_whatever_has_ended_is_sent_again_with_an_audit_entry(database, state):
    endpoint, node = await endpoint_of(database), await live_node(database)
    (message,) = await due(database, endpoint)
    (delivery,) = await claimed(database, node, endpoint)
    await acknowledged(database, outcome(delivery, state, reason="so"))
    await database.write(store.resend, message, endpoint.id, 3600.0, scope=in_tenant("acme"))
    stands = await row(database, endpoint, message)
    assert (stands.state, stands.number) == ("due", 0)
    (again,) = await claimed(database, node, endpoint)
    assert again.manual
    entries = await database.read(partial(query, statement=Q.list_audit_entries, after=b"", limit=100), scope=in_tenant("acme"))
    assert [entry[3] for entry in entries].count("delivery.resend") == 1


async def test_what_is_on_its_way_is_not_sent_again(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    (message,) = await due(database, endpoint)
    await claimed(database, node, endpoint)
    with pytest.raises(IllegalTransition):
        await database.write(store.resend, message, endpoint.id, 3600.0, scope=in_tenant("acme"))
    assert (await row(database, endpoint, message)).state == "leased"


async def test_two_resends_at_once_leave_one_delivery_due(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    (message,) = await due(database, endpoint)
    (delivery,) = await claimed(database, node, endpoint)
    await acknowledged(database, outcome(delivery))
    await asyncio.gather(*(database.write(store.resend, message, endpoint.id, 3600.0, scope=in_tenant("acme")) for _ in range(2)))
    assert len(await claimed(database, node, endpoint)) == 1


async def test_a_message_is_sent_to_an_endpoint_that_it_was_not_meant_for_when_somebody_says_so(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    version = await version_of(database)
    items = [intake(endpoint, version, targets=[])]
    (answer,) = await database.write(ingest, items, scope=SYSTEM)
    with pytest.raises(NotFound):
        await row(database, endpoint, answer.message.id)
    await database.write(store.resend, answer.message.id, endpoint.id, 3600.0, scope=in_tenant("acme"))
    assert [delivery.message.id for delivery in await claimed(database, node, endpoint)] == [answer.message.id]


async def test_no_tenant_sees_another_tenants_deliveries(database):
    await endpoint_of(database, "acme")
    theirs = await endpoint_of(database, "globex")
    (message,) = await due(database, theirs)
    with pytest.raises(NotFound):
        await database.read(store.delivery, message, theirs.id, scope=in_tenant("acme"))
    with pytest.raises(NotFound):
        await database.read(store.message, message, scope=in_tenant("acme"))
    assert await database.read(store.messages, None, 10, scope=in_tenant("acme")) == []
    assert await database.read(store.dead_letters, (b"", b""), 10, scope=in_tenant("acme")) == []


async def test_dead_letters_are_listed_page_by_page(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    messages = sorted(await due(database, endpoint, 5))
    for delivery in await claimed(database, node, endpoint):
        await acknowledged(database, outcome(delivery, "dead", reason="12 attempts failed"))
    found, after = [], (b"", b"")
    while page := await database.read(store.dead_letters, after, 2, scope=in_tenant("acme")):
        found += [letter.message_id for letter in page]
        after = (page[-1].endpoint_id, page[-1].message_id)
    assert found == messages
