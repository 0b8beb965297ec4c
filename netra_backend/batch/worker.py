"""The worker: finds runs that this process has the jobs of, plans them, claims partitions, and works on them.

The table is the truth. Who gets a free slot is decided in `turns.py`; schedules that are due are fired at the same look. One loop looks
whenever anything was committed, and once a second anyway, because a node's death is seen by
nobody's commit: which runs of all tenants are queued or running; a queued one is planned (its reader cuts the input, and that is
written once, whoever does it first), in a slot and a task of its own; of a running one free partitions are claimed, as many as there
are slots. Each claimed partition is a task (`partition.py`). When a run's last partition is done the run ends, in a transaction of its
own; a kill in between is found by the same look.

An error that is nobody's item (a reader that cannot read, a writer that awaits what it must not) fails the run with its words; it
may be resumed from its cursors.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from functools import partial
from itertools import groupby
from typing import Final

from ..errors import NetraError, OutcomeUnknown, Unavailable
from ..kernel.ids import to_text
from ..kernel.rounds import Rounds, attempt
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope, system_scope
from ..storage.database import Database
from ..storage.membership import Membership
from . import model, registry, schedules, store
from .daemons import DaemonThreads
from .errors import ExecutorLost, LeaseLost, PredecessorCancelled, RunStopped, UnknownJob
from .failure_reader import FailureReader
from .ladder import Ladder
from .model import ActiveRun, Committed, Lease, Run
from .partition import KeepGoing, Means, Partition
from .raised import contained
from .readers import Reader, Source
from .registry import Job
from .retention import Retention
from .seam import Seam
from .settings import BatchSettings
from .states import ACTIVE, COMPLETED, RUN
from .turns import Held, Turns

LOOK_EVERY_S: Final = 0.1
LOOK_ANYWAY_S: Final = 1.0
TIDY_EVERY_S: Final = 600.0
DRAIN_S: Final = 30.0
REST_S: Final = 60.0
"""How long a schedule that cannot be fired here is left alone by this process."""
BEFORE_ALL: Final = ("", bytes(16))
CHUNK_ITEMS: Final = "netra_batch_chunk_items"
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
        self._threads = DaemonThreads(2 * settings.slots, "netra-batch")
        self._seams: dict[str, Seam] = {}
        self._turns = Turns(settings.weights)
        self._held: dict[_Place, Held] = {}
        self._giving_way: set[_Place] = set()
        self._planning: dict[tuple[str, bytes], asyncio.Task[None]] = {}
        self._resting: dict[tuple[str, str], float] = {}
        self._looked_behind = BEFORE_ALL
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
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while under_way := self._under_way():
                    await asyncio.wait(under_way)
        late = self._under_way()
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        for seam in self._seams.values():
            await seam.close()
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._membership.on_new_life.remove(self._begin_again)
        self._membership.on_reaped.remove(self._rounds.again)
        self._database.on_wake.remove(self._rounds.wake)

    def _under_way(self) -> list[asyncio.Task[None]]:
        return [*self._planning.values(), *self._working.values()]

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
        await self._share_out(await (self._runs() if self.only is None else self._the_only_run(self.only)))

    async def _runs(self) -> list[ActiveRun]:
        """Runs that something may be done for here."""
        jobs = sorted(registry.JOBS)
        if not jobs:
            return []
        active: list[ActiveRun] = await self._database.read(store.active, jobs, scope=_SCOPE)
        waiting: list[ActiveRun] = await self._database.read(store.waiting, jobs, self._looked_behind, scope=_SCOPE)
        is_last = len(waiting) < store.WAITING_AT_ONCE
        self._looked_behind = BEFORE_ALL if is_last else (waiting[-1].tenant, waiting[-1].id)
        return active + await self._those_that_may_begin(waiting)

    async def _the_only_run(self, run_id: bytes) -> list[ActiveRun]:
        tenant = await self._database.read(store.tenant_of, run_id, scope=_SCOPE)
        if tenant is None:
            return []
        run: Run = await self._database.read(store.run, run_id, scope=Scope(tenant, "batch"))
        if run.state not in ACTIVE or run.job not in registry.JOBS:
            return []
        found = ActiveRun(tenant, run_id, run.job, run.state, run.partitions, run.priority, run.waits_for)
        return await self._those_that_may_begin([found]) if run.state == RUN.initial and run.waits_for else [found]

    async def _those_that_may_begin(self, waiting: Sequence[ActiveRun]) -> list[ActiveRun]:
        """Those of which every run that they come after is completed; one of which that will never be so has failed."""
        found: list[ActiveRun] = []
        for tenant, runs in groupby(waiting, key=lambda run: run.tenant):
            mine = list(runs)
            wanted = sorted({each for run in mine for each in run.waits_for})
            states = await self._database.read(store.states_of, wanted, scope=Scope(tenant, "batch"))
            for run in mine:
                lost = [each for each in run.waits_for if states.get(each, "cancelled") == "cancelled"]
                if lost:
                    what = f"{to_text('run', lost[0])}, which it comes after, {'was cancelled' if lost[0] in states else 'is gone'}"
                    await self._fail(run.id, _scope_for(run), PredecessorCancelled(what), None)
                elif all(states[each] in COMPLETED for each in run.waits_for):
                    found.append(run)
        return found

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
        if run.state == RUN.initial:
            return self._may_plan(run)
        return bool(await self._database.read(store.has_free, run.id, scope=Scope(run.tenant, "batch")))

    async def _fire_schedules(self) -> None:
        """Each by itself: one that cannot be fired here (its time zone is not known on this machine, say) keeps nobody else's from it."""
        now_us, now = self._runtime.clock.wall_us(), self._runtime.clock.monotonic()
        self._resting = {each: until for each, until in self._resting.items() if now < until}
        limit = schedules.AT_ONCE + len(self._resting)
        for tenant, name in await self._database.read(schedules.due, now_us, limit, scope=_SCOPE):
            if (tenant, name) not in self._resting:
                fire = self._database.write(schedules.fire, name, now_us, scope=Scope(tenant, "batch:schedule"))
                if not await attempt(self._runtime.log, f"the schedule {name!r} of {tenant} could not be fired", fire):
                    self._resting[tenant, name] = now + REST_S

    async def _serve(self, active: ActiveRun, limit: int) -> int:
        """Claim of a run, or begin to plan it; how many partitions that has given at once."""
        scope = _scope_for(active)
        if active.state == RUN.initial:
            self._begin_to_plan(active, scope)
            return 0
        try:
            return await self._claim(active, scope, limit)
        except (Unavailable, OutcomeUnknown):
            raise
        except Exception as error:  # noqa: BLE001  (told in the log: whoever holds a partition finds it too, and fails the run)
            await self._fail(active.id, scope, error, None)
            return 0

    def _may_plan(self, run: ActiveRun) -> bool:
        """A tenant whose inputs are long, or on a disk that is silent, has half the slots for that at most."""
        of_the_tenant = sum(tenant == run.tenant for tenant, _ in self._planning)
        return (run.tenant, run.id) not in self._planning and of_the_tenant < max(1, self._settings.slots // 2)

    def _begin_to_plan(self, run: ActiveRun, scope: Scope) -> None:
        """Beside the looks, so that an input delays nobody else's run."""
        if self._may_plan(run):
            self._planning[run.tenant, run.id] = asyncio.create_task(self._plan_and_claim(run, scope))

    async def _plan_and_claim(self, active: ActiveRun, scope: Scope) -> None:
        """In the slot that was free for it, which is its first partition's then."""
        try:
            await self._plan(active, scope)
            if self._keeps_going():
                await self._claim(active, scope, 1)
        except (Unavailable, OutcomeUnknown) as error:
            self._runtime.log.warning("%s is not begun yet: %s", to_text("run", active.id), error)
        except Exception as error:  # noqa: BLE001  (told in the run, where whoever started it looks)
            await self._fail(active.id, scope, error, None)
        else:
            self._rounds.again()
        finally:
            del self._planning[active.tenant, active.id]

    async def _plan(self, active: ActiveRun, scope: Scope) -> None:
        run: Run = await self._database.read(store.run, active.id, scope=scope)
        job = registry.named(run.job)
        parts = []
        if run.partitions is None:
            with contained():
                reader = await self._reader(job, run, scope)
                parts = list(await reader.split(Source(run.params, self._database, scope, self._threads), run.wanted))
        await self._database.write(store.plan, run.id, parts, job.chunk, scope=scope)

    async def _claim(self, active: ActiveRun, scope: Scope, limit: int) -> int:
        job = registry.named(active.job)
        if not await self._database.read(store.has_free, active.id, scope=scope):
            await self._settle(job, active.id, scope)
            return 0
        run: Run = await self._database.read(store.run, active.id, scope=scope)
        scope = Scope(run.tenant, scope.actor, run.trace)
        most = (job.name, job.concurrency) if job.concurrency is not None else None
        leases: list[Lease] = await self._database.write(store.claim, run.id, self._membership.id, limit, most, scope=scope)
        for lease in leases:
            place = (lease.tenant, lease.run_id, lease.number)
            former = self._working.pop(place, None)
            self._giving_way.discard(place)
            if former is not None:
                former.cancel()
            task = asyncio.create_task(self._work(lease, job, run, scope))
            self._working[place] = task
            self._held[place] = Held(run.tenant, run.priority, self._runtime.clock.monotonic())
            task.add_done_callback(partial(self._ended, place))
        return len(leases)

    def _free(self) -> int:
        """How many partitions more may be worked on here."""
        taken = len(self._working) + len(self._planning)
        return self.ladder.partitions(self._settings.slots) - taken if self.ladder.may_claim else 0

    async def _partition(self, lease: Lease, job: Job, run: Run, scope: Scope) -> Partition:
        pace = partial(self._keep_pace, job, scope) if job.rate is not None else None
        means = Means(self.ladder, self._threads, self._settings.jobs, self._seam(job), pace)
        with contained():
            reader = await self._reader(job, run, scope)
        source = Source(run.params, self._database, scope, self._threads)
        return Partition(self._database, self._runtime, lease, job, reader, source, self._settings.target_s, means)

    async def _keep_pace(self, job: Job, scope: Scope, items: int, keep_going: KeepGoing) -> None:
        """Wait until the job's rate lets so many items begin; they have their place whoever waits besides."""
        clock, rate = self._runtime.clock, job.rate or 1.0
        longest_us = int(max(1.0, job.chunk / rate) * 1_000_000)
        now_us, now = clock.wall_us(), clock.monotonic()
        begin_us: int = await self._database.write(store.take_pace, job.name, int(items * 1_000_000 / rate), longest_us, scope=scope)
        begin = now + (begin_us - now_us) / 1_000_000
        while (left_s := begin - clock.monotonic()) > 0 and keep_going():
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

    async def _work(self, lease: Lease, job: Job, run: Run, scope: Scope) -> None:
        run_id = lease.run_id

        async def committed(done: Committed) -> None:
            self._count(job, done)
            if done.failed or done.finished:
                await self._settle(job, run_id, scope)

        me = asyncio.current_task()
        place = (lease.tenant, lease.run_id, lease.number)

        def keeps_going() -> bool:
            return self._keeps_going() and place not in self._giving_way and not self._is_one_too_many(me)

        try:
            partition = await self._partition(lease, job, run, scope)
            done = await partition.work(keeps_going, committed)
        except LeaseLost as lost:
            self._runtime.log.info("%s", lost)
            return
        except OutcomeUnknown as error:  # this life ends with it, and the partition is due for everybody
            self._runtime.log.warning("%s: %s", lease.words, error)
            return
        except (RunStopped, Unavailable) as stopped:
            self._runtime.log.info("%s", stopped)
        except ExecutorLost as lost:
            self._runtime.log.warning("a run is paused: %s", lost)
            with contextlib.suppress(NetraError):  # then it goes on, and is paused by the next one
                await self._database.write(store.park, run_id, model.words(lost), lease, scope=scope)
        except Exception as error:  # noqa: BLE001  (told in the run)
            await self._fail(run_id, scope, error, lease)
        else:
            if done:
                return
        await self._give_back(lease, scope)

    def _keeps_going(self) -> bool:
        return not self._stopping and not self._membership.quiet

    def _is_one_too_many(self, task: asyncio.Task[None] | None) -> bool:
        """Whether memory allows fewer partitions than are worked on, and this is one of the last begun."""
        allowed = self.ladder.partitions(self._settings.slots)
        return len(self._working) > allowed and task in [*self._working.values()][allowed:]

    def _count(self, job: Job, done: Committed) -> None:
        self._runtime.metrics.gauge(CHUNK_ITEMS, done.chunk_size, job=job.name)
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


def _scope_for(run: ActiveRun) -> Scope:
    return Scope(run.tenant, f"batch:{run.job}"[:200])
