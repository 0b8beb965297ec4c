"""A row whose owner is dead, or has forgotten it, is delivered within the lease's TTL and two seconds (S3).

Every way in which a hand-over can be lost between the commit and the attempt: the caller is cancelled, the process is
declared dead before its group begins, it has no sender, its memory is gone, or nobody knows whether the commit stands.
"""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from netra_backend.errors import OutcomeUnknown
from netra_backend.kernel.scope import system_scope
from netra_backend.storage import nodes
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.webhooks.intake import Accepted

from ..support.cancelling import cancelled_at
from ..support.ledgers import lines
from ..support.platform import (
    TENANT,
    WITHIN_S,
    accept,
    add_endpoint,
    arm,
    arm_at_its_commit,
    becomes,
    fail,
    on_loop,
    platform,
    row,
    send,
)
from ..support.storage import Gate, eventually, let_run, outcome_of
from ..support.world import TTL_S, World
from ..support.zygote import until

SYSTEM = system_scope("tester")


@pytest.fixture
async def receiver():
    async with MisbehavingEndpoint() as receiver:
        yield receiver


@pytest.fixture
async def netra(tmp_path):
    async with platform(tmp_path) as netra:
        yield netra


async def received_once(receiver, within_s=WITHIN_S):
    await receiver.until(lambda got: len(got) >= 1, within_s=within_s)


async def test_a_caller_cancelled_before_its_group_begins_leaves_a_whole_message_or_none(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    await netra.webhooks.snapshots.get(TENANT)
    gate = Gate()
    async with gate.closed(netra.database):
        sending = asyncio.create_task(accept(netra, {"n": 1}, event_id="one"))
        await eventually(lambda: [job for job in netra.database.writer._lanes["normal"] if job.weight])  # the message, not a beat
        sending.cancel()
        await asyncio.wait([sending])
    assert sending.cancelled()
    await received_once(receiver)
    again = await accept(netra, {"n": 1}, event_id="one")
    assert again.replayed
    await becomes(netra, again.message.id, endpoint, "delivered")
    assert len(receiver.received) == 1


@pytest.mark.parametrize("failpoint", ["storage.before_commit", "storage.after_commit_before_ack"])
async def test_a_caller_cancelled_while_its_group_runs_changes_nothing(netra, receiver, failpoint):
    endpoint = await add_endpoint(netra, receiver.url)
    await netra.webhooks.snapshots.get(TENANT)
    reached, gate = asyncio.Event(), Gate()
    tell = on_loop(reached)

    def wait_for_the_cancellation():
        tell()
        assert gate._open.wait(10)

    arm(netra, "webhooks.deliveries_written", lambda: arm(netra, failpoint, wait_for_the_cancellation))
    sending = asyncio.create_task(accept(netra, {"n": 1}, event_id="one"))
    await asyncio.wait_for(reached.wait(), 10)
    sending.cancel()
    await asyncio.wait([sending])
    gate.open()
    assert sending.cancelled()
    await received_once(receiver)
    again = await accept(netra, {"n": 1}, event_id="one")
    assert again.replayed
    await becomes(netra, again.message.id, endpoint, "delivered")
    assert len(receiver.received) == 1


async def test_a_caller_cancelled_at_any_await_loses_nothing_that_is_in_the_table(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    number = 0
    while not (done := await cancelled_at(number, accept(netra, {"n": number}, event_id=f"at-{number}"))):
        number += 1
        assert number < 50
    assert isinstance(done, Accepted) and number >= 2
    messages = [(await accept(netra, {"n": n}, event_id=f"at-{n}")).message.id for n in range(number + 1)]
    for message in messages:
        await becomes(netra, message, endpoint, "delivered")
    assert len({got.headers["webhook-id"] for got in receiver.received}) == len(receiver.received) == len(messages)
    assert not netra.webhooks.sender.lanes.held and not netra.webhooks.sender.lanes.expected


async def test_a_process_reaped_before_its_group_begins_hands_nothing_to_its_own_sender(tmp_path, netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    await netra.webhooks.snapshots.get(TENANT)
    handed, submitted, submit = [], asyncio.Event(), netra.database.writer.submit

    def noticed(job, lane="normal"):
        submit(job, lane)
        if job.weight:  # a message; other jobs of the process wait for the lock as well
            submitted.set()

    netra.database.writer.submit = noticed
    arm(netra, "webhooks.after_commit_before_handover", lambda: handed.append(1))
    async with platform(tmp_path) as peer:
        async with peer.database.transaction(SYSTEM) as tx:
            sending = asyncio.create_task(accept(netra, {"n": 1}), context=contextvars.Context())  # not inside the peer's transaction
            await submitted.wait()
            await nodes.remove(tx, former := netra.membership.id)
        answer = await sending
        assert isinstance(answer, Accepted)
        assert handed == [], "a dead node's sender was given a delivery"
        await received_once(receiver)
        await becomes(peer, answer.message.id, endpoint, "delivered")
        await eventually(lambda: netra.membership.id != former)


async def test_a_process_without_a_sender_leaves_its_messages_to_those_that_have_one(tmp_path, receiver):
    async with platform(tmp_path, workers=False) as producer, platform(tmp_path) as worker:
        endpoint = await add_endpoint(producer, receiver.url)
        message = await send(producer)
        await received_once(receiver)
        await becomes(worker, message, endpoint, "delivered")


async def test_a_hand_over_that_fails_after_the_commit_is_given_back_by_the_release_check(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    arm(netra, "webhooks.after_commit_before_handover", "raise")
    message = await send(netra)
    assert (await row(netra, message, endpoint)).state == "leased"
    await received_once(receiver)
    await becomes(netra, message, endpoint, "delivered")


async def test_deliveries_that_memory_has_lost_are_given_back_by_the_release_check(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    sender = netra.webhooks.sender
    sender.running = False  # nothing starts, so that what is handed over waits
    message = await send(netra)
    await eventually(lambda: sender.lanes.held)
    for delivery in sender.lanes.waiting_deliveries():
        sender.lanes.drop(delivery)
    sender.running = True
    await received_once(receiver)
    assert (await becomes(netra, message, endpoint, "delivered")).number == 1


async def test_an_attempt_that_fails_inside_netra_is_made_again(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)

    def broken():
        raise KeyError("a defect of ours")

    arm(netra, "webhooks.before_attempt", broken)
    message = await send(netra)
    await received_once(receiver)
    assert (await becomes(netra, message, endpoint, "delivered")).number == 1


@pytest.mark.parametrize("failpoint", ["storage.before_commit", "storage.after_commit_before_ack"])
async def test_a_commit_of_unknown_outcome_ends_the_nodes_life_and_loses_nothing(netra, receiver, failpoint):
    endpoint = await add_endpoint(netra, receiver.url)
    await netra.webhooks.snapshots.get(TENANT)
    former = netra.membership.id
    arm_at_its_commit(netra, failpoint, fail)
    answer = await outcome_of(accept(netra, {"n": 1}, event_id="one"))
    assert isinstance(answer, OutcomeUnknown)
    await eventually(lambda: netra.membership.id != former)

    async def settled():
        return isinstance(await outcome_of(accept(netra, {"n": 1}, event_id="one")), Accepted)

    await eventually(settled, WITHIN_S)
    again = await accept(netra, {"n": 1}, event_id="one")
    await received_once(receiver)
    await becomes(netra, again.message.id, endpoint, "delivered")
    assert len(receiver.received) == 1


async def test_no_error_ends_the_loops_that_look_for_work(netra, receiver, monkeypatch):
    endpoint = await add_endpoint(netra, receiver.url)
    dispatcher, hits = netra.webhooks.dispatcher, []

    async def broken():
        hits.append(1)
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr(dispatcher, "scan", broken)
        patched.setattr(netra.membership, "_observe_once", broken)
        await eventually(lambda: len(hits) > 3)
    arm(netra, "webhooks.after_commit_before_handover", "raise")
    message = await send(netra)
    await becomes(netra, message, endpoint, "delivered")


@pytest.mark.parametrize("turns", range(5))
async def test_a_stop_that_meets_a_wake_up_ends_all_the_same(netra, turns):
    dispatcher = netra.webhooks.dispatcher
    await dispatcher.scan()
    await eventually(lambda: dispatcher._wake._waiters)
    dispatcher._wake.set()
    await let_run(turns)
    async with asyncio.timeout(30):
        await netra.stop()


@pytest.mark.parametrize("survivor", ["peer", "restarted"])
def test_after_a_kill_the_first_delivery_by_another_process_takes_less_than_two_seconds(fresh_world: World, survivor):
    victim = fresh_world.start("webhooks.after_attempt_before_ack@5=kill")
    if survivor == "peer":
        fresh_world.start()
    victim.ask("node")
    fresh_world.send(victim, 20)
    fresh_world.killed_itself(victim)
    killed_us = fresh_world.kills_us[-1]
    before = len(lines(fresh_world.received))
    if survivor == "restarted":
        fresh_world.start()
    until(lambda: len(lines(fresh_world.received)) > before, "another process delivers", WITHIN_S)
    first_us = lines(fresh_world.received)[before]["at_us"]
    took_s = (first_us - killed_us) / 1e6
    print(f"kill -9 to the first delivery by a {survivor} process: {took_s * 1000:.0f} ms")
    fresh_world.drained()
    fresh_world.stop_all()
    assert fresh_world.compare().lost == 0
    assert took_s < TTL_S + 2, took_s
