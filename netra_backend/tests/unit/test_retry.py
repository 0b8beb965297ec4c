"""Retries inside one process."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_backend.kernel.backoff import Exponential, Schedule
from netra_backend.resilience.retry import RETRY_AFTER_CAP_S, Again, next_delay_s, retry, retry_after_s
from netra_backend.testing.clock import FakeClock, SeededChance, settle

NOW_US = 1_700_000_000_000_000


class Flaky:
    """Fails with the given errors, then answers; notes when it was called."""

    def __init__(self, clock, *errors):
        self.clock, self.errors, self.calls = clock, list(errors), []

    async def __call__(self, number):
        self.calls.append((number, self.clock.monotonic() - 1000))
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def transient(error):
    return Again(getattr(error, "floor_s", 0.0)) if isinstance(error, ConnectionError) else None


def started(clock, attempt, **options):
    options = {"backoff": Schedule((1.0, 2.0, 4.0), jitter=0), "classify": transient} | options
    return asyncio.create_task(retry(attempt, clock=clock, chance=SeededChance(), **options))


async def test_a_transient_failure_is_tried_again_after_the_delay_of_the_schedule():
    clock = FakeClock()
    flaky = Flaky(clock, ConnectionError(), ConnectionError())
    task = started(clock, flaky)
    await clock.advance(10)
    assert await task == "answer"
    assert flaky.calls == [(1, 0), (2, 1), (3, 3)]


async def test_what_the_classifier_does_not_know_is_raised_at_once_and_without_a_note():
    clock = FakeClock()
    flaky = Flaky(clock, KeyError("a bug"))
    with pytest.raises(KeyError) as error:
        await started(clock, flaky)
    assert len(flaky.calls) == 1 and not getattr(error.value, "__notes__", [])


async def test_the_last_error_itself_is_raised_when_the_schedule_is_exhausted():
    clock = FakeClock()
    errors = [ConnectionError(str(n)) for n in range(9)]
    task = started(clock, Flaky(clock, *errors))
    await clock.advance(100)
    with pytest.raises(ConnectionError) as error:
        await task
    assert error.value is errors[3]
    assert error.value.__notes__ == ["Gave up after 4 attempts: the schedule is exhausted."]


async def test_the_number_of_attempts_is_bounded():
    clock = FakeClock()
    flaky = Flaky(clock, *[ConnectionError() for _ in range(9)])
    task = started(clock, flaky, attempts=2)
    await clock.advance(100)
    with pytest.raises(ConnectionError):
        await task
    assert len(flaky.calls) == 2


async def test_nothing_sleeps_past_the_deadline_only_to_fail_there():
    clock = FakeClock()
    flaky = Flaky(clock, *[ConnectionError() for _ in range(9)])
    task = started(clock, flaky, deadline=clock.monotonic() + 2.5)
    await clock.advance(1)
    with pytest.raises(ConnectionError) as error:
        await task
    assert len(flaky.calls) == 2 and clock.monotonic() == 1001
    assert "deadline" in error.value.__notes__[0]


async def test_a_retry_after_is_a_floor_that_is_never_undercut():
    clock = FakeClock()
    busy = ConnectionError()
    busy.floor_s = 7.0
    flaky = Flaky(clock, busy)
    task = started(clock, flaky)
    await clock.advance(6.999)
    assert len(flaky.calls) == 1
    await clock.advance(0.001)
    assert await task == "answer"


async def test_cancelling_during_the_wait_ends_it_at_once():
    clock = FakeClock()
    flaky = Flaky(clock, ConnectionError())
    task = started(clock, flaky)
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await clock.advance(10)
    assert len(flaky.calls) == 1


@given(st.integers(1, 5), st.floats(0, 1e5), st.integers(0, 2**32))
def test_no_draw_of_jitter_undercuts_the_floor(attempt, floor_s, seed):
    for backoff in (Schedule((1.0,) * 5, jitter=0.9), Exponential()):
        assert next_delay_s(backoff, attempt, SeededChance(seed), floor_s) >= floor_s


def test_a_retry_after_is_read_in_both_forms():
    in_two_minutes = datetime.fromtimestamp(NOW_US / 1e6 + 120, UTC)
    assert retry_after_s("120", NOW_US) == 120
    assert retry_after_s(" 0 ", NOW_US) == 0
    assert retry_after_s(format_datetime(in_two_minutes, usegmt=True), NOW_US) == pytest.approx(120)
    assert retry_after_s(in_two_minutes.strftime("%A, %d-%b-%y %H:%M:%S GMT"), NOW_US) == pytest.approx(120)
    assert retry_after_s("Wed, 01 Jan 2020 00:00:00 GMT", NOW_US) == 0
    assert retry_after_s("9" * 400, NOW_US) == RETRY_AFTER_CAP_S
    assert retry_after_s("Fri, 31 Dec 9999 23:59:59 GMT", NOW_US) == RETRY_AFTER_CAP_S


@pytest.mark.parametrize("header", [None, "", "soon", "-5", "1.5", "٣", "Wed, 99 Jan 2020 00:00:00 GMT", "1e3"])
def test_an_unreadable_retry_after_says_nothing(header):
    assert retry_after_s(header, NOW_US) is None


@given(
    st.text(max_size=60)
    | st.from_regex(r"(Mon, )?[0-9]{1,3} (Jan|Feb) [0-9]{1,6} [0-9]{1,3}:[0-9]{1,3}:[0-9]{1,3} [+-]?[0-9A-Z]{1,9}", fullmatch=True)
)
def test_no_header_of_a_hostile_server_raises_or_parks_for_more_than_a_day(header):
    seconds = retry_after_s(header, NOW_US)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_CAP_S
