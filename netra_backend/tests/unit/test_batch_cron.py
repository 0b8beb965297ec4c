"""When schedules fire: against a plain walk over minutes, across clock changes, and what is no expression at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_backend.batch.cron import parse
from netra_backend.batch.schedules import _last
from netra_backend.errors import InvalidInput

MINUTE_US = 60_000_000


def us(text):
    return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def told(at_us):
    return datetime.fromtimestamp(at_us / 1e6, UTC).isoformat(timespec="minutes").removesuffix("+00:00")


def fields(least, most):
    number = st.integers(least, most)
    span = st.tuples(number, number).map(sorted)
    one = st.one_of(number.map(str), span.map(lambda s: f"{s[0]}-{s[1]}"), st.integers(1, most).map(lambda n: f"*/{n}"))
    return st.one_of(st.just("*"), one, st.lists(one, min_size=1, max_size=3).map(",".join))


def values(text, least, most):
    """The plain reading of a field of numbers."""
    found = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, _, high = span.partition("-")
        first, last = (least, most) if span == "*" else (int(low), int(high or low))
        found.update(range(first, last + 1, int(step or 1)))
    return found


@given(
    minute=fields(0, 59),
    hour=fields(0, 23),
    day=fields(1, 28),
    weekday=fields(0, 6),
    start=st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31)),
)
def test_the_next_time_is_the_first_minute_that_fits(minute, hour, day, weekday, start):
    text = f"{minute} {hour} {day} * {weekday}"
    after = round(start.replace(tzinfo=UTC).timestamp()) * 1_000_000
    found = parse(text).next_us(after)
    days, weekdays = values(day, 1, 31), values(weekday, 0, 6)

    def fits(at):
        by_day, by_weekday = at.day in days, (at.isoweekday() % 7) in weekdays
        on_the_day = by_day and by_weekday if day.startswith("*") or weekday.startswith("*") else by_day or by_weekday
        return on_the_day and at.minute in values(minute, 0, 59) and at.hour in values(hour, 0, 23)

    at = datetime.fromtimestamp(found / 1e6, UTC)
    assert found > after and fits(at)
    earlier = datetime.fromtimestamp(after / 1e6, UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    steps = min(int((at - earlier).total_seconds() // 60), 5000)
    assert not any(fits(earlier + timedelta(minutes=n)) for n in range(steps))


@pytest.mark.parametrize(
    ("text", "zone", "after", "expected"),
    [
        ("@hourly", "UTC", "2026-01-01T00:00", "2026-01-01T01:00"),
        ("@daily", "UTC", "2026-01-01T00:00", "2026-01-02T00:00"),
        ("@weekly", "UTC", "2026-01-01T00:00", "2026-01-04T00:00"),
        ("@monthly", "UTC", "2026-01-31T00:00", "2026-02-01T00:00"),
        ("@yearly", "UTC", "2026-01-01T00:00", "2027-01-01T00:00"),
        ("0 3 * * mon-fri", "UTC", "2026-01-02T03:00", "2026-01-05T03:00"),
        ("0 3 * * 7", "UTC", "2026-01-01T00:00", "2026-01-04T03:00"),
        ("0 0 29 feb *", "UTC", "2026-01-01T00:00", "2028-02-29T00:00"),
        ("0 0 13 * fri", "UTC", "2026-01-01T00:00", "2026-01-02T00:00"),  # POSIX: one of the two days suffices
        ("30 2 * * *", "Europe/Zurich", "2026-01-01T00:00", "2026-01-01T01:30"),
        ("30 2 * * *", "Europe/Zurich", "2026-03-28T12:00", "2026-03-29T01:30"),  # 02:30 is left out: it is 03:30 then
        ("30 2 * * *", "Europe/Zurich", "2026-10-24T12:00", "2026-10-25T00:30"),  # 02:30 comes twice: the first
        ("30 2 * * *", "Europe/Zurich", "2026-10-25T00:30", "2026-10-26T01:30"),  # and not the second
        ("0,30 2,3 * * *", "Europe/Zurich", "2026-03-29T00:59", "2026-03-29T01:00"),  # in the order of time, not of the wall's clock
    ],
)
def test_names_and_clock_changes(text, zone, after, expected):
    assert told(parse(text, zone).next_us(us(after))) == expected


@pytest.mark.parametrize(
    "text", ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *", "*/0 * * * *", "x * * * *",
             "0 0 31 feb *", "@often", "1- * * * *", "* * * * mon-", "99999 * * * *"],
)  # fmt: skip
def test_what_is_no_expression_is_refused_with_words(text):
    with pytest.raises(InvalidInput) as refused:
        parse(text)
    assert refused.value.fix


def test_an_unknown_time_zone_is_refused():
    for zone in ("Mars/Olympus", "../etc/passwd", ""):
        with pytest.raises(InvalidInput, match="no time zone"):
            parse("@daily", zone)


@given(missed=st.integers(0, 5000), past_s=st.integers(0, 59))
def test_of_the_times_that_were_missed_the_last_is_made_up_for(missed, past_s):
    times, first = parse("*/5 * * * *"), us("2026-01-01T00:00")
    assert _last(times, first, first + missed * 5 * MINUTE_US + past_s * 1_000_000) == first + missed * 5 * MINUTE_US
