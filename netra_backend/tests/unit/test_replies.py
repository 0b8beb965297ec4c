"""What an answer says beyond its status: when to come again, what is wanted no more, and how well the receiver is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_backend.resilience.circuit_breaker import Outcome
from netra_backend.resilience.egress import EgressError, Reply
from netra_backend.webhooks.replies import RETRY_AFTER_CAP_S, read, read_error, retry_after_s

NOW_US = 784_111_777_000_000
"""Sun, 06 Nov 1994 08:49:37 GMT, the instant of RFC 9110's examples."""
DAY_S = 24 * 3600


def reply(status, *headers):
    return Reply(status, tuple(headers), b"", truncated=False, peer="", duration_s=0.0)


def floor(*values, date=None):
    dates = [("Date", date)] if date is not None else []
    return retry_after_s([*(("Retry-After", value) for value in values), *dates], NOW_US)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("1", 1),
        ("120", 120),
        (" 120 ", 120),
        ("1.5", 1.5),
        ("86400", DAY_S),
        ("86401", DAY_S),
        ("9" * 15, DAY_S),
        ("9" * 5000, DAY_S),
        ("Sun, 06 Nov 1994 08:50:37 GMT", 60),
        ("Sunday, 06-Nov-94 08:50:37 GMT", 60),
        ("Sun Nov  6 08:50:37 1994", 60),
        ("Mon, 07 Nov 1994 20:00:00 GMT", DAY_S),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY_S),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sun, 06 Nov 1994 08:49:36 GMT", 0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0),
    ],
)
def test_retry_after_is_read_as_seconds_and_as_each_form_of_date_up_to_a_day(value, seconds):
    assert floor(value) == seconds


@pytest.mark.parametrize(
    "value", ["", "-1", "-86400", "+5", "soon", "1e9", "0x10", "1,2", "NaN", "inf", "\u0661\u0662", "Sun, 99 Foo", "5 minutes"]
)
def test_what_is_neither_form_says_nothing(value):
    assert floor(value) == 0


def test_of_several_the_longest_holds_whatever_stands_beside_it():
    assert floor("5", "garbage", "60", "-1") == 60


def test_a_date_is_taken_by_the_receivers_clock_too_so_that_a_slow_one_is_not_undercut():
    late = "Sun, 06 Nov 1994 08:40:00 GMT"  # its clock is almost ten minutes behind ours
    assert floor("Sun, 06 Nov 1994 08:41:00 GMT", date=late) == 60
    assert floor("Sun, 06 Nov 1994 08:50:37 GMT", date="Sun, 06 Nov 1994 08:59:00 GMT") == 60
    assert floor("Sun, 06 Nov 1994 08:50:37 GMT", date="garbage") == 60


@given(st.text(max_size=80), st.text(max_size=80))
def test_nothing_that_a_receiver_writes_is_an_error_or_more_than_a_day(value, date):
    assert 0 <= floor(value, date=date) <= RETRY_AFTER_CAP_S


@given(st.integers(0, DAY_S))
def test_whatever_number_of_seconds_is_asked_for_is_the_floor(seconds):
    assert floor(str(seconds)) == seconds


@pytest.mark.parametrize("status", [301, 400, 404, 429, 500, 503])
def test_retry_after_is_a_floor_with_any_failure_and_gates_the_endpoint_with_429_and_503_only(status):
    said = read(reply(status, ("retry-after", "7")), NOW_US)
    assert (said.floor_s, said.gates) == (7, status in {429, 503})
    assert not read(reply(status), NOW_US).gates


def test_a_success_waits_for_nothing():
    assert read(reply(202, ("retry-after", "7")), NOW_US).floor_s == 0


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, Outcome.SUCCESS),
        (299, Outcome.SUCCESS),
        (302, Outcome.ANSWERED),
        (400, Outcome.ANSWERED),
        (404, Outcome.ANSWERED),
        (410, Outcome.ANSWERED),
        (429, Outcome.FAILURE),
        (500, Outcome.FAILURE),
        (503, Outcome.FAILURE),
        (599, Outcome.FAILURE),
    ],
)
def test_health_counts_5xx_and_429_as_failures_and_every_other_answer_as_a_sign_of_life(status, outcome):
    assert read(reply(status), NOW_US).health is outcome


@pytest.mark.parametrize("kind", ["dns", "dns_timeout", "connect", "tls", "timeout", "reset", "protocol"])
def test_no_usable_answer_is_a_failure(kind):
    assert read_error(EgressError(kind)).health is Outcome.FAILURE


@pytest.mark.parametrize("kind", ["egress_denied", "bad_url", "bad_header"])
def test_what_our_own_configuration_refuses_says_nothing_of_the_receiver(kind):
    assert read_error(EgressError(kind)).health is Outcome.NOT_SENT


@pytest.mark.parametrize("status", [200, 404, 503])
def test_a_receiver_may_disable_its_endpoint_with_any_status_and_does_so_with_410(status):
    said = read(reply(status, ("Webhook-Delivery", " Disable ")), NOW_US)
    assert "webhook-delivery" in said.disable
    assert not read(reply(status, ("webhook-delivery", "maybe")), NOW_US).disable
    assert "410" in read(reply(410), NOW_US).disable


def test_a_receiver_may_end_a_message_that_failed_and_not_one_that_it_took():
    wish = ("webhook-delivery", "abort-message")
    assert read(reply(500, wish), NOW_US).abort
    assert not read(reply(200, wish), NOW_US).abort
    assert not read(reply(500), NOW_US).abort
