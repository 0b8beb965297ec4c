"""How large chunks and their parts are: arithmetic, whatever the numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_backend.batch.registry import Job
from netra_backend.batch.sizing import PPM, first_parts, learned_bytes, learned_ppm, next_size
from netra_backend.resilience.memory_pressure import Level


@given(
    size=st.integers(1, 10**5),
    items=st.integers(0, 10**5),
    held=st.floats(0, 100),
    most=st.integers(1, 10**5),
    level=st.sampled_from(list(Level)),
)
def test_a_size_is_never_below_one_nor_above_the_jobs_and_grows_by_an_eighth_of_that_at_most(size, items, held, most, level):
    before = min(size, most)
    found = next_size(before, items, held, 0.05, most, level)
    assert 1 <= found <= min(most, before + max(1, most // 8))
    if level >= Level.HOLD:
        assert found <= before
    if level >= Level.HALVE:
        assert found == max(1, before // 2)


def test_a_chunk_that_held_the_writer_twice_its_time_is_halved_and_a_quick_one_grows():
    assert next_size(1000, 1000, 0.1, 0.05, 1000) == 500
    assert next_size(100, 100, 0.001, 0.05, 1000) == 225
    assert next_size(100, 100, 0.1, 0.05, 1000) == 50
    assert next_size(800, 800, 0.04, 0.05, 1000) == 925
    assert next_size(950, 950, 0.04, 0.05, 1000) == 1000


def test_the_weight_of_an_item_is_believed_at_once_and_forgotten_slowly():
    assert learned_bytes(0, 0) == 0
    assert learned_bytes(100, 0) == 100
    assert learned_bytes(100, 5000) == 5000
    assert learned_bytes(5000, 100) == 3775


@given(items=st.integers(0, 5000), ppm=st.integers(0, PPM))
def test_parts_cover_the_chunk_once_and_in_order(items, ppm):
    assert [place for start, end in first_parts(items, ppm) for place in range(start, end)] == list(range(items))


@pytest.mark.parametrize(("ppm", "length"), [(0, 1000), (22_000, 31), (700_000, 1), (PPM, 1), (1, 1000)])
def test_a_part_is_about_as_long_as_fails_every_second_time(ppm, length):
    start, end = first_parts(1000, ppm)[0]
    assert (start, end) == (0, length)


def test_the_rate_is_learned_and_forgotten():
    learned = 0
    for _ in range(20):
        learned = learned_ppm(learned, 1000, 22)
    assert 20_000 < learned < 22_100
    for _ in range(60):
        learned = learned_ppm(learned, 1000, 0)
    assert learned == 0


@pytest.mark.parametrize(
    ("limit", "failed", "ended", "fails"),
    [(None, 10**6, 10**6, False), (5, 5, 10, False), (5, 6, 10, True), (0, 1, 10**6, True), (0.1, 9, 20, False), (0.1, 11, 100, True)],
)
def test_a_skip_limit_is_a_count_or_a_share(limit, failed, ended, fails):
    assert bool(Job("job", read=None, write=None, skip_limit=limit).too_many(failed, ended)) == fails
