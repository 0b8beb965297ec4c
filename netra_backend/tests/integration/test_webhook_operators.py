"""Operators' verbs with a receiver at the other end: what arrives, what does not, and what the trail says."""

from __future__ import annotations

import time

import pytest

from netra_backend.errors import InvalidInput, NotFound
from netra_backend.kernel.ids import to_text
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.webhooks import store
from netra_backend.webhooks.errors import Expunged

from ..support.platform import SCOPE, TENANT, add_endpoint, attempts, becomes, change_endpoint, platform, row, send
from ..support.storage import eventually


@pytest.fixture
async def receiver():
    async with MisbehavingEndpoint() as receiver:
        yield receiver


@pytest.fixture
async def netra(tmp_path):
    async with platform(tmp_path, webhooks_schedule="30ms,30ms") as netra:
        yield netra


async def ended(netra, task):
    async def over():
        return (await netra.webhooks.task(task["task"], tenant=TENANT))["state"] != "running"

    await eventually(over)
    return await netra.webhooks.task(task["task"], tenant=TENANT)


async def test_an_endpoint_gets_what_it_missed_while_it_was_disabled_once(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    had = await send(netra)
    await becomes(netra, had, endpoint, "delivered")
    await change_endpoint(netra, endpoint, disabled=True)
    netra.webhooks.snapshots.forget(TENANT)
    missed = [await send(netra) for _ in range(3)]
    assert [(await row(netra, each, endpoint)).state for each in missed] == ["skipped"] * 3
    await change_endpoint(netra, endpoint, disabled=False)
    found = await ended(netra, await netra.webhooks.recover(endpoint.text_id, time.time() - 60, tenant=TENANT))
    assert (found["state"], found["messages"], found["changed"]) == ("finished", 4, 3)
    for each in missed:
        await becomes(netra, each, endpoint, "delivered")
    ids = [got.headers["webhook-id"] for got in receiver.received]
    assert sorted(ids) == sorted(to_text("msg", each) for each in (had, *missed))


async def test_dead_letters_are_driven_again_with_all_their_attempts(netra, receiver):
    receiver.behave("503")
    endpoint = await add_endpoint(netra, receiver.url)
    message = await send(netra)
    await becomes(netra, message, endpoint, "dead")
    (letter,) = await netra.webhooks.dead_letters(endpoint.text_id, event_types=["thing.happened"], since=time.time() - 60, tenant=TENANT)
    assert (letter["message"], letter["attempts"]) == (to_text("msg", message), 3)
    receiver.behave("503-then-ok:2")
    assert (await ended(netra, await netra.webhooks.redrive(tenant=TENANT)))["changed"] == 1
    assert (await becomes(netra, message, endpoint, "delivered")).number == 3
    assert [each.number for each in await attempts(netra, message)] == [1, 2, 3, 1, 2, 3]
    assert await netra.webhooks.dead_letters(tenant=TENANT) == []


async def test_an_endpoint_made_later_gets_what_it_wants_of_the_past_and_the_first_one_nothing_more(netra, receiver):
    first = await add_endpoint(netra, receiver.url)
    paid, other = await send(netra, type="invoice.paid"), await send(netra)
    for message in (paid, other):
        await becomes(netra, message, first, "delivered")
    second = await add_endpoint(netra, receiver.url, event_types=("invoice.paid",))
    assert (await ended(netra, await netra.webhooks.replay_missing(second.text_id, time.time() - 60, tenant=TENANT)))["changed"] == 1
    await becomes(netra, paid, second, "delivered")
    assert len(receiver.received) == 3


async def test_what_was_expunged_while_an_attempt_was_under_way_is_not_sent_again(netra, receiver):
    receiver.behave("hang")
    endpoint = await add_endpoint(netra, receiver.url)
    message = await send(netra, {"secret": 42})
    await receiver.until(lambda got: len(got) == 1)
    await netra.webhooks.expunge(to_text("msg", message), tenant=TENANT)
    assert (await row(netra, message, endpoint)).state == "leased"
    stands = await becomes(netra, message, endpoint, "cancelled", within_s=10)
    assert "expunged" in stands.reason
    assert [got.body for got in receiver.received] == [b'{"secret":42}']
    with pytest.raises(Expunged):
        await netra.database.write(store.resend, message, endpoint.id, 60.0, scope=SCOPE)


async def test_a_cancelled_message_is_never_sent(netra, receiver):
    receiver.behave("503-then-ok:1")
    endpoint = await add_endpoint(netra, receiver.url)
    later = await send(netra, deliver_at=time.time() + 0.5)
    found = await netra.webhooks.cancel(to_text("msg", later), why="a mistake", tenant=TENANT)
    assert found == {"cancelled": [endpoint.text_id], "under_way": []}
    now = await send(netra, deliver_at=time.time() + 0.6)
    await becomes(netra, now, endpoint, "delivered")
    assert {got.headers["webhook-id"] for got in receiver.received} == {to_text("msg", now)}


async def test_what_cannot_be_asked_is_refused_and_tasks_are_found(netra, receiver):
    endpoint = await add_endpoint(netra, receiver.url)
    with pytest.raises(InvalidInput):
        await netra.webhooks.recover(endpoint.text_id, time.time() + 3600, tenant=TENANT)
    with pytest.raises(InvalidInput):
        await netra.webhooks.bulk_replay(endpoint.text_id, 0.0, states=["leased"], tenant=TENANT)
    with pytest.raises(InvalidInput):
        await netra.webhooks.cancel_backlog(endpoint.text_id, why=" ", tenant=TENANT)
    with pytest.raises(NotFound):
        await netra.webhooks.task(to_text("qtask", endpoint.id), tenant=TENANT)
    await send(netra)
    begun = await netra.webhooks.bulk_replay(endpoint.text_id, 0.0, states=["cancelled"], tenant=TENANT)
    await ended(netra, begun)
    assert [each["task"] for each in await netra.webhooks.tasks(tenant=TENANT)] == [begun["task"]]
    assert await netra.webhooks.tasks(after=begun["task"], tenant=TENANT) == []
