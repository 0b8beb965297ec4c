"""`netra serve`: the API and the workers in one process, until SIGTERM."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .doctor import checks_of
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
    tls_certificate: Annotated[
        Path | None,
        typer.Option("--tls-certificate", metavar="FILE", help="Certificate and chain in PEM: speak TLS only (NETRA_TLS_CERTIFICATE)."),
    ] = None,
    tls_key: Annotated[
        Path | None,
        typer.Option("--tls-key", metavar="FILE", help="The certificate's private key, if that file has it not (NETRA_TLS_KEY)."),
    ] = None,
    no_workers: Annotated[bool, typer.Option("--no-workers", help="Leave the deliveries to `netra worker`.")] = False,
) -> None:
    """Serve the API and the dashboard (/ui), and make deliveries, in this process.

    Prints one JSON line when it is ready, and before it the operator's key if it had to make one. SIGTERM drains and ends it.
    """
    import uvloop

    from ..kernel.runtime import Runtime
    from ..server.metrics import PrometheusMetrics

    runtime = Runtime(metrics=PrometheusMetrics())
    from ..netra import entered_scope
    from ..observability.logs import configure

    netra = new_netra(
        place, workers=not no_workers, role="server", dev=dev, runtime=runtime, tls_certificate=tls_certificate, tls_key=tls_key
    )
    configure(netra.settings.log_format, netra.settings.log_level, entered_scope)
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
        ensure_operator_key, serve_http, pages = await asyncio.to_thread(_load_server)
        key = await ensure_operator_key(netra)
        if key is not None:
            place.output.line({"event": "operator_key", "key": key})
            place.output.note("The operator's key is printed this once; only its hash is kept.")
        doctor = partial(checks_of, netra.settings, netra.runtime)
        await serve_http(netra, host, port, dev=dev, on_ready=ready, guests=(pages,), doctor=doctor)


def _load_server() -> tuple[Any, Any, Any]:
    from ..dashboard.site import mount
    from ..server.auth import ensure_operator_key
    from ..server.serve import serve as serve_http

    return ensure_operator_key, serve_http, mount
