"""`netra webhooks recover | replay | dead | cancel | cancel-backlog | expunge | task`: an operator's verbs over many messages.

What takes many transactions is a task. It is walked by a process with workers (`netra serve`, `netra worker`), not by the
command, which answers with the task and, with `--wait`, once that has ended.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

import typer

from ...errors import UsageError
from ...kernel.clock import SystemClock
from ...kernel.durations import parse_duration
from ...webhooks.model import TaskKind
from ..options import TENANT, Place, command, group
from ..output import NO, OK
from ..times import parse_time
from . import app
from .door import Door, Over, Shape, Status, entered

tasks = group("Look at operators' tasks, and cancel one.")
app.add_typer(tasks, name="task")

LOOK_EVERY_S: Final = 0.1
_OFTEN: Final = "may be repeated"

Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most this many.")]
Endpoint = Annotated[str, typer.Argument(metavar="EP", help="An endpoint's id or uid.")]
Since = Annotated[str, typer.Option("--since", metavar="T", help="Messages stored since then: 2h ago, or 2026-03-01T12:00:00Z.")]
Until = Annotated[str | None, typer.Option("--until", metavar="T", help="And before then; up to now, if left out.")]
Types = Annotated[list[str] | None, typer.Option("--type", metavar="X", help=f"Only this event type; {_OFTEN}.")]
Wait = Annotated[str | None, typer.Option("--wait", metavar="DURATION", help="Wait so long for its end; exit 1 if it has not finished.")]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for the audit trail.")]
TaskId = Annotated[str, typer.Argument(metavar="TASK", help="A task's id, qtask_...")]


@command(app, "recover", TENANT)
async def recover(place: Place, endpoint: Endpoint, since: Since, until: Until = None, wait: Wait = None) -> int:
    """Send an endpoint again what it missed: what was skipped while it was disabled, and dead letters."""
    return await _begin(place, "recover", _over(endpoint, since, until), wait)


@command(app, "replay", TENANT)
async def replay(
    place: Place,
    endpoint: Endpoint,
    since: Since,
    until: Until = None,
    event_type: Types = None,
    status: Annotated[Status | None, typer.Option("--status", help="Only what became that; whatever it became, if left out.")] = None,
    missing: Annotated[bool, typer.Option("--missing", help="What it wants and never had, because it was made later.")] = False,
    wait: Wait = None,
) -> int:
    """Send an endpoint again what it was sent, delivered or not; or, with --missing, what it never had."""
    if missing and (event_type or status):
        raise UsageError("--missing goes by what the endpoint wants", fix="Leave out --type and --status.")
    over = Over(endpoint, parse_time(since), _time(until), event_type or (), status)
    return await _begin(place, "replay_missing" if missing else "bulk_replay", over, wait)


@command(app, "dead", TENANT)
async def dead(
    place: Place,
    endpoint: Annotated[str | None, typer.Option("--endpoint", metavar="EP", help="Only to this one, by id or uid.")] = None,
    event_type: Types = None,
    since: Annotated[str | None, typer.Option("--since", metavar="T", help="Of messages stored since then.")] = None,
    until: Until = None,
    redrive: Annotated[bool, typer.Option("--redrive", help="Send them again, all that there are, and not only list them.")] = False,
    limit: Limit = 50,
    wait: Wait = None,
) -> int:
    """List dead letters, deliveries given up, with the reason; or send them again."""
    over = Over(endpoint, _time(since), _time(until), event_type or ())
    if redrive:
        return await _begin(place, "redrive", over, wait)
    async with entered(place) as door:
        found = await door.dead(over, limit)
    columns = {"message": "message", "endpoint": "endpoint", "attempts": "attempts", "last_status": "status", "reason": "reason"}
    place.output.rows("dead", found, columns, "There is no dead letter.")
    return OK


@command(app, "cancel", TENANT)
async def cancel(
    place: Place,
    message: Annotated[str, typer.Argument(metavar="MSG", help="A message's id, msg_...")],
    why: Why,
    endpoint: Annotated[str | None, typer.Option("--endpoint", metavar="EP", help="Only to this one, by id or uid.")] = None,
) -> int:
    """Cancel what of a message is due; exit 1 if an attempt is under way, which is not stopped."""
    async with entered(place) as door:
        found = await door.cancel(message, endpoint, why)
    under_way = f", under way to {', '.join(found['under_way'])}" if found["under_way"] else ""
    place.output.document(found, f"{message} is cancelled for {len(found['cancelled'])} endpoints{under_way}")
    return NO if found["under_way"] else OK


@command(app, "cancel-backlog", TENANT)
async def cancel_backlog(
    place: Place,
    endpoint: Endpoint,
    why: Why,
    since: Annotated[str | None, typer.Option("--since", metavar="T", help="Of messages stored since then.")] = None,
    until: Until = None,
    wait: Wait = None,
) -> int:
    """Cancel everything that waits for an endpoint, attempts that fail meanwhile included."""
    return await _begin(place, "cancel", Over(endpoint, _time(since), _time(until), why=why), wait)


@command(app, "expunge", TENANT)
async def expunge(
    place: Place,
    message: Annotated[str, typer.Argument(metavar="MSG", help="A message's id, msg_...")],
    attempt: Annotated[
        str | None, typer.Option("--attempt", metavar="ID", help="Erase what was answered to this attempt, not the payload.")
    ] = None,
) -> None:
    """Erase a message's payload: it stays as a record, and what was due of it is cancelled."""
    async with entered(place) as door:
        await door.expunge(message, attempt)
    place.output.document({"msgId": message, "attemptId": attempt}, f"the content of {attempt or message} is erased")


@command(tasks, "list", TENANT)
async def list_(place: Place, limit: Limit = 50) -> None:
    """List tasks, the newest first."""
    async with entered(place) as door:
        found = await door.tasks(limit)
    columns = {"task": "task", "kind": "kind", "state": "state", "endpoint": "endpoint", "messages": "messages", "changed": "changed"}
    place.output.rows("tasks", found, columns, "There is no task.")


@command(tasks, "show", TENANT)
async def show(place: Place, task: TaskId, wait: Wait = None) -> int:
    """Show how a task stands."""
    async with entered(place) as door:
        return await _told(place, door, await door.task(task), wait)


@command(tasks, "cancel", TENANT)
async def cancel_task(place: Place, task: TaskId, why: Why) -> None:
    """End a running task; what it has changed stays so, and it changes nothing more."""
    async with entered(place) as door:
        ended = await door.cancel_task(task, why)
    place.output.document(ended, _words(ended))


async def _begin(place: Place, kind: TaskKind, over: Over, wait: str | None) -> int:
    async with entered(place) as door:
        return await _told(place, door, await door.begin(kind, over), wait)


async def _told(place: Place, door: Door, task: Shape, wait: str | None) -> int:
    """Print the task: as it is, or at its end."""
    clock = SystemClock()
    ends = clock.monotonic() + (parse_duration(wait) if wait else 0.0)
    while wait and task["state"] == "running" and clock.monotonic() < ends:
        await clock.sleep(LOOK_EVERY_S)
        task = await door.task(task["task"])
    place.output.document(task, _words(task))
    return OK if not wait or task["state"] == "finished" else NO


def _words(task: Shape) -> str:
    reason = f": {task['reason']}" if task["reason"] else ""
    figures = f"{task['messages']} messages looked at, {task['changed']} deliveries changed"
    return f"{task['task']}  {task['kind']}  {task['state']}{reason}  {figures}"


def _over(endpoint: str, since: str, until: str | None) -> Over:
    return Over(endpoint, parse_time(since), _time(until))


def _time(text: str | None) -> datetime | None:
    return parse_time(text) if text is not None else None
