"""Rate limits of endpoints: one sender's bucket, its share of the fleet's, and what is not known yet."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_backend.testing.clock import FakeClock
from netra_backend.webhooks.model import Snapshot
from netra_backend.webhooks.paces import UNLIMITED, Paces

from ..support.webhooks import described

LANE = ("acme", b"e" * 16)


class World:
    def __init__(self, limit=10, senders=1):
        self.clock = FakeClock()
        self.membership = SimpleNamespace(senders={bytes([n]): n for n in range(senders)})
        self.limit, self.known = limit, True
        self.paces = Paces(self.clock, self.membership, self.peek)

    def peek(self, tenant):
        return Snapshot(tenant, 1, {LANE[1]: described(rate_limit=self.limit)}, {}) if self.known else None

    def start_all(self):
        """Start what may start at this instant; how many."""
        started = 0
        while not self.paces.wait_s(LANE):
            self.paces.take(LANE)
            started += 1
        return started


async def started_in(world, seconds, step=0.01):
    """When attempts start, of an endpoint that always has some waiting."""
    at = []
    for number in range(int(seconds / step)):
        at += [number * step] * world.start_all()
        await world.clock.advance(step)
    return at


@pytest.mark.parametrize(("limit", "senders"), [(1, 1), (3, 1), (10, 1), (100, 1), (100, 4), (3, 4)])
async def test_in_no_second_more_start_than_the_share_of_limit_and_burst(limit, senders):
    world = World(limit, senders)
    at = await started_in(world, 10)
    burst = max(1, limit // (5 * senders))
    for first in at:
        assert sum(first <= each < first + 1 for each in at) <= limit / senders + burst
    assert len(at) >= int(9 * limit / senders), "and the limit is used"


def test_an_endpoint_without_a_limit_never_waits():
    world = World(None)
    assert world.paces.ready(LANE) == UNLIMITED
    assert world.paces.wait_s(LANE) == 0


def test_what_is_ready_is_the_burst_that_there_is_in_a_quarter_of_a_second():
    world = World(8)
    assert world.paces.ready(LANE) == 1
    assert world.start_all() == 1
    assert world.paces.ready(LANE) == 1
    slow = World(1)
    assert slow.start_all() == 1
    assert slow.paces.ready(LANE) == 0


def test_nothing_starts_while_the_limit_is_not_known_and_the_last_known_one_holds_between_two_readings():
    world = World(20)
    world.known = False
    assert not world.paces.knows(LANE)
    assert world.paces.ready(LANE) == 0
    assert world.paces.wait_s(LANE) > 0
    world.known = True
    assert world.start_all() == 4
    world.known = False
    assert world.paces.knows(LANE)
    assert 0 < world.paces.wait_s(LANE) <= 0.05


def test_an_endpoint_that_is_gone_is_let_through_to_be_cancelled():
    world = World(20)
    assert world.paces.wait_s(("acme", b"other endpoint...")) == 0


@given(st.integers(1, 1000), st.integers(1, 8))
def test_the_senders_together_have_the_limit_and_no_more(limit, senders):
    rates = World(limit, senders).paces._rate(limit)
    assert senders * rates.limit / rates.per_s == pytest.approx(limit)
    assert senders * (rates.burst or rates.limit) <= max(senders, limit / 5)
