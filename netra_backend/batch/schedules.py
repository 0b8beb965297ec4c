"""Schedules: runs that start by themselves at the times of a crontab expression.

Every worker looks which are due, and whoever gets a schedule's row first fires it: the run and the next time are one transaction, and
the run's key names the time, so each time gives one run, whatever is killed and however many workers look. Times that
nobody was there for are made up for by one run, of the last of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from ..errors import NotFound
from ..kernel.failpoints import declare
from ..kernel.ids import to_text
from ..storage.audit_append import audit_append
from ..storage.statements import Row
from ..storage.transaction import Tx
from . import cron, store

Q = store.Q

FIRED: Final = declare("batch.schedule_fired_before_commit", "a schedule's run is written and its next time too, nothing is committed")
AT_ONCE: Final = 100
_TABLE: Final = "netra_job_schedule"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A stored schedule."""

    id: bytes
    name: str
    state: str
    job: str
    cron: str
    zone: str
    params: Mapping[str, Any]
    partitions: int
    priority: int
    next_us: int
    run_id: bytes | None
    created_us: int
    updated_us: int

    def shape(self) -> dict[str, Any]:
        """The JSON of a schedule."""
        return {
            "name": self.name,
            "job": self.job,
            "cron": self.cron,
            "zone": self.zone,
            "params": dict(self.params),
            "partitions": self.partitions,
            "priority": self.priority,
            "next_at": _time(self.next_us),
            "last_run": to_text("run", self.run_id) if self.run_id is not None else None,
        }


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a schedule is to be."""

    name: str
    job: str
    cron: str
    zone: str
    params: Mapping[str, Any]
    partitions: int
    priority: int


async def put(tx: Tx, wanted: Wanted) -> Schedule:
    """Make a schedule, or change the one of that name; it fires at its next time from now on."""
    next_us = cron.parse(wanted.cron, wanted.zone).next_us(tx.now_us)
    former = await _held(tx, wanted.name)
    after: dict[str, Any] = {"name": wanted.name, "state": "on", "job": wanted.job, "cron": wanted.cron, "zone": wanted.zone}
    after |= {"params": dict(wanted.params), "partitions": wanted.partitions, "priority": wanted.priority}
    row_id = former.id if former is not None else tx.new_id()
    entry = await audit_append(tx, "schedule.put", row_id, table=_TABLE, before=_before(former), after=after)
    facts = {
        "id": row_id,
        "job": wanted.job,
        "cron": wanted.cron,
        "zone": wanted.zone,
        "params": store.text_of(wanted.params),
        "partitions": wanted.partitions,
        "priority": wanted.priority,
        "next_us": next_us,
        "now_us": tx.now_us,
        "audit_id": entry,
    }
    if former is None:
        await tx.execute(Q.insert_schedule, name=wanted.name, **facts)
    else:
        await tx.execute(Q.update_schedule, state="on", **facts)
    return await get(tx, wanted.name)


async def remove(tx: Tx, name: str) -> None:
    """It fires no more; runs that it has started go on."""
    found = await _held(tx, name)
    if found is None or found.state == "off":
        raise _unknown(name)
    entry = await audit_append(tx, "schedule.remove", found.id, table=_TABLE, before=_before(found), after={"state": "off"})
    facts = {"job": found.job, "cron": found.cron, "zone": found.zone, "params": store.text_of(found.params)}
    figures = {"partitions": found.partitions, "priority": found.priority, "next_us": found.next_us, "now_us": tx.now_us}
    await tx.execute(Q.update_schedule, id=found.id, state="off", audit_id=entry, **facts, **figures)


async def get(tx: Tx, name: str) -> Schedule:
    """The schedule of that name."""
    row = await tx.one(Q.get_schedule, name=name)
    found = None if row is None else _schedule(row)
    if found is None or found.state == "off":
        raise _unknown(name)
    return found


async def listed(tx: Tx, after: str, limit: int) -> list[Schedule]:
    """Schedules behind that name, in the order of names."""
    return [_schedule(row) for row in await tx.all(Q.list_schedules, after_name=after, limit=limit)]


async def due(tx: Tx, now_us: int, limit: int) -> list[tuple[str, str]]:
    """(tenant, name) of schedules whose time has come, the oldest first."""
    return [(row[0], row[1]) for row in await tx.all(Q.due_schedules, now_us=now_us, limit=limit)]


async def fire(tx: Tx, name: str, now_us: int) -> bytes | None:
    """Start the run of a schedule's time and move it on; None where somebody else has, or nobody wants it any more."""
    found = await _held(tx, name)
    if found is None or found.state == "off" or found.next_us > now_us:
        return None
    times = cron.parse(found.cron, found.zone)
    at_us = found.next_us
    next_us = times.next_us(now_us)
    last_us = _last(times, at_us, now_us)
    params = {**found.params, "scheduled_at": _time(last_us)}
    run_id, _ = await store.start(tx, found.job, f"cron:{found.name}:{_time(last_us)}", params, found.partitions, priority=found.priority)
    await tx.execute(Q.move_schedule, id=found.id, next_us=next_us, run_id=run_id)
    tx.runtime.failpoints.hit(FIRED)
    return run_id


def _last(times: cron.Cron, at_us: int, now_us: int) -> int:
    """The last time that is not behind now: found by halving, for a schedule of every minute may have missed a year."""
    low, high = at_us, now_us
    while high - low > 1_000_000:
        middle = (low + high) // 2
        if times.next_us(middle) <= now_us:
            low = middle
        else:
            high = middle
    return max(at_us, times.next_us(low)) if times.next_us(low) <= now_us else at_us


async def _held(tx: Tx, name: str) -> Schedule | None:
    row = await tx.one(Q.hold_schedule, name=name)
    return None if row is None else _schedule(row)


def _schedule(row: Row) -> Schedule:
    row_id, name, state, job, expression, zone, params, partitions, priority, next_us, run_id, created_us, updated_us = row
    figures = (partitions, priority, next_us, run_id, created_us, updated_us)
    return Schedule(row_id, name, state, job, expression, zone, store.value_of(params), *figures)


def _before(former: Schedule | None) -> dict[str, Any] | None:
    return None if former is None else {"state": former.state, "job": former.job, "cron": former.cron, "zone": former.zone}


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _unknown(name: str) -> NotFound:
    return NotFound(f"there is no schedule {name!r}")
