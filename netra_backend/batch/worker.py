"""The worker: finds runs that this process has the jobs of, plans them, claims partitions, and works on them.

The table is the truth. Who gets a free slot is decided in `turns.py`; schedules that are due are fired at the same look. One loop looks
whenever anything was committed, and once a second anyway, because a node's death is seen by
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
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

from ..errors import NetraError, OutcomeUnknown, Unavailable
from ..kernel.ids import to_text
from ..kernel.rounds import Rounds
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope, system_scope
from ..storage.database import Database
from ..storage.membership import Membership
from . import model, registry, schedules, store
from .errors import ExecutorLost, LeaseLost, PredecessorCancelled, RunStopped, UnknownJob
from .failure_reader import FailureReader
from .ladder import Ladder
from .model import ActiveRun, Committed, Lease, Run
from .partition import KeepGoing, Means, Partition
from .readers import Reader, Source
from .registry import Job
from .retention import Retention
from .seam import Seam
from .settings import BatchSettings
from .states import COMPLETED
from .turns import Held, Turns

LOOK_EVERY_S: Final = 0.1
LOOK_ANYWAY_S: Final = 1.0
TIDY_EVERY_S: Final = 600.0
DRAIN_S: Final = 30.0
_SCOPE: Final = system_scope("batch")

_Place = tuple[str, bytes, int]
"""(tenant, run, partition)."""


class BatchWorker:
    """See the module's docstring. `only` restricts it to one run: what the command line works on."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        settings: BatchSettings,
        membership: Membership,
        only: bytes | None = None,
        ladder: Ladder | None = None,
    ) -> None:
        self.only = only
        self.ladder = ladder or Ladder(runtime)
        self._threads = ThreadPoolExecutor(2 * settings.slots, "netra-batch")
        self._seams: dict[str, Seam] = {}
        self._turns = Turns(settings.weights)
        self._held: dict[_Place, Held] = {}
        self._giving_way: set[_Place] = set()
        self._database = database
        self._runtime = runtime
        self._settings = settings
        self._membership = membership
        self._working: dict[_Place, asyncio.Task[None]] = {}
        self._stopping = False
        self._owed: list[tuple[Lease, Scope]] = []
        cannot = "the batch worker could not look for work"
        self._rounds = Rounds(runtime, self._look, cannot, LOOK_EVERY_S, changes=database.version, anyway_s=LOOK_ANYWAY_S)
        retention = Retention(database, runtime, membership, settings.keep_s)
        self._tidying = Rounds(runtime, retention.run, "old runs could not be deleted yet", TIDY_EVERY_S)

    async def start(self) -> None:
        """Look at once, then keep looking in the background."""
        for _ in range(2 * self._settings.slots):  # now, because where memory ends no thread can be started any more
            self._threads.submit(threading.Event().wait, 0.01)
        self._membership.on_new_life.append(self._begin_again)
        self._membership.on_reaped.append(self._rounds.again)
        self._database.on_wake.append(self._rounds.wake)
        self._rounds.start()
        if self.only is None:
            self._tidying.start()

    async def stop(self) -> None:
        """Claim nothing more, finish the chunks that are being worked on, give the partitions back.

        A chunk that takes longer than `DRAIN_S` is given up uncommitted: whoever takes its partition over begins it again.
        """
        self._stopping = True
        await self._tidying.stop()
        await self._rounds.finish()
        if self._working:
            _, late = await asyncio.wait(self._working.values(), timeout=DRAIN_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for seam in self._seams.values():
            await seam.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin_again(self) -> None:
        """What this process held belongs to its former life: drop it, it is due for everybody."""
        for task in self._working.values():
            task.cancel()
        self._owed = []
        self._rounds.again()

    async def _look(self) -> None:
        owed, self._owed = self._owed, []
        for lease, scope in owed:
            await self._give_back(lease, scope)
        if self.only is None:
            await self._fire_schedules()
        active: list[ActiveRun] = await self._database.read(store.active, scope=_SCOPE)
        await self._share_out([run for run in active if run.job in registry.JOBS and self.only in {None, run.id}])

    async def _share_out(self, runs: list[ActiveRun]) -> None:
        """Give free slots to runs in turn: one each where several tenants want some, else all that there are."""
        while runs and not self._stopping and not self._membership.quiet:
            if self._free() < 1:
                await self._give_way(runs)
                return
            run = self._turns.first(runs, [*self._held.values()])
            several = len({each.tenant for each in runs}) > 1
            asked = 1 if several else self._free()
            if await self._serve(run, asked) < asked or not several:
                runs.remove(run)
            self._turns.served(run.tenant)

    async def _give_way(self, runs: list[ActiveRun]) -> None:
        """Where a run that should have a slot has none, let one partition end after its chunk."""
        if self._giving_way:
            return
        held = [*self._held.values()]
        if self._turns.gives_way(runs, held, self._runtime.clock.monotonic()) is None:
            return
        waiting = [run for run in runs if await self._has_work(run)]
        chosen = self._turns.gives_way(waiting, held, self._runtime.clock.monotonic())
        if chosen is not None and chosen < len(self._held):
            self._giving_way.add([*self._held][chosen])

    async def _has_work(self, run: ActiveRun) -> bool:
        scope = Scope(run.tenant, "batch")
        return run.state == "queued" or bool(await self._database.read(store.has_free, run.id, scope=scope))

    async def _fire_schedules(self) -> None:
        now_us = self._runtime.clock.wall_us()
        for tenant, name in await self._database.read(schedules.due, now_us, scope=_SCOPE):
            await self._database.write(schedules.fire, name, now_us, scope=Scope(tenant, "batch:schedule"))

    async def _serve(self, active: ActiveRun, limit: int) -> int:
        """Plan a run and claim of it; how many partitions that gave."""
        scope = Scope(active.tenant, f"batch:{active.job}"[:200])
        try:
            if active.waits_for and active.state == "queued" and not await self._may_begin(active, scope):
                return 0
            if active.state == "queued":
                await self._plan(active, scope)
            return await self._claim(active, scope, limit)
        except (Unavailable, OutcomeUnknown):
            raise
        except Exception as error:  # noqa: BLE001  (told in the run, where whoever started it looks)
            await self._fail(active.id, scope, error, None)
            return 0

    async def _may_begin(self, active: ActiveRun, scope: Scope) -> bool:
        """Whether every run that it comes after is completed; a cancelled one will never be, so this one has failed."""
        states = await self._database.read(store.states_of, active.waits_for, scope=scope)
        gone = [run_id for run_id, state in states.items() if state == "cancelled"]
        if gone:
            raise PredecessorCancelled(f"{to_text('run', gone[0])}, which it comes after, was cancelled")
        return all(state in COMPLETED for state in states.values())

    async def _plan(self, active: ActiveRun, scope: Scope) -> None:
        run: Run = await self._database.read(store.run, active.id, scope=scope)
        job = registry.named(run.job)
        parts = []
        if run.partitions is None:
            reader = await self._reader(job, run, scope)
            parts = list(await reader.split(Source(run.params, self._database, scope), run.wanted))
        await self._database.write(store.plan, run.id, parts, job.chunk, scope=scope)

    async def _claim(self, active: ActiveRun, scope: Scope, limit: int) -> int:
        job = registry.named(active.job)
        if not await self._database.read(store.has_free, active.id, scope=scope):
            await self._settle(job, active.id, scope)
            return 0
        run: Run = await self._database.read(store.run, active.id, scope=scope)
        scope = Scope(run.tenant, scope.actor, run.trace)
        reader = await self._reader(job, run, scope)
        most = (job.name, job.concurrency) if job.concurrency is not None else None
        leases: list[Lease] = await self._database.write(store.claim, run.id, self._membership.id, limit, most, scope=scope)
        for lease in leases:
            place = (lease.tenant, lease.run_id, lease.number)
            former = self._working.pop(place, None)
            self._giving_way.discard(place)
            if former is not None:
                former.cancel()
            task = asyncio.create_task(self._begin(lease, job, reader, Source(run.params, self._database, scope)))
            self._working[place] = task
            self._held[place] = Held(run.tenant, run.priority, self._runtime.clock.monotonic())
            task.add_done_callback(partial(self._ended, place))
        return len(leases)

    def _free(self) -> int:
        """How many partitions more may be worked on here."""
        return self.ladder.partitions(self._settings.slots) - len(self._working) if self.ladder.may_claim else 0

    async def _begin(self, lease: Lease, job: Job, reader: Reader, source: Source) -> None:
        pace = partial(self._keep_pace, job, source.scope) if job.rate is not None else None
        means = Means(self.ladder, self._threads, self._settings.jobs, self._seam(job), pace)
        await self._work(Partition(self._database, self._runtime, lease, job, reader, source, self._settings.target_s, means), job)

    async def _keep_pace(self, job: Job, scope: Scope, items: int, keep_going: KeepGoing) -> None:
        """Wait until the job's rate lets so many items begin; they have their place whoever waits besides."""
        clock = self._runtime.clock
        step_us = int(items * 1_000_000 / (job.rate or 1.0))
        begin_us: int = await self._database.write(store.take_pace, job.name, step_us, scope=scope)
        while (left_s := (begin_us - clock.wall_us()) / 1_000_000) > 0 and keep_going():
            await clock.sleep(min(left_s, LOOK_EVERY_S))

    def _seam(self, job: Job) -> Seam | None:
        if job.executor is None:
            return None
        seam = self._seams.get(job.name)
        if seam is None:
            seam = self._seams[job.name] = Seam(job, job.executor, self._runtime, self.ladder)
        return seam

    def _ended(self, place: _Place, task: asyncio.Task[None]) -> None:
        if self._working.get(place) is task:
            del self._working[place]
            del self._held[place]
        self._giving_way.discard(place)
        self._rounds.again()

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

        lease, me = partition.lease, asyncio.current_task()
        place = (lease.tenant, lease.run_id, lease.number)

        def keeps_going() -> bool:
            return self._keeps_going() and place not in self._giving_way and not self._is_one_too_many(me)

        try:
            done = await partition.work(keeps_going, committed)
        except LeaseLost as lost:
            self._runtime.log.info("%s", lost)
            return
        except OutcomeUnknown as error:  # this life ends with it, and the partition is due for everybody
            self._runtime.log.warning("%s: %s", partition.lease.words, error)
            return
        except (RunStopped, Unavailable) as stopped:
            self._runtime.log.info("%s", stopped)
        except ExecutorLost as lost:
            self._runtime.log.warning("a run is paused: %s", lost)
            with contextlib.suppress(NetraError):  # then it goes on, and is paused by the next one
                await self._database.write(store.park, run_id, model.words(lost), partition.lease, scope=scope)
        except Exception as error:  # noqa: BLE001  (told in the run)
            await self._fail(run_id, scope, error, partition.lease)
        else:
            if done:
                return
        await self._give_back(partition.lease, scope)

    def _keeps_going(self) -> bool:
        return not self._stopping and not self._membership.quiet

    def _is_one_too_many(self, task: asyncio.Task[None] | None) -> bool:
        """Whether memory allows fewer partitions than are worked on, and this is one of the last begun."""
        allowed = self.ladder.partitions(self._settings.slots)
        return len(self._working) > allowed and task in [*self._working.values()][allowed:]

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
            await self._database.write(store.fail, run_id, model.words(error), lease, scope=scope)

    async def _give_back(self, lease: Lease, scope: Scope) -> None:
        """Let others claim it at once. What the database refuses is owed until the next look: this node lives, so nobody else may."""
        try:
            await self._database.write(store.release, lease, scope=scope)
        except NetraError as error:
            self._runtime.log.warning("%s is not given back yet: %s", lease.words, error)
            self._owed.append((lease, scope))
