"""What an attempt means for its delivery."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_backend.kernel.backoff import WEBHOOKS, Schedule
from netra_backend.testing.clock import SeededChance
from netra_backend.webhooks import verdicts
from netra_backend.webhooks.model import Delivery, Message
from netra_backend.webhooks.states import DELIVERY

NOW_US = 1_700_000_000_000_000
DAY_US = 24 * 3600 * 1_000_000
PLAIN = Schedule((1.0, 10.0), jitter=0)


def delivery(number=0, deadline_us=NOW_US + 4 * DAY_US):
    message = Message("acme", b"m" * 16, "t", None, "{}", None, None, None, 0)
    return Delivery(message, b"e" * 16, b"n" * 16, number, deadline_us)


@pytest.mark.parametrize("status", [200, 201, 204, 226, 299])
def test_2xx_is_success(status):
    assert verdicts.is_success(status)


@pytest.mark.parametrize("status", [0, 100, 101, 199, 300, 301, 302, 304, 400, 404, 410, 429, 500, 503, 599])
def test_everything_else_is_a_failure_redirects_included(status):
    assert not verdicts.is_success(status)


def test_a_failure_burns_one_attempt_and_waits_for_the_schedules_next_delay():
    first = verdicts.failed(delivery(), NOW_US, "status 503", PLAIN, SeededChance())
    second = verdicts.failed(delivery(1), NOW_US, "status 503", PLAIN, SeededChance())
    assert (first.state, first.number, first.due_us) == ("due", 1, NOW_US + 1_000_000)
    assert (second.state, second.number, second.due_us) == ("due", 2, NOW_US + 10_000_000)


def test_the_last_failure_makes_a_dead_letter_that_says_how_many_failed_and_how():
    verdict = verdicts.failed(delivery(2), NOW_US, "status 503", PLAIN, SeededChance())
    assert (verdict.state, verdict.number) == ("dead", 3)
    assert "3 attempts" in verdict.reason and "status 503" in verdict.reason


def test_an_attempt_after_the_deadline_is_not_waited_for():
    verdict = verdicts.failed(delivery(1, deadline_us=NOW_US + 9_000_000), NOW_US, "timeout", PLAIN, SeededChance())
    assert (verdict.state, verdict.number) == ("dead", 2)
    assert "deadline" in verdict.reason


@pytest.mark.parametrize(("floor_s", "waits_s"), [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (1.0000001, 1.000001), (7200.0, 7200.0)])
def test_a_retry_after_is_a_floor_under_the_schedules_delay_and_no_ceiling(floor_s, waits_s):
    verdict = verdicts.failed(delivery(), NOW_US, "status 503", PLAIN, SeededChance(), floor_s)
    assert (verdict.state, verdict.number, verdict.due_us) == ("due", 1, NOW_US + round(waits_s * 1e6))


@given(st.integers(0, 10), st.floats(0, 24 * 3600), st.integers(0, 2**32))
def test_no_jitter_undercuts_a_retry_after(number, floor_s, seed):
    verdict = verdicts.failed(delivery(number), NOW_US, "status 429", WEBHOOKS, SeededChance(seed), floor_s)
    assert verdict.due_us - NOW_US >= floor_s * 1e6


def test_a_retry_after_beyond_the_deadline_ends_the_delivery():
    verdict = verdicts.failed(delivery(deadline_us=NOW_US + 3_600_000_000), NOW_US, "status 503", PLAIN, SeededChance(), 3601.0)
    assert (verdict.state, verdict.number) == ("dead", 1)
    assert "deadline" in verdict.reason


def test_a_message_that_its_receiver_wants_no_more_is_a_dead_letter_and_one_whose_endpoint_is_disabled_is_skipped():
    aborted, unwanted = (
        verdicts.aborted(delivery(2), NOW_US, "status 500"),
        verdicts.unwanted(delivery(2), NOW_US, "the receiver answered 410"),
    )
    assert (aborted.state, aborted.number) == ("dead", 3) and "status 500" in aborted.reason
    assert (unwanted.state, unwanted.number) == ("skipped", 3) and "410" in unwanted.reason


def test_a_refusal_of_our_own_burns_none_and_says_why():
    verdict = verdicts.refused(delivery(3), NOW_US, "the address is private. Allow it.")
    assert (verdict.state, verdict.number) == ("due", 3)
    assert verdict.due_us == NOW_US + 60_000_000
    assert verdict.reason == "the address is private. Allow it."


def test_a_refusal_that_lasts_ends_at_the_deadline_and_has_burned_none():
    verdict = verdicts.refused(delivery(3, deadline_us=NOW_US + 1), NOW_US, "private")
    assert (verdict.state, verdict.number) == ("dead", 3)


def test_success_and_withdrawal_are_final():
    assert verdicts.delivered(delivery(2), NOW_US).state == "delivered"
    assert verdicts.delivered(delivery(2), NOW_US).number == 3
    assert verdicts.withdrawn(delivery(2), NOW_US, deleted=True).state == "cancelled"
    assert verdicts.withdrawn(delivery(2), NOW_US, deleted=False).state == "skipped"
    assert verdicts.expired(delivery(2), NOW_US).state == "dead"
    for verdict in (verdicts.withdrawn(delivery(2), NOW_US, deleted=True), verdicts.withdrawn(delivery(2), NOW_US, deleted=False)):
        assert verdict.number == 2 and verdict.reason


@given(st.integers(0, 40), st.integers(0, 400 * 3600), st.floats(0, 24 * 3600), st.integers(0, 2**32))
def test_whatever_happens_the_next_state_may_follow_a_lease_and_the_next_attempt_comes_before_the_deadline(number, left_s, floor_s, seed):
    one = delivery(number, NOW_US + left_s * 1_000_000)
    chance = SeededChance(seed)
    for verdict in (
        verdicts.failed(one, NOW_US, "status 500", WEBHOOKS, chance),
        verdicts.refused(one, NOW_US, "refused"),
        verdicts.delivered(one, NOW_US),
        verdicts.expired(one, NOW_US),
        verdicts.aborted(one, NOW_US, "status 500"),
        verdicts.unwanted(one, NOW_US, "the receiver answered 410"),
        verdicts.failed(one, NOW_US, "status 503", WEBHOOKS, chance, floor_s),
    ):
        DELIVERY.check("leased", verdict.state)
        assert number <= verdict.number <= number + 1
        if verdict.state == "due":
            assert NOW_US < verdict.due_us <= one.deadline_us
        else:
            assert verdict.state == "delivered" or verdict.reason
