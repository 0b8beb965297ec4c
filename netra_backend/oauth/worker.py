"""What the vault does without being asked: it looks whether memory is current, renews what is due, and commits what waits in the spool.

Every process looks, because every process serves from memory; only those with workers renew.
"""

from __future__ import annotations

import asyncio
from typing import Final

from ..errors import NetraError
from ..kernel.runtime import Runtime
from .service import OAuth

LOOK_EVERY_S: Final = 0.5
RENEW_EVERY_S: Final = 1.0
TRIM_EVERY_S: Final = 600.0
AT_ONCE: Final = 100


class Keeper:
    """The loops of one process."""

    def __init__(self, vault: OAuth, runtime: Runtime, *, renews: bool) -> None:
        self._vault = vault
        self._runtime = runtime
        self._renews = renews
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin in the background."""
        self._tasks = [asyncio.create_task(self._look_forever())]
        if self._renews:
            self._tasks += [asyncio.create_task(work) for work in (self._renew_forever(), self._ask_forever(), self._trim_forever())]

    async def stop(self) -> None:
        """End the loops; flights go on to their own end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _look_forever(self) -> None:
        while True:
            await self._runtime.clock.sleep(LOOK_EVERY_S)
            try:
                await self._vault.look()
            except NetraError as error:  # without a look nothing is served from memory
                self._runtime.log.warning("the vault could not look at its connections: %s", error)
            except Exception:
                self._runtime.log.exception("the vault could not look at its connections")

    async def _renew_forever(self) -> None:
        while True:
            await self._runtime.clock.sleep(RENEW_EVERY_S)
            try:
                await self._vault.replay_leftovers()
                await self._vault.renew_due(AT_ONCE)
                await self._vault.end_overdue(AT_ONCE)
            except NetraError as error:
                self._runtime.log.warning("the vault could not look for what is due: %s", error)
            except Exception:
                self._runtime.log.exception("the vault could not look for what is due")

    async def _ask_forever(self) -> None:
        """Apart from renewals, which a provider that is slow to answer must not keep waiting."""
        while True:
            await self._runtime.clock.sleep(RENEW_EVERY_S)
            try:
                await self._vault.poll_devices(AT_ONCE)
            except NetraError as error:
                self._runtime.log.warning("the vault could not ask for devices' codes: %s", error)
            except Exception:
                self._runtime.log.exception("the vault could not ask for devices' codes")

    async def _trim_forever(self) -> None:
        """Not at the start, when there is enough to do."""
        while True:
            await self._runtime.clock.sleep(TRIM_EVERY_S)
            try:
                await self._vault.trim(AT_ONCE)
            except NetraError as error:
                self._runtime.log.warning("the vault could not delete what ended long ago: %s", error)
            except Exception:
                self._runtime.log.exception("the vault could not delete what ended long ago")
