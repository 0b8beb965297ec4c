"""What the cache's tier does when memory runs short, and that it is a cache again when that is over."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from netra_backend.cache.caretaker import Caretaker
from netra_backend.cache.node import Node, Value
from netra_backend.cache.pressure import GROW_EVERY_S, GROW_SHARE, SAMPLE_S, Pressed
from netra_backend.cache.settings import CacheSettings
from netra_backend.cache.stats import Stats
from netra_backend.kernel.runtime import Runtime
from netra_backend.testing.clock import FakeClock

from ..support.storage import eventually

LIMIT = 1 << 20


class Used:
    """A probe that says what it is told."""

    def __init__(self):
        self.fraction = 0.0

    def read(self):
        return self


@pytest.fixture
def node():
    node = Node(1.0, LIMIT)
    node.flush(0)
    return node


def fill(node, name):
    return node.fill(f"acme|{name}", Value("x" * 1000, frozenset(), 1e9, 1e9), node.begin(0))


def test_a_limit_that_was_lowered_comes_back_in_steps_and_no_further_than_it_was(node):
    used, clock = Used(), FakeClock()
    pressed = Pressed(node, used, Runtime(clock=clock))

    def at(fraction, after_s=SAMPLE_S):
        clock._move_to(clock._now_us + int(after_s * 1e6))
        used.fraction = fraction
        pressed.sample()
        return node.tier.limit_bytes

    fill(node, "a")
    assert [at(0.96), at(0.96), at(0.93), at(0.5)] == [LIMIT // 2] * 4
    assert at(0.85, GROW_EVERY_S) == LIMIT // 2
    step = int(LIMIT * GROW_SHARE)
    assert [at(0.5), at(0.5), at(0.5, GROW_EVERY_S)] == [LIMIT // 2 + step, LIMIT // 2 + step, LIMIT // 2 + 2 * step]
    assert [at(0.5, GROW_EVERY_S) for _ in range(20)][-1] == LIMIT


async def test_a_tier_that_memory_has_emptied_keeps_values_again_once_there_is_room(node):
    clock, used = FakeClock(), Used()
    caretaker = Caretaker(MagicMock(), Runtime(clock=clock), CacheSettings(), node, Stats())
    caretaker.pressed._probe = used
    caretaker.start()
    try:
        assert fill(node, "a")
        used.fraction = 0.96
        await clock.advance(SAMPLE_S)
        await eventually(lambda: not node.tier.entries)
        assert not fill(node, "b")
        used.fraction = 0.5
        await eventually(lambda: clock.sleeping == 2)
        await clock.advance(SAMPLE_S)
        await eventually(lambda: fill(node, "c"))
    finally:
        await caretaker.stop()
