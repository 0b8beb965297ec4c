"""`netra worker`: what `netra serve` does beside its API."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .options import DATABASE, Place, command, single
from .recycling import replaced
from .session import new_netra

if TYPE_CHECKING:
    from ..netra import Netra

LOOK_EVERY_S: Final = 1.0

app = single()


@command(app, None, DATABASE)
def worker(
    place: Place,
    dev: Annotated[bool, typer.Option("--dev", help="For development: deliveries may go to any port of this host.")] = False,
) -> None:
    """Make deliveries and work on runs of batches (NETRA_BATCH_JOBS), without the API.

    Prints one JSON line when it is ready. SIGTERM lets attempts under way end, for at most 30 seconds, and exits 0. Where
    memory is nearly at its end because it has grown, it drains too and begins anew in the same process id.
    """
    import uvloop

    from ..netra import entered_scope
    from ..observability.logs import configure

    netra = new_netra(place, workers=True, role="worker", dev=dev)
    configure(netra.settings.log_format, netra.settings.log_level, entered_scope)
    if dev:
        place.output.note("DEVELOPMENT MODE: whoever may add an endpoint reaches every port of this host.")
    uvloop.run(_work(place, netra))


async def _work(place: Place, netra: Netra) -> None:
    from .. import __version__
    from ..kernel.collector import relax

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with netra:
        relax()
        place.output.line({"event": "ready", "pid": os.getpid(), "engine": netra.settings.engine, "version": __version__})
        while not stop.is_set() and not _recycles(netra):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await stop.wait()
        place.output.note("Draining.")
    if not stop.is_set():
        replaced(place)


def _recycles(netra: Netra) -> bool:
    return netra.batch.worker is not None and netra.batch.worker.ladder.recycles
