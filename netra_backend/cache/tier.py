"""The in-process tier: which entries are kept, by S3-FIFO, weighed in bytes.

S3-FIFO ("FIFO queues are all you need for cache eviction", Yang et al., SOSP 2023) keeps a small queue, where what is asked for only
once passes through quickly, a main queue, and the names of those that passed without a second question (ghosts): one of
these that returns goes straight to the main queue. A hit writes one small number and takes no lock; a scan of a million
keys displaces a tenth of the tier, where LRU would lose all of it.

Invariants: `used_bytes` is the sum of the weights of what is kept, and is at most `limit_bytes` after each insertion; an
entry heavier than the small queue's limit is not admitted.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from sys import getsizeof
from typing import Any, Final

MOST_HITS: Final = 3
SMALL_SHARE: Final = 0.1
ENTRY_BYTES: Final = 512
"""What an entry costs beside its value and its name: the object, dictionaries, edges. Measured with 10^5 small entries."""


class Entry:
    """A value that is kept. `p` is the position of the log that it is not older than; times are monotonic seconds."""

    __slots__ = ("_small", "deps", "expires", "hits", "made", "name", "p", "stale_until", "value", "weight")

    def __init__(
        self, name: str, value: Any, *, p: int, deps: frozenset[str], made: float, expires: float, stale_until: float, weight: int
    ) -> None:
        self.name = name
        self.value = value
        self.p = p
        self.deps = deps
        self.made = made
        self.expires = expires
        self.stale_until = stale_until
        self.weight = weight
        self.hits = 0
        self._small = True


class Tier:
    """See the module's docstring. `find` may be called by any thread; everything else under its owner's lock."""

    def __init__(self, limit_bytes: int, dropped: Callable[[Entry], None]) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.inserted_bytes = 0
        self.evictions = 0
        self.admit_bytes = limit_bytes
        self.entries: dict[str, Entry] = {}
        self.find = self.entries.get
        self._dropped = dropped
        self._small: OrderedDict[str, Entry] = OrderedDict()
        self._main: OrderedDict[str, Entry] = OrderedDict()
        self._small_bytes = 0
        self._ghosts: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self.entries)

    def insert(self, entry: Entry) -> bool:
        """Keep it in place of an older one of its name; False where it is too heavy, and then nothing of the name is kept."""
        self.remove(entry.name)
        if entry.weight > min(self.admit_bytes, max(1, int(self.limit_bytes * SMALL_SHARE))):
            return False
        entry._small = entry.name not in self._ghosts  # noqa: SLF001  (the queue that it stands in is the tier's own)
        self._ghosts.pop(entry.name, None)
        self.entries[entry.name] = entry
        if entry._small:  # noqa: SLF001
            self._small[entry.name] = entry
            self._small_bytes += entry.weight
        else:
            self._main[entry.name] = entry
        self.used_bytes += entry.weight
        self.inserted_bytes += entry.weight
        self.shrink_to(self.limit_bytes)
        return entry.name in self.entries

    def remove(self, name: str) -> Entry | None:
        """Keep it no longer."""
        entry = self.entries.pop(name, None)
        if entry is None:
            return None
        self._unlink(entry)
        return entry

    def shrink_to(self, limit_bytes: int) -> int:
        """Evict by the policy until at most this much is used; how many entries went."""
        evicted = 0
        while self.used_bytes > limit_bytes and self.entries:
            evicted += self._evict_one()
        self.evictions += evicted
        return evicted

    def evict_oldest(self, share: float) -> int:
        """Evict this share of the bytes, the oldest first whatever their hits: only neighbours in time free whole pages."""
        target = int(self.used_bytes * (1 - share))
        evicted = 0
        for name in list(self.entries):
            if self.used_bytes <= target:
                break
            self._drop(self.entries[name])
            evicted += 1
        self.evictions += evicted
        return evicted

    def clear(self) -> None:
        """Keep nothing."""
        self.entries.clear()
        self._small.clear()
        self._main.clear()
        self._ghosts.clear()
        self.used_bytes = self._small_bytes = 0

    def _evict_one(self) -> int:
        if self._small and (self._small_bytes > self.limit_bytes * SMALL_SHARE or not self._main):
            name, entry = self._small.popitem(last=False)
            self._small_bytes -= entry.weight
            entry._small = False  # noqa: SLF001
            self._main[name] = entry
            if entry.hits > 1:
                entry.hits = 0
                return 0
            self._haunt(name)
        else:
            name, entry = self._main.popitem(last=False)
            self._main[name] = entry
            if entry.hits:
                entry.hits -= 1
                return 0
        self._drop(entry)
        return 1

    def _haunt(self, name: str) -> None:
        self._ghosts[name] = None
        while len(self._ghosts) > max(16, len(self.entries)):  # not of the main queue, which is empty until a ghost returns
            self._ghosts.popitem(last=False)

    def _drop(self, entry: Entry) -> None:
        del self.entries[entry.name]
        self._unlink(entry)
        self._dropped(entry)

    def _unlink(self, entry: Entry) -> None:
        self.used_bytes -= entry.weight
        if entry._small:  # noqa: SLF001
            del self._small[entry.name]
            self._small_bytes -= entry.weight
        else:
            del self._main[entry.name]


def weigh(name: str, value: Any) -> int:
    """About how many bytes it holds: the value with all inside it, its name, and what an entry costs."""
    total, waiting, seen = ENTRY_BYTES + len(name), [value], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        total += getsizeof(each)
        if isinstance(each, dict):
            waiting += each.keys()
            waiting += each.values()
        elif isinstance(each, list | tuple | set | frozenset):
            waiting += each
        elif hasattr(each, "__struct_fields__"):
            waiting += [getattr(each, field) for field in each.__struct_fields__]
    return total
