"""Time, as something that is handed in.

Two clocks and never one for the other: `wall_us` (integer microseconds since 1970, UTC) is what rows store and what
people read; `monotonic` (float seconds, arbitrary origin) is what every time-out, lease and age is measured with, so
that a clock step expires nothing early and kills nobody.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """What the rest of Netra knows of time. `testing.clock.FakeClock` is the other implementation."""

    def wall_us(self) -> int:
        """Microseconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds on a clock that never steps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Suspend the calling task for at least `seconds` of monotonic time."""
        ...


class SystemClock:
    """The machine's clocks."""

    def wall_us(self) -> int:
        """Microseconds since the epoch by the machine's wall clock."""
        return time.time_ns() // 1000

    monotonic = staticmethod(time.monotonic)
    """CLOCK_MONOTONIC in seconds."""

    async def sleep(self, seconds: float) -> None:
        """`asyncio.sleep`."""
        await asyncio.sleep(seconds)
