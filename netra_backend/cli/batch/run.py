"""`netra batch run`: a job in this terminal. Ctrl-C ends it between two chunks with exit code 130, and the same command goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from ...errors import InvalidInput
from ..options import TENANT_DATABASE, Place, command
from ..output import INTERRUPTED
from ..recycling import replaced
from . import app
from .door import RemoteDoor, Shape
from .progress import Progress, exit_code_of, words_of

if TYPE_CHECKING:
    from ...batch import Job
    from ...netra import Netra

EITHER: Final = (*TENANT_DATABASE, "server")
"""Without the option for the API key: `--key` is one of this command's own."""

LOOK_EVERY_S: Final = 0.1
RECYCLED: Final = -1
"""No exit code: memory is nearly at its end, and a fresh process is to go on."""
OVER: Final = frozenset({"completed", "completed_with_failures", "failed", "cancelled", "paused"})

Reference = Annotated[str, typer.Argument(metavar="MODULE:JOB", help="The job: an attribute of a module, or the name of a job in it.")]
Workers = Annotated[int, typer.Option("--workers", min=1, max=64, help="How many processes work on it, this one included.")]


@command(app, "run", EITHER)
async def run(
    place: Place,
    job: Reference,
    param: Annotated[
        list[str] | None, typer.Option("--param", metavar="K=V", help="A parameter; a value that is JSON is taken so.")
    ] = None,
    partitions: Annotated[int | None, typer.Option("--partitions", min=1, help="Into how many parts its input is cut.")] = None,
    workers: Workers = 1,
    key: Annotated[
        str | None, typer.Option("--key", metavar="K", help="The run's identity, in place of its parameters; with --server the API key.")
    ] = None,
    run_key: Annotated[str | None, typer.Option("--run-key", metavar="K", help="The run's identity, also with --server.")] = None,
) -> int:
    """Run a job to its end, or go on with the run that this very command began before.

    A run is known by its job and parameters (or --key), so the same command never begins a second one: it resumes one that was
    interrupted, killed or failed, and tells the outcome of one that has ended. Exit code 3: finished with dead letters.
    With --server the server's workers do the work and this follows it; Ctrl-C then ends the following alone.
    """
    if place.server:
        given = dict(parameter_of(each) for each in param or ())
        place = replace(place, key=key or os.environ.get("NETRA_OPERATOR_KEY"))
        return await _at_a_server(place, {"job": name_of(job), "params": given, "key": run_key, "partitions": partitions})
    found = _job(job)
    given = dict(parameter_of(each) for each in param or ())
    parts = partitions if partitions is not None else max(found.partitions, workers)
    from ..session import new_netra, scope_of

    place.the_tenant()
    async with new_netra(place, workers=False, role="cli") as netra:
        tenant = (await scope_of(netra, place)).tenant

        async def start(tx: Any) -> str:
            return await netra.batch.start(tx, found, given, run_key or key, partitions=parts)

        with netra.scope(tenant=tenant, actor=_actor()):
            run_id: str = await netra.write(start, tenant=tenant)
            status = await netra.batch.status(run_id, tenant=tenant)
            if status["state"] == "failed":
                place.output.note(f"It failed before ({status['reason']}); going on behind its last commit.")
                await netra.batch.resume(run_id, tenant=tenant)
            place.output.note(f"{run_id} of {tenant}: Ctrl-C ends it between two chunks, and the same command goes on.")
        command_line = _child(place, run_id, job, tenant)
        code = await _work(place, netra, tenant, run_id, [command_line] * (workers - 1))
    return replaced(place) if code == RECYCLED else code


async def _at_a_server(place: Place, asked: Shape) -> int:
    from ..rest import connected

    async with connected(place) as client:
        door = RemoteDoor(client, place.the_tenant())
        status = await door.start({name: value for name, value in asked.items() if value is not None})
        run_id = status["run"]
        if status["state"] == "failed":
            place.output.note(f"It failed before ({status['reason']}); going on behind its last commit.")
            await door.decide(run_id, "resume")
        place.output.note(f"{run_id}: the server works on it; Ctrl-C ends the watching, and the same command takes it up again.")
        with Progress(quiet=place.as_json) as progress:
            async for status in door.follow(run_id):
                progress.show(status)
                if status["state"] == "paused":
                    break
    place.output.document(status, words_of(status))
    return exit_code_of(status)


def name_of(reference: str) -> str:
    """The name of a job that may be the server's alone: what is behind the colon, unless the module is here and knows better."""
    from ...batch.errors import UnknownJob

    try:
        return _job(reference).name
    except (InvalidInput, UnknownJob):
        if not reference.partition(":")[2]:
            raise
        return reference.partition(":")[2]


@command(app, "work", TENANT_DATABASE)
async def work(place: Place, run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id.")], job: Reference) -> int:
    """Work on a run that somebody else has started, from any machine with its database and its job, until it ends."""
    _job(job)
    from ..session import new_netra, scope_of

    async with new_netra(place, workers=False, role="cli") as netra:
        tenant = (await scope_of(netra, place)).tenant
        code = await _work(place, netra, tenant, run_id, [])
    return replaced(place) if code == RECYCLED else code


async def _work(place: Place, netra: Netra, tenant: str, run_id: str, others: Sequence[Sequence[str]]) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    worker = netra.batch.new_worker(only=run_id)
    recycles = False
    status = await netra.batch.status(run_id, tenant=tenant)
    if status["state"] not in OVER:
        await worker.start()
        try:
            with _helpers(others), Progress(quiet=place.as_json) as progress:
                while status["state"] not in OVER and not stop.is_set() and not recycles:
                    progress.show(status)
                    recycles = worker.ladder.recycles
                    await netra.runtime.clock.sleep(LOOK_EVERY_S)
                    status = await netra.batch.status(run_id, tenant=tenant)
        finally:
            await worker.stop()
        status = await netra.batch.status(run_id, tenant=tenant)
    if recycles and status["state"] not in OVER and not stop.is_set():
        return RECYCLED
    place.output.document(status, words_of(status))
    if status["state"] == "paused":
        place.output.note(f"It is paused: netra batch resume {run_id}")
    return INTERRUPTED if stop.is_set() and status["state"] not in OVER else exit_code_of(status)


@contextmanager
def _helpers(commands: Sequence[Sequence[str]]) -> Iterator[None]:
    """Other processes beside this one, which end when it does."""
    helpers = [subprocess.Popen(each, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL) for each in commands]  # noqa: S603  (ourselves)
    try:
        yield
    finally:
        for helper in helpers:
            helper.send_signal(signal.SIGINT)
        for helper in helpers:
            helper.wait()


def _child(place: Place, run_id: str, job: str, tenant: str) -> list[str]:
    given = {"--data": place.data, "--database-url": place.database_url, "--config": place.config, "--tenant": tenant}
    options = [word for name, value in given.items() if value is not None for word in (name, str(value))]
    return [sys.executable, "-m", "netra_backend.cli.main", "batch", "work", run_id, job, "--json", *options]


def _job(reference: str) -> Job:
    from ...batch.registry import find
    from ..session import look_here

    look_here()
    return find(reference)


def parameter_of(text: str) -> tuple[str, Any]:
    """`K=V` as a name and a value."""
    import orjson

    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidInput(f"{text!r} is not K=V", fix="Write, for example, --param year=2013.")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value


def _actor() -> str:
    from ..options import actor

    return actor()
