"""Schedules: runs that a worker starts by themselves, at the times of a crontab expression."""

from __future__ import annotations

from typing import Annotated

import typer

from ..options import TENANT, Place, command
from . import app
from .door import entered
from .run import name_of, parameter_of

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule's name.")]
Job = Annotated[str, typer.Argument(metavar="MODULE:JOB", help="The job: an attribute of a module, or the name of a job in it.")]
Cron = Annotated[str, typer.Option("--cron", metavar="FIELDS", help="minute hour day month weekday, such as '0 3 * * mon-fri', or @daily.")]


@command(app, "schedule", TENANT)
async def schedule(
    place: Place,
    name: Name,
    job: Job,
    cron: Cron,
    zone: Annotated[str, typer.Option("--zone", metavar="ZONE", help="The time zone (IANA) in which they are read.")] = "UTC",
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="K=V", help="A parameter; a value that is JSON is taken so.")
    ] = None,
    partitions: Annotated[int | None, typer.Option("--partitions", min=1, help="Into how many parts the input is cut.")] = None,
    priority: Annotated[int | None, typer.Option("--priority", help="Runs of a higher priority go first.")] = None,
) -> None:
    """Start runs of a job by themselves, or change the schedule of that name. Each time gives one run."""
    given = dict(parameter_of(each) for each in param or ())
    facts = {"job": name_of(job), "cron": cron, "zone": zone, "params": given, "partitions": partitions, "priority": priority}
    async with entered(place) as door:
        made = await door.schedule(name, {key: value for key, value in facts.items() if value is not None})
    place.output.document(made, f"{made['name']}: {made['job']} at {made['cron']} ({made['zone']}), next at {made['next_at']}")


@command(app, "schedules", TENANT)
async def schedules(place: Place) -> None:
    """List schedules, and when each fires next."""
    async with entered(place) as door:
        found = await door.schedules()
    columns = {"name": "name", "job": "job", "cron": "cron", "zone": "zone", "next_at": "next at", "last_run": "last run"}
    place.output.rows("schedules", found, columns, "There is no schedule.")


@command(app, "unschedule", TENANT)
async def unschedule(place: Place, name: Name) -> None:
    """End a schedule; runs that it has started go on."""
    async with entered(place) as door:
        await door.unschedule(name)
    place.output.document({"name": name, "removed": True}, f"{name} fires no more.")
