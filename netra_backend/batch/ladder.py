"""The memory ladder: what each level of pressure means for those who work here.

One ladder per process reads the pressure (`resilience/memory_pressure`) when somebody asks and the last reading is too old, so an idle
process reads nothing. What the levels do:

    GROW     chunks grow                              HALVE    the next chunk is half as long, nothing is read ahead
    HOLD     they do not                              PAUSE    nothing is read or claimed, one partition fewer, memory is given back
    RECYCLE  the commit is finished, then the process is to be replaced where somebody can
    ABORT    what is not committed is dropped and done again at half its length; children are killed

Invariant: one chunk of one item is always allowed. Where nothing else is under way in this process, waiting could wait for ever: the
pressure may be somebody else's.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

from ..kernel.runtime import Runtime
from ..resilience.memory_pressure import Level, MemoryProbe, Pressure

READ_EVERY_S: Final = 0.1
"""A reading opens some twenty files."""
STEP_EVERY_S: Final = 1.0
"""How often the number of partitions goes down or up by one, and how often memory is given back."""
GROWN: Final = 1.5
"""A process that holds so many times what it began with may be replaced."""
LOOK_AGAIN_S: Final = 0.05
CALM_S: Final = 5.0
"""How long what a killed process held may take to come back, before the pressure is taken for somebody else's."""
SHARE: Final = 4
"""A chunk may hold this part of the room that is left, shared by the partitions that are worked on."""
GAUGE: Final = "netra_batch_memory_level"


class Ladder:
    """See the module's docstring. Without a probe it stays at the bottom."""

    def __init__(self, runtime: Runtime, probe: MemoryProbe | None = None, give_back: Callable[[], None] | None = None) -> None:
        self.level = Level.GROW
        self.pressure = Pressure(0.0, 0, None, 0.0, 0.0, "none")
        self.fewer = 0
        self.under_way = 0
        self._runtime = runtime
        self._probe = probe
        self.give_back = give_back or give_memory_back
        self._read_at = self._stepped_at = float("-inf")
        self._began_with = probe.own_bytes() if probe is not None else 0

    def look(self, *, now: bool = False) -> Level:
        """The level, by a reading that is at most `READ_EVERY_S` old, or by one of this moment."""
        clock = self._runtime.clock.monotonic()
        if self._probe is not None and (now or clock - self._read_at >= READ_EVERY_S):
            self._read_at = clock
            self.pressure = self._probe.read()
            self.level = self.pressure.level_after(self.level)
            self._runtime.metrics.gauge(GAUGE, int(self.level))
            self._step(clock)
        return self.level

    def _step(self, clock: float) -> None:
        if clock - self._stepped_at < STEP_EVERY_S:
            return
        if self.level >= Level.PAUSE:
            self._stepped_at = clock
            self.fewer += 1
            self.give_back()
        elif self.level == Level.GROW and self.fewer:
            self._stepped_at = clock
            self.fewer -= 1

    @property
    def recycles(self) -> bool:
        """Whether this process should be replaced: memory is nearly at its end, and it holds much more than when it began.

        Not where it began like that: a new one would be no better.
        """
        return self._probe is not None and self.level >= Level.RECYCLE and self._probe.own_bytes() > GROWN * max(1, self._began_with)

    def oom_kills(self) -> int:
        """How many processes of this control group the kernel has killed for memory so far."""
        return self._probe.oom_kills() if self._probe is not None else 0

    def partitions(self, most: int) -> int:
        """How many partitions may be worked on here."""
        self.fewer = min(self.fewer, most - 1)
        return most - self.fewer

    @property
    def may_claim(self) -> bool:
        """Whether another partition may be begun."""
        return self.look() < Level.PAUSE or not self.under_way

    @property
    def may_read_ahead(self) -> bool:
        """Whether the next chunk's items may be read while this one's are written."""
        return self.look() < Level.HALVE

    def budget(self) -> int | None:
        """How many bytes a chunk may hold; None where no limit is known."""
        pressure = self.pressure
        if pressure.limit_bytes is None:
            return None
        return max(1, (pressure.limit_bytes - pressure.used_bytes) // (SHARE * max(1, self.under_way)))

    async def calmed(self) -> None:
        """Wait, `CALM_S` at most, until memory is not at its end: a process begun before would pay for the one killed last."""
        begun = self._runtime.clock.monotonic()
        while self.look(now=True) >= Level.ABORT and self._runtime.clock.monotonic() - begun < CALM_S:
            await self._runtime.clock.sleep(LOOK_AGAIN_S)

    @asynccontextmanager
    async def admitted(self, size: int, keep_going: Callable[[], bool]) -> AsyncIterator[int]:
        """While a chunk is under way: how many items it may have, once it may begin; 0 where it is not to be begun any more."""
        while self.look() >= Level.PAUSE and self.under_way:
            await self._runtime.clock.sleep(LOOK_AGAIN_S)
            if not keep_going():
                yield 0
                return
        self.under_way += 1
        try:
            yield 1 if self.level >= Level.PAUSE else size
        finally:
            self.under_way -= 1


def give_memory_back() -> None:
    """Collect what nobody refers to, and have the C library return its free pages to the kernel (glibc's malloc_trim)."""
    gc.collect()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
