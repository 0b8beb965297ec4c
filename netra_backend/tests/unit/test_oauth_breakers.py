"""Which answers count against a provider, and whom a breaker keeps from asking."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from netra_backend.kernel.runtime import Runtime
from netra_backend.oauth import breakers
from netra_backend.oauth.answers import Kind, Outcome
from netra_backend.oauth.breakers import CODE, DEVICE, OPEN, REFRESH, Breakers, health_of
from netra_backend.oauth.settings import OAuthSettings
from netra_backend.resilience.circuit_breaker import Outcome as Health
from netra_backend.testing.clock import FakeClock, SeededChance

BAD, GOOD = Outcome(Kind.AMBIGUOUS, "timeout"), Outcome(Kind.SUCCESS, members={"access_token": "at"})
THERE = "https://id.example/token"


def made(clock):
    runtime = Runtime(clock=clock, chance=SeededChance())
    return Breakers(runtime, OAuthSettings(Path("spool"), breaker_failures=3, breaker_open_s=30))


async def asked(some, outcome, *, tenant="acme", endpoint=THERE, operation=REFRESH):
    """Whether it was sent, and what came of it."""
    sent = []

    async def send():
        sent.append(outcome)
        return outcome

    return bool(sent), await some.guarded(tenant, endpoint, operation, send), len(sent)


async def is_sent(some, outcome=BAD, **place):
    return (await asked(some, outcome, **place))[2] == 1


async def opened(clock):
    some = made(clock)
    for _ in range(3):
        assert await is_sent(some)
    return some


@pytest.mark.parametrize(
    ("outcome", "health"),
    [
        (GOOD, Health.SUCCESS),
        (Outcome(Kind.REJECTED, "invalid_grant"), Health.ANSWERED),
        (Outcome(Kind.REJECTED, "invalid_client"), Health.ANSWERED),
        (Outcome(Kind.REJECTED, "authorization_pending"), Health.ANSWERED),
        (Outcome(Kind.THROTTLED, "slow_down"), Health.ANSWERED),
        (Outcome(Kind.THROTTLED, "status_429"), Health.FAILURE),
        (Outcome(Kind.THROTTLED, "temporarily_unavailable"), Health.FAILURE),
        (Outcome(Kind.NOT_SENT, "connect"), Health.FAILURE),
        (Outcome(Kind.NOT_SENT, "dns_timeout"), Health.FAILURE),
        (Outcome(Kind.NOT_SENT, "egress_denied"), Health.NOT_SENT),
        (Outcome(Kind.NOT_SENT, "bad_url"), Health.NOT_SENT),
        (Outcome(Kind.AMBIGUOUS, "status_500"), Health.FAILURE),
        (Outcome(Kind.AMBIGUOUS, "reset"), Health.FAILURE),
        (Outcome(Kind.AMBIGUOUS, "unreadable"), Health.FAILURE),
    ],
)
def test_an_answer_in_the_words_of_the_standard_is_health_and_a_lost_one_is_not(outcome, health):
    assert health_of(outcome) is health


async def test_an_open_breaker_answers_not_sent_and_when_to_come_again():
    clock = FakeClock()
    some = await opened(clock)
    _, outcome, sent = await asked(some, GOOD)
    assert (outcome.kind, outcome.cause, sent) == (Kind.NOT_SENT, OPEN, 0)
    assert 24 <= outcome.retry_after_s <= 37
    assert some.states() == {"open": 1, "half_open": 0, "slow_start": 0}


async def test_after_its_time_one_probe_is_sent_and_its_success_lets_more_through_step_by_step():
    clock = FakeClock()
    some = await opened(clock)
    await clock.advance(37)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def probe():
        arrived.set()
        await go_on.wait()
        return GOOD

    probing = asyncio.create_task(some.guarded("acme", THERE, REFRESH, probe))
    await arrived.wait()
    _, refused, sent = await asked(some, GOOD)
    assert (refused.cause, sent) == (OPEN, 0) and refused.retry_after_s <= breakers.AGAIN_S
    go_on.set()
    assert (await probing).kind is Kind.SUCCESS
    assert some.states()["slow_start"] == 1
    for _ in range(15):
        assert await is_sent(some, GOOD)
    assert sum(some.states().values()) == 0


async def test_a_failed_probe_parks_it_for_longer():
    clock = FakeClock()
    some = await opened(clock)
    await clock.advance(37)
    assert await is_sent(some) and not await is_sent(some)
    await clock.advance(37)
    assert not await is_sent(some)
    await clock.advance(37)
    assert await is_sent(some, GOOD)


@pytest.mark.parametrize("elsewhere", [{"tenant": "globex"}, {"endpoint": THERE + "2"}, {"operation": CODE}, {"operation": DEVICE}])
async def test_another_tenant_endpoint_or_operation_is_asked_on(elsewhere):
    some = await opened(FakeClock())
    assert not await is_sent(some)
    assert await is_sent(some, GOOD, **elsewhere)


async def test_an_answer_that_was_on_its_way_when_the_breaker_opened_changes_nothing():
    clock = FakeClock()
    some = made(clock)
    go_on = asyncio.Event()

    async def slow():
        await go_on.wait()
        return GOOD

    late = asyncio.create_task(some.guarded("acme", THERE, REFRESH, slow))
    await asyncio.sleep(0)
    await clock.advance(1)
    for _ in range(3):
        assert await is_sent(some)
    await clock.advance(37)
    hanging = asyncio.Event()

    async def probe():
        await hanging.wait()
        return BAD

    probing = asyncio.create_task(some.guarded("acme", THERE, REFRESH, probe))
    await asyncio.sleep(0)
    go_on.set()
    assert (await late).kind is Kind.SUCCESS
    assert some.states()["half_open"] == 1  # the probe alone tells
    hanging.set()
    await probing
    assert some.states()["open"] == 1


async def test_a_request_that_is_ended_from_outside_gives_its_place_back():
    clock = FakeClock()
    some = await opened(clock)
    await clock.advance(37)

    async def hangs():
        await asyncio.Event().wait()

    probing = asyncio.create_task(some.guarded("acme", THERE, REFRESH, hangs))
    await asyncio.sleep(0)
    probing.cancel()
    await asyncio.gather(probing, return_exceptions=True)
    assert await is_sent(some, GOOD)


async def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(breakers, "MOST_KNOWN", 50)
    some = made(FakeClock())
    for number in range(500):
        assert await is_sent(some, endpoint=f"{THERE}/{number}")
    assert len(some._known) == 50
