"""Who makes a value, where processes share a tier: a lead is as long as its load and its process live."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from netra_backend.cache import valkey
from netra_backend.cache.leads import Leads
from netra_backend.cache.stats import Stats
from netra_backend.kernel.runtime import Runtime
from netra_backend.testing.clock import FakeClock

from ..support.cache.network import Link, SimulatedServer

A_SECOND, LONG_S = 1.0, 30.0


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def processes(clock, monkeypatch):
    """Opens a process's leads, at one server for all."""
    server = SimulatedServer(clock.monotonic)
    monkeypatch.setattr(valkey, "_client", lambda _: Link(server))

    @asynccontextmanager
    async def opened():
        leads = Leads(clock, valkey.Valkey("", "n", Runtime(clock=clock), Stats()))
        try:
            yield leads
        finally:
            await leads.close()

    return opened


async def test_one_process_leads_for_as_long_as_its_load_takes(clock, processes):
    async with processes() as one, processes() as two:
        token = await one.take("page")
        assert token
        assert await one.take("card")
        await clock.advance(LONG_S)
        assert (await two.take("page"), await two.take("card")) == (None, None)
        await one.give_up("page", token)
        assert await two.take("page")
        assert await two.take("card") is None


async def test_the_lead_of_a_load_that_hangs_ends_after_a_minute_and_those_that_came_later_stay(clock, processes):
    async with processes() as one, processes() as two:
        hangs = await one.take("page")
        await clock.advance(LONG_S)
        await one.take("card")
        await clock.advance(LONG_S)
        assert await two.take("page") is None
        await clock.advance(A_SECOND)
        taken = await two.take("page")
        assert taken
        assert await two.take("card") is None
        await one.give_up("page", hangs)  # it ended after all, and takes nothing from who leads now
        assert await one.take("page") is None


async def test_the_lead_of_a_process_that_died_ends_within_a_second(clock, processes):
    async with processes() as two:
        async with processes() as one:
            assert await one.take("page")
            await clock.advance(LONG_S)
        assert await two.take("page") is None
        await clock.advance(A_SECOND)
        assert await two.take("page")


async def test_a_process_that_was_stopped_takes_no_lead_from_the_one_that_came_after_it(clock, processes):
    async with processes() as one, processes() as two, processes() as three:
        former = await one.take("page")
        await clock.jump(LONG_S)  # nobody renewed anything meanwhile
        assert await two.take("page")
        await clock.advance(LONG_S)
        await one.give_up("page", former)
        assert await three.take("page") is None


async def test_who_leads_nothing_asks_the_tier_for_nothing(clock, processes):
    async with processes() as one:
        await one.give_up("page", await one.take("page"))
        asked = one.shared._stats.asked
        await clock.advance(LONG_S)
        assert (one.shared._stats.asked, clock.sleeping) == (asked, 0)
