"""The demo's story: who is started, killed, healed and stopped, and when. What came of it, `verdict.py` says.

1. three receivers and a server start, as processes of their own, on PostgreSQL two workers beside it; one application with
   three endpoints is made by REST
2. the producer sends; with half of the messages acknowledged, SIGKILL ends the server
3. a second server takes over the same data at the same port; the producer repeats what was not acknowledged
4. the hanging receiver is healed at once, the flaky one when everything is acknowledged
5. when every receiver has everything, the second act is played beside the same server (`second_act.py`)
6. when that is over, or time is up, all are stopped and the ledgers are compared
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from ...errors import UsageError
from ...kernel.runtime import Runtime
from ...resilience.egress import Egress
from ...webhooks.keys import SECRET_BYTES, encode_secret
from ..output import NO, Output
from ..rest import RestClient
from . import second_act, verdict
from .engines import NETRA, Engine
from .flights import EVENT_TYPE, Event, delayed_flights
from .ledgers import Book, Watch
from .processes import Child
from .producer import Producer
from .provider import Provider

SOON: Final = ("500ms", "1s", "2s", "3s")
THEN: Final = ("5s",) * 20
SCHEDULE: Final = ",".join(SOON + THEN)
"""It outlasts the demo: on a slow machine the flaky receiver's messages would else be dead letters before it is healed."""

TIMEOUT: Final = "3s"
BREAKER_OPEN: Final = "500ms"
IN_FLIGHT: Final = "50"
"""Per receiver: each of them syncs its ledger before it answers, and requests that are there together share a sync."""

TENANT: Final = "new-york"
RECEIVERS: Final = {
    "healthy": ("--behaviour", "ok"),
    "flaky": ("--behaviour", "500", "--fail-for", "4"),
    "hanging": ("--behaviour", "hang"),
}
"""The flaky one answers 503 for four seconds, then 500; both bad ones answer 200 from SIGUSR1 on."""

ENDS_AFTER_S: Final = 165.0
TELL_EVERY_S: Final = 1.0
LOOK_EVERY_S: Final = 0.1


class Story:
    """One run of the demo, in the folder `out`."""

    def __init__(self, output: Output, out: Path, flights: int, rows: int, engine: Engine, provider: Provider) -> None:
        self._output = output
        self._out = out.absolute()
        self._flights = flights
        self._rows = rows
        self._engine = engine
        self._provider = provider
        self._runtime = Runtime()
        self._clock = self._runtime.clock
        self._began = self._clock.monotonic()

    async def tell(self) -> int:
        """Run it to the end; the exit code."""
        main = asyncio.current_task()
        assert main is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)  # children are ended in any case
        events = await asyncio.to_thread(self._prepare)
        self._introduce(events)
        with Book(self._out / "run.ndjson") as self._run, Book(self._out / "producer.ndjson") as self._acks:
            try:
                async with asyncio.timeout(ENDS_AFTER_S), AsyncExitStack() as self._stack:
                    await self._act(events)
            except ExceptionGroup as group:  # the first thing that went wrong; the rest was cancelled because of it
                raise group.exceptions[0] from group
            except TimeoutError:
                self._say(f"time is up after {ENDS_AFTER_S:g} s")
                self._note("time_is_up")
        return await self._judge()

    def _prepare(self) -> list[Event]:
        """An empty folder and the input, both on a thread: the table has 336,776 rows."""
        self._engine.check()
        self._provider.check()
        if self._out.exists() and any(self._out.iterdir()):
            if not (self._out / "run.ndjson").exists():
                raise UsageError(f"{self._out} holds something that is not a former demo", fix="Give --out a new folder.")
            self._engine.clear()
            shutil.rmtree(self._out)
        self._out.mkdir(parents=True, exist_ok=True)
        second_act.prepare(self._out, self._rows)
        events = delayed_flights(self._flights)
        with Book(self._out / "input.ndjson") as book:
            book.add(*({"event_id": event.id, "sha256": event.sha256} for event in events))
        return events

    def _introduce(self, events: list[Event]) -> None:
        self._say(f"{len(events):,} flights left New York at least three hours late in 2013: an event {EVENT_TYPE} for each")
        self._say("receivers: healthy; flaky (503, then 500, until it is healed); hanging (never answers, until it is healed)")
        delays = f"{', '.join(SOON)}, then every {THEN[0]}"
        self._say(f"retries after {delays} (+-20 %), time-out {TIMEOUT}, {IN_FLIGHT} in flight per receiver,")
        self._say(f"a receiver that fails is parked for {BREAKER_OPEN} at first (the demo's own settings)")

    async def _act(self, events: list[Event]) -> None:
        self._note("began", schedule=SCHEDULE, timeout=TIMEOUT, events=len(events), rows=self._rows)
        secrets = {name: encode_secret(self._runtime.chance.token(SECRET_BYTES)) for name in RECEIVERS}
        if done := await self._engine.prepare(self._stack):
            self._say(done)
        receivers = {name: await self._receiver(name, secret) for name, secret in secrets.items()}
        self._watches = {name: Watch(self._out / f"receiver-{name}.ndjson") for name in receivers}
        server = await self._serve(0)
        workers = await asyncio.gather(*(self._work(number) for number in range(1, self._engine.helpers + 1)))
        url = str(server.said[-1]["url"])
        key = self._keep_key(server)
        egress = await self._stack.enter_async_context(self._client(url))
        rest = RestClient(egress, url, key)
        await self._make_endpoints(rest, {name: str(child.said[-1]["url"]) for name, child in receivers.items()}, secrets)
        producer = Producer(egress, self._clock, f"{url}/api/v1/app/{TENANT}", key, self._acks, len(events) // 2)
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(self._tell_progress(producer, len(events)))
            sending = tasks.create_task(producer.send(events))
            await producer.halfway.wait()
            server = await self._kill_and_restart(server, producer, urlsplit(url).port or 0)
            self._heal("hanging", receivers)
            await sending
            self._say(f"all {producer.acknowledged:,} are acknowledged")
            self._heal("flaky", receivers)
            await self._until(lambda: all(watch.look() >= len(events) for watch in self._watches.values()))
            telling.cancel()
        second = self._second_act(url, rest)
        await second.play()
        for child in (server, *workers):
            self._note("stopped", exit_code=await child.stop())
        for receiver in receivers.values():
            await receiver.stop()
        await second.check_trail()

    def _second_act(self, url: str, rest: RestClient) -> second_act.SecondAct:
        async def egress(place: str) -> Egress:
            return await self._stack.enter_async_context(self._client(place))

        environ, provider = self._environ(), self._provider
        stage = second_act.Stage(self._out, environ, self._stack, self._clock, url, rest, provider, egress, self._say, self._note)
        return second_act.SecondAct(stage, encode_secret(self._runtime.chance.token(SECRET_BYTES)), self._rows)

    async def _receiver(self, name: str, secret: str) -> Child:
        ledger = self._out / f"receiver-{name}.ndjson"
        options = (*RECEIVERS[name], "--ledger", str(ledger), "--secret", secret, "--port", "0", "--max-seconds", "300")
        child = Child("netra_backend.testing.endpoint", options, self._out / f"receiver-{name}.log", os.environ)
        return await self._stack.enter_async_context(child)

    async def _serve(self, port: int) -> Child:
        child = await self._netra("server.log", "serve", "--port", str(port))
        self._note("serving", pid=child.pid, url=child.said[-1]["url"])
        self._say(f"netra serve is ready at {child.said[-1]['url']} (pid {child.pid})")
        return child

    async def _work(self, number: int) -> Child:
        child = await self._netra(f"worker-{number}.log", "worker")
        self._note("working", pid=child.pid)
        self._say(f"netra worker is ready (pid {child.pid})")
        return child

    async def _netra(self, log: str, *words: str) -> Child:
        child = Child(NETRA, (*words, "--dev"), self._out / log, self._environ())
        return await self._stack.enter_async_context(child)

    def _environ(self) -> dict[str, str]:
        """What every process of Netra is told."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("NETRA_")}
        chosen = {"NETRA_WEBHOOKS_SCHEDULE": SCHEDULE, "NETRA_WEBHOOKS_TIMEOUT": TIMEOUT, "NETRA_WEBHOOKS_IN_FLIGHT": IN_FLIGHT}
        chosen |= {"NETRA_WEBHOOKS_BREAKER_OPEN": BREAKER_OPEN}
        return inherited | chosen | self._engine.environ

    def _keep_key(self, server: Child) -> str:
        """The operator's key, printed once by the first server: kept so that the data can be looked at afterwards."""
        key = str(next(line["key"] for line in server.said if line["event"] == "operator_key"))
        file = self._out / "operator.key"
        file.touch(mode=0o600)
        file.write_text(key + "\n", encoding="ascii")
        return key

    def _client(self, url: str) -> Egress:
        return Egress(self._runtime, allow=("127.0.0.0/8",), ports=(urlsplit(url).port or 0,))

    async def _make_endpoints(self, client: RestClient, urls: dict[str, str], secrets: dict[str, str]) -> None:
        await client.post("app", body={"name": "Flights from New York", "uid": TENANT})
        for name, url in urls.items():
            await client.post(
                "app", TENANT, "endpoint", body={"url": url, "uid": name, "description": f"the {name} receiver", "secret": secrets[name]}
            )

    async def _kill_and_restart(self, server: Child, producer: Producer, port: int) -> Child:
        acknowledged, pid = producer.acknowledged, server.pid
        server.signal(signal.SIGKILL)
        self._note("killed", pid=pid, signal="SIGKILL", acknowledged=acknowledged)
        self._say(f"KILL -9 {pid}: the server is gone, with {acknowledged:,} messages acknowledged")
        await server.kill()
        return await self._serve(port)

    def _heal(self, name: str, receivers: dict[str, Child]) -> None:
        receivers[name].signal(signal.SIGUSR1)
        self._note("healed", receiver=name)
        self._say(f"the {name} receiver is healed")

    async def _until(self, condition: Any) -> None:
        while not condition():
            await self._clock.sleep(LOOK_EVERY_S)

    async def _tell_progress(self, producer: Producer, total: int) -> None:
        while True:
            arrived = ", ".join(f"{name} {watch.look():,}" for name, watch in self._watches.items())
            self._say(f"acknowledged {producer.acknowledged:,} of {total:,}; received: {arrived}")
            await self._clock.sleep(TELL_EVERY_S)

    def _say(self, words: str) -> None:
        self._output.note(f"{self._clock.monotonic() - self._began:6.1f} s  {words}")

    def _note(self, event: str, **facts: Any) -> None:
        self._run.add({"event": event, "at_us": self._clock.wall_us(), **facts})

    async def _judge(self) -> int:
        """The verdict in a process of its own, so that it can know nothing but the ledgers."""
        form = ("--json",) if self._output.as_json else ()
        process = await asyncio.create_subprocess_exec(sys.executable, "-I", verdict.__file__, str(self._out), *form)
        code = await process.wait()
        self._output.note(f"ledgers and report.json: {self._out}")
        for number, command in enumerate(self._engine.look_around()):
            self._output.note(f"{'       then:' if number else 'look around:'} {command}")
        self._output.note(f"             the operator's key is in {self._out / 'operator.key'}")
        return 0 if code == 0 else NO
