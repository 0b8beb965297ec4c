"""Runs and partitions: start, plan, claim, release, decide, end, and what lists show.

A partition is worked on under a lease: `claim` raises its fence and names this node, and everything that changes it afterwards
asks for both (`chunks.commit`). A partition whose owner is no living node may be claimed by anybody, which is found by
looking, so a killed process needs nobody to clean up after it.

The run's row is changed by decisions and by its beginning and end only. Its figures are sums over its partitions, whose rows the
chunks' own transactions change, so that no two processes ever wait for one counter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from ..errors import NotFound
from ..kernel.failpoints import declare
from ..kernel.ids import to_text
from ..kernel.scope import TraceContext
from ..storage import debug_marks, nodes
from ..storage.audit_append import audit_append
from ..storage.statements import Row, Statements
from ..storage.transaction import Tx
from .errors import LeaseLost, NothingToRerun
from .model import ActiveRun, DeadLetter, Lease, Part, Run, Totals
from .states import FINISHED, RUN

Q = Statements(__package__)

ACTIVE_AT_ONCE: Final = 1000
ACTIVE_OF_EACH: Final = 50
WAITING_AT_ONCE: Final = 200
_BEFORE_ALL: Final = b"\xff" * 16

PLANNED: Final = declare("batch.planned_before_commit", "a run's partitions are written, nothing is committed")
CLAIMED: Final = declare("batch.claimed_before_commit", "partitions are leased to this node, nothing is committed")
RELEASED: Final = declare("batch.released_before_commit", "a partition is given back, nothing is committed")
ENDED: Final = declare("batch.run_ended_before_commit", "the run has its last state, nothing is committed")


async def start(
    tx: Tx,
    job: str,
    key: str,
    params: Mapping[str, Any],
    partitions: int,
    parent: bytes | None = None,
    *,
    priority: int = 0,
    waits_for: Sequence[bytes] = (),
) -> tuple[bytes, bool]:
    """The run of this job with this key, made if there is none; its id, and whether it was made."""
    row = await tx.one(Q.run_by_key, job=job, key=key)
    if row is not None:
        return row[0], False
    known = await states_of(tx, waits_for)
    if missing := [each for each in waits_for if each not in known]:
        raise _no_run(missing[0])
    run_id = tx.new_id()
    after = {"job": job, "key": key, "params": dict(params)}
    entry = await audit_append(tx, "run.rerun" if parent else "run.start", run_id, table="netra_job_run", after=after)
    trace = tx.scope.trace
    if not trace.trace_id:
        trace = TraceContext(tx.new_id().hex(), tx.new_id()[8:].hex())
    await tx.execute(
        Q.insert_run,
        id=run_id,
        job=job,
        key=key,
        params=text_of(params),
        parent=parent,
        wanted=partitions,
        now_us=tx.now_us,
        trace_id=trace.trace_id,
        span_id=trace.span_id,
        audit_id=entry,
        priority=priority,
        waits_for=text_of([each.hex() for each in waits_for]),
    )
    await debug_marks.mark(tx, [run_id])
    return run_id, True


async def states_of(tx: Tx, runs: Sequence[bytes]) -> dict[bytes, str]:
    """The states of those of these runs that there are."""
    return {row[0]: row[1] for row in await tx.all(Q.states_of_runs, rows=[(each,) for each in runs])} if runs else {}


async def rerun(tx: Tx, run_id: bytes) -> bytes:
    """The child run for a finished run's dead letters. A finished run's never change, so they may be counted first."""
    parent, found = await run_and_totals(tx, run_id)
    if parent.state not in RUN.terminal:
        raise NothingToRerun(f"{parent.text_id} is {parent.state}", fix="Wait for its end, or cancel it; a failed one may be resumed.")
    if not found.failed:
        raise NothingToRerun(f"{parent.text_id} has no dead letters")
    made, _ = await start(tx, parent.job, f"rerun:{parent.text_id}", parent.params, 1, parent=parent.id)
    tx.wake_others()
    return made


async def plan(tx: Tx, run_id: bytes, parts: Sequence[Part], chunk_size: int) -> bool:
    """Write a queued run's partitions and let it begin; False where another process did. One that was paused keeps those it has."""
    if not await tx.execute(Q.begin_run, id=run_id, partitions=len(parts), now_us=tx.now_us):
        return False
    rows = [(number, text_of(part.spec), part.total) for number, part in enumerate(parts)]
    if parts:
        await tx.execute(Q.insert_partitions, run_id=run_id, rows=rows, chunk_size=chunk_size)
    announce(tx, "run.started", run_id)
    tx.runtime.failpoints.hit(PLANNED)
    return True


async def active(tx: Tx, jobs: Sequence[str]) -> list[ActiveRun]:
    """Runs of these jobs of all tenants that are queued or running: each tenant's first ones, then each one's second, and so on.

    Without those that wait for others.
    """
    rows = await tx.all(Q.active_runs, jobs=[(each,) for each in jobs], each=ACTIVE_OF_EACH, limit=ACTIVE_AT_ONCE)
    return [
        ActiveRun(tenant, run_id, job, state, partitions, priority, place=place)
        for place, (tenant, run_id, job, state, partitions, priority) in enumerate(rows)
    ]


async def count_under_way(tx: Tx) -> int:
    """How many runs of all tenants are queued or running, whatever their job; a thousand stand for more."""
    row = await tx.one(Q.count_under_way, limit=ACTIVE_AT_ONCE)
    return int(row[0]) if row is not None else 0


async def waiting(tx: Tx, jobs: Sequence[str], after: tuple[str, bytes]) -> list[ActiveRun]:
    """Queued runs of these jobs that come after others, behind `after` (tenant, id), at most `WAITING_AT_ONCE`."""
    names = [(each,) for each in jobs]
    rows = await tx.all(Q.waiting_runs, jobs=names, after_tenant=after[0], after_id=after[1], limit=WAITING_AT_ONCE)
    return [
        ActiveRun(tenant, run_id, job, state, partitions, priority, _ids(waits_for), ACTIVE_AT_ONCE + place)
        for place, (tenant, run_id, job, state, partitions, priority, waits_for) in enumerate(rows)
    ]


async def has_free(tx: Tx, run_id: bytes) -> bool:
    """Whether a partition of the run is nobody's, or a dead node's."""
    return await tx.one(Q.free_partition, run_id=run_id) is not None


async def claim(tx: Tx, run_id: bytes, node: bytes, limit: int, most: tuple[str, int] | None = None) -> list[Lease]:
    """Lease up to `limit` free partitions of a running run to `node`; none if the node is dead or the run is not running.

    `most` is a job and how many partitions of it the tenant may have worked on at once, in all processes together.
    """
    if most is not None:
        await tx.all(Q.hold_runs_of_job, job=most[0])
        row = await tx.one(Q.working_of_job, job=most[0])
        limit = min(limit, most[1] - int(row[0] if row else 0))
    if limit < 1 or await tx.one(Q.run_that_runs, id=run_id) is None or not await nodes.is_live(tx, node):
        return []
    rows = await tx.all(Q.claim_partitions, run_id=run_id, node=node, limit=limit)
    tx.runtime.failpoints.hit(CLAIMED)
    return [
        Lease(tx.tenant, run_id, number, node, fence, value_of(spec), value_of(cursor), position, *learned)
        for number, fence, spec, cursor, position, *learned in sorted(rows)
    ]


async def take_pace(tx: Tx, job: str, step_us: int, longest_us: int) -> int:
    """Take the job's next `step_us` microseconds, of all processes together; at which instant they begin, by the wall clock.

    Nobody takes more than `longest_us` at once, and none of those who work takes more before these have passed.
    """
    working = await tx.one(Q.working_of_job, job=job)
    furthest_us = tx.now_us + longest_us * (1 + int(working[0] if working else 0))
    row = await tx.one(Q.take_pace, job=job, now_us=tx.now_us, step_us=step_us, furthest_us=furthest_us)
    assert row is not None  # an upsert returns its row
    return int(row[0]) - step_us


async def spec(tx: Tx, run_id: bytes, number: int) -> Any:
    """What a partition's reader planned for it."""
    row = await tx.one(Q.partition_spec, run_id=run_id, number=number)
    return value_of(row[0]) if row else None


async def begin_to_write(tx: Tx, lease: Lease) -> int:
    """Note that a chunk out of quarantine is about to be written; how often that was begun since the last commit. `LeaseLost`."""
    row = await tx.one(Q.begin_to_write, run_id=lease.run_id, number=lease.number, node=lease.node, fence=lease.fence)
    if row is None:
        raise LeaseLost(f"{lease.words} is another process's by now")
    return int(row[0])


async def release(tx: Tx, lease: Lease) -> bool:
    """Give a partition back; False if it was lost before."""
    given = await tx.execute(Q.release_partition, run_id=lease.run_id, number=lease.number, node=lease.node, fence=lease.fence)
    tx.runtime.failpoints.hit(RELEASED)
    return given > 0


async def decide(tx: Tx, run_id: bytes, event: str, reason: str | None = None) -> str:
    """Pause, resume or cancel, as somebody asked; the new state, or `IllegalTransition`."""
    row = await tx.one(Q.hold_run, id=run_id)
    if row is None:
        raise _no_run(run_id)
    state = RUN.after(event, row[0])
    before, after = {"state": row[0]}, {"state": state}
    entry = await audit_append(tx, f"run.{event}", run_id, table="netra_job_run", before=before, after=after)
    finished_us = tx.now_us if state in FINISHED else None
    await tx.execute(Q.decide_run, id=run_id, state=state, audit_id=entry, finished_us=finished_us, reason=reason)
    if event == "resume":
        await tx.execute(Q.forgive_crashes, run_id=run_id)
    if state in FINISHED:
        announce(tx, "run.finished", run_id, state=state)
    return state


async def settle(tx: Tx, run_id: bytes, too_many: Callable[[int, int], str]) -> str | None:
    """End a running run that has too many dead letters, or whose partitions are all done; its last state, None if it goes on.

    `too_many(failed, ended)` gives the reason. A partition that is done stays so, and a dead letter too, so what is counted here
    holds until the commit.
    """
    found = await totals(tx, run_id)
    reason = too_many(found.failed, found.done + found.failed)
    if found.open and not reason:
        return None
    event = "fail" if reason else "complete_with_failures" if found.failed else "complete"
    state = RUN.transitions[event][1]
    return state if await _end(tx, run_id, state, reason or None) else None


async def holds(tx: Tx, lease: Lease) -> bool:
    """Whether this lease's node lives and the partition is still its own, and both stays so until this transaction ends."""
    given = {"run_id": lease.run_id, "number": lease.number, "node": lease.node, "fence": lease.fence}
    return await tx.one(Q.hold_partition, **given) is not None


async def park(tx: Tx, run_id: bytes, reason: str, lease: Lease) -> bool:
    """Pause a run that cannot go on just now, by whoever holds a partition of it; False where that changed nothing.

    A decision like any other, so it has its entry: nobody resumes it but by one.
    """
    row = await tx.one(Q.hold_run, id=run_id)
    if row is None or row[0] != "running" or not await holds(tx, lease):
        return False
    await decide(tx, run_id, "pause", reason[:2000])
    return True


async def fail(tx: Tx, run_id: bytes, reason: str, lease: Lease | None) -> bool:
    """End a run as failed: by whoever holds a partition of it, or while it is queued by whoever could not plan it.

    False where nothing was changed: the lease is lost, or the run has begun, ended, or was paused or cancelled meanwhile.
    """
    if lease is not None:
        entitled = await holds(tx, lease)
    else:
        row = await tx.one(Q.hold_run, id=run_id)
        entitled = row is not None and row[0] == RUN.initial
    return entitled and await _end(tx, run_id, RUN.transitions["fail"][1], reason[:2000])


async def _end(tx: Tx, run_id: bytes, state: str, reason: str | None) -> bool:
    if not await tx.execute(Q.end_run, id=run_id, state=state, now_us=tx.now_us, reason=reason):
        return False
    announce(tx, "run.finished", run_id, state=state)
    tx.runtime.failpoints.hit(ENDED)
    return True


def announce(tx: Tx, kind: str, run_id: bytes, **facts: Any) -> None:
    """Tell the log what became of a run."""
    tx.emit("events", {"type": kind, "run": to_text("run", run_id), **facts})


async def run(tx: Tx, run_id: bytes) -> Run:
    """One run of the scope's tenant."""
    row = await tx.one(Q.get_run, id=run_id)
    if row is None:
        raise _no_run(run_id)
    return _run(row)


async def run_and_totals(tx: Tx, run_id: bytes) -> tuple[Run, Totals]:
    """A run and its figures."""
    return await run(tx, run_id), await totals(tx, run_id)


async def runs(tx: Tx, at: tuple[int, bytes] | None, limit: int) -> list[tuple[Run, Totals]]:
    """Runs with their figures, the newest first, behind `at` (created_us, id)."""
    start_at = at or (2**62, _BEFORE_ALL)
    found = [_run(row) for row in await tx.all(Q.list_runs, created_us=start_at[0], id=start_at[1], limit=limit)]
    return [(each, await totals(tx, each.id)) for each in found]


async def totals(tx: Tx, run_id: bytes) -> Totals:
    """The sums over the run's partitions."""
    row = await tx.one(Q.totals, run_id=run_id)
    assert row is not None  # an aggregate has a row
    partitions, is_open, done, failed, skipped, restarts, known, total, *now = row
    whole = total if partitions and known == partitions else None
    return Totals(partitions, is_open, done, failed, skipped, restarts, whole, *now)


async def tenant_of(tx: Tx, run_id: bytes) -> str | None:
    """Whose run it is, if there is one."""
    row = await tx.one(Q.tenant_of_run, id=run_id)
    return str(row[0]) if row else None


async def failures(tx: Tx, run_id: bytes, after: tuple[int, int], limit: int) -> list[DeadLetter]:
    """Dead letters behind `after` (partition, offset), in that order."""
    rows = await tx.all(Q.list_failures, run_id=run_id, after_number=after[0], after_position=after[1], limit=limit)
    return [_dead_letter(row) for row in rows]


async def count_failures(tx: Tx, run_id: bytes) -> int:
    """How many dead letters a run has."""
    row = await tx.one(Q.count_failures, run_id=run_id)
    return int(row[0]) if row else 0


def _run(row: Row) -> Run:
    tenant, run_id, job, key, params, *rest, trace_id, span_id, priority, waits_for = row
    more = {"trace": TraceContext(trace_id, span_id), "priority": priority, "waits_for": _ids(waits_for)}
    parent, state, wanted, partitions, reason, created_us, started_us, finished_us = rest
    times = (created_us, started_us, finished_us)
    return Run(tenant, run_id, job, key, value_of(params), parent, state, wanted, partitions, reason, *times, **more)


def _ids(text: str) -> tuple[bytes, ...]:
    return tuple(bytes.fromhex(each) for each in value_of(text))


def _dead_letter(row: Row) -> DeadLetter:
    number, position, key, place, payload, exact, cause, error, attempts = row
    return DeadLetter(number, position, key, value_of(place), value_of(payload), bool(exact), cause, error, attempts)


def _no_run(run_id: bytes) -> NotFound:
    return NotFound(f"there is no run {to_text('run', run_id)}")


def text_of(value: Any) -> str:
    """As it is stored."""
    return orjson.dumps(value).decode()


def value_of(text: str | None) -> Any:
    """What was stored so."""
    return None if text is None else orjson.loads(text)
