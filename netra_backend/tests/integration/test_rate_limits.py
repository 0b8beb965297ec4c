"""Endpoints with a rate limit, over real HTTP: no second has more than they allow, and what waits is due, not leased."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from netra_backend.testing.endpoint import MisbehavingEndpoint

from ..support.platform import SCOPE, add_endpoint, becomes, change_endpoint, deliveries, platform, row, send
from ..support.storage import eventually

LIMIT, BURST = 20, 4
S = 1_000_000


@pytest.fixture
async def receiver():
    async with MisbehavingEndpoint(keep=True) as receiver:
        yield receiver


async def flood(netra, count):
    news = [netra.webhooks.new_message("acme", "thing.happened", {"n": number}) for number in range(count)]
    return [answer.message.id for answer in await netra.webhooks.accept(SCOPE, news)]


def most_in_a_second(receiver):
    at = sorted(each.at_us for each in receiver.received)
    return max(sum(first <= each < first + S for each in at) for first in at)


async def test_no_second_has_more_than_limit_and_burst_and_the_limit_is_used(tmp_path, receiver):
    async with platform(tmp_path) as netra:
        await add_endpoint(netra, receiver.url, rate_limit=LIMIT)
        await flood(netra, 80)
        leased = []
        while len(receiver.received) < 80:
            leased.append(sum(each[3] == "leased" for each in await deliveries(netra)))
            await asyncio.sleep(0.05)  # the receiver's clock is the real one
        assert most_in_a_second(receiver) <= LIMIT + BURST + 1, "one for what the network does to a second's edges"
        took_s = (receiver.received[-1].at_us - receiver.received[0].at_us) / S
        assert took_s < 3 * 80 / LIMIT
        assert max(leased) <= BURST + LIMIT, "what has to wait is not leased"


async def test_what_waits_burns_no_attempt_and_is_not_written(tmp_path, receiver):
    async with platform(tmp_path) as netra:
        endpoint = await add_endpoint(netra, receiver.url, rate_limit=1)
        sent = await flood(netra, 10)
        await eventually(lambda: len(receiver.received) >= 2)
        states = [await row(netra, message, endpoint) for message in sent]
        waiting = [each for each in states if each.state == "due"]
        assert len(waiting) >= 6
        assert {each.number for each in waiting} == {0}


async def test_processes_share_the_limit(tmp_path, receiver):
    async with AsyncExitStack() as stack:
        netras = [await stack.enter_async_context(platform(tmp_path)) for _ in range(3)]
        for netra in netras:
            await eventually(lambda: len(netra.membership.senders) == 3)  # noqa: B023
        await add_endpoint(netras[0], receiver.url, rate_limit=LIMIT)
        for netra in netras:
            await flood(netra, 20)
        await eventually(lambda: len(receiver.received) == 60, 30)
        assert most_in_a_second(receiver) <= LIMIT + max(BURST, 3) + 2


async def test_a_limit_that_is_taken_away_holds_nothing_back(tmp_path, receiver):
    async with platform(tmp_path) as netra:
        endpoint = await add_endpoint(netra, receiver.url, rate_limit=1)
        await flood(netra, 30)
        await eventually(lambda: receiver.received)
        await change_endpoint(netra, endpoint, rate_limit=None)
        await eventually(lambda: len(receiver.received) == 30, 15)


async def test_a_limited_endpoint_delays_no_other(tmp_path, receiver):
    async with platform(tmp_path) as netra, MisbehavingEndpoint() as quick:
        await add_endpoint(netra, receiver.url, rate_limit=1, event_types=("thing.happened",))
        other = await add_endpoint(netra, quick.url, event_types=("thing.else",))
        await flood(netra, 200)
        message = await send(netra, type="thing.else")
        await becomes(netra, message, other, "delivered")


async def test_a_retry_takes_its_turn_too(tmp_path):
    async with platform(tmp_path, webhooks_schedule="1ms,1ms,1ms,1ms,1ms", webhooks_breaker_failures=1000) as netra:
        async with MisbehavingEndpoint("404", keep=True) as receiver:
            await add_endpoint(netra, receiver.url, rate_limit=LIMIT)
            await flood(netra, 10)
            await eventually(lambda: len(receiver.received) == 60, 20)
            assert most_in_a_second(receiver) <= LIMIT + BURST + 1
