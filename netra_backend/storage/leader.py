"""The log's leader: one process at a time moves outbox rows to the log, and trims what every cursor has passed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from ..errors import NetraError
from ..kernel.pace import Pace
from ..kernel.runtime import Runtime
from ..kernel.scope import system_scope
from . import log
from .database import Database
from .membership import Membership
from .statements import Statements
from .transaction import Tx

POLL_S: Final = 0.1
GAP_S: Final = 0.05
TURNS_AT_ONCE: Final = 4
"""Somebody in a hurry is waited for at once, and in the long run no oftener than every `GAP_S`: each turn is a durable commit, and moves
all that is there."""

SEEK_LEAD_S: Final = 1.0
TRIM_EVERY_S: Final = 60.0
KEEP_US: Final = 24 * 3600 * 1_000_000
BATCH: Final = 500
STREAMS: Final = ("audit", "cache", "events", "operational")

Q = Statements(__package__)
_SCOPE: Final = system_scope("log-leader")


async def _has_outbox(tx: Tx) -> bool:
    return await tx.one(Q.outbox_has_rows) is not None


class LogLeader:
    """Seeks the lead, and while it has it, sequences."""

    def __init__(self, database: Database, membership: Membership, runtime: Runtime) -> None:
        self.leads = False
        self.on_sequenced: list[Callable[[], None]] = []
        """Called on the loop when rows have been given their numbers by this process."""

        self._hurry = asyncio.Event()
        self._told = False
        self._pace = Pace(GAP_S, TURNS_AT_ONCE)
        self._failed = 0
        self._database = database
        self._membership = membership
        self._runtime = runtime
        self._version = -1
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, in the background."""
        self._task = asyncio.create_task(self._run())
        self._database.on_wake.append(self._hurry.set)
        self._database.on_notice.append(self.hurry)

    def hurry(self) -> None:
        """Something was committed that somebody waits for."""
        self._told = True
        self._hurry.set()

    async def stop(self) -> None:
        """End, and give the lead back if it is ours."""
        if self._task is None:
            return
        if self.hurry in self._database.on_notice:
            self._database.on_wake.remove(self._hurry.set)
            self._database.on_notice.remove(self.hurry)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self.leads:
            try:
                await self._database.write(log.drop_lead, "log", self._membership.id, scope=_SCOPE)
            except NetraError as error:
                self._runtime.log.warning("the log's lead was not given back, it lapses with this node: %s", error)

    async def drain(self) -> None:
        """Sequence everything that is committed by now, if this process leads."""
        while self.leads and await self._sequence() == BATCH:
            continue

    async def _run(self) -> None:
        trimmed_at = self._runtime.clock.monotonic()
        while True:
            try:
                await (self._lead() if self.leads else self._seek())
                if self.leads and self._runtime.clock.monotonic() - trimmed_at > TRIM_EVERY_S:
                    trimmed_at = self._runtime.clock.monotonic()
                    await self._trim()
                self._failed = 0
            except NetraError as error:
                self._failed += 1
                self._runtime.log.warning("the log's leader could not work: %s", error)
            except Exception:
                self._failed += 1
                self._runtime.log.exception("the log's leader could not work")
            await (self._pause() if self.leads else self._runtime.clock.sleep(SEEK_LEAD_S))

    async def _pause(self) -> None:
        """Until the next poll, or until somebody is in a hurry and the last turn is not too near; longer after each failure in a row."""
        clock = self._runtime.clock
        if self._failed:
            await clock.sleep(min(GAP_S * 2 ** min(self._failed, 10), SEEK_LEAD_S))
            return
        await clock.sleep(max(0.001, min(self._pace.wait_s(clock.monotonic()), GAP_S)))
        waits = [asyncio.ensure_future(clock.sleep(POLL_S - GAP_S)), asyncio.ensure_future(self._hurry.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def _seek(self) -> None:
        if not self._membership.quiet:
            self.leads = await self._database.write(log.take_lead, "log", self._membership.id, scope=_SCOPE) is not None
            self._version = -1

    async def _lead(self) -> None:
        self._hurry.clear()
        version = self._database.version()
        if version != self._version and not self._membership.quiet:
            told, self._told = self._told, False
            if told or await self._database.read(_has_outbox, scope=_SCOPE):  # most commits leave nothing, and a look is no write
                await self.drain()
            self._version = version  # only now: what an error kept in the outbox is looked for again

    async def _sequence(self) -> int:
        moved: int | None = await self._database.write(log.sequence, self._membership.id, BATCH, scope=_SCOPE)
        self.leads = moved is not None
        if moved:
            self._pace.took(self._runtime.clock.monotonic())
            for tell in self.on_sequenced:
                tell()
        return moved or 0

    async def _trim(self) -> None:
        before_us = self._runtime.clock.wall_us() - KEEP_US
        for stream in STREAMS:
            while await self._database.write(log.trim, stream, before_us, BATCH, scope=_SCOPE, lane="bulk") == BATCH:
                continue
