"""The garbage collector of our own processes."""

from __future__ import annotations

import gc
import weakref

import pytest

from netra_backend.kernel import collector


@pytest.fixture(autouse=True)
def as_before():
    former = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*former)


class Node:
    """Something that refers to itself."""

    def __init__(self):
        self.me = self


def test_what_was_there_is_left_alone_and_cycles_are_still_found():
    collector.relax()
    assert gc.get_freeze_count() > 1000
    seen = weakref.ref(Node())
    kept = [[] for _ in range(2 * collector.YOUNG)]
    assert seen() is None
    assert len(kept) == 2 * collector.YOUNG
