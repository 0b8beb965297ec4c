"""Batches as the rest of Netra sees them: start a run in a transaction, ask how it stands, decide about it."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from ..errors import InvalidInput, MissingTenant, NotFound
from ..kernel.ids import from_text, to_text
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope, system_scope
from ..resilience.memory_pressure import MemoryProbe
from ..storage.database import Database
from ..storage.membership import Membership
from ..storage.transaction import Tx
from . import registry, schedules, store
from .ladder import Ladder
from .model import DeadLetter, Run, RunId, Totals
from .registry import Job
from .settings import BatchSettings
from .worker import BatchWorker

LONGEST_KEY: Final = 256
MOST_PARTITIONS: Final = 10_000
MOST_BEFORE: Final = 100
HIGHEST_PRIORITY: Final = 1_000_000
_SCOPE: Final = system_scope("batch")

ScopeOf = Callable[[str | None], Awaitable[Scope]]
"""The scope of a named tenant, or the one that the caller has entered."""


class Batch:
    """`netra.batch`. `worker` is None where this process works on no partition."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        settings: BatchSettings,
        membership: Membership,
        scope_of: ScopeOf,
        worker: BatchWorker | None = None,
        probe: MemoryProbe | None = None,
    ) -> None:
        self.settings = settings
        self.worker = worker
        self.ladder = Ladder(runtime, probe)
        self._database = database
        self._runtime = runtime
        self._membership = membership
        self._scope_of = scope_of

    def new_worker(self, only: str | None = None, slots: int | None = None) -> BatchWorker:
        """A worker for this process, for one run or for all; the caller starts and stops it."""
        settings = self.settings if slots is None else replace(self.settings, slots=slots)
        chosen = from_text("run", only) if only is not None else None
        return BatchWorker(self._database, self._runtime, settings, self._membership, chosen, self.ladder)

    async def start(
        self,
        tx: Tx,
        job: Job | str,
        params: Mapping[str, Any] | None = None,
        key: str | None = None,
        *,
        partitions: int | None = None,
        priority: int | None = None,
        after: Sequence[str] = (),
    ) -> RunId:
        """Start a run in the caller's transaction and return its id: it exists iff that commits.

        A run's identity is its job and `key`, or its job and parameters where no key is given: the same start twice, at any time, is one
        run, and the second answers with the first one's id. `partitions` is into how many parts its input is cut. Runs of a higher
        `priority` go first (the job's, 0 unless it says otherwise). It begins when all runs in `after` are completed. A worker that has
        the job (this process, or one whose NETRA_BATCH_JOBS names its module) takes it up after the commit.
        """
        self._database.check_intake()
        name, wanted, rank = _asked(job, partitions, priority)
        given = _checked(params)
        chosen = _key(key, given)
        waits_for = [from_text("run", each) for each in after]
        if len(waits_for) > MOST_BEFORE:
            raise InvalidInput(f"{len(waits_for)} runs to come after", fix=f"Name at most {MOST_BEFORE}.")
        async with tx.verb():
            run_id, _ = await store.start(tx, name, chosen, given, wanted, priority=rank, waits_for=waits_for)
            tx.wake_others()
            return RunId(to_text("run", run_id), tx.tenant)

    async def schedule(
        self,
        tx: Tx,
        name: str,
        job: Job | str,
        cron: str,
        params: Mapping[str, Any] | None = None,
        *,
        zone: str = "UTC",
        partitions: int | None = None,
        priority: int | None = None,
    ) -> dict[str, Any]:
        """Start runs of a job at the times of a crontab expression, or change the schedule of that name; as it is then.

        Each time gives one run, whatever is killed and however many workers there are, with the parameter `scheduled_at` beside
        `params`. Times that nobody was there for are made up for by one run. See `cron` for what an expression may be.
        """
        if not 1 <= len(name) <= LONGEST_KEY - 32 or not name.isprintable():
            raise InvalidInput(f"{name!r} cannot name a schedule", fix=f"Use 1 to {LONGEST_KEY - 32} printable characters.")
        job_name, wanted, rank = _asked(job, partitions, priority)
        async with tx.verb():
            made = await schedules.put(tx, schedules.Wanted(name, job_name, cron, zone, _checked(params), wanted, rank))
            tx.wake_others()
            return made.shape()

    async def unschedule(self, tx: Tx, name: str) -> None:
        """End a schedule; runs that it has started go on."""
        async with tx.verb():
            await schedules.remove(tx, name)

    async def schedules(self, *, tenant: str | None = None, after: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """The tenant's schedules behind that name."""
        scope = await self._scope_of(tenant)
        return [each.shape() for each in await self._database.read(schedules.listed, after, limit, scope=scope)]

    async def status(self, run: str, *, tenant: str | None = None) -> dict[str, Any]:
        """How a run stands, of one moment: `{"run", "job", "state", "total", "done", "failed", "skipped", ...}`.

        `done + failed` is `total` when it is finished, and `skipped` are those of `done` for which nothing was to be written. `total`
        is None while nobody knows it.
        """
        scope, run_id = await self._found(run, tenant)
        found, totals = await self._database.read(store.run_and_totals, run_id, scope=scope)
        return status_of(found, totals, self._runtime.clock.wall_us())

    async def runs(self, *, tenant: str | None = None, after: tuple[int, bytes] | None = None, limit: int = 50) -> list[dict[str, Any]]:
        """The tenant's runs, the newest first."""
        scope = await self._scope_of(tenant)
        now_us = self._runtime.clock.wall_us()
        return [status_of(run, totals, now_us) for run, totals in await self._database.read(store.runs, after, limit, scope=scope)]

    async def failures(
        self, run: str, *, tenant: str | None = None, after: tuple[int, int] = (-1, -1), limit: int = 100
    ) -> list[dict[str, Any]]:
        """Dead letters of a run behind `after` (partition, offset), in that order."""
        scope, run_id = await self._found(run, tenant)
        await self._database.read(store.run, run_id, scope=scope)
        letters: list[DeadLetter] = await self._database.read(store.failures, run_id, after, limit, scope=scope)
        return [failure_of(letter) for letter in letters]

    async def pause(self, run: str, *, tenant: str | None = None) -> str:
        """Stop a run between two chunks; nothing of it is committed after this has answered. Its new state."""
        return await self._decide(run, tenant, "pause")

    async def resume(self, run: str, *, tenant: str | None = None) -> str:
        """Go on with a paused or failed run behind its cursors. Its new state."""
        return await self._decide(run, tenant, "resume")

    async def cancel(self, run: str, *, tenant: str | None = None) -> str:
        """End a run for good, between two chunks; what is committed stays. Its new state."""
        return await self._decide(run, tenant, "cancel")

    async def rerun(self, run: str, *, tenant: str | None = None) -> RunId:
        """Process the dead letters of a finished run again, as a child run; its id. Asked twice it is one child run."""
        scope, run_id = await self._found(run, tenant)
        made: bytes = await self._database.write(store.rerun, run_id, scope=scope)
        return RunId(to_text("run", made), scope.tenant)

    async def _decide(self, run: str, tenant: str | None, event: str) -> str:
        scope, run_id = await self._found(run, tenant)
        state: str = await self._database.write(store.decide, run_id, event, scope=scope)
        return state

    async def _found(self, run: str, tenant: str | None) -> tuple[Scope, bytes]:
        run_id = from_text("run", run)
        named = tenant or getattr(run, "tenant", None)
        try:
            return await self._scope_of(named), run_id
        except MissingTenant:
            owner = await self._database.read(store.tenant_of, run_id, scope=_SCOPE)
            if owner is None:
                raise NotFound(f"there is no run {run}") from None
            return await self._scope_of(owner), run_id


def status_of(run: Run, totals: Totals, now_us: int) -> dict[str, Any]:
    """The JSON of a run."""
    ended = totals.done + totals.failed
    finished = run.state in {"completed", "completed_with_failures"}
    seconds = ((run.finished_us or now_us) - run.started_us) / 1_000_000 if run.started_us is not None else 0.0
    total = ended if finished else totals.total
    rate = ended / seconds if seconds > 0 else 0.0
    return {
        "run": str(run.text_id),
        "job": run.job,
        "key": run.key,
        "params": dict(run.params),
        "parent": to_text("run", run.parent) if run.parent is not None else None,
        "state": run.state,
        "reason": run.reason,
        "total": total,
        "done": totals.done,
        "failed": totals.failed,
        "skipped": totals.skipped,
        "restarts": totals.restarts,
        "seconds": round(seconds, 3),
        "rate": round(rate, 1),
        "eta_s": round((total - ended) / rate, 1) if total is not None and rate and run.state == "running" else None,
        "partitions": totals.partitions,
        "open_partitions": totals.open,
        "working": totals.working,
        "chunk": totals.chunk_size,
        "priority": run.priority,
        "after": [to_text("run", each) for each in run.waits_for],
        "memory_level": totals.memory_level,
        "executor": totals.executor,
        "created_us": run.created_us,
        "trace_id": run.trace.trace_id,
    }


def failure_of(letter: DeadLetter) -> dict[str, Any]:
    """The JSON of a dead letter."""
    return {
        "partition": letter.partition,
        "offset": letter.offset,
        "key": letter.key,
        "cause": letter.cause,
        "error": letter.error,
        "attempts": letter.attempts,
        "payload": letter.payload,
    }


def _asked(job: Job | str, partitions: int | None, priority: int | None) -> tuple[str, int, int]:
    """The job's name, how many partitions, and which priority: as asked, or as the job says where it is known here."""
    name = job.name if isinstance(job, Job) else job
    known = job if isinstance(job, Job) else registry.JOBS.get(name)
    wanted = partitions if partitions is not None else known.partitions if known is not None else 1
    rank = priority if priority is not None else known.priority if known is not None else 0
    if not 1 <= wanted <= MOST_PARTITIONS:
        raise InvalidInput(f"{wanted} partitions", fix=f"Ask for 1 to {MOST_PARTITIONS}.")
    if abs(rank) > HIGHEST_PRIORITY:
        raise InvalidInput(f"the priority {rank}", fix=f"Give a whole number from -{HIGHEST_PRIORITY} to {HIGHEST_PRIORITY}.")
    return name, wanted, rank


def _checked(params: Mapping[str, Any] | None) -> dict[str, Any]:
    try:
        given: dict[str, Any] = orjson.loads(orjson.dumps(dict(params or {})))
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the parameters are not JSON: {error}", fix="Pass texts, numbers, lists and dicts.") from error
    return given


def _key(key: str | None, params: Mapping[str, Any]) -> str:
    if key is None:
        return "params:" + hashlib.sha256(orjson.dumps(params, option=orjson.OPT_SORT_KEYS)).hexdigest()
    if not 1 <= len(key) <= LONGEST_KEY or not key.isprintable():
        raise InvalidInput(f"a key must be 1 to {LONGEST_KEY} printable characters", fix="Use an id of plain letters and digits.")
    return key
