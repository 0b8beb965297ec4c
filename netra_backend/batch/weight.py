"""About how many bytes items hold: what a chunk is sized by beside its time.

An estimate, by looking into a few of them: containers and their members to a small depth, plus whatever says how large it is
(`nbytes`, as arrays do). Too small an estimate is caught by the ladder, which looks at the process itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final

SAMPLE: Final = 8
DEPTH: Final = 4
MEMBERS: Final = 100
"""Members of one container that are looked at; the others count as their average."""

_FLAT: Final = frozenset({str, bytes, bytearray, int, float, complex, bool, type(None)})
"""What holds nothing besides itself. Rows are mostly made of these, and a container of nothing else is weighed without a call for each."""


def weight(item: Any, depth: int = DEPTH) -> int:
    """About how many bytes one item holds."""
    if type(item) in _FLAT:
        return sys.getsizeof(item)
    nbytes = getattr(item, "nbytes", 0)
    own = sys.getsizeof(item, 64) + (nbytes if isinstance(nbytes, int) else 0)
    if depth <= 0:
        return own
    if isinstance(item, dict | Mapping):
        return own + _members(item, len(item), depth - 1) + _members(item.values(), len(item), depth - 1)
    if isinstance(item, list | tuple | set | frozenset):
        return own + _members(item, len(item), depth)
    if hasattr(item, "__dict__"):
        return own + weight(vars(item), depth - 1)
    return own


def _members(members: Iterable[Any], count: int, depth: int) -> int:
    looked = list(islice(members, MEMBERS))
    are_flat = _FLAT.issuperset(map(type, looked))
    total = sum(map(sys.getsizeof, looked) if are_flat else (weight(member, depth - 1) for member in looked))
    return total * count // len(looked) if looked else 0


def weight_of_each(items: Sequence[Any]) -> int:
    """About how many bytes each of them holds: the mean of a few, evenly spread."""
    chosen = list(_spread(items))
    return sum(weight(item) for item in chosen) // len(chosen) if chosen else 0


def _spread(items: Sequence[Any]) -> Iterator[Any]:
    step = max(1, len(items) // SAMPLE)
    for place in range(step - 1, len(items), step):
        yield items[place]
