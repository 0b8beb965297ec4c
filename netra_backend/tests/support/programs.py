"""What a process under test does: a platform with Netra in it, or a receiver of its webhooks.

Both take commands on a socket, one JSON object a line (`n`, `op`, arguments), and answer with the same `n`. The
platform keeps the producer's ledger: a durable line for what it is about to submit, and one for every id whose
acknowledgement it saw.
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import json
import logging
import os
import resource
import socket
import threading
import time
import zlib
from pathlib import Path
from typing import Any

import httptools
import uvloop

from ...batch import schedules
from ...errors import NetraError
from ...kernel.ids import to_text
from ...kernel.scope import Scope
from ...netra import Netra
from ...testing.ledger import Ledger
from ...webhooks import endpoints
from ...webhooks.intake import Accepted
from ...webhooks.keys import encode_secret
from ...webhooks.model import Endpoint, Ordering
from ...webhooks.reports import report
from .dying import backing_up, restoring
from .sign_on_programs import sign_on
from .standing import arm_pauses, of_the_environment
from .trail_programs import trail
from .vault_programs import provider, receiver_of_tokens, vault

__all__ = ["backing_up", "platform", "provider", "receiver", "receiver_of_tokens", "restoring", "sign_on", "trail", "vault"]

ORDERING_KEYS = 16
_M_ARENA_MAX = -8
PACE_S = 0.03
"""Between two batches of `produce`: below what the slow endpoint takes, so that no backlog outlives the kills."""


def platform(channel: socket.socket, spec: dict[str, Any]) -> None:
    """Netra as `netra serve` has it, without the HTTP edge; commands are the methods of `Platform`."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    keep_within(**spec.get("cap", {}))
    uvloop.run(_platform(channel, spec))


def keep_within(group: str = "", more_bytes: int = 0) -> None:
    """Enter a control group, or let this process's address space grow by so many bytes and no more."""
    if group:
        (Path(group) / "cgroup.procs").write_text(str(os.getpid()))
    if more_bytes:
        threading.stack_size(512 * 1024)
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)  # or each thread would reserve 64 MiB of addresses that it never uses
        now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (now + more_bytes, now + more_bytes))


async def _platform(channel: socket.socket, spec: dict[str, Any]) -> None:
    ledger = Ledger(Path(spec["ledger"]))
    failpoints = spec.get("failpoint", "")
    environ = of_the_environment(failpoints)
    netra = Netra(spec["url"], workers=spec.get("workers", True), dev=True, role="server", environ=environ, **spec.get("settings", {}))
    async with netra:
        arm_pauses(netra, failpoints)
        await _take_commands(channel, Platform(netra, ledger))
    await ledger.close()


async def _take_commands(channel: socket.socket, serving: Any) -> None:
    """Each command in a task of its own, until `stop` or the end of the socket."""
    reader, writer = await asyncio.open_connection(sock=channel, limit=2**24)
    tasks: set[asyncio.Task[None]] = set()

    while line := await reader.readline():
        command = json.loads(line)
        number = command.pop("n")
        if command["op"] == "stop":
            await asyncio.gather(*tasks)
            writer.write(json.dumps({"n": number, "answer": None}).encode() + b"\n")
            await writer.drain()
            return
        task = asyncio.create_task(_run(command, number, writer, serving))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _run(command: dict[str, Any], number: int, writer: asyncio.StreamWriter, serving: Any) -> None:
    try:
        answer = await getattr(serving, command.pop("op"))(**command)
    except NetraError as error:
        answer = {"error": type(error).__name__, "facts": {key: str(value) for key, value in error.facts.items()}}
    writer.write(json.dumps({"n": number, "answer": answer}).encode() + b"\n")


class Platform:
    """The commands of a platform."""

    def __init__(self, netra: Netra, ledger: Ledger) -> None:
        self._netra = netra
        self._ledger = ledger
        self._let_go = asyncio.Event()
        self._at_rest = asyncio.Event()
        self._at_rest.set()

    async def node(self) -> str:
        """The id of this life."""
        return self._netra.membership.id.hex()

    async def endpoint(self, tenant: str, url: str, name: str, ordering: Ordering = "none") -> dict[str, str]:
        """Add an endpoint at `url` + `/<tenant>/<name>`; its id and its secret."""
        await self._netra.tenant(tenant)
        new = Endpoint(tenant, b"", name, f"{url}/{tenant}/{name}", "", None, None, False, None, {}, {}, ordering=ordering)
        database, sealer, scope = self._netra.database, self._netra.sealer, Scope(tenant, "tester")
        made = await database.write(endpoints.create, sealer, new, None, scope=scope)
        key = await database.write(endpoints.disclose_secret, sealer, name, scope=scope)
        self._netra.webhooks.snapshots.forget(tenant)
        return {"id": made.id.hex(), "secret": encode_secret(key)}

    async def send(self, tenant: str, refs: list[str], door: str = "accept", deliver_in_s: float = 0.0, event_ids: bool = True) -> int:
        """Submit a message for each ref through that door, all at once; how many were acknowledged."""
        payloads = {ref: {"ref": ref, "tenant": tenant, "pad": "x" * 100} for ref in refs}
        await self._note([{"submitted": ref, "tenant": tenant, "sha256": _digest(payloads[ref])} for ref in refs])
        deliver_at = time.time() + deliver_in_s if deliver_in_s else None
        common = {"deliver_at": deliver_at}
        options = {ref: {**common, "event_id": ref if event_ids else None, "ordering_key": ordering_key_of(ref)} for ref in refs}
        results = await asyncio.gather(
            *(getattr(self, f"_by_{door}")(tenant, ref, payloads[ref], options[ref]) for ref in refs), return_exceptions=True
        )
        failed = [result for result in results if isinstance(result, BaseException)]
        for error in failed:
            if not isinstance(error, NetraError):
                raise error
        if failed:
            logging.getLogger("netra.test").warning("%d of %d were refused: %r", len(failed), len(refs), failed[0])
        return len(refs) - len(failed)

    async def try_to_send(self, tenant: str, ref: str) -> dict[str, str]:
        """Send one message; raises what intake answers."""
        await self._note([{"submitted": ref, "tenant": tenant, "sha256": _digest({"ref": ref, "tenant": tenant})}])
        await self._by_accept(tenant, ref, {"ref": ref, "tenant": tenant}, {})
        return {}

    async def produce(self, tenant: str, prefix: str, door: str = "accept", at_once: int = 8) -> int:
        """Send without end: what a kill interrupts."""
        number = 0
        self._at_rest.clear()
        try:
            while not self._let_go.is_set():
                await self.send(tenant, [f"{prefix}-{number + i}" for i in range(at_once)], door)
                number += at_once
                await asyncio.sleep(PACE_S)
        finally:
            self._at_rest.set()
        return number

    async def tell_operator(self, tenant: str) -> None:
        """Commit an operational event."""

        async def work(tx: Any) -> None:
            report(tx, "endpoint.disabled", tenant, bytes(16), trigger="manual")

        await self._netra.write(work, tenant=tenant)

    async def start_run(self, tenant: str, job: str, params: dict[str, Any], key: str, partitions: int) -> str:
        """Start a run of a batch; its id."""
        async with self._netra.transaction(tenant=tenant) as tx:
            return await self._netra.batch.start(tx, job, params, key=key, partitions=partitions)

    async def schedule_now(self, tenant: str, name: str, job: str, params: dict[str, Any]) -> None:
        """Make a schedule whose time has just come, and whose next is far."""

        async def work(tx: Any) -> None:
            await self._netra.batch.schedule(tx, name, job, "0 0 1 1 *", params, partitions=1)
            found = await schedules.get(tx, name)
            await tx.execute(schedules.Q.move_schedule, id=found.id, next_us=tx.now_us - 1, run_id=None)

        await self._netra.write(work, tenant=tenant)

    async def runs(self, tenant: str) -> list[dict[str, Any]]:
        """The tenant's runs."""
        return await self._netra.batch.runs(tenant=tenant, limit=1000)

    async def run_status(self, tenant: str, run: str) -> dict[str, Any]:
        """How a run stands."""
        return await self._netra.batch.status(run, tenant=tenant)

    async def run_failures(self, tenant: str, run: str) -> list[dict[str, Any]]:
        """All dead letters of a run."""
        return await self._netra.batch.failures(run, tenant=tenant, limit=100_000)

    async def decide_run(self, tenant: str, run: str, event: str) -> str:
        """Pause, resume or cancel a run; its new state."""
        return await getattr(self._netra.batch, event)(run, tenant=tenant)

    async def set_disabled(self, tenant: str, name: str, disabled: bool) -> None:
        """Disable or enable an endpoint; this process knows of it at once."""
        await self._netra.database.write(endpoints.update, name, {"disabled": disabled}, scope=Scope(tenant, "tester"))
        self._netra.webhooks.snapshots.forget(tenant)

    async def recover(self, tenant: str, name: str, since: float) -> str:
        """Recover an endpoint; the task's id."""
        return (await self._netra.webhooks.recover(name, since, tenant=tenant))["task"]

    async def task(self, tenant: str, task: str) -> dict[str, Any]:
        """How a task stands."""
        return await self._netra.webhooks.task(task, tenant=tenant)

    async def hold(self, tenant: str, ref: str) -> str:
        """Open a transaction, send inside it, and keep it open until `let_go`."""
        payload = {"ref": ref, "tenant": tenant}
        await self._note([{"submitted": ref, "tenant": tenant, "sha256": _digest(payload)}])
        async with self._netra.transaction(tenant=tenant) as tx:
            sent = await self._netra.webhooks.send(tx, "thing.happened", payload, event_id=ref)
            await self._note([{"holding": ref}])
            await self._let_go.wait()
        await self._note([{"acknowledged": ref, "message": sent}])
        return sent

    async def let_go(self) -> None:
        """End `hold` and `produce`; answers when the latter sends nothing any more, so that what it sent can be counted."""
        self._let_go.set()
        await self._at_rest.wait()

    async def _by_accept(self, tenant: str, ref: str, payload: Any, options: dict[str, Any]) -> None:
        new = self._netra.webhooks.new_message(tenant, "thing.happened", payload, **options)
        (answer,) = await self._netra.webhooks.accept(Scope(tenant, "tester"), [new])
        if not isinstance(answer, Accepted):
            raise answer
        await self._acknowledged(ref, to_text("msg", answer.message.id))

    async def _by_write(self, tenant: str, ref: str, payload: Any, options: dict[str, Any]) -> None:
        async def work(tx: Any) -> str:
            return await self._netra.webhooks.send(tx, "thing.happened", payload, **options)

        await self._acknowledged(ref, await self._netra.write(work, tenant=tenant))

    async def _by_transaction(self, tenant: str, ref: str, payload: Any, options: dict[str, Any]) -> None:
        async with self._netra.transaction(tenant=tenant) as tx:
            sent = await self._netra.webhooks.send(tx, "thing.happened", payload, **options)
        await self._acknowledged(ref, sent)

    async def _acknowledged(self, ref: str, message: str) -> None:
        await self._note([{"acknowledged": ref, "message": message}])

    async def _note(self, lines: list[dict[str, Any]]) -> None:
        durable = asyncio.get_running_loop().create_future()
        self._ledger.append(b"".join(json.dumps(line).encode() + b"\n" for line in lines), lambda: durable.set_result(None))
        await durable


def ordering_key_of(ref: str) -> str:
    """One of a few keys, so that messages wait for each other where an endpoint orders by key."""
    return f"key-{zlib.crc32(ref.encode()) % ORDERING_KEYS}"


def _digest(payload: Any) -> str:
    return hashlib.sha256(json.dumps(payload, separators=(",", ":")).encode()).hexdigest()


def receiver(channel: socket.socket, spec: dict[str, Any]) -> None:
    """Receive on loopback and write down whole requests, durable before the answer leaves."""
    asyncio.run(_receiver(channel, spec))


async def _receiver(channel: socket.socket, spec: dict[str, Any]) -> None:
    receiving = Receiving(Path(spec["ledger"]))
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(receiving), "127.0.0.1", 0, backlog=1024)
    receiving.port = server.sockets[0].getsockname()[1]
    await _take_commands(channel, receiving)
    server.close()


class Receiving:
    """The commands of a receiver, and what its connections share.

    The path is /<behaviour>/<tenant>/<endpoint>: `ok`; `flaky`, 503 for the first tenth of each half second, so
    that its breaker opens and closes again; `slow`, 200 after 30 ms; `hang`, no answer until `heal`;
    `sick`, 503 until `fall_silent`, then no answer until `heal`.
    """

    def __init__(self, ledger: Path) -> None:
        self.port = 0
        self.healed = False
        self.silent = False
        self._file = os.open(ledger, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lines: list[bytes] = []
        self._answers: list[tuple[_Connection, int | None, float]] = []

    async def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    async def heal(self) -> None:
        """From now on every path answers 200."""
        self.healed = True

    async def fall_silent(self) -> None:
        """From now on `sick` answers nothing."""
        self.silent = True

    def take(self, connection: _Connection, path: str, headers: dict[str, str], body: bytes) -> None:
        behaviour = path.split("/")[1]
        status, delay_s = self._plan(behaviour)
        record = {"at_us": time.time_ns() // 1000, "path": path, "status": status, "headers": headers, "body": body.decode()}
        self._lines.append(json.dumps(record).encode() + b"\n")
        self._answers.append((connection, status, delay_s))
        if len(self._lines) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _plan(self, behaviour: str) -> tuple[int | None, float]:
        if self.healed or behaviour == "ok":
            return 200, 0.0
        if behaviour == "flaky":
            return (503, 0.0) if time.monotonic() % 0.5 < 0.05 else (200, 0.0)
        if behaviour == "sick" and not self.silent:
            return 503, 0.0
        return (200, 0.03) if behaviour == "slow" else (None, 0.0)

    def _flush(self) -> None:
        """What arrived in one turn of the loop shares one fsync; the answers follow it."""
        lines, self._lines = self._lines, []
        answers, self._answers = self._answers, []
        os.write(self._file, b"".join(lines))
        os.fsync(self._file)
        for connection, status, delay_s in answers:
            if status is not None:
                asyncio.get_running_loop().call_later(delay_s, connection.answer, status)


class _Connection(asyncio.Protocol):
    def __init__(self, receiving: Receiving) -> None:
        self._receiving = receiving
        self._parser = httptools.HttpRequestParser(self)
        self._path, self._headers, self._body = b"", {}, b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path, headers, body = self._path.decode(), self._headers, self._body
        self._path, self._headers, self._body = b"", {}, b""
        self._receiving.take(self, path, headers, body)

    def answer(self, status: int) -> None:
        self._transport.write(f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode())
