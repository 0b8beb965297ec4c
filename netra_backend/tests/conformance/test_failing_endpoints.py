"""Endpoints that fail for long, on every engine and on a clock that is turned by hand."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial

import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.storage.audit_append import Q as AUDIT
from netra_backend.testing.clock import FakeClock
from netra_backend.webhooks import endpoints, health, store
from netra_backend.webhooks.model import WELL, EndpointHealth, News
from netra_backend.webhooks.settings import WebhookSettings

from ..support.storage import SYSTEM, opened, query, take_outbox
from ..support.webhooks import claimed, due, endpoint_of, in_tenant, live_node, outcome

HOUR, DAY = 3600, 24 * 3600
RULES = WebhookSettings().rules


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
async def database(engine, prepared, clock):
    async with opened(engine, prepared, Runtime(clock=clock)) as database:
        yield database


@pytest.fixture
async def endpoint(database):
    return await endpoint_of(database)


@pytest.fixture
async def node(database):
    return await live_node(database)


async def attempted(database, node, endpoint, *, ok=False, state=None, lost=False, known=WELL):
    """One delivery's attempt, as the sender settles it."""
    await due(database, endpoint)
    (one,) = await claimed(database, node, endpoint, free=1)
    if lost:
        await database.write(store.release, node, [one.key], scope=SYSTEM)
    failing = EndpointHealth(failing_since_us=1)
    news = News(endpoint.tenant, endpoint.id, failing, WELL) if ok else News(endpoint.tenant, endpoint.id, known, failing, rules=RULES)
    state = state or ("delivered" if ok else "dead")
    (kept,) = await database.write(store.acknowledge, [replace(outcome(one, state, due_us=2**60), news=news)], scope=SYSTEM)
    assert kept == (not lost)


async def fail_for(database, clock, node, endpoint, seconds, attempts=20):
    """That many failures, the first of them now and the last so many seconds later."""
    await attempted(database, node, endpoint, state="due")
    for _ in range(attempts - 1):
        await clock.advance(seconds / (attempts - 1))
        await attempted(database, node, endpoint, state="due")


async def reports(database, kind=None):
    """What the operator is told, the oldest first; every test looks once."""
    rows = await database.write(take_outbox, scope=SYSTEM)
    found = [item for _, stream, _, items, _ in sorted(rows) if stream == "operational" for _, item in json.loads(items)]
    return [item for item in found if kind in {None, item["type"]}]


async def is_disabled(database, endpoint):
    return (await database.read(endpoints.get, endpoint.text_id, scope=in_tenant(endpoint.tenant))).disabled


async def since(database, endpoint):
    found = await database.read(health.health_of, [(endpoint.tenant, endpoint.id)], scope=SYSTEM)
    return found.get((endpoint.tenant, endpoint.id), WELL).failing_since_us


async def test_five_days_of_failing_disable_an_endpoint_with_an_entry_and_an_event(database, clock, node, endpoint):
    began = clock.wall_us()
    await fail_for(database, clock, node, endpoint, 5 * DAY, attempts=21)
    assert await is_disabled(database, endpoint)
    read = partial(query, statement=AUDIT.list_audit_entries, after=b"", limit=1000)
    entries = await database.read(read, scope=in_tenant("acme"))
    (entry,) = [each for each in entries if each[3] == "endpoint.disable"]
    assert entry[2] == SYSTEM.actor, "not the tenant: whoever acknowledges"
    assert json.loads(entry[9])["reason"] == "it has failed for 120 hours, in 21 attempts without a success"
    (event,) = await reports(database, "endpoint.disabled")
    assert (event["endpoint"], event["trigger"], event["since_us"]) == (endpoint.id.hex(), "automatic", began)
    assert await since(database, endpoint) == 0, "who enables it again begins anew"


async def test_less_than_five_days_or_twenty_attempts_disable_nobody(database, clock, node, endpoint):
    await fail_for(database, clock, node, endpoint, 5 * DAY - 60, attempts=30)
    other = await endpoint_of(database, "globex")
    await fail_for(database, clock, node, other, 6 * DAY, attempts=19)
    assert not await is_disabled(database, endpoint)
    assert not await is_disabled(database, other)


async def test_warnings_are_given_once_each_with_the_message_that_failed(database, clock, node, endpoint):
    await fail_for(database, clock, node, endpoint, 4.5 * DAY, attempts=108)
    given = await reports(database, "message.attempt.failing")
    hours = [(each["at_us"] - each["since_us"]) / 3.6e9 for each in given]
    assert [round(hour) for hour in hours] == [1, 24, 96] or [int(hour) for hour in hours] == [1, 24, 96]
    assert {each["attempt"]["status"] for each in given} == {200}
    assert all(len(each["message"]) == 32 for each in given)


async def test_a_success_forgets_all_and_is_told_only_where_a_warning_was(database, clock, node, endpoint):
    await fail_for(database, clock, node, endpoint, 0.5 * HOUR, attempts=3)
    await attempted(database, node, endpoint, ok=True)
    assert await since(database, endpoint) == 0
    await fail_for(database, clock, node, endpoint, 2 * HOUR, attempts=5)
    await attempted(database, node, endpoint, ok=True)
    await attempted(database, node, endpoint, ok=True)
    assert [each["type"] for each in await reports(database)] == ["message.attempt.failing", "message.attempt.recovered"]
    await fail_for(database, clock, node, endpoint, 2 * HOUR, attempts=5)
    assert len(await reports(database, "message.attempt.failing")) == 1, "it fails anew and is warned of anew"


async def test_no_step_of_the_clock_disables_an_endpoint(database, clock, node, endpoint):
    await fail_for(database, clock, node, endpoint, HOUR, attempts=31)
    for step in (30 * DAY, -60 * DAY, 365 * DAY):
        clock.step_wall(step)
        await attempted(database, node, endpoint, state="due")
    assert not await is_disabled(database, endpoint)
    assert len(await reports(database, "message.attempt.failing")) == 2, "at an hour, and at a day, of which a step counts 30 hours"


async def test_an_outcome_that_lost_its_lease_counts_for_nothing(database, clock, node, endpoint):
    await fail_for(database, clock, node, endpoint, HOUR - 60, attempts=2)
    await clock.advance(3600)
    await attempted(database, node, endpoint, state="due", lost=True)
    assert await reports(database, "message.attempt.failing") == []


async def test_of_many_processes_that_count_at_once_one_gives_the_warning(database, clock, node, endpoint):
    await attempted(database, node, endpoint, state="due")
    await clock.advance(HOUR)
    await due(database, endpoint, 8)
    mine = await claimed(database, node, endpoint)
    news = News(endpoint.tenant, endpoint.id, WELL, EndpointHealth(failing_since_us=1), rules=RULES)
    outcomes = [replace(outcome(each, "due", due_us=2**60), news=news) for each in mine]
    await asyncio.gather(*(database.write(store.acknowledge, [each], scope=SYSTEM) for each in outcomes))
    assert len(await reports(database, "message.attempt.failing")) == 1


async def test_a_dead_letter_is_told_with_its_last_attempt(database, node, endpoint):
    await attempted(database, node, endpoint)
    (event,) = await reports(database, "message.attempt.exhausted")
    assert (event["endpoint"], event["attempt"]["status"]) == (endpoint.id.hex(), 200)


async def test_whoever_disables_an_endpoint_tells_the_operator_in_the_same_transaction(database, endpoint):
    change = partial(database.write, endpoints.update, endpoint.text_id, scope=in_tenant("acme"))
    await change({"disabled": True})
    await change({"disabled": True})
    await change({"disabled": False})
    assert [each["trigger"] for each in await reports(database, "endpoint.disabled")] == ["manual"]
