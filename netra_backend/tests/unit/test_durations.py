"""Durations and sizes as people write them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_backend.errors import InvalidInput
from netra_backend.kernel.durations import LONGEST_S, format_duration, parse_duration
from netra_backend.kernel.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5),
        ("10m", 600),
        ("1h", 3600),
        ("3d", 259_200),
        ("1.5s", 1.5),
        ("7", 7),
        (0.1, 0.1),
        (" 2 m ", 120),
        ("9us", 9e-6),
    ],
)
def test_a_duration_is_read_in_seconds(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds, abs=1e-12)


@pytest.mark.parametrize(
    "value", ["", "5x", "1h30m", "-5s", "s", "5 5s", "1e3", "∞", "٣s", "9999d", -1, math.nan, math.inf, True, None, [], "5s\n5s"]
)
def test_what_is_not_a_duration_is_refused_with_an_example(value):
    with pytest.raises(InvalidInput) as refused:
        parse_duration(value)
    assert "250ms" in refused.value.fix


@given(st.integers(0, int(LONGEST_S) * 1_000_000))
def test_a_formatted_duration_reads_back_to_the_microsecond(microseconds):
    assert round(parse_duration(format_duration(microseconds / 1_000_000)) * 1_000_000) == microseconds


def test_a_duration_is_formatted_in_its_largest_exact_unit():
    assert [format_duration(s) for s in (0, 0.25, 5, 90, 600, 3600, 86_400, 1.5)] == [
        "0s",
        "250ms",
        "5s",
        "90s",
        "10m",
        "1h",
        "1d",
        "1500ms",
    ]


@pytest.mark.parametrize(("text", "size"), [("1048576", 1 << 20), ("64MiB", 64 << 20), ("2 gib", 2 << 30), ("500MB", 500_000_000), (7, 7)])
def test_a_size_is_read_in_bytes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["", "1.5MiB", "5 pounds", "-1", -1, True, None, 1.5, "1e9", "1XiB"])
def test_what_is_not_a_size_is_refused(value):
    with pytest.raises(InvalidInput):
        parse_size(value)


@given(st.integers(0, 1 << 50))
def test_a_formatted_size_reads_back(size):
    assert parse_size(format_size(size)) == size
