"""S3 on PostgreSQL: the ways of losing a hand-over that both engines know, and those that only row locks make.

What waits between two statements is held there by a table lock of the test's own, so that the server really is in the middle.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from netra_backend.kernel.scope import system_scope
from netra_backend.storage import nodes
from netra_backend.webhooks.intake import Accepted

from ..support.platform import TENANT, accept, add_endpoint, arm, attempts, becomes, platform
from ..support.storage import eventually, with_its_server
from .test_takeover import (
    received_once,
    receiver,
    test_a_caller_cancelled_at_any_await_loses_nothing_that_is_in_the_table,
    test_a_commit_of_unknown_outcome_ends_the_nodes_life_and_loses_nothing,
    test_a_hand_over_that_fails_after_the_commit_is_given_back_by_the_release_check,
    test_a_process_without_a_sender_leaves_its_messages_to_those_that_have_one,
    test_after_a_kill_the_first_delivery_by_another_process_takes_less_than_two_seconds,
    test_an_attempt_that_fails_inside_netra_is_made_again,
    test_deliveries_that_memory_has_lost_are_given_back_by_the_release_check,
    test_no_error_ends_the_loops_that_look_for_work,
)

__all__ = [
    "receiver",
    "test_a_caller_cancelled_at_any_await_loses_nothing_that_is_in_the_table",
    "test_a_commit_of_unknown_outcome_ends_the_nodes_life_and_loses_nothing",
    "test_a_hand_over_that_fails_after_the_commit_is_given_back_by_the_release_check",
    "test_a_process_without_a_sender_leaves_its_messages_to_those_that_have_one",
    "test_after_a_kill_the_first_delivery_by_another_process_takes_less_than_two_seconds",
    "test_an_attempt_that_fails_inside_netra_is_made_again",
    "test_deliveries_that_memory_has_lost_are_given_back_by_the_release_check",
    "test_no_error_ends_the_loops_that_look_for_work",
]

SYSTEM = system_scope("tester")
WAITING = "select pid from pg_stat_activity where datname = $1 and wait_event_type = 'Lock' and query like $2"


@pytest.fixture(params=["postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture(autouse=True)
def name(prepared):
    """The database's; the folder of each test here leads to PostgreSQL."""
    return (prepared / "postgres.url").read_text().rpartition("/")[2]


@pytest.fixture
def fresh_world(shared_world):
    """The tests that are imported above run here too."""
    return shared_world


@pytest.fixture
async def netra(prepared):
    async with platform(prepared) as netra:
        yield netra


@asynccontextmanager
async def held_at(server, name, table):
    """Inside, whoever comes to insert into that table waits; the backends that do are what `waiting()` finds."""
    async with server.connected(name, user="superuser") as other:
        await other.execute(f"begin; lock table {table} in exclusive mode")

        async def waiting():
            return server.query("", WAITING, name, f"insert into {table}%")

        yield waiting
        await other.execute("commit")


async def sending(netra, waiting):
    """A message on its way in, waiting at the lock."""
    task = asyncio.create_task(accept(netra, {"n": 1}, event_id="one"))
    await eventually(waiting)
    return task


async def test_a_caller_cancelled_while_its_group_runs_changes_nothing(netra, receiver, postgres_server, name):
    endpoint = await add_endpoint(netra, receiver.url)
    await netra.webhooks.snapshots.get(TENANT)
    async with held_at(postgres_server, name, "netra_outbox") as waiting:
        task = await sending(netra, waiting)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
    await received_once(receiver)
    again = await accept(netra, {"n": 1}, event_id="one")
    assert again.replayed
    await becomes(netra, again.message.id, endpoint, "delivered")
    assert len(receiver.received) == 1


async def test_a_process_reaped_before_its_group_looks_hands_nothing_to_its_own_sender(prepared, netra, receiver, postgres_server, name):
    endpoint = await add_endpoint(netra, receiver.url)
    await netra.webhooks.snapshots.get(TENANT)
    handed = []
    arm(netra, "webhooks.after_commit_before_handover", lambda: handed.append(1))
    async with platform(prepared) as peer:
        async with held_at(postgres_server, name, "netra_message") as waiting:
            task = await sending(netra, waiting)
            former = netra.membership.id
            await peer.database.write(nodes.remove, former, scope=SYSTEM)
        answer = await task
        assert isinstance(answer, Accepted)
        assert handed == [], "a dead node's sender was given a delivery"
        await received_once(receiver)
        await becomes(peer, answer.message.id, endpoint, "delivered")
        await eventually(lambda: netra.membership.id != former)


async def test_a_process_reaped_between_insert_and_commit_has_its_message_delivered_once(prepared, netra, receiver, postgres_server, name):
    """The verdict waits for the commit, so that the delivery is not handed to a sender that is dead already."""
    endpoint = await add_endpoint(netra, receiver.url)
    await netra.webhooks.snapshots.get(TENANT)
    async with platform(prepared, workers=False) as peer:
        async with held_at(postgres_server, name, "netra_outbox") as waiting:
            task = await sending(netra, waiting)
            await peer.database.write(nodes.forget, netra.membership.id, scope=SYSTEM)
        answer = await task
        assert isinstance(answer, Accepted)
        await received_once(receiver)
        await becomes(peer, answer.message.id, endpoint, "delivered")
    assert [attempt.late for attempt in await attempts(netra, answer.message.id)] == [False]
    assert len(receiver.received) == 1
