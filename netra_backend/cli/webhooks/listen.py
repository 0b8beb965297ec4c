"""`netra webhooks listen`: a local receiver that verifies and prints what arrives, and misbehaves on request."""

from __future__ import annotations

import asyncio
import os
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...errors import CannotStart, InvalidInput, UsageError
from ..options import JSON, Place, command
from ..output import Output, iso
from . import app

if TYPE_CHECKING:
    from ...testing.receiver import Received, Receiver

_MARKS = {True: "signature ok", False: "SIGNATURE WRONG", None: "signature not checked"}


@command(app, "listen", JSON)
async def listen(
    place: Place,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")] = 0,
    secret: Annotated[list[str] | None, typer.Option("--secret", metavar="WHSEC", help="Verify with this secret; may be repeated.")] = None,
    fail: Annotated[str | None, typer.Option("--fail", metavar="STATUS[:N]", help="Answer so, to the first N requests or to all.")] = None,
    hang: Annotated[bool, typer.Option("--hang", help="Take requests and never answer.")] = False,
    ledger: Annotated[
        Path | None, typer.Option("--ledger", metavar="FILE", help="Append a line per request, durable before the answer.")
    ] = None,
) -> None:
    """Receive messages here; ends at Ctrl-C or SIGTERM.

    `netra serve --dev` delivers to it.
    """
    from ...testing.ledger import Ledger
    from ...testing.listening import stop_listening
    from ...testing.receiver import Connection, Receiver

    book = Ledger(ledger)
    receiver = Receiver(_behaviour(fail, hang=hang), _check(secret or []), book, keep=True)
    receiver.on_received = partial(_show, receiver, place.output)
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(lambda: Connection(receiver), host, port)
    except OSError as error:
        raise CannotStart(
            f"{host}:{port} cannot be listened at: {error.strerror}", fix="Choose another port, or 0 for a free one."
        ) from error
    url = f"http://{host}:{server.sockets[0].getsockname()[1]}/hook"
    place.output.event({"event": "ready", "url": url, "pid": os.getpid()}, f"Listening at {url}")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    await stop_listening(server)
    for connection in list(receiver.connections):
        connection.drop()
    await book.close()


def _behaviour(fail: str | None, *, hang: bool) -> Any:
    from ...testing.behaviours import behaviour

    if hang and fail:
        raise UsageError("--hang and --fail exclude each other", fix="Give one of them.")
    status, _, count = (fail or "").partition(":")
    spec = "hang" if hang else "ok" if not fail else f"{status}-then-ok:{count}" if count else status
    try:
        return behaviour(spec)
    except ValueError as error:
        raise InvalidInput(f"--fail {fail!r} is not a status, or a status and a count", fix="Write --fail 503 or --fail 503:3.") from error


def _check(secrets: list[str]) -> Any:
    from ...testing.signatures import SignatureCheck

    try:
        return SignatureCheck(secrets)
    except ValueError as error:
        raise InvalidInput("a secret is base64 behind whsec_", fix="Copy the endpoint's secret whole.") from error


def _show(receiver: Receiver, output: Output) -> None:
    """Print and forget the newest request, so that a long run keeps nothing."""
    received: Received = receiver.received.pop()
    answer = received.status if received.status is not None else "no answer"
    body = received.body.decode("utf-8", "replace")
    event = {
        "event": "received",
        "at": iso(received.at_us),
        "path": received.path,
        "webhookId": received.headers.get("webhook-id"),
        "signatureOk": received.signature_ok,
        "status": received.status,
        "body": body,
    }
    output.event(event, f"{event['at']}  {event['webhookId']}  {_MARKS[received.signature_ok]}  -> {answer}\n  {body}")
