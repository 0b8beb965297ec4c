"""When each version of a key was acknowledged, in memory that processes share: what a read in any of them is judged by.

One process at a time writes for a key. CLOCK_MONOTONIC is the machine's, so that instants of different processes compare. A commit whose
acknowledgement nobody saw is not in it, and asks nothing of a reader.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

CAPACITY = 1 << 14


class Commits:
    """See the module's docstring. `readonly` views may be opened any number of times."""

    def __init__(self, path: Path, keys: int) -> None:
        size = 8 * keys + 16 * keys * CAPACITY
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(handle, size)
        view = memoryview(mmap.mmap(handle, size))
        os.close(handle)
        self.keys = keys
        self.counts = view[: 8 * keys].cast("q")
        self.times = view[8 * keys : 8 * keys + 8 * keys * CAPACITY].cast("d")
        self.versions = view[8 * keys + 8 * keys * CAPACITY :].cast("q")

    def committed(self, key: int, version: int, now: float) -> None:
        """The acknowledgement of this version was seen at `now`."""
        place = self.counts[key]
        self.times[key * CAPACITY + place] = now
        self.versions[key * CAPACITY + place] = version
        self.counts[key] = place + 1


class Due:
    """One reader's walk along it: `least` is asked with instants that never go back."""

    def __init__(self, commits: Commits) -> None:
        self._commits = commits
        self._places = [0] * commits.keys
        self._least = [0] * commits.keys

    def least(self, key: int, before: float) -> int:
        """The newest version that was acknowledged by then."""
        commits, place, base = self._commits, self._places[key], key * CAPACITY
        count = commits.counts[key]
        while place < count and commits.times[base + place] <= before:
            self._least[key] = max(self._least[key], commits.versions[base + place])
            place += 1
        self._places[key] = place
        return self._least[key]
