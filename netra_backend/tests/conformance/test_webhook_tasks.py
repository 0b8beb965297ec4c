"""Operators' verbs over many messages on every engine: page by page, fenced, cursor and effect in one, nothing missed and nothing done twice."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest

from netra_backend.errors import InvalidInput, NotFound
from netra_backend.kernel.failpoints import FailpointError
from netra_backend.kernel.ids import to_text
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.states import IllegalTransition
from netra_backend.storage.audit_append import Q as AUDIT
from netra_backend.webhooks import endpoints, expunge, operators, store, tasks
from netra_backend.webhooks.errors import Expunged, TaskLost
from netra_backend.webhooks.intake import StaleSnapshot, Target, ingest
from netra_backend.webhooks.model import NEVER_US, DeadFilter, TaskWanted

from ..support.storage import SYSTEM, opened, query
from ..support.webhooks import A_DAY_S, claimed, due, endpoint_of, in_tenant, intake, live_node, outcome, reap, row, version_of

ACME = in_tenant("acme")
EVERY = TaskWanted(None, 0, 0)
RECOVER = replace(EVERY, states=operators.RECOVERED)
REPLAY = replace(EVERY, states=operators.REPLAYED)
CANCEL = replace(EVERY, states=("due",), why="a mistake")


async def begun(database, kind, endpoint, wanted=RECOVER):
    reference = endpoint.text_id if endpoint is not None else None
    return await database.write(operators.begin, kind, reference, wanted, scope=ACME)


async def claim(database, task, node):
    return await database.write(tasks.claim, task.id, node, scope=ACME)


async def stands(database, task):
    return await database.read(tasks.get, task.id, scope=ACME)


async def look(database, task, limit=100):
    return await database.read(tasks.look, await stands(database, task), None, limit, scope=ACME)


async def advance(database, task, node, page):
    return await database.write(tasks.advance, await stands(database, task), node, page, A_DAY_S, scope=ACME)


async def step(database, task, node, limit=100):
    return await advance(database, task, node, await look(database, task, limit))


async def walked(database, kind, endpoint, wanted=RECOVER, limit=100, steps=100):
    """The task at its end."""
    node, task = await live_node(database), await begun(database, kind, endpoint, wanted)
    assert (await claim(database, task, node)).owner == node
    for _ in range(steps):
        if (await step(database, task, node, limit))[1] != "running":
            break
    return await stands(database, task)


async def in_state(database, endpoint, state, count=1, **fields):
    """Messages whose deliveries stand in that state."""
    skip = "the endpoint is disabled" if state == "skipped" else None
    messages = await due(database, endpoint, count, targets=[Target(endpoint.id, skip=skip)], **fields)
    if state in {"due", "skipped"}:
        return messages
    taken = [each for each in await claimed(database, await live_node(database), endpoint, 100) if each.message.id in messages]
    if state != "leased":
        await database.write(store.acknowledge, [outcome(each, state) for each in taken], scope=SYSTEM)
    return messages


async def states_of(database, endpoint, messages):
    return [(await row(database, endpoint, message)).state for message in messages]


async def actions(database):
    entries = await database.read(partial(query, statement=AUDIT.list_audit_entries, after=b"", limit=1000), scope=ACME)
    return [entry[3] for entry in entries]


async def test_what_was_skipped_or_given_up_is_due_again_with_attempts_as_new(database):
    endpoint = await endpoint_of(database)
    (dead,) = await in_state(database, endpoint, "dead")
    (skipped,) = await in_state(database, endpoint, "skipped")
    task = await walked(database, "recover", endpoint)
    assert (task.state, task.done, task.changed, task.owner) == ("finished", 2, 2, None)
    for message in (dead, skipped):
        found = await row(database, endpoint, message)
        assert (found.state, found.number, found.reason) == ("due", 0, f"recover by {task.text_id}")
    node = await live_node(database)
    (one, two) = await claimed(database, node, endpoint)
    assert min(one.deadline_us, two.deadline_us) >= task.created_us + A_DAY_S * 1e6
    assert not one.manual


async def test_a_recovery_leaves_alone_what_was_delivered_cancelled_or_is_on_its_way(database):
    endpoint = await endpoint_of(database)
    others = ["delivered", "cancelled", "leased", "due"]
    messages = [(await in_state(database, endpoint, state))[0] for state in others]
    task = await walked(database, "recover", endpoint)
    assert (task.done, task.changed) == (4, 0)
    assert await states_of(database, endpoint, messages) == others


async def test_only_messages_since_and_until_the_given_times_are_looked_at(database):
    endpoint = await endpoint_of(database)
    messages = await in_state(database, endpoint, "skipped", 3)
    before, asked, after = [(await database.read(store.message, each, scope=ACME)).created_us for each in messages]
    assert before == asked == after, "one group has one time"
    (later,) = await in_state(database, endpoint, "skipped")
    later_us = (await database.read(store.message, later, scope=ACME)).created_us
    task = await walked(database, "recover", endpoint, replace(RECOVER, since_us=before, until_us=later_us))
    assert (task.done, task.changed) == (3, 3)
    assert (await walked(database, "recover", endpoint, replace(RECOVER, since_us=later_us))).changed == 1


async def test_a_time_that_is_to_come_or_turned_round_is_refused(database):
    endpoint = await endpoint_of(database)
    with pytest.raises(InvalidInput):
        await begun(database, "recover", endpoint, replace(RECOVER, since_us=2**60))
    with pytest.raises(InvalidInput):
        await begun(database, "recover", endpoint, replace(RECOVER, since_us=20, until_us=10))


async def test_pages_of_any_size_come_to_the_same(database):
    endpoint = await endpoint_of(database)
    messages = await in_state(database, endpoint, "skipped", 7)
    task = await walked(database, "recover", endpoint, limit=2)
    assert (task.state, task.done, task.changed) == ("finished", 7, 7)
    assert await states_of(database, endpoint, messages) == ["due"] * 7


@pytest.mark.parametrize("failpoint", [tasks.PAGE_WRITTEN, tasks.MOVED, tasks.ENDED])
async def test_a_pages_effect_its_cursor_and_its_counters_are_one(engine, prepared, failpoint):
    runtime = Runtime()
    async with opened(engine, prepared, runtime) as database:
        endpoint = await endpoint_of(database)
        messages = await in_state(database, endpoint, "skipped", 3)
        node, task = await live_node(database), await begun(database, "recover", endpoint)
        await claim(database, task, node)
        before = await stands(database, task)
        limit = 100 if failpoint == tasks.ENDED else 2
        runtime.failpoints.arm(failpoint, "raise")
        with pytest.raises(FailpointError):
            await step(database, task, node, limit)
        runtime.failpoints.disarm()
        assert await stands(database, task) == before
        assert await states_of(database, endpoint, messages) == ["skipped"] * 3
        assert await step(database, task, node, limit) == ((3, "finished") if failpoint == tasks.ENDED else (2, "running"))


async def test_a_task_of_a_dead_process_is_taken_over_behind_its_last_page(database):
    endpoint = await endpoint_of(database)
    messages = await in_state(database, endpoint, "skipped", 5)
    first, second, task = await live_node(database), await live_node(database), await begun(database, "recover", endpoint)
    await claim(database, task, first)
    assert await step(database, task, first, 2) == (2, "running")
    assert await claim(database, task, second) is None
    assert await database.read(tasks.claimable, second, scope=SYSTEM) == []
    await reap(database, first)
    assert await database.read(tasks.claimable, second, scope=SYSTEM) == [("acme", task.id)]
    assert (await claim(database, task, second)).done == 2
    assert await step(database, task, second) == (3, "finished")
    assert (await stands(database, task)).done == 5
    assert await states_of(database, endpoint, messages) == ["due"] * 5


async def test_an_owner_that_was_declared_dead_changes_nothing(database):
    endpoint = await endpoint_of(database)
    (message,) = await in_state(database, endpoint, "skipped")
    zombie, heir, task = await live_node(database), await live_node(database), await begun(database, "recover", endpoint)
    await claim(database, task, zombie)
    page = await look(database, task)
    await reap(database, zombie)
    with pytest.raises(TaskLost):
        await advance(database, task, zombie, page)
    await claim(database, task, heir)
    with pytest.raises(TaskLost):
        await advance(database, task, zombie, page)
    assert await states_of(database, endpoint, [message]) == ["skipped"]
    assert (await stands(database, task)).changed == 0


async def test_a_page_that_was_done_by_another_is_not_done_again(database):
    """Though it is the same process's: a look from before the cursor moved."""
    endpoint = await endpoint_of(database)
    (message,) = await in_state(database, endpoint, "delivered")
    node, task = await live_node(database), await begun(database, "bulk_replay", endpoint, REPLAY)
    await in_state(database, endpoint, "skipped", 2)
    await claim(database, task, node)
    page = await look(database, task, 1)
    await advance(database, task, node, page)
    taken = await claimed(database, node, endpoint)
    await database.write(store.acknowledge, [outcome(each) for each in taken], scope=SYSTEM)
    with pytest.raises(TaskLost):
        await advance(database, task, node, page)
    assert await states_of(database, endpoint, [message]) == ["delivered"]


async def test_a_dead_process_claims_no_task(database):
    task, node = await begun(database, "recover", await endpoint_of(database)), await live_node(database)
    await reap(database, node)
    assert await claim(database, task, node) is None


async def test_of_two_processes_at_once_one_has_the_task(pair):
    task = await begun(pair[0], "recover", await endpoint_of(pair[0]))
    nodes = [await live_node(door) for door in pair]
    got = await asyncio.gather(*(claim(door, task, node) for door, node in zip(pair, nodes, strict=True)))
    assert sum(each is not None for each in got) == 1


async def test_one_page_written_by_two_at_once_is_written_once(pair):
    endpoint = await endpoint_of(pair[0])
    await in_state(pair[0], endpoint, "skipped", 3)
    node, task = await live_node(pair[0]), await begun(pair[0], "recover", endpoint)
    await claim(pair[0], task, node)
    page, known = await look(pair[0], task, 2), await stands(pair[0], task)
    both = await asyncio.gather(
        *(door.write(tasks.advance, known, node, page, A_DAY_S, scope=ACME) for door in pair), return_exceptions=True
    )
    assert sorted(map(str, map(type, both))) == sorted(map(str, [tuple, TaskLost]))
    assert (await stands(pair[0], task)).changed == 2


async def test_a_cancelled_task_changes_nothing_more_and_says_who_and_why(database):
    endpoint = await endpoint_of(database)
    messages = await in_state(database, endpoint, "skipped", 3)
    node, task = await live_node(database), await begun(database, "recover", endpoint)
    await claim(database, task, node)
    await step(database, task, node, 1)
    page = await look(database, task)
    ended = await database.write(tasks.decide, task.id, "the wrong endpoint", scope=ACME)
    assert (ended.state, ended.reason, ended.owner, ended.changed) == ("cancelled", "the wrong endpoint", None, 1)
    with pytest.raises(TaskLost):
        await advance(database, task, node, page)
    assert sorted(await states_of(database, endpoint, messages)) == ["due", "skipped", "skipped"]
    assert [action for action in await actions(database) if action.startswith("task.")] == ["task.recover", "task.cancel"]
    with pytest.raises(IllegalTransition):
        await database.write(tasks.decide, task.id, "again", scope=ACME)


async def test_two_cancellations_at_once_are_one(pair):
    task = await begun(pair[0], "recover", await endpoint_of(pair[0]))
    both = await asyncio.gather(*(door.write(tasks.decide, task.id, "no", scope=ACME) for door in pair), return_exceptions=True)
    assert sorted(type(each).__name__ for each in both) == ["IllegalTransition", "Task"]


async def test_two_recoveries_at_once_of_one_endpoint_send_nothing_twice(pair):
    endpoint = await endpoint_of(pair[0])
    messages = await in_state(pair[0], endpoint, "dead", 20)
    ended = await asyncio.gather(*(walked(door, "recover", endpoint, limit=3) for door in pair))
    assert sum(each.changed for each in ended) == 20
    assert await states_of(pair[0], endpoint, messages) == ["due"] * 20


async def test_a_task_whose_endpoint_is_disabled_or_deleted_meanwhile_fails_and_says_so(database):
    for change, words in ((lambda tx, e: endpoints.update(tx, e, {"disabled": True}), "disabled"), (endpoints.bury, "deleted")):
        endpoint = await endpoint_of(database)
        messages = await in_state(database, endpoint, "skipped", 2)
        node, task = await live_node(database), await begun(database, "recover", endpoint)
        await claim(database, task, node)
        page = await look(database, task)
        await database.write(change, endpoint.text_id, scope=ACME)
        with pytest.raises(StaleSnapshot):
            await advance(database, task, node, page)
        assert await step(database, task, node) == (0, "failed")
        assert words in (await stands(database, task)).reason
        assert await states_of(database, endpoint, messages) == ["skipped"] * 2


async def test_a_disabled_or_unknown_endpoint_is_not_recovered(database):
    endpoint = await endpoint_of(database, disabled=True)
    with pytest.raises(InvalidInput):
        await begun(database, "recover", endpoint)
    with pytest.raises(NotFound):
        await database.write(operators.begin, "recover", "nobody", RECOVER, scope=ACME)


async def test_what_an_endpoint_wants_and_never_had_is_sent_to_it(database):
    old = await endpoint_of(database)
    version = await version_of(database)
    wanted = {"event_type": "invoice.paid", "channels": ("eu",), "payload": '{"amount":7}'}
    variants = [{}, {"event_type": "invoice.void"}, {"channels": ("us",)}, {"channels": None}, {"payload": '{"amount":1}'}]
    items = []
    for variant in variants:
        item = intake(old, version)
        item.new = replace(item.new, **{**wanted, **variant})
        items.append(item)
    answers = await database.write(ingest, items, None, scope=SYSTEM)
    new = await endpoint_of(database, event_types=("invoice.paid",), channels=("eu",), filter="data.amount > 5")
    (known,) = await due(database, new)
    task = await walked(database, "replay_missing", new, EVERY, limit=2)
    assert (task.done, task.changed) == (6, 1)
    first = answers[0].message.id
    assert (await row(database, new, first)).state == "due"
    assert (await row(database, new, first)).reason == f"replay_missing by {task.text_id}"
    assert (await row(database, new, known)).reason is None
    for answer in answers[1:]:
        with pytest.raises(NotFound):
            await row(database, new, answer.message.id)
    assert (await walked(database, "replay_missing", new, EVERY)).changed == 0


async def test_a_replay_takes_the_states_the_types_and_the_answers_that_it_is_asked_for(database):
    endpoint = await endpoint_of(database)
    messages = {state: (await in_state(database, endpoint, state))[0] for state in operators.REPLAYED}
    (leased,) = await in_state(database, endpoint, "leased")
    other = replace(REPLAY, event_types=("other.thing",))
    assert (await walked(database, "bulk_replay", endpoint, other)).changed == 0
    assert (await walked(database, "bulk_replay", endpoint, replace(REPLAY, least_status=500))).changed == 0
    assert (await walked(database, "bulk_replay", endpoint, replace(REPLAY, states=("delivered",), least_status=200))).changed == 1
    assert await states_of(database, endpoint, [messages["delivered"], messages["dead"]]) == ["due", "dead"]
    assert (await walked(database, "bulk_replay", endpoint, REPLAY)).changed == 3
    assert await states_of(database, endpoint, messages.values()) == ["due"] * 4
    assert await states_of(database, endpoint, [leased]) == ["leased"]


async def test_a_replay_by_tag_and_channel_takes_those_only(database):
    endpoint = await endpoint_of(database)
    (tagged,) = await in_state(database, endpoint, "skipped", tags=("vip", "x"), channels=("eu",))
    await in_state(database, endpoint, "skipped", tags=("other",))
    task = await walked(database, "bulk_replay", endpoint, replace(REPLAY, tag="vip", channel="eu"))
    assert (task.done, task.changed) == (2, 1)
    assert await states_of(database, endpoint, [tagged]) == ["due"]


async def test_dead_letters_of_all_endpoints_that_take_messages_are_driven_again(database):
    one, two, off = await endpoint_of(database), await endpoint_of(database), await endpoint_of(database)
    letters = [(endpoint, (await in_state(database, endpoint, "dead"))[0]) for endpoint in (one, two, off)]
    await in_state(database, one, "skipped")
    await database.write(endpoints.update, off.text_id, {"disabled": True}, scope=ACME)
    task = await walked(database, "redrive", None, replace(EVERY, states=("dead",)))
    assert task.changed == 2
    assert [(await row(database, endpoint, message)).state for endpoint, message in letters] == ["due", "due", "dead"]


async def test_a_page_changes_no_more_deliveries_than_one_write_should_and_none_is_left_out(database, monkeypatch):
    monkeypatch.setattr(tasks, "DELIVERIES_A_PAGE", 3)
    wide = [await endpoint_of(database) for _ in range(2)]
    messages = await in_state(database, wide[0], "dead", 5)
    for message in messages:
        await database.write(store.resend, message, wide[1].id, 60.0, scope=ACME)
    node = await live_node(database)
    task = await claim(database, await begun(database, "bulk_replay", None, replace(EVERY, states=("dead", "due"))), node)
    sizes = []
    while (await stands(database, task)).state == "running":
        page = await look(database, task)
        sizes.append(len(page.chosen))
        await advance(database, task, node, page)
    assert max(sizes) <= 3 and sum(sizes) == 10


async def test_what_is_recovered_for_an_endpoint_with_an_order_comes_in_the_messages_order(database):
    endpoint = await endpoint_of(database, ordering="endpoint")
    messages = [(await in_state(database, endpoint, "skipped"))[0] for _ in range(4)]
    await walked(database, "recover", endpoint, limit=3)
    node, came = await live_node(database), []
    for _ in messages:
        assert sum([(await row(database, endpoint, each)).due_us != NEVER_US for each in messages if each not in came]) == 1
        (delivery,) = await claimed(database, node, endpoint)
        came.append(delivery.message.id)
        await database.write(store.acknowledge, [outcome(delivery)], scope=SYSTEM)
    assert came == messages


async def test_a_backlog_is_cancelled_with_a_reason_and_what_fails_meanwhile_too(database):
    endpoint = await endpoint_of(database)
    waiting = await in_state(database, endpoint, "due", 2)
    node, task = await live_node(database), await begun(database, "cancel", endpoint, CANCEL)
    (taken, *_) = await claimed(database, node, endpoint, free=1)
    await claim(database, task, node)
    assert await step(database, task, node) == (1, "running")
    await database.write(store.acknowledge, [outcome(taken, "due", reason="status 503")], scope=SYSTEM)
    assert await step(database, task, node) == (1, "finished")
    for message in waiting:
        found = await row(database, endpoint, message)
        assert (found.state, found.reason) == ("cancelled", f"cancelled by {task.text_id}: a mistake")
    (later,) = await in_state(database, endpoint, "due")
    assert await states_of(database, endpoint, [later]) == ["due"]


async def test_a_backlog_whose_attempts_fail_behind_the_walk_is_cancelled_all_the_same(database):
    endpoint = await endpoint_of(database)
    waiting = await in_state(database, endpoint, "due", 3)
    node, task = await live_node(database), await begun(database, "cancel", endpoint, CANCEL)
    taken = await claimed(database, node, endpoint, free=3)
    await claim(database, task, node)
    assert await step(database, task, node, 2) == (0, "running")
    await database.write(store.acknowledge, [outcome(each, "due", reason="status 503") for each in taken], scope=SYSTEM)
    assert await step(database, task, node, 2) == (1, "running")
    assert [await step(database, task, node, 2) for _ in range(2)] == [(2, "running"), (0, "finished")]
    assert await states_of(database, endpoint, waiting) == ["cancelled"] * 3


async def test_what_is_claimed_between_the_look_and_the_write_is_looked_at_again(database):
    endpoint = await endpoint_of(database)
    (message,) = await in_state(database, endpoint, "due")
    node, task = await live_node(database), await begun(database, "cancel", endpoint, CANCEL)
    await claim(database, task, node)
    page = await look(database, task)
    (taken,) = await claimed(database, node, endpoint)
    assert await advance(database, task, node, page) == (0, "running")
    await database.write(store.acknowledge, [outcome(taken, "due", reason="status 503")], scope=SYSTEM)
    assert await step(database, task, node) == (1, "finished")
    assert await states_of(database, endpoint, [message]) == ["cancelled"]


async def test_a_message_is_cancelled_where_it_is_due_and_said_where_it_is_on_its_way(database):
    one, two = await endpoint_of(database), await endpoint_of(database)
    (message,) = await due(database, two, targets=[Target(one.id), Target(two.id)])
    await claimed(database, await live_node(database), one)
    assert await database.write(operators.cancel, message, None, "why not", scope=ACME) == ([two.id], [one.id])
    assert ((await row(database, two, message)).state, (await row(database, one, message)).state) == ("cancelled", "leased")
    assert (await row(database, two, message)).reason == "cancelled: why not"
    assert "delivery.cancel" in await actions(database)
    with pytest.raises(IllegalTransition):
        await database.write(operators.cancel, message, two.text_id, "again", scope=ACME)


async def test_who_cancels_the_first_of_a_line_lets_the_next_one_go(database):
    endpoint = await endpoint_of(database, ordering="endpoint")
    first, second = [(await due(database, endpoint, targets=[Target(endpoint.id, line="")]))[0] for _ in range(2)]
    await database.write(operators.cancel, first, None, "no", scope=ACME)
    (taken,) = await claimed(database, await live_node(database), endpoint)
    assert taken.message.id == second


async def test_two_cancellations_of_a_message_at_once_are_one(pair):
    endpoint = await endpoint_of(pair[0])
    (message,) = await due(pair[0], endpoint)
    both = await asyncio.gather(*(door.write(operators.cancel, message, None, "no", scope=ACME) for door in pair))
    assert sorted(both) == [([], []), ([endpoint.id], [])]
    assert (await actions(pair[0])).count("delivery.cancel") == 1


async def test_an_expunged_message_keeps_its_id_and_states_and_is_sent_no_more(database):
    one, two, three = [await endpoint_of(database) for _ in range(3)]
    targets = [Target(each.id) for each in (one, two, three)]
    (message,) = await due(database, three, targets=targets, payload='{"secret":"42"}')
    node = await live_node(database)
    (delivery,) = await claimed(database, node, one)
    await database.write(store.acknowledge, [outcome(delivery)], scope=SYSTEM)
    (held,) = await claimed(database, node, two)
    await database.write(expunge.expunge, message, scope=ACME)
    stored = await database.read(store.message, message, scope=ACME)
    assert (stored.payload, stored.is_expunged, stored.event_type) == ("", True, "thing.happened")
    assert [(await row(database, each, message)).state for each in (one, two, three)] == ["delivered", "leased", "cancelled"]
    assert (await row(database, three, message)).reason == "cancelled: the payload was expunged"
    assert held.message.payload, "who holds it already has a copy"
    assert {"message.expunge", "delivery.cancel"} <= set(await actions(database))
    with pytest.raises(Expunged):
        await database.write(store.resend, message, one.id, 60.0, scope=ACME)
    assert (await walked(database, "bulk_replay", one, REPLAY)).changed == 0
    await database.write(expunge.expunge, message, scope=ACME)


async def test_an_attempts_answer_is_erased_and_the_attempt_stays(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    (message,) = await due(database, endpoint)
    (delivery,) = await claimed(database, node, endpoint)
    done = outcome(delivery)
    done = replace(done, attempt=replace(done.attempt, response="their secret"))
    await database.write(store.acknowledge, [done], scope=SYSTEM)
    before = await database.read(store.attempt, message, done.attempt.id, scope=ACME)
    assert before.response == "their secret"
    await database.write(expunge.expunge_attempt, message, done.attempt.id, scope=ACME)
    assert await database.read(store.attempt, message, done.attempt.id, scope=ACME) == replace(before, response="")
    assert "attempt.expunge" in await actions(database)
    with pytest.raises(NotFound):
        await database.write(expunge.expunge_attempt, message, node, scope=ACME)


async def test_a_payload_that_has_outlived_its_time_is_erased_and_what_was_due_is_cancelled(database):
    endpoint = await endpoint_of(database)
    (short,) = await in_state(database, endpoint, "due", keep_payload_us=-1)
    (longer,) = await in_state(database, endpoint, "due", keep_payload_us=10**12)
    (ever,) = await in_state(database, endpoint, "due")
    (found,) = await database.read(expunge.outlived, None, 10, scope=SYSTEM)
    assert (found.tenant, found.message_id) == ("acme", short)
    assert await database.read(expunge.outlived, found, 10, scope=SYSTEM) == []
    assert await database.write(expunge.erase_outlived, [short, longer, ever], scope=ACME) == 1
    assert await database.read(expunge.outlived, None, 10, scope=SYSTEM) == []
    kept = [not (await database.read(store.message, each, scope=ACME)).is_expunged for each in (short, longer, ever)]
    assert kept == [False, True, True]
    assert await states_of(database, endpoint, [short, longer, ever]) == ["cancelled", "due", "due"]
    assert "to be kept is over" in (await row(database, endpoint, short)).reason


async def test_two_erasures_at_once_erase_once(pair):
    endpoint = await endpoint_of(pair[0])
    (asked,) = await in_state(pair[0], endpoint, "due")
    assert await asyncio.gather(*(door.write(expunge.expunge, asked, scope=ACME) for door in pair)) == [None, None]
    assert (await actions(pair[0])).count("delivery.cancel") == 1
    outlived = await in_state(pair[0], endpoint, "due", 5, keep_payload_us=-1)
    await asyncio.gather(*(door.write(expunge.erase_outlived, outlived, scope=ACME) for door in pair))
    assert await states_of(pair[0], endpoint, [asked, *outlived]) == ["cancelled"] * 6


async def test_dead_letters_are_listed_by_endpoint_type_and_time(database):
    one, two = await endpoint_of(database), await endpoint_of(database)
    first, second = (await in_state(database, one, "dead"))[0], (await in_state(database, two, "dead"))[0]
    at_us = (await database.read(store.message, second, scope=ACME)).created_us

    async def found(wanted):
        return [each.message_id for each in await database.read(store.dead_letters, (b"", b""), 10, wanted, scope=ACME)]

    assert await found(DeadFilter()) == [first, second]
    assert await found(DeadFilter(endpoint_id=two.id)) == [second]
    assert await found(DeadFilter(event_types=("other",))) == []
    assert await found(DeadFilter(event_types=("thing.happened", "other"))) == [first, second]
    assert await found(DeadFilter(after_us=at_us - 1)) == [second]
    assert await found(DeadFilter(before_us=at_us)) == [first]


async def test_tasks_are_listed_by_tenant_and_by_all_and_found_by_their_id(database):
    endpoint, theirs = await endpoint_of(database), await endpoint_of(database, "globex")
    ours = [await begun(database, kind, endpoint) for kind in ("recover", "bulk_replay")]
    other = await database.write(operators.begin, "recover", theirs.text_id, RECOVER, scope=in_tenant("globex"))
    assert await database.read(tasks.page, None, 10, scope=ACME) == ours[::-1]
    assert await database.read(tasks.page, (ours[1].created_us, ours[1].id), 10, scope=ACME) == ours[:1]
    every = await database.read(lambda tx: tasks.page_of_all(tx, ["recover"], ["running"], None, 10, back=False), scope=SYSTEM)
    assert every == [other, ours[0]]
    back = await database.read(lambda tx: tasks.page_of_all(tx, ["recover"], ["running"], None, 10, back=True), scope=SYSTEM)
    assert back == every[::-1]
    assert await database.read(tasks.tenant_of, other.id, scope=SYSTEM) == "globex"
    with pytest.raises(NotFound, match=to_text("qtask", endpoint.id)):
        await database.read(tasks.get, endpoint.id, scope=ACME)


async def test_a_task_is_given_back_and_anybodys(database):
    node, other, task = await live_node(database), await live_node(database), await begun(database, "recover", await endpoint_of(database))
    await claim(database, task, node)
    await database.write(tasks.release, task.id, other, scope=ACME)
    assert await claim(database, task, other) is None
    await database.write(tasks.release, task.id, node, scope=ACME)
    assert (await claim(database, task, other)).owner == other


async def test_a_task_that_cannot_go_on_fails_with_its_words(database):
    node, task = await live_node(database), await begun(database, "recover", await endpoint_of(database))
    await database.write(tasks.fail, task, node, "not its own", scope=ACME)
    assert (await stands(database, task)).state == "running"
    await claim(database, task, node)
    await database.write(tasks.fail, task, node, "no way", scope=ACME)
    assert ((await stands(database, task)).state, (await stands(database, task)).reason) == ("failed", "no way")
