"""`netra serve`: uvicorn over an entered Netra, until SIGTERM or SIGINT, then a drain.

Draining: the port is closed first, requests under way are answered, their connections closed; what is not done after
`drain_s` is cut off. The caller then leaves Netra, which drains the workers. A second signal cuts off at once.

uvicorn's own signal handling is not used: it raises the signal again at its end, before the workers are drained.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import uvicorn
import uvloop

from ..errors import CannotStart
from .app import create_app
from .auth import ensure_operator_key
from .edge import Doctor, Guest
from .gate import Gate
from .protocol import CappedProtocol

if TYPE_CHECKING:
    from ..netra import Netra

T = TypeVar("T")

__all__ = ["ensure_operator_key", "run", "serve"]

BACKLOG: Final = 2048
DRAIN_S: Final = 30.0
KEEP_ALIVE_S: Final = 15
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


async def serve(
    netra: Netra,
    host: str,
    port: int,
    *,
    dev: bool,
    on_ready: Callable[[str], None],
    drain_s: float = DRAIN_S,
    until: asyncio.Event | None = None,
    guests: tuple[Guest, ...] = (),
    doctor: Doctor | None = None,
) -> None:
    """Serve until a signal, or until `until` is set; `on_ready` gets the URL once connections are accepted.

    Port 0 takes a free one. `CannotStart` where the address is not to be had, or the certificate cannot be used. `dev` opens `/metrics`.
    `guests` and `doctor` are for `create_app`.
    """
    certificate = check_certificate(netra.settings.tls_certificate, netra.settings.tls_key)
    listener = listen(host, port)
    try:
        app = create_app(netra, dev=dev, guests=guests, doctor=doctor)
        await app.edge.authenticator.pepper()
        server = _Server(_config(app, drain_s, certificate), app, lambda: on_ready(url_of(listener, host, tls=certificate is not None)))
        watch = asyncio.create_task(server.stop_when(until)) if until is not None else None
        await server.serve(sockets=[listener])
        if watch is not None:
            watch.cancel()
    finally:
        listener.close()


def run(main: Coroutine[Any, Any, T]) -> T:
    """Run a program on uvloop, which `serve` is measured on."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, before anything else is started: its port is known, and a refusal comes early."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise CannotStart(
            f"cannot listen on {host}:{port}: {error.strerror}", fix="Choose another --host or --port (0 takes a free one)."
        ) from error
    listener.setblocking(False)
    return listener


Certificate = tuple[Path, Path]
"""The files of the certificate and of its key, which may be one."""


def check_certificate(certificate: Path | None, key: Path | None) -> Certificate | None:
    """The two files once they are known to be of use; None where TLS is not asked for."""
    if certificate is None:
        return None
    files = (certificate, key or certificate)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*files, password=_no_passphrase)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise CannotStart(
            f"the certificate {certificate} and the key {files[1]} cannot be used: {error}",
            fix="Give --tls-certificate and --tls-key files in PEM that belong together; the key without a passphrase.",
        ) from error
    return files


def _no_passphrase() -> str:
    """Nobody is there to be asked for one."""
    return ""


def url_of(listener: socket.socket, host: str, *, tls: bool = False) -> str:
    """Where clients reach it."""
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{name}:{listener.getsockname()[1]}"


def _config(app: Gate, drain_s: float, certificate: Certificate | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        ssl_certfile=certificate[0] if certificate else None,
        ssl_keyfile=certificate[1] if certificate else None,
        http=CappedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(drain_s)),
    )


class _Server(uvicorn.Server):
    """uvicorn's server with our signals, a word when it listens, and one when it begins to drain."""

    def __init__(self, config: uvicorn.Config, app: Gate, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._app = app
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections, then say so."""
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Say on `/ready` that it is over, then drain."""
        self._app.edge.draining = True
        await super().shutdown(sockets)

    async def stop_when(self, asked: asyncio.Event) -> None:
        """Begin to drain once that is set."""
        await asked.wait()
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ask for the end at the first signal, insist at the second."""
        loop = asyncio.get_running_loop()
        handled = []
        for number in _SIGNALS:
            with contextlib.suppress(RuntimeError, ValueError):  # not on the main thread: the caller ends it another way
                loop.add_signal_handler(number, self._stop)
                handled.append(number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)

    def _stop(self) -> None:
        self.force_exit = self.should_exit
        self.should_exit = True
