"""How often something may happen."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_backend.errors import InvalidInput
from netra_backend.resilience.rate_limit import Rate, RateLimiter, decide
from netra_backend.testing.clock import FakeClock

NS = 1_000_000_000


def assert_within(rate, allowed):
    """Exact: no tolerance hides a rounding."""
    most, per_ns = rate.burst or rate.limit, Fraction(rate.limit) / (Fraction(rate.per_s) * NS)
    for first in range(len(allowed)):
        for last in range(first, len(allowed)):
            assert last - first + 1 <= most + (allowed[last] - allowed[first]) * per_ns


@given(
    st.integers(1, 50),
    st.floats(0.01, 100),
    st.integers(0, 60),
    st.lists(st.integers(0, 3 * NS), min_size=1, max_size=300),
)
def test_no_span_of_time_ever_sees_more_than_the_burst_and_its_share_of_the_rate(limit, per_s, burst, gaps):
    rate, tat, now, allowed = Rate(limit, per_s, burst), 0, 7 * NS, []
    for gap in gaps:
        now += gap
        decision = decide(rate, tat, now)
        tat = decision.tat_ns
        if decision.allowed:
            allowed.append(now)
    assert_within(rate, allowed)


@given(st.integers(1, 50), st.floats(0.01, 100), st.integers(0, 60), st.lists(st.integers(0, 3 * NS), max_size=100))
def test_who_waits_as_long_as_told_is_let_pass_and_a_moment_earlier_is_not(limit, per_s, burst, gaps):
    rate, tat, now = Rate(limit, per_s, burst), 0, 7 * NS
    for gap in gaps:
        now += gap
        decision = decide(rate, tat, now)
        if not decision.allowed:
            assert decision.tat_ns == tat and decision.retry_after_s > 0
            wait_ns = tat - now - rate.tolerance_ns
            assert decide(rate, tat, now + wait_ns).allowed
            assert not decide(rate, tat, now + wait_ns - 1).allowed
            assert math.isclose(decision.retry_after_s, wait_ns / NS)
        tat = decision.tat_ns


@pytest.mark.parametrize("limit", [3, 7, 11])
def test_one_who_asks_at_the_first_possible_moment_every_time_gains_nothing_by_rounding(limit):
    rate, tat, now, allowed = Rate(limit, burst=1), 0, 7 * NS, []
    for _ in range(100):
        decision = decide(rate, tat, now)
        assert decision.allowed
        allowed.append(now)
        tat = decision.tat_ns
        now += max(0, tat - now - rate.tolerance_ns)
    assert_within(rate, allowed)


async def test_a_burst_passes_at_once_and_then_the_rate_holds():
    clock = FakeClock()
    limiter = RateLimiter(clock, Rate(10, 1.0, burst=3))
    assert [limiter.try_take("a").allowed for _ in range(5)] == [True, True, True, False, False]
    assert limiter.try_take("a").retry_after_s == pytest.approx(0.1)
    await clock.advance(0.1)
    assert [limiter.try_take("a").allowed for _ in range(2)] == [True, False]


def test_keys_do_not_share_their_limit():
    limiter = RateLimiter(FakeClock(), Rate(1))
    assert limiter.try_take("a").allowed and limiter.try_take("b").allowed
    assert not limiter.try_take("a").allowed


async def test_a_key_whose_bucket_is_full_again_needs_no_memory():
    clock = FakeClock()
    limiter = RateLimiter(clock, Rate(10))
    for key in range(1000):
        limiter.try_take(key)
    await clock.advance(2)
    for key in range(500):
        limiter.try_take(-key)
    assert len(limiter) <= 501


async def test_a_flood_of_keys_uses_bounded_memory_and_frees_nobody_who_is_limited():
    clock = FakeClock()
    limiter = RateLimiter(clock, Rate(1, 60), max_keys=100)
    assert limiter.try_take("victim of itself").allowed
    passed = sum(limiter.try_take(f"flood {n}").allowed for n in range(10_000))
    assert len(limiter) == 100
    assert passed == 99 + 1  # the last one for all that share
    assert not limiter.try_take("victim of itself").allowed
    await clock.advance(60)
    assert limiter.try_take("victim of itself").allowed


@pytest.mark.parametrize("arguments", [(0,), (1, 0), (1, -1), (1, math.inf), (1, 1, -1), (1, math.nan)])
def test_a_rate_that_allows_nothing_is_refused(arguments):
    with pytest.raises(InvalidInput):
        Rate(*arguments)


def limiter(limit=10):
    clock = FakeClock()
    return clock, RateLimiter[str](clock, Rate(limit))


def test_of_many_as_many_pass_as_there_is_room_for():
    _, rates = limiter()
    assert rates.take_up_to("a", 7) == (7, 0.0)
    taken, wait_s = rates.take_up_to("a", 7)
    assert (taken, round(wait_s, 6)) == (3, 0.1)


async def test_all_pass_or_none_and_the_wait_is_long_enough():
    clock, rates = limiter()
    assert rates.take_all("a", 8).allowed
    refused = rates.take_all("a", 5)
    assert not refused.allowed
    assert rates.take_all("b", 10).allowed
    await clock.advance(refused.retry_after_s)
    assert rates.take_all("a", 5).allowed
    assert not rates.take_all("a", 1).allowed


async def test_more_than_the_burst_never_pass_at_once():
    clock, rates = limiter()
    await clock.advance(100)
    assert not rates.take_all("a", 11).allowed
