"""A webhook receiver that behaves as badly as asked and writes down what it received: a process of its own, or an object.

    python -m netra_backend.testing.endpoint --behaviour 503 --heal-after 5 --ledger got.ndjson --secret whsec_... --port 0

prints one line `{"event":"ready","url","pid","port"}` on stdout when it listens, answers until SIGTERM (or
`--max-seconds`), and exits 0. SIGUSR1 heals it: from then on it answers 200. Each ledger line has `at_us`, `path`,
`tenant` and `endpoint` (from the query), `webhook_id`, `attempt`, `sha256` of the body, `signature_ok` and `status`
(null: not answered), and is durable before the answer leaves. Behaviours: see `behaviours.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

import orjson
import uvloop

from .behaviours import behaviour
from .ledger import Ledger
from .listening import stop_listening
from .receiver import Connection, Received, Receiver
from .signatures import SignatureCheck


class MisbehavingEndpoint:
    """The receiver inside the caller's event loop: `async with MisbehavingEndpoint("503") as endpoint: ... endpoint.url`.

    `received` lists the requests in order, `accepted` counts connections. `keep=False` drops the bodies of a long run.
    """

    def __init__(
        self,
        spec: str = "ok",
        *,
        secrets: Sequence[str] = (),
        ledger: Path | None = None,
        fsync: bool = True,
        host: str = "127.0.0.1",
        port: int = 0,
        keep: bool = True,
    ) -> None:
        self._host = host
        self._port = port
        self._ledger = Ledger(ledger, fsync=fsync)
        self._receiver = Receiver(behaviour(spec), SignatureCheck(secrets), self._ledger, keep=keep)
        self._arrived = asyncio.Event()
        self._receiver.on_received = self._arrived.set
        self._server: asyncio.Server | None = None
        self._healed = False

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self._receiver), self._host, self._port, backlog=4096)
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening, drop every connection, finish the ledger."""
        await stop_listening(self._server)
        for connection in list(self._receiver.connections):
            connection.drop()
        await self._ledger.close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._port

    @property
    def url(self) -> str:
        """Its address, with a path."""
        return f"http://{self._host}:{self._port}/hook"

    @property
    def received(self) -> list[Received]:
        """Every request so far."""
        return self._receiver.received

    @property
    def accepted(self) -> int:
        """How many connections were accepted, requests or not."""
        return self._receiver.accepted

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._receiver.connections)

    def behave(self, spec: str) -> None:
        """Behave differently from the next request on; a count in the name (`503-then-ok:3`) starts anew."""
        self._receiver.behave = behaviour(spec)
        self._receiver.seen = 0

    def behave_unless_healed(self, spec: str) -> None:
        """What was planned for later, at its time: whoever was healed meanwhile does not fall ill again."""
        if not self._healed:
            self.behave(spec)

    def heal(self) -> None:
        """Answer 200 from the next request on."""
        self._healed = True
        self.behave("ok")

    async def until(self, enough: Callable[[list[Received]], bool], *, within_s: float = 10.0) -> list[Received]:
        """Wait until what was received is enough; TimeoutError otherwise."""
        async with asyncio.timeout(within_s):
            while not enough(self.received):
                self._arrived.clear()
                await self._arrived.wait()
        return self.received


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until told to stop; see the module's docstring."""
    options = _parser().parse_args(arguments)
    return uvloop.run(_serve(options))


async def _serve(options: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    first = "503" if options.fail_for else options.behaviour
    async with MisbehavingEndpoint(
        first,
        secrets=options.secret,
        ledger=options.ledger,
        fsync=not options.no_fsync,
        host=options.host,
        port=options.port,
        keep=False,
    ) as endpoint:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGUSR1, endpoint.heal)
        if options.fail_for:
            loop.call_later(options.fail_for, endpoint.behave_unless_healed, options.behaviour)
        if options.heal_after:
            loop.call_later(options.heal_after, endpoint.heal)
        loop.call_later(options.max_seconds, stop.set)
        ready = {"event": "ready", "url": endpoint.url, "pid": os.getpid(), "port": endpoint.port}
        sys.stdout.write(orjson.dumps(ready).decode() + "\n")
        sys.stdout.flush()
        await stop.wait()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m netra_backend.testing.endpoint", description="A receiver that misbehaves on request.")
    parser.add_argument("--behaviour", default="ok", type=_known, help="ok, a status, hang, endless, drip, reset, 503-then-ok:3, ...")
    parser.add_argument("--ledger", type=Path, help="append one JSON line per request to this file, durable before the answer")
    parser.add_argument("--no-fsync", action="store_true", help="do not wait for the disk: for benchmarks only")
    parser.add_argument("--secret", action="append", default=[], type=_secret, help="whsec_... to verify with; may be repeated")
    parser.add_argument("--fail-for", type=float, default=0.0, metavar="SECONDS", help="answer 503 first, then behave")
    parser.add_argument("--heal-after", type=float, default=0.0, metavar="SECONDS", help="behave first, then answer 200 (as SIGUSR1 does)")
    parser.add_argument("--max-seconds", type=float, default=3600.0, help="end by itself after this time")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    return parser


def _known(spec: str) -> str:
    try:
        behaviour(spec)
    except ValueError as cause:
        raise argparse.ArgumentTypeError(str(cause)) from cause
    return spec


def _secret(text: str) -> str:
    try:
        SignatureCheck([text])
    except ValueError as cause:
        raise argparse.ArgumentTypeError("a secret is base64, behind whsec_") from cause
    return text


if __name__ == "__main__":
    sys.exit(main())
