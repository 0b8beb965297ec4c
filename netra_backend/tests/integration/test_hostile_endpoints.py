"""Endpoints that hang, flood and never end beside a healthy one: it is late by no tick, and memory is bounded by counts."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from netra_backend.testing.clock import FakeClock
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.webhooks.lanes import WAITING_PER_LANE
from netra_backend.webhooks.sender import RESPONSE_KEPT

from ..support.platform import add_endpoint, attempts, deliveries, on_a_clock, send
from ..support.storage import eventually

TICK_S = 0.1
TICKS = 20
IN_FLIGHT = 10
HOSTILE = ("hang", "endless", "slow-headers", "headers-flood", "chunk-storm", "drip")
NEVER_ANSWERS = ("hang", "slow-headers", "drip")


async def tick(netra, clock):
    """The smallest step of time, and what the dispatcher does in it."""
    await clock.advance(TICK_S)
    await netra.webhooks.dispatcher.scan()
    netra.webhooks.sender.pump()


@pytest.mark.parametrize("hostile", [("hang", "endless"), HOSTILE], ids=["a hanging one and an endless body", "all of them"])
async def test_hostile_endpoints_delay_no_attempt_of_a_healthy_one_by_more_than_a_tick(tmp_path, hostile):
    clock = FakeClock()
    async with AsyncExitStack() as stack:
        netra = await stack.enter_async_context(on_a_clock(tmp_path, clock, webhooks_timeout="60s"))
        stack.push_async_callback(netra.webhooks.dispatcher.stop, 0.0)
        receivers = {spec: await stack.enter_async_context(MisbehavingEndpoint(spec)) for spec in (*hostile, "ok")}
        places = {
            spec: await add_endpoint(netra, receiver.url, event_types=("signal" if spec == "ok" else "noise",))
            for spec, receiver in receivers.items()
        }
        due_us = {}
        for number in range(TICKS):
            for _ in range(6):
                await send(netra, {"n": number}, type="noise")
            now_us = clock.wall_us()
            for share in (0.0, 0.3, 0.9):
                later = None if not share else (now_us + share * TICK_S * 1e6) / 1e6
                message = await send(netra, {"n": number}, type="signal", deliver_at=later)
                due_us[message] = now_us + int(share * TICK_S * 1e6)
            await tick(netra, clock)
            await eventually(lambda: len(receivers["ok"].received) == len(due_us))

        for message, at_us in due_us.items():
            (attempt,) = await attempts(netra, message)
            assert 0 <= attempt.started_us - at_us <= TICK_S * 1e6
        await memory_is_bounded(netra, receivers, places)


async def memory_is_bounded(netra, receivers, places):
    """So many requests, connections, waiting deliveries and kept bytes, and no more, whatever 200 messages each were sent."""
    lanes, sender = netra.webhooks.sender.lanes, netra.webhooks.sender
    stuck = [spec for spec in NEVER_ANSWERS if spec in receivers]
    await eventually(lambda: lanes.in_flight == IN_FLIGHT * len(stuck) and len(sender._tasks) == lanes.in_flight)
    for spec in stuck:
        state = lanes._lanes[places[spec].tenant, places[spec].id]
        assert (state.in_flight, receivers[spec].open_connections, receivers[spec].accepted) == (IN_FLIGHT, IN_FLIGHT, IN_FLIGHT)
        assert state.waiting <= WAITING_PER_LANE + IN_FLIGHT
    assert len(lanes.held) == lanes.waiting + lanes.in_flight
    assert len(sender.breakers._measures) <= len(receivers)
    for _, message, _, _, _, _ in await deliveries(netra):
        assert all(len(attempt.response) <= RESPONSE_KEPT for attempt in await attempts(netra, message))


async def test_endpoints_that_hang_are_parked_and_their_deliveries_leave_the_memory(tmp_path):
    clock = FakeClock()
    async with MisbehavingEndpoint("hang") as hung, on_a_clock(tmp_path, clock, webhooks_timeout="100ms") as netra:
        endpoint = await add_endpoint(netra, hung.url)
        for number in range(60):
            await send(netra, {"n": number})
        await eventually(lambda: not netra.webhooks.sender.breakers.is_closed((endpoint.tenant, endpoint.id)))
        await eventually(lambda: not netra.webhooks.sender.lanes.in_flight)
        await netra.webhooks.dispatcher.scan()
        lanes = netra.webhooks.sender.lanes
        assert not lanes.held and not lanes.waiting and not lanes._lanes
        states = [state for _, _, _, state, _, _ in await deliveries(netra)]
        assert states == ["due"] * 60
        assert len(hung.received) < 30
