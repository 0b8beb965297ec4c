"""Routes of batches: start a run, look at it, follow it, decide about it. Errors are problem+json (RFC 9457)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from ..batch import schedules, store
from ..batch.service import HIGHEST_PRIORITY, MOST_BEFORE, MOST_PARTITIONS, failure_of, status_of
from ..batch.states import FINISHED
from ..kernel.ids import from_text
from ..storage.transaction import Tx
from .access import Access
from .pagination import DEFAULT_LIMIT, Limit
from .routing import Caller, answer, once, stream

router: Final = APIRouter(prefix="/api/v1/tenants/{tenant}/batch", tags=["Batches"])

FOLLOW_EVERY_S: Final = 0.25
KEEP_ALIVE_S: Final = 10.0
"""A comment is sent where nothing else was for so long, so that a proxy does not take the stream for dead."""

RunRef = Annotated[str, Path(description="A run's id, `run_...`.", max_length=64)]
ScheduleRef = Annotated[str, Path(description="A schedule's name.", max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
AfterName = Annotated[str, Query(max_length=200, description="The name of the last schedule that is known.")]
After = Annotated[str | None, Query(max_length=64, description="`partition:offset` of the last dead letter that is known.")]
AfterRun = Annotated[str | None, Query(max_length=64, description="The id of the last run that is known.")]


class RunIn(BaseModel):
    """A run to be started. The same job and key, or job and parameters where no key is given, are one run."""

    model_config = ConfigDict(extra="forbid")

    job: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
    params: dict[str, Any] = Field(default_factory=dict)
    key: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")] | None = None
    partitions: Annotated[int, Field(ge=1, le=MOST_PARTITIONS)] | None = None
    priority: Annotated[int, Field(ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY, description="Higher ones go first.")] | None = None
    after: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=MOST_BEFORE)] = Field(
        default_factory=list, description="Runs that must be completed before this one begins."
    )


class ScheduleIn(BaseModel):
    """When runs of a job are started by themselves."""

    model_config = ConfigDict(extra="forbid")

    job: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
    cron: Annotated[str, Field(max_length=200, description="crontab's five fields, such as `0 3 * * mon-fri`, or `@daily`.")]
    zone: Annotated[str, Field(max_length=64, description="The time zone (IANA) in which they are read.")] = "UTC"
    params: dict[str, Any] = Field(default_factory=dict)
    partitions: Annotated[int, Field(ge=1, le=MOST_PARTITIONS)] | None = None
    priority: Annotated[int, Field(ge=-HIGHEST_PRIORITY, le=HIGHEST_PRIORITY)] | None = None


@router.post("/runs", operation_id="netra.batch.start", status_code=201)
async def start_run(caller: Caller, body: RunIn) -> Response:
    """Start a run. Some worker must know the job (NETRA_BATCH_JOBS); until then it is queued."""
    batch = caller.edge.netra.batch

    async def make(tx: Tx) -> tuple[bytes, dict[str, Any]]:
        run = await batch.start(tx, body.job, body.params, body.key, partitions=body.partitions, priority=body.priority, after=body.after)
        run_id = from_text("run", run)
        return run_id, await again(tx, run_id)

    async def again(tx: Tx, ref: bytes) -> dict[str, Any]:
        run, totals = await store.run_and_totals(tx, ref)
        return status_of(run, totals, tx.now_us)

    shown, replayed = await once(caller, caller.scope, "POST /tenants/{tenant}/batch/runs", make, again)
    return answer(shown, 201, replayed=replayed)


@router.get("/runs", operation_id="netra.batch.list")
async def list_runs(caller: Caller, limit: Limit = DEFAULT_LIMIT, after: AfterRun = None) -> Response:
    """Runs, the newest first; `after` continues behind one."""
    place = None
    if after is not None:
        last = await caller.read(store.run, from_text("run", after))
        place = (last.created_us, last.id)
    found = await caller.read(store.runs, place, limit + 1)
    now_us = caller.edge.netra.runtime.clock.wall_us()
    data = [status_of(run, totals, now_us) for run, totals in found[:limit]]
    return answer({"data": data, "after": data[-1]["run"] if data else after, "done": len(found) <= limit})


@router.get("/runs/{run}", operation_id="netra.batch.get")
async def get_run(caller: Caller, run: RunRef) -> Response:
    """One run and its figures, of one moment."""
    return answer(await _status(caller, run))


@router.get("/runs/{run}/failures", operation_id="netra.batch.failures")
async def list_failures(caller: Caller, run: RunRef, limit: Limit = DEFAULT_LIMIT, after: After = None) -> Response:
    """Dead letters by partition and offset; `after` continues behind one."""
    run_id = from_text("run", run)
    await caller.read(store.run, run_id)
    number, _, offset = (after or "-1:-1").partition(":")
    place = (int(number), int(offset)) if _is_place(number) and _is_place(offset) else (-1, -1)
    found = await caller.read(store.failures, run_id, place, limit + 1)
    data = [failure_of(letter) for letter in found[:limit]]
    last = f"{data[-1]['partition']}:{data[-1]['offset']}" if data else after
    return answer({"data": data, "after": last, "done": len(found) <= limit})


@router.get("/runs/{run}/events", operation_id="netra.batch.events")
async def follow_run(caller: Caller, run: RunRef) -> Response:
    """The run's figures as server-sent events (HTML Standard, section 9.2): one `progress` at each change, `finished` at its end."""
    caller.edge.streams.check(caller.tenant.tenant)
    first = await _status(caller, run)
    return stream(caller, _events(caller, run, first))


@router.post("/runs/{run}/pause", operation_id="netra.batch.pause")
async def pause_run(caller: Caller, run: RunRef) -> Response:
    """Stop a run between two chunks; nothing of it is committed after this answer."""
    return await _decided(caller, run, "pause")


@router.post("/runs/{run}/resume", operation_id="netra.batch.resume")
async def resume_run(caller: Caller, run: RunRef) -> Response:
    """Go on with a paused or failed run, behind its cursors."""
    return await _decided(caller, run, "resume")


@router.post("/runs/{run}/cancel", operation_id="netra.batch.cancel")
async def cancel_run(caller: Caller, run: RunRef) -> Response:
    """End a run for good; what is committed stays."""
    return await _decided(caller, run, "cancel")


@router.post("/runs/{run}/rerun", operation_id="netra.batch.rerun", status_code=201)
async def rerun_run(caller: Caller, run: RunRef) -> Response:
    """Process a finished run's dead letters again, as a child run. Asked twice it is one child run."""
    child = await caller.write(store.rerun, from_text("run", run))
    return answer(await _shown(caller, child), 201)


@router.put("/schedules/{name}", operation_id="netra.batch.put-schedule")
async def put_schedule(caller: Caller, name: ScheduleRef, body: ScheduleIn) -> Response:
    """Start runs of a job at the times of a crontab expression, or change the schedule of that name. Each time gives one run."""
    batch = caller.edge.netra.batch

    async def make(tx: Tx) -> dict[str, Any]:
        return await batch.schedule(
            tx, name, body.job, body.cron, body.params, zone=body.zone, partitions=body.partitions, priority=body.priority
        )

    return answer(await caller.write(make))


@router.get("/schedules", operation_id="netra.batch.schedules")
async def list_schedules(caller: Caller, limit: Limit = DEFAULT_LIMIT, after: AfterName = "") -> Response:
    """Schedules in the order of their names; `after` continues behind one."""
    found = await caller.read(schedules.listed, after, limit + 1)
    data = [each.shape() for each in found[:limit]]
    return answer({"data": data, "after": data[-1]["name"] if data else after, "done": len(found) <= limit})


@router.get("/schedules/{name}", operation_id="netra.batch.schedule")
async def get_schedule(caller: Caller, name: ScheduleRef) -> Response:
    """One schedule, when it fires next, and its last run."""
    return answer((await caller.read(schedules.get, name)).shape())


@router.delete("/schedules/{name}", operation_id="netra.batch.remove-schedule", status_code=204)
async def remove_schedule(caller: Caller, name: ScheduleRef) -> Response:
    """End a schedule; runs that it has started go on."""
    await caller.write(schedules.remove, name)
    return Response(status_code=204)


async def _decided(caller: Access, run: str, event: str) -> Response:
    await caller.write(store.decide, from_text("run", run), event)
    return answer(await _status(caller, run))


async def _status(caller: Access, run: str) -> dict[str, Any]:
    return await _shown(caller, from_text("run", run))


async def _shown(caller: Access, run_id: bytes) -> dict[str, Any]:
    found, totals = await caller.read(store.run_and_totals, run_id)
    return status_of(found, totals, caller.edge.netra.runtime.clock.wall_us())


async def _events(caller: Access, run: str, shown: dict[str, Any]) -> AsyncIterator[bytes]:
    clock = caller.edge.netra.runtime.clock
    told, told_at = None, clock.monotonic()
    while not caller.edge.draining:
        ended = shown["state"] in FINISHED
        facts = {name: shown[name] for name in ("state", "done", "failed", "skipped", "total", "working", "restarts")}
        if facts != told:
            told, told_at = facts, clock.monotonic()
            yield b"event: %b\ndata: %b\n\n" % (b"finished" if ended else b"progress", orjson.dumps(shown))
        elif clock.monotonic() - told_at > KEEP_ALIVE_S:
            told_at = clock.monotonic()
            yield b": still here\n\n"
        if ended:
            return
        await clock.sleep(FOLLOW_EVERY_S)
        await caller.check_again()
        shown = await _status(caller, run)


def _is_place(text: str) -> bool:
    return text.removeprefix("-").isdecimal() and text.isascii() and len(text) <= 18
