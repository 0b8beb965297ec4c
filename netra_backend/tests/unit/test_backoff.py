"""How long to wait after the n-th failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_backend.errors import InvalidInput
from netra_backend.kernel.backoff import PRESETS, STANDARD, SVIX, WEBHOOKS, Exponential, Schedule
from netra_backend.testing.clock import SeededChance

DAY_S = 86_400


def test_the_default_schedule_makes_twelve_attempts_in_about_three_days():
    assert str(WEBHOOKS) == "5s,30s,2m,10m,30m,1h,3h,6h,12h,1d,1d"
    assert WEBHOOKS.attempts == 12
    assert 2.9 * DAY_S < sum(WEBHOOKS.delays_s) < 3.1 * DAY_S


def test_the_presets_are_those_that_their_sources_document():
    assert str(SVIX) == "5s,5m,30m,2h,5h,10h,10h"
    assert str(STANDARD) == "5s,5m,30m,2h,5h,10h,14h,20h,1d"
    assert PRESETS["default"] is WEBHOOKS


@given(st.integers(0, 2**32), st.floats(0, 0.99), st.integers(1, 11))
def test_jitter_stays_within_its_fraction_on_both_sides(seed, jitter, attempt):
    base_s = WEBHOOKS.delays_s[attempt - 1]
    delay_s = Schedule(WEBHOOKS.delays_s, jitter).delay_s(attempt, SeededChance(seed))
    assert base_s * (1 - jitter) * 0.999 <= delay_s <= base_s * (1 + jitter) * 1.001


def test_jitter_falls_on_both_sides_of_the_delay():
    chance = SeededChance()
    delays = [WEBHOOKS.delay_s(1, chance) for _ in range(200)]
    assert min(delays) < 4.5 < 5.5 < max(delays)


def test_after_the_last_delay_there_is_none():
    schedule = Schedule.parse("5s,30s,2m", jitter=0)
    assert [schedule.delay_s(n, SeededChance()) for n in (1, 2, 3, 4, 99)] == [5, 30, 120, None, None]


@given(st.lists(st.integers(0, 10**9).map(lambda us: us / 1e6), min_size=1, max_size=100))
def test_a_schedule_prints_as_it_is_read(delays_s):
    schedule = Schedule(tuple(delays_s))
    assert Schedule.parse(str(schedule)).delays_s == pytest.approx(schedule.delays_s, abs=1e-6)


def test_a_preset_is_read_by_its_name():
    assert Schedule.parse("svix", jitter=0.5) == Schedule(SVIX.delays_s, 0.5)


@pytest.mark.parametrize("text", ["", "5s,,30s", "5s;30s", "often", ",".join(["1s"] * 101)])
def test_what_is_not_a_schedule_is_refused(text):
    with pytest.raises(InvalidInput):
        Schedule.parse(text)


@pytest.mark.parametrize("jitter", [-0.1, 1, float("nan")])
def test_jitter_outside_its_range_is_refused(jitter):
    with pytest.raises(InvalidInput, match="jitter"):
        Schedule((1.0,), jitter)


@pytest.mark.parametrize("backoff", [WEBHOOKS, Exponential()])
def test_there_is_no_attempt_zero(backoff):
    with pytest.raises(InvalidInput):
        backoff.delay_s(0, SeededChance())


@given(st.floats(0.001, 10), st.floats(1, 10), st.floats(1, 1000), st.integers(1, 10**9), st.integers(0, 2**32))
def test_full_jitter_draws_from_zero_to_the_ceiling_for_any_attempt(base_s, factor, multiple, attempt, seed):
    curve = Exponential(base_s, factor, base_s * multiple)
    assert 0 <= curve.delay_s(attempt, SeededChance(seed)) <= curve.ceiling_s(attempt) <= curve.cap_s


def test_the_ceiling_grows_by_the_factor_up_to_the_cap():
    curve = Exponential(0.5, 2, 3)
    assert [curve.ceiling_s(n) for n in range(1, 6)] == pytest.approx([0.5, 1, 2, 3, 3])


@pytest.mark.parametrize("arguments", [(0, 2, 1), (1, 0.5, 2), (2, 2, 1), (float("nan"), 2, 1), (1, 2, float("inf"))])
def test_a_curve_that_does_not_grow_is_refused(arguments):
    with pytest.raises(InvalidInput):
        Exponential(*arguments)
