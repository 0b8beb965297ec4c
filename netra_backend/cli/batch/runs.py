"""Looking at runs and deciding about them, in the database or through a server."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ...errors import InvalidInput
from ..options import TENANT, Place, command
from . import app
from .door import entered
from .progress import Progress, exit_code_of, words_of

RunRef = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, run_...")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")]


@command(app, "list", TENANT)
async def list_(place: Place, limit: Limit = 50) -> None:
    """List runs, the newest first."""
    async with entered(place) as door:
        found = await door.runs(limit)
    columns = {"run": "run", "job": "job", "state": "state", "done": "done", "failed": "failed", "total": "total", "seconds": "seconds"}
    place.output.rows("runs", found, columns, "There is no run.")


@command(app, "show", TENANT)
async def show(place: Place, run: RunRef) -> None:
    """Show a run and its figures."""
    async with entered(place) as door:
        status = await door.status(run)
    place.output.document(status, "\n".join(f"{name:<16} {'' if value is None else value}" for name, value in status.items()))


@command(app, "watch", TENANT)
async def watch(place: Place, run: RunRef) -> int:
    """Follow a run to its end. With --json one line for each change. Exit code as that of `batch run`."""
    status: dict[str, Any] = {}
    async with entered(place) as door:
        with Progress(quiet=place.as_json) as progress:
            async for status in door.follow(run):
                progress.show(status)
                if place.as_json:
                    place.output.event(status, "")
    if not place.as_json:
        place.output.document(status, words_of(status))
    return exit_code_of(status)


@command(app, "failures", TENANT)
async def failures(place: Place, run: RunRef, limit: Limit = 100) -> None:
    """List dead letters: items that are in no output, with the cause."""
    async with entered(place) as door:
        found = await door.failures(run, limit)
    columns = {"key": "key", "cause": "cause", "attempts": "attempts", "error": "error", "payload": "item"}
    place.output.rows("failures", found, columns, "There is no dead letter.")


@command(app, "pause", TENANT)
async def pause(place: Place, run: RunRef) -> None:
    """Stop a run between two chunks; nothing of it is committed once this has answered."""
    await _decide(place, run, "pause")


@command(app, "resume", TENANT)
async def resume(place: Place, run: RunRef) -> None:
    """Let a paused or failed run go on behind its last commit."""
    await _decide(place, run, "resume")


@command(app, "cancel", TENANT)
async def cancel(place: Place, run: RunRef) -> None:
    """End a run for good; what is committed stays."""
    await _decide(place, run, "cancel")


@command(app, "rerun", TENANT)
async def rerun(
    place: Place,
    run: RunRef,
    failed: Annotated[bool, typer.Option("--failed", help="Only its dead letters: there is nothing else to rerun.")] = False,
) -> None:
    """Process a finished run's dead letters again, as a child run that a worker takes up."""
    if not failed:
        raise InvalidInput("a whole run is not run again", fix="Say --failed for its dead letters, or start it with another --key.")
    await _decide(place, run, "rerun")


async def _decide(place: Place, run: str, event: str) -> None:
    async with entered(place) as door:
        status = await door.decide(run, event)
    place.output.document(status, words_of(status))
