"""What the tier gives back when memory runs short: early and gently, then quickly, then all of it.

Evicting at random frees no resident memory, for every page keeps a survivor; the oldest first frees 42 to 50 % of what is evicted
(measured). Each step stops on the tier's own accounting and never on resident memory, which the allocator returns late or
not at all: a loop on that would throw everything away. Trimming the allocator is worth its time every 10 s at most.

A limit that was lowered because memory had come to its end is given back in small steps while there is room, so that the hour in which a
neighbour took everything is not paid for until the next start; and no further than to the level at which the tier begins to give back.
"""

from __future__ import annotations

import ctypes
from contextlib import suppress
from typing import Final

from ..kernel.runtime import Runtime
from ..resilience.memory_pressure import MemoryProbe
from .node import Node

SAMPLE_S: Final = 0.1
SAMPLE_BYTES: Final = 4 << 20
"""A reading costs about a millisecond: one for so much that was inserted keeps up with any pace."""

GENTLE, QUICK, ALL = 0.80, 0.92, 0.95
GENTLE_SHARE: Final = 0.10
QUICK_TO: Final = 0.60
SHRINK_TO: Final = 0.5
LEAST_LIMIT: Final = 1 << 16
GROW_EVERY_S: Final = 10.0
GROW_SHARE: Final = 1 / 16
"""Of the limit that was set."""
TRIM_EVERY_S: Final = 10.0


class Pressed:
    """Acts on one reading at a time."""

    def __init__(self, node: Node, probe: MemoryProbe, runtime: Runtime) -> None:
        self._node = node
        self._probe = probe
        self._runtime = runtime
        self._limit_bytes = node.tier.limit_bytes
        self._trimmed_at = self._grown_at = float("-inf")
        self._inserted_bytes = 0

    @property
    def is_wanted(self) -> bool:
        """Whether a reading could change anything: there is something to give back, or to be given back to the tier."""
        tier = self._node.tier
        return bool(tier.entries) or tier.admit_bytes < self._limit_bytes

    def after_fill(self) -> None:
        """Sample where much was inserted since the last time: a timer alone would come too late."""
        if self._node.tier.inserted_bytes - self._inserted_bytes >= SAMPLE_BYTES:
            self.sample()

    def sample(self) -> float:
        """Read the pressure and give back what it asks for; the fraction that was read."""
        fraction = self._probe.read().fraction
        node = self._node
        self._inserted_bytes = node.tier.inserted_bytes
        with node.lock:
            tier = node.tier
            if fraction >= ALL:
                if tier.entries:
                    node.drop_everything()
                    tier.limit_bytes = max(LEAST_LIMIT, int(tier.limit_bytes * SHRINK_TO))
                    self._grown_at = self._runtime.clock.monotonic()
                tier.admit_bytes = 0
                self._trim()
            elif fraction >= QUICK:
                tier.evict_oldest(1 - QUICK_TO)
                tier.admit_bytes = 0
            elif fraction >= GENTLE:
                tier.evict_oldest(GENTLE_SHARE)
                tier.admit_bytes = max(1, tier.admit_bytes // 2)
            else:
                self._grow()
                tier.admit_bytes = tier.limit_bytes
        return fraction

    def _grow(self) -> None:
        now, tier = self._runtime.clock.monotonic(), self._node.tier
        if tier.limit_bytes < self._limit_bytes and now - self._grown_at >= GROW_EVERY_S:
            self._grown_at = now
            tier.limit_bytes = min(self._limit_bytes, tier.limit_bytes + int(self._limit_bytes * GROW_SHARE))

    def _trim(self) -> None:
        now = self._runtime.clock.monotonic()
        if now - self._trimmed_at < TRIM_EVERY_S:
            return
        self._trimmed_at = now
        with suppress(OSError, AttributeError):  # another libc has no such function
            ctypes.CDLL(None).malloc_trim(0)
