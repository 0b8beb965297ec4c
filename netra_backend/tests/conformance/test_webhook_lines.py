"""Deliveries in order (W6), as rows: numbers, the first of each line, and who makes the next one due, on every engine."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.webhooks import lines, store
from netra_backend.webhooks.intake import Target, ingest
from netra_backend.webhooks.model import NEVER_US

from ..support.storage import SYSTEM, opened
from ..support.webhooks import A_DAY_S, claimed, endpoint_of, in_tenant, intake, live_node, outcome, reap, row, version_of

ACME = in_tenant("acme")


async def sent(database, endpoint, *keys, **fields):
    """Messages of these lines, in this order and one transaction."""
    version = await version_of(database, endpoint.tenant)
    items = [intake(endpoint, version, targets=[Target(endpoint.id, line=key)], **fields) for key in keys]
    answers = await database.write(ingest, items, None, scope=SYSTEM)
    return [answer.message.id for answer in answers]


async def first_ones(database, node, endpoint):
    """What a claim for many gets, by message."""
    return {delivery.message.id: delivery for delivery in await claimed(database, node, endpoint, 100)}


async def end(database, delivery, state="delivered"):
    return await database.write(store.acknowledge, [outcome(delivery, state)], scope=SYSTEM)


async def test_of_each_line_only_the_first_is_claimed_and_what_stands_in_none_waits_for_nobody(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    a1, b1, a2, free, b2, a3 = await sent(database, endpoint, "a", "b", "a", None, "b", "a")
    assert set(await first_ones(database, node, endpoint)) == {a1, b1, free}
    for waiting in (a2, b2, a3):
        assert (await row(database, endpoint, waiting)).due_us == NEVER_US


@pytest.mark.parametrize("state", ["delivered", "dead", "skipped", "cancelled"])
async def test_whatever_ends_the_first_makes_the_next_one_due_and_no_other(database, state):
    endpoint, node = await endpoint_of(database), await live_node(database)
    messages = await sent(database, endpoint, *["a"] * 4)
    for message in messages:
        found = await first_ones(database, node, endpoint)
        assert set(found) == {message}
        await end(database, found[message], state)
    assert await first_ones(database, node, endpoint) == {}


async def test_the_first_that_waits_for_its_retry_holds_its_line_and_no_other(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    a1, _, b1, b2 = await sent(database, endpoint, "a", "a", "b", "b")
    found = await first_ones(database, node, endpoint)
    far_us = database._runtime.clock.wall_us() + 10**9
    await database.write(store.acknowledge, [outcome(found[a1], "due", due_us=far_us), outcome(found[b1])], scope=SYSTEM)
    assert set(await first_ones(database, node, endpoint)) == {b2}


async def test_a_dead_owner_and_a_lost_lease_pass_no_turn_on(database):
    endpoint, dead, node = await endpoint_of(database), await live_node(database), await live_node(database)
    a1, a2 = await sent(database, endpoint, "a", "a")
    late = (await first_ones(database, dead, endpoint))[a1]
    await reap(database, dead)
    await database.write(store.release_dead, dead, 10, scope=SYSTEM)
    again = await first_ones(database, node, endpoint)
    assert set(again) == {a1}
    assert await end(database, late) == [False]
    assert await first_ones(database, node, endpoint) == {}
    await end(database, again[a1])
    assert set(await first_ones(database, node, endpoint)) == {a2}


async def test_one_that_is_sent_again_leaves_its_line(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    a1, a2, a3 = await sent(database, endpoint, "a", "a", "a")
    await database.write(store.resend, a2, endpoint.id, A_DAY_S, scope=ACME)
    assert set(await first_ones(database, node, endpoint)) == {a1, a2}
    b1, b2 = await sent(database, endpoint, "b", "b")
    await database.write(store.resend, b1, endpoint.id, A_DAY_S, scope=ACME)
    assert set(await first_ones(database, node, endpoint)) == {b1, b2}
    assert (await row(database, endpoint, a3)).due_us == NEVER_US


async def test_a_line_that_ended_begins_again_and_its_numbers_go_on(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    (a1,) = await sent(database, endpoint, "a")
    await end(database, (await first_ones(database, node, endpoint))[a1])
    a2, a3 = await sent(database, endpoint, "a", "a")
    found = await first_ones(database, node, endpoint)
    assert set(found) == {a2}
    await end(database, found[a2])
    assert set(await first_ones(database, node, endpoint)) == {a3}


async def test_a_message_that_is_to_be_sent_later_holds_its_line_until_then(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    (a1,) = await sent(database, endpoint, "a")
    then_us = database._runtime.clock.wall_us() + 10**9
    (a2,) = await sent(database, endpoint, "a", deliver_at_us=then_us)
    await end(database, (await first_ones(database, node, endpoint))[a1])
    assert (await row(database, endpoint, a2)).due_us == then_us


async def test_a_line_whose_first_one_waits_for_nobody_is_found_and_freed(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    a1, a2, _b1 = await sent(database, endpoint, "a", "a", "b")
    stuck, after = await database.read(lines.waiting_heads, ("", b"", ""), 10, scope=SYSTEM)
    assert (stuck, after) == ([], None)
    found = await first_ones(database, node, endpoint)
    unaware = found[a1]
    unaware.line = None  # as if the line had been locked while this was acknowledged
    await end(database, unaware)
    stuck, after = await database.read(lines.waiting_heads, ("", b"", ""), 1, scope=SYSTEM)
    assert (stuck, after) == ([("acme", endpoint.id, "a")], ("acme", endpoint.id, "a"))
    assert await database.read(lines.waiting_heads, after, 10, scope=SYSTEM) == ([], None)
    assert await database.write(lines.free_next, stuck, scope=SYSTEM) == 1
    assert set(await first_ones(database, node, endpoint)) == {a2}
    assert await database.write(lines.free_next, stuck, scope=SYSTEM) == 0


async def test_who_takes_the_next_number_frees_a_line_whose_first_one_waits_for_nobody(database):
    """A steady producer has the line's lock nearly always, so nobody else would get it."""
    endpoint, node = await endpoint_of(database), await live_node(database)
    a1, a2, b1, b2 = await sent(database, endpoint, "a", "a", "b", "b")
    found = await first_ones(database, node, endpoint)
    unaware = found[a1]
    unaware.line = None  # as if the line had been locked while this was acknowledged
    await end(database, unaware)
    assert await first_ones(database, node, endpoint) == {}
    a3, _ = await sent(database, endpoint, "a", "b")
    freed = await first_ones(database, node, endpoint)
    assert set(freed) == {a2}
    assert (await row(database, endpoint, a3)).due_us == (await row(database, endpoint, b2)).due_us == NEVER_US
    await end(database, freed[a2])
    await end(database, found[b1])
    assert set(await first_ones(database, node, endpoint)) == {a3, b2}


async def test_numbers_follow_the_order_of_commits_whoever_sends(engine, tmp_path):
    async with opened(engine, tmp_path) as ours, opened(engine, tmp_path) as theirs:
        endpoint, node = await endpoint_of(ours), await live_node(ours)
        await asyncio.gather(*(sent(door, endpoint, "a", "b") for door in (ours, theirs) * 8))
        for _ in range(16):
            found = await first_ones(ours, node, endpoint)
            assert len(found) == 2, "one of each line"
            await asyncio.gather(*(end(door, each) for door, each in zip((ours, theirs), found.values(), strict=True)))
        assert await first_ones(ours, node, endpoint) == {}


async def test_an_end_and_a_send_at_once_leave_nobody_waiting_for_longer_than_a_sweep(engine, tmp_path):
    async with opened(engine, tmp_path) as ours, opened(engine, tmp_path) as theirs:
        endpoint, node = await endpoint_of(ours), await live_node(ours)
        (message,) = await sent(ours, endpoint, "a")
        for _ in range(10):
            found = await first_ones(ours, node, endpoint)
            assert set(found) == {message}
            _, (message,) = await asyncio.gather(end(ours, found[message]), sent(theirs, endpoint, "a"))
            stuck, _ = await ours.read(lines.waiting_heads, ("", b"", ""), 10, scope=SYSTEM)
            await ours.write(lines.free_next, stuck, scope=SYSTEM)


async def test_a_rollback_leaves_a_gap_that_nobody_waits_for(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    version = await version_of(database)

    async def fails(tx):
        await ingest(tx, [intake(endpoint, version, targets=[Target(endpoint.id, line="a")])])
        raise ValueError("rolled back")

    (a1,) = await sent(database, endpoint, "a")
    with pytest.raises(ValueError, match="rolled back"):
        await database.write(fails, scope=SYSTEM)
    (a2,) = await sent(database, endpoint, "a")
    await end(database, (await first_ones(database, node, endpoint))[a1])
    assert set(await first_ones(database, node, endpoint)) == {a2}
