"""The worker: finds runs that this process has the jobs of, plans them, claims partitions, and works on them.

The table is the truth. One loop looks whenever anything was committed, and once a second anyway, because a node's death is seen by
nobody's commit: which runs of all tenants are queued or running; a queued one is planned (its reader cuts the input, and that is
written once, whoever does it first); of a running one free partitions are claimed, as many as there are slots. Each claimed
partition is a task (`partition.py`). When a run's last partition is done the run ends, in a transaction of its own; a kill in
between is found by the same look.

An error that is nobody's item (a reader that cannot read, a writer that awaits what it must not) fails the run with its words; it
may be resumed from its cursors.
"""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from typing import Final

from ..errors import NetraError, OutcomeUnknown, Unavailable
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope, system_scope
from ..storage.database import Database
from ..storage.membership import Membership
from . import chunks, registry, store
from .errors import LeaseLost, RunStopped, UnknownJob
from .failure_reader import FailureReader
from .model import ActiveRun, Committed, Lease, Run
from .partition import Partition
from .readers import Reader, Source
from .registry import Job
from .settings import BatchSettings

LOOK_EVERY_S: Final = 0.1
LOOK_ANYWAY_S: Final = 1.0
_SCOPE: Final = system_scope("batch")

_Place = tuple[str, bytes, int]
"""(tenant, run, partition)."""


class BatchWorker:
    """See the module's docstring. `only` restricts it to one run: what the command line works on."""

    def __init__(
        self, database: Database, runtime: Runtime, settings: BatchSettings, membership: Membership, only: bytes | None = None
    ) -> None:
        self.only = only
        self._database = database
        self._runtime = runtime
        self._settings = settings
        self._membership = membership
        self._working: dict[_Place, asyncio.Task[None]] = {}
        self._stopping = False
        self._version = -1
        self._looked_at = 0.0
        self._owed: list[tuple[Lease, Scope]] = []
        self._wake = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look at once, then keep looking in the background."""
        self._membership.on_new_life.append(self._begin_again)
        self._membership.on_reaped.append(self._look_soon)
        self._database.on_wake.append(self._wake.set)
        self._loop_task = asyncio.create_task(self._look_forever())

    async def stop(self) -> None:
        """Claim nothing more, finish the chunks that are being worked on, give the partitions back."""
        self._stopping = True
        self._wake.set()
        if self._loop_task is not None:  # to the end of its look: a claim that is cut would leave a lease that nobody works under
            await asyncio.gather(self._loop_task, return_exceptions=True)
        await asyncio.gather(*self._working.values(), return_exceptions=True)

    def _begin_again(self) -> None:
        """What this process held belongs to its former life: drop it, it is due for everybody."""
        for task in self._working.values():
            task.cancel()
        self._owed = []
        self._look_soon()

    def _look_soon(self) -> None:
        self._version = -1
        self._wake.set()

    async def _look_forever(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                await self._look()
            except NetraError as error:
                self._runtime.log.warning("the batch worker could not look for work: %s", error)
            except Exception:
                self._runtime.log.exception("the batch worker could not look for work")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._wake.wait()

    async def _look(self) -> None:
        now, version = self._runtime.clock.monotonic(), self._database.version()
        if version == self._version and now - self._looked_at < LOOK_ANYWAY_S:
            return
        self._version, self._looked_at = version, now
        owed, self._owed = self._owed, []
        for lease, scope in owed:
            await self._give_back(lease, scope)
        for run in await self._database.read(store.active, scope=_SCOPE):
            if self._stopping or self._membership.quiet or len(self._working) >= self._settings.slots:
                return
            if run.job in registry.JOBS and self.only in {None, run.id}:
                await self._serve(run)

    async def _serve(self, active: ActiveRun) -> None:
        scope = Scope(active.tenant, f"batch:{active.job}"[:200])
        try:
            if active.state == "queued":
                await self._plan(active, scope)
            await self._claim(active, scope)
        except (Unavailable, OutcomeUnknown):
            raise
        except Exception as error:  # noqa: BLE001  (told in the run, where whoever started it looks)
            await self._fail(active.id, scope, error, None)

    async def _plan(self, active: ActiveRun, scope: Scope) -> None:
        run: Run = await self._database.read(store.run, active.id, scope=scope)
        job = registry.named(run.job)
        parts = []
        if run.partitions is None:
            reader = await self._reader(job, run, scope)
            parts = list(await reader.split(Source(run.params, self._database, scope), run.wanted))
        await self._database.write(store.plan, run.id, parts, job.chunk, scope=scope)

    async def _claim(self, active: ActiveRun, scope: Scope) -> None:
        job = registry.named(active.job)
        if not await self._database.read(store.has_free, active.id, scope=scope):
            await self._settle(job, active.id, scope)
            return
        run: Run = await self._database.read(store.run, active.id, scope=scope)
        scope = Scope(run.tenant, scope.actor, run.trace)
        reader = await self._reader(job, run, scope)
        free = self._settings.slots - len(self._working)
        leases: list[Lease] = await self._database.write(store.claim, run.id, self._membership.id, free, scope=scope)
        for lease in leases:
            source = Source(run.params, self._database, scope)
            partition = Partition(self._database, self._runtime, lease, job, reader, source, self._settings.target_s)
            place = (lease.tenant, lease.run_id, lease.number)
            former = self._working.pop(place, None)
            if former is not None:
                former.cancel()
            task = asyncio.create_task(self._work(partition, job))
            self._working[place] = task
            task.add_done_callback(partial(self._ended, place))

    def _ended(self, place: _Place, task: asyncio.Task[None]) -> None:
        if self._working.get(place) is task:
            del self._working[place]
        self._look_soon()

    async def _reader(self, job: Job, run: Run, scope: Scope) -> Reader:
        """What a run reads: its job's input, or the dead letters of the run that it is a rerun of."""
        if run.parent is None:
            return job.reader(run.params)
        parent: Run = await self._database.read(store.run, run.parent, scope=scope)
        return FailureReader(parent, await self._reader(job, parent, scope))

    async def _work(self, partition: Partition, job: Job) -> None:
        run_id, scope = partition.lease.run_id, partition.scope

        async def committed(done: Committed) -> None:
            self._count(done)
            if done.failed or done.finished:
                await self._settle(job, run_id, scope)

        try:
            done = await partition.work(self._keeps_going, committed)
        except LeaseLost as lost:
            self._runtime.log.info("%s", lost)
            return
        except OutcomeUnknown as error:  # this life ends with it, and the partition is due for everybody
            self._runtime.log.warning("%s: %s", partition.lease.words, error)
            return
        except (RunStopped, Unavailable) as stopped:
            self._runtime.log.info("%s", stopped)
        except Exception as error:  # noqa: BLE001  (told in the run)
            await self._fail(run_id, scope, error, partition.lease)
        else:
            if done:
                return
        await self._give_back(partition.lease, scope)

    def _keeps_going(self) -> bool:
        return not self._stopping and not self._membership.quiet

    def _count(self, done: Committed) -> None:
        for outcome, amount in (("done", done.end - done.failed), ("failed", done.failed)):
            if amount:
                self._runtime.metrics.count("netra_batch_items_total", amount, outcome=outcome)

    async def _settle(self, job: Job, run_id: bytes, scope: Scope) -> None:
        """End the run if it is over; asked of a reader first, because most chunks end nothing."""
        totals = await self._database.read(store.totals, run_id, scope=scope)
        if not totals.open or job.too_many(totals.failed, totals.done + totals.failed):
            await self._database.write(store.settle, run_id, job.too_many, scope=scope)

    async def _fail(self, run_id: bytes, scope: Scope, error: Exception, lease: Lease | None) -> None:
        if isinstance(error, UnknownJob):
            return
        self._runtime.log.warning("a run fails", exc_info=error)
        with contextlib.suppress(NetraError):  # then it is tried again, and fails again
            await self._database.write(store.fail, run_id, chunks.words(error), lease, scope=scope)

    async def _give_back(self, lease: Lease, scope: Scope) -> None:
        """Let others claim it at once. What the database refuses is owed until the next look: this node lives, so nobody else may."""
        try:
            await self._database.write(store.release, lease, scope=scope)
        except NetraError as error:
            self._runtime.log.warning("%s is not given back yet: %s", lease.words, error)
            self._owed.append((lease, scope))
