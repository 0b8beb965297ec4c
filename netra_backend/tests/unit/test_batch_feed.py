"""What is read for a chunk: every item once and in order, however it is asked for, and no more than fits."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_backend.batch.feed import Feed
from netra_backend.batch.weight import weight, weight_of_each

KIB = 1024


def items_of(count, size=0):
    return ((n + 1, bytes(size) if size else n) for n in range(count))


async def later(count):
    for pair in items_of(count):
        yield pair


@given(
    count=st.integers(0, 400),
    asked=st.lists(st.tuples(st.integers(1, 90), st.one_of(st.none(), st.integers(1, 20_000)), st.booleans()), min_size=1),
    asynchronous=st.booleans(),
)
def test_every_item_comes_once_and_in_order_whatever_is_asked_for_and_read_ahead(count, asked, asynchronous):
    async def go():
        feed, found, place = Feed(later(count) if asynchronous else items_of(count)), [], 0
        while True:
            size, budget, ahead = asked[place % len(asked)]
            place += 1
            portion = await feed.take(size, budget)
            assert len(portion.pairs) <= size
            found += portion.pairs
            if portion.last:
                break
            if ahead:
                feed.read_ahead(size, budget)
        await feed.close()
        return found

    assert asyncio.run(go()) == list(items_of(count))


async def test_a_portion_ends_at_about_its_bytes_and_holds_one_item_at_least():
    feed = Feed(items_of(1000, 10 * KIB))
    first = await feed.take(500, 1000 * KIB)
    assert 90 <= len(first.pairs) <= 128 and first.item_bytes >= 10 * KIB
    second = await feed.take(500, 1)
    assert 1 <= len(second.pairs) <= 32 and not second.last


async def test_a_reader_that_fails_ahead_fails_whoever_takes():
    def read():
        yield 1, 1
        raise OSError("gone")

    feed = Feed(read())
    assert (await feed.take(1)).pairs == [(1, 1)]
    feed.read_ahead(1, None)
    with pytest.raises(OSError, match="gone"):
        await feed.take(1)
    await feed.close()


def test_the_weight_of_an_item_is_about_what_it_holds():
    text = "x" * 10_000
    assert 10_000 < weight(text) < 10_200
    assert 100 * 10_000 < weight([text + str(n) for n in range(100)]) < 110 * 10_000
    assert 20_000 < weight({"a": text, "b": (text + "b",)}) < 21_000
    assert weight([list(range(1000))] * 1000) > 1000 * 8000
    assert weight_of_each([]) == 0
    assert 9_000 < weight_of_each([bytes(10_000)] * 50) < 11_000


def test_what_refers_to_itself_is_weighed_all_the_same():
    circle = []
    circle.append(circle)
    assert weight(circle) > 0
