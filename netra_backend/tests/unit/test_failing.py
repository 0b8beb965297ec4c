"""What follows from an endpoint's failing, decided purely."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netra_backend.webhooks.failing import LONGEST_GAP_S, Failing, Step, judge
from netra_backend.webhooks.model import Rules
from netra_backend.webhooks.settings import WebhookSettings

HOUR, DAY = 3_600_000_000, 24 * 3_600_000_000
RULES = WebhookSettings().rules


def follows(spent_us, failures=100, warned=0, rules=RULES):
    return judge(Failing(spent_us, failures, warned), rules)


def test_warnings_come_at_an_hour_a_day_and_four_days_and_each_once():
    assert follows(HOUR - 1) == Step(0, warn=False, disable=False)
    assert follows(HOUR) == Step(1, warn=True, disable=False)
    assert follows(2 * HOUR, warned=1) == Step(1, warn=False, disable=False)
    assert follows(DAY, warned=1) == Step(2, warn=True, disable=False)
    assert follows(4 * DAY, warned=2) == Step(3, warn=True, disable=False)


def test_of_warnings_that_come_due_at_once_one_is_given():
    assert follows(4 * DAY) == Step(3, warn=True, disable=False)


def test_five_days_and_twenty_attempts_are_needed_to_disable():
    assert follows(5 * DAY, failures=20).disable
    assert not follows(5 * DAY - 1, failures=1000).disable
    assert not follows(50 * DAY, failures=19).disable


def test_an_endpoint_is_never_disabled_where_the_setting_is_0():
    assert not follows(50 * DAY, rules=Rules(RULES.warn_after_us, 0, 20)).disable


def test_no_step_of_the_clock_is_long_enough_to_disable_by_itself():
    assert not follows(int(LONGEST_GAP_S * 1e6)).disable
    assert not follows(int(LONGEST_GAP_S * 1e6) + 3 * DAY).disable


@given(st.integers(0, 2**50), st.integers(1, 10**6), st.integers(0, 3))
def test_warnings_that_were_given_are_never_taken_back(spent_us, failures, warned):
    step = follows(spent_us, failures, warned)
    assert step.warned >= warned
    assert step.warn == (step.warned > warned)
