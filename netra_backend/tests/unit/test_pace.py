"""A few turns at once, and in the long run no more than the gap allows."""

from __future__ import annotations

import pytest

from netra_backend.kernel.pace import Pace

NEAR = 1e-9


def test_the_first_turns_follow_each_other_and_the_next_one_waits_for_the_gap():
    pace = Pace(0.5, 3)
    waits = []
    for _ in range(5):
        waits.append(pace.wait_s(10.0))
        pace.took(10.0)
    assert waits == pytest.approx([0.0, 0.0, 0.0, 0.5, 1.0])


def test_whoever_waits_as_long_as_he_is_told_takes_one_turn_a_gap():
    pace, now, turns = Pace(0.5, 3), 0.0, 0
    while now < 100.0 - NEAR:
        now += pace.wait_s(now)
        pace.took(now)
        turns += 1
    assert turns == 3 + 100 / 0.5


def test_after_a_quiet_time_as_many_turns_as_in_the_beginning_may_follow_each_other_and_no_more():
    pace = Pace(0.5, 3)
    for now in (0.0, 0.0, 0.0, 600.0, 600.0, 600.0):
        assert pace.wait_s(now) == 0.0
        pace.took(now)
    assert pace.wait_s(600.0) == pytest.approx(0.5)
