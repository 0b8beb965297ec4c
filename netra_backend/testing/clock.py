"""A clock that moves only when told, and chance that repeats.

`FakeClock` wakes sleepers in the order of their due times, and in the order of their calls where these are equal. After
each wake-up the loop turns until what was woken had its say, so a task that sleeps again inside the span of one
`advance` is woken again inside it. Time stands still while code runs.

Danger: only `sleep` of this clock is faked. Code that awaits `asyncio.sleep`, a socket or a thread runs on real time,
and `advance` does not wait for it.
"""

from __future__ import annotations

import asyncio
import hashlib
import heapq
import itertools
import math
from typing import Final

from ..kernel.chance import SystemChance

_US: Final = 1_000_000
_START_US: Final = 1_700_000_000 * _US
_TURNS: Final = 25


class FakeClock:
    """A `Clock` in microseconds kept as an integer, so that a thousand advances of 0.1 s are exactly 100 s.

    One event loop only: `sleep` and `advance` belong to it. `wall_us` and `monotonic` may be read from any thread.
    """

    def __init__(self, wall_us: int = _START_US, monotonic_s: float = 1000.0) -> None:
        self._wall_us = wall_us
        self._now_us = round(monotonic_s * _US)
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def wall_us(self) -> int:
        """See `Clock.wall_us`."""
        return self._wall_us

    def monotonic(self) -> float:
        """See `Clock.monotonic`."""
        return self._now_us / _US

    async def sleep(self, seconds: float) -> None:
        """Suspend until `advance` has moved the clock by `seconds`; for 0 or less, one turn of the loop."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now_us + math.ceil(seconds * _US), next(self._order), wake))
        await wake

    @property
    def sleeping(self) -> int:
        """How many tasks are asleep on this clock."""
        return sum(not wake.done() for _, _, wake in self._sleepers)

    @property
    def next_wake_s(self) -> float | None:
        """Seconds until the earliest sleeper is due, None if nobody sleeps."""
        self._drop_cancelled()
        return (self._sleepers[0][0] - self._now_us) / _US if self._sleepers else None

    async def advance(self, seconds: float) -> None:
        """Move both clocks forward by `seconds`, stopping at each sleeper that falls due on the way."""
        await settle()
        end_us = self._now_us + round(seconds * _US)
        while self._earliest_us(end_us) <= end_us:
            self._move_to(self._sleepers[0][0])
            heapq.heappop(self._sleepers)[2].set_result(None)
            await settle()
        self._move_to(end_us)

    async def jump(self, seconds: float) -> None:
        """Move both clocks at a stroke, as a process finds them that was stopped: whoever fell due wakes once, and late."""
        await settle()
        self._move_to(self._now_us + round(seconds * _US))
        while self._earliest_us(self._now_us) <= self._now_us:
            heapq.heappop(self._sleepers)[2].set_result(None)
        await settle()

    def step_wall(self, seconds: float) -> None:
        """Step the wall clock alone, forwards or back, as an operator or NTP would; nobody wakes."""
        self._wall_us += round(seconds * _US)

    def _earliest_us(self, end_us: int) -> int:
        self._drop_cancelled()
        return self._sleepers[0][0] if self._sleepers else end_us + 1

    def _drop_cancelled(self) -> None:
        while self._sleepers and self._sleepers[0][2].done():
            heapq.heappop(self._sleepers)

    def _move_to(self, instant_us: int) -> None:
        self._wall_us += instant_us - self._now_us
        self._now_us = instant_us


async def settle(turns: int = _TURNS) -> None:
    """Let the loop turn, so that tasks that can run do; enough for chains of `turns` awaits without I/O."""
    for _ in range(turns):
        await asyncio.sleep(0)


class SeededChance(SystemChance):
    """A `Chance` that repeats: equal seeds draw equal jitter and equal tokens. Never for real secrets."""

    def __init__(self, seed: int = 1) -> None:
        super().__init__(seed)
        self._seed = seed
        self._tokens = itertools.count()

    def token(self, size: int) -> bytes:
        """`size` bytes that anybody can guess who knows the seed."""
        return hashlib.shake_256(f"{self._seed}/{next(self._tokens)}".encode()).digest(size)
