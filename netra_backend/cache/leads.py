"""Which process makes a value, where processes share a tier: the others wait for it, and take what it made.

A lead is a short lease in the shared tier, renewed while its load is under way: a process that was killed or stopped keeps the others
waiting for no longer than that, and a load that never ends for no longer than `LONGEST_S`. It is no lock: where two make one value, that
costs a load and no correctness.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..kernel.clock import Clock
from .shared import Shared

LEAD_S: Final = 1.0
RENEW_EVERY_S: Final = LEAD_S / 4
LONGEST_S: Final = 60.0
"""A load that takes longer hangs, most likely: its lead lapses, and the next who asks makes the value."""


class Leads:
    """The leads that this process holds. For the event loop of its Netra."""

    def __init__(self, clock: Clock, shared: Shared) -> None:
        self._clock = clock
        self.shared = shared
        self._held: dict[str, tuple[str, float]] = {}
        self._renewing: asyncio.Task[None] | None = None

    async def take(self, name: str) -> str | None:
        """A token with which to give it up; None where another process leads. It is empty where nobody can: the tier does not answer."""
        token = await self.shared.lead(name, LEAD_S)
        if token:
            self._held[name] = token, self._clock.monotonic() + LONGEST_S
            if self._renewing is None or self._renewing.done():
                self._renewing = asyncio.get_running_loop().create_task(self._renew())
        return token

    async def give_up(self, name: str, token: str) -> None:
        """The load has ended, well or not."""
        if not token:
            return
        held, _ = self._held.get(name, ("", 0.0))
        if held == token:
            del self._held[name]
        await self.shared.yield_lead(name, token)

    async def close(self) -> None:
        """Renew none any more."""
        if self._renewing is not None:
            self._renewing.cancel()
            await asyncio.gather(self._renewing, return_exceptions=True)

    async def _renew(self) -> None:
        while self._held:
            await self._clock.sleep(RENEW_EVERY_S)
            now = self._clock.monotonic()
            self._held = {name: held for name, held in self._held.items() if now < held[1]}
            if self._held:
                await self.shared.keep_leads({name: token for name, (token, _) in self._held.items()}, LEAD_S)
