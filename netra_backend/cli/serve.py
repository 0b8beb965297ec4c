"""`netra serve`: the API and the workers in one process, until SIGTERM."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import DATABASE, Place, command, single
from .session import new_netra

if TYPE_CHECKING:
    from ..netra import Netra

app = single()


@command(app, None, DATABASE)
def serve(
    place: Place,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 8071,
    dev: Annotated[
        bool, typer.Option("--dev", help="For development: deliveries may go to any port of this host, /metrics is open.")
    ] = False,
    no_workers: Annotated[bool, typer.Option("--no-workers", help="Leave the deliveries to `netra worker`.")] = False,
) -> None:
    """Serve the API and make deliveries, in this process.

    Prints one JSON line when it is ready, and before it the operator's key if it had to make one. SIGTERM drains and ends it.
    """
    import uvloop

    from ..kernel.runtime import Runtime
    from ..server.metrics import PrometheusMetrics

    runtime = Runtime(metrics=PrometheusMetrics())
    netra = new_netra(place, workers=not no_workers, role="server", dev=dev, runtime=runtime)
    if dev:
        place.output.note("DEVELOPMENT MODE: whoever may add an endpoint reaches every port of this host, and /metrics is open.")
    uvloop.run(_serve(place, netra, host, port, dev=dev))


async def _serve(place: Place, netra: Netra, host: str, port: int, *, dev: bool) -> None:
    from .. import __version__
    from ..kernel.collector import relax

    def ready(url: str) -> None:
        relax()
        place.output.line({"event": "ready", "url": url, "pid": os.getpid(), "engine": netra.settings.engine, "version": __version__})

    async with netra:
        # Deliveries go on from here. The web framework takes a second to load, for which nobody's messages need to wait.
        ensure_operator_key, serve_http = await asyncio.to_thread(_load_server)
        key = await ensure_operator_key(netra)
        if key is not None:
            place.output.line({"event": "operator_key", "key": key})
            place.output.note("The operator's key is printed this once; only its hash is kept.")
        await serve_http(netra, host, port, dev=dev, on_ready=ready)


def _load_server() -> tuple[Any, Any]:
    from ..server.auth import ensure_operator_key
    from ..server.serve import serve as serve_http

    return ensure_operator_key, serve_http
