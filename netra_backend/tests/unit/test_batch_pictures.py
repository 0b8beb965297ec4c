"""What a dead letter keeps of its item: all of what is small and can be said, a glimpse of everything else."""

from __future__ import annotations

import tracemalloc
from dataclasses import dataclass

import orjson
import pytest

from netra_backend.batch.model import Malformed
from netra_backend.batch.picture import LARGEST, picture_of


class Rude:
    def __repr__(self):
        raise RuntimeError("no")


@dataclass
class Fat:
    body: bytes


@pytest.mark.parametrize(
    "item", [{"a": [1, 2.5, None, "é"]}, "x" * (LARGEST - 2), 0, True, list(range(5000))], ids=lambda item: str(item)[:20]
)
def test_what_json_can_say_in_a_little_is_kept_whole(item):
    payload, exact = picture_of(item)
    assert exact and orjson.loads(payload) == item


@pytest.mark.parametrize(
    "item",
    [
        "x" * LARGEST,
        "x" * 20_000_000,
        b"x" * 20_000_000,
        {"body": "x" * 20_000_000},
        [["x" * 100_000] * 20] * 20,
        Fat(b"x" * 20_000_000),
        Malformed("x" * 20_000_000, "y" * 20_000_000),
        (1, 2),
        float("nan"),
        "\ud800" * 10,
        Rude(),
        [Rude()],
    ],
    ids=lambda item: type(item).__name__,
)
def test_of_everything_else_there_is_a_glimpse_that_costs_next_to_nothing(item):
    tracemalloc.start()
    payload, exact = picture_of(item)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert not exact
    assert 0 < len(payload) <= 7 * LARGEST and most < 100 * LARGEST
    orjson.loads(payload)
