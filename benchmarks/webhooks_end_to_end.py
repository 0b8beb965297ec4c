"""Webhooks end to end: `netra serve`, a receiver and a load generator, each a process of its own, on this machine.

Twenty tenants with one endpoint each. A flow is so many messages, sent as batches of 100 or as single POSTs; its rate is
counted from the first request to the last receipt, so that a backlog cannot hide. Latency is from the request to the
receipt at the endpoint. `flooded` flows are sent as fast as they are accepted: their latency is the queue's. The paced
flow shows the latency that a customer sees. CPU is the server's own, from /proc.

Every flow is checked: each accepted message must have been received, or the benchmark ends with an error.
"""

from __future__ import annotations

import argparse
import json
import shlex
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from measure import RUNS, Row, interleaved, percentile, scratch, show
from postgres_server import DURABILITY as POSTGRES_DURABILITY
from postgres_server import postgres
from processes import Process, python

HERE: Final = Path(__file__).parent
PEER_SHARE: Final = {"sqlite/apsw": 2, "postgresql": 10}
"""How many times fewer messages the peers get, so that a run ends in good time."""
KEY: Final = "bench" * 8
TENANTS: Final = 20
PER_BATCH: Final = 100
PACE: Final = 1000
DEADLINE_S: Final = 90.0
DURABILITY: Final = "WAL, synchronous=FULL; 202 after its commit; each outcome committed"
SQLITE: Final = "sqlite/apsw"
POSTGRES: Final = "postgresql"
ENGINES: Final = {SQLITE: DURABILITY, POSTGRES: POSTGRES_DURABILITY}
PEERS: Final = {SQLITE: "hand-written outbox (FastAPI, sqlite3, aiohttp)", POSTGRES: "procrastinate, FastAPI, aiohttp"}
serve_command = python("-m", "netra_backend.cli.main", "serve")


class Kind(NamedTuple):
    """A way to send: messages per request (0: one, as an object), connections, messages per second (0: flooded)."""

    name: str
    batch: int
    connections: int
    rate: int
    messages: int


KINDS: Final = (
    Kind("batches of 100", PER_BATCH, 4, 0, 6000),
    Kind("single POSTs", 0, 64, 0, 3000),
    Kind("1,000 msg/s", 0, 64, PACE, 3000),
)


@dataclass(frozen=True)
class Flow:
    """What one flow came to."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    accepted_per_second: float


class Receiver:
    """The independent receiver and its ledger, read from where the flow began."""

    def __init__(self, stack: ExitStack, folder: Path, *options: str) -> None:
        self._ledger = folder / f"ledger-{time.monotonic_ns()}.ndjson"
        self._ledger.touch()
        self._offset = 0
        command = python("-m", "netra_backend.testing.endpoint", "--no-fsync", "--ledger", str(self._ledger), *options)
        self.process = Process.start(command, folder / "receiver.log")
        stack.callback(self.process.stop)
        self.url: str = self.process.ready["url"]

    def begin(self) -> None:
        """From here on counts what arrives."""
        self._offset = self._ledger.stat().st_size

    def arrived(self) -> dict[str, int]:
        """First receipt of each message since `begin`, in microseconds since the epoch."""
        return {message_id: times[0] for message_id, times in self.times().items()}

    def times(self) -> dict[str, list[int]]:
        """Every receipt of each message since `begin`, in order."""
        found: dict[str, list[int]] = {}
        with self._ledger.open("rb") as file:
            file.seek(self._offset)
            for line in file:
                if line.endswith(b"\n"):
                    said = json.loads(line)
                    found.setdefault(said["webhook_id"], []).append(said["at_us"])
        return found

    def lines(self) -> int:
        """How many receipts since `begin`, duplicates too."""
        with self._ledger.open("rb") as file:
            file.seek(self._offset)
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Poll until it holds; the benchmark is void if it never does."""
    ends = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > ends:
            raise SystemExit(f"not within {DEADLINE_S:g} s: {what}")
        time.sleep(0.01)


def database(stack: ExitStack, folder: Path, engine: str) -> list[str]:
    """Where the servers of one measurement keep their data, as options of theirs."""
    data = ["--data", str(folder / "data")]
    return data if engine == SQLITE else [*data, "--database-url", stack.enter_context(postgres(folder)).run]


def netra(stack: ExitStack, folder: Path, place: Sequence[str], *options: str) -> Process:
    """One `netra serve` on that database."""
    command = [*serve_command, *place, "--port", "0", "--dev", *options]
    process = Process.start(command, folder / "server.log", NETRA_OPERATOR_KEY=KEY)
    stack.callback(process.stop)
    return process


def plain_outbox(stack: ExitStack, folder: Path, receiver: Receiver) -> Process:
    """The peer."""
    process = Process.start(python(str(HERE / "plain_outbox.py"), str(folder / "peer.db"), receiver.url), folder / "peer.log")
    stack.callback(process.stop)
    return process


def procrastinate(stack: ExitStack, folder: Path, receiver: Receiver) -> Process:
    """The peer on PostgreSQL."""
    owner = stack.enter_context(postgres(folder)).owner
    process = Process.start(python(str(HERE / "procrastinate_outbox.py"), owner, receiver.url), folder / "peer.log")
    stack.callback(process.stop)
    return process


def make_tenants(server: Process, url: str) -> None:
    """Twenty tenants, one endpoint each."""
    for number in range(TENANTS):
        post(server, "/api/v1/app", {"name": f"bench {number}", "uid": f"bench-{number}"})
        post(server, f"/api/v1/app/bench-{number}/endpoint", {"url": f"{url}?tenant=bench-{number}"})


def post(server: Process, path: str, value: Any) -> None:
    """One request of the set-up."""
    request = urllib.request.Request(
        server.ready["url"] + path,
        json.dumps(value).encode(),
        {"authorization": f"Bearer {KEY}", "content-type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=30).close()


class Answered(NamedTuple):
    """What the load generator saw: when each message was sent, and when the last answer came."""

    sent_us: dict[str, int]
    last_answer_us: int


APPS: Final = [f"bench-{number}" for number in range(TENANTS)]


def send(servers: Sequence[Process], kind: Kind, folder: Path, messages: int, apps: Sequence[str] = APPS) -> Answered:
    """Run the load generator to its end, for these tenants in turn."""
    out = folder / "answers.ndjson"
    suffix = "/msg/batch" if kind.batch else "/msg"
    targets = [(parts.hostname, parts.port) for parts in (urlsplit(server.ready["url"]) for server in servers)]
    paths = [f"/api/v1/app/{app}{suffix}" for app in apps]
    plan = {"targets": targets, "paths": paths, "key": KEY, "out": str(out), "messages": messages}
    plan |= {"batch": kind.batch, "connections": kind.connections, "rate": kind.rate}
    subprocess.run(python(str(HERE / "load_generator.py")), input=json.dumps(plan), text=True, check=True)
    answers = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    refused = [answer for answer in answers if answer[2] != 202]
    if refused or sum(len(answer[3]) for answer in answers) != messages:
        raise SystemExit(f"{len(refused)} of {len(answers)} requests were refused, the first with {refused[:1]}")
    sent_us = {message_id: sent for sent, _, _, ids in answers for message_id in ids}
    return Answered(sent_us, max(answer[1] for answer in answers))


def flow(servers: Sequence[Process], receiver: Receiver, kind: Kind, folder: Path, messages: int) -> Flow:
    """Send, wait until everything has arrived, and check that it has."""
    receiver.begin()
    cpu_s = sum(server.cpu_s() for server in servers)
    answered = send(servers, kind, folder, messages)
    wait_for(lambda: receiver.lines() >= messages, f"{messages} messages at the receiver")
    wait_for(lambda: answered.sent_us.keys() <= receiver.arrived().keys(), "every accepted message at the receiver")
    arrived = receiver.arrived()
    cpu_s = sum(server.cpu_s() for server in servers) - cpu_s
    began_us = min(answered.sent_us.values())
    delays_ms = [(arrived[message_id] - sent) / 1000 for message_id, sent in answered.sent_us.items()]
    return Flow(
        messages / (max(arrived.values()) - began_us) * 1e6,
        percentile(delays_ms, 0.5),
        percentile(delays_ms, 0.99),
        cpu_s / messages * 1e6,
        messages / (answered.last_answer_us - began_us) * 1e6,
    )


@contextmanager
def folder_and_stack() -> Iterator[tuple[Path, ExitStack]]:
    """A scratch folder, and whatever is to be stopped before it goes."""
    with scratch() as folder, ExitStack() as stack:
        yield folder, stack


def warm_up(servers: Sequence[Process], receiver: Receiver, folder: Path) -> None:
    """Connections, prepared statements, caches: a server is not measured in its first second."""
    flow(servers, receiver, KINDS[1], folder, 200)


def one_and_two_processes(share: float, engine: str) -> dict[str, Flow]:
    """All kinds with one process, then the flooded ones with a second process on the same database."""
    with folder_and_stack() as (folder, stack):
        receiver, place = Receiver(stack, folder), database(stack, folder, engine)
        servers = [netra(stack, folder, place)]
        make_tenants(servers[0], receiver.url)
        warm_up(servers, receiver, folder)
        found = {f"{engine}: {kind.name}, 1 process": flow(servers, receiver, kind, folder, sized(kind, share)) for kind in KINDS}
        servers.append(netra(stack, folder, place))
        warm_up(servers, receiver, folder)
        flooded = [kind for kind in KINDS if not kind.rate]
        return found | {
            f"{engine}: {kind.name}, 2 processes": flow(servers, receiver, kind, folder, sized(kind, share)) for kind in flooded
        }


def peer_flows(share: float, engine: str) -> dict[str, Flow]:
    """The same kinds against the engine's peer."""
    with folder_and_stack() as (folder, stack):
        receiver = Receiver(stack, folder)
        servers = [(plain_outbox if engine == SQLITE else procrastinate)(stack, folder, receiver)]
        warm_up(servers, receiver, folder)
        return {
            f"{engine}: {kind.name}, peer": flow(servers, receiver, kind, folder, sized(kind, share / PEER_SHARE[engine])) for kind in KINDS
        }


def ingest_only(share: float, engine: str) -> dict[str, float]:
    """Durable batch ingest by a process that delivers nothing."""
    kind = KINDS[0]._replace(messages=20_000)
    with folder_and_stack() as (folder, stack):
        server = netra(stack, folder, database(stack, folder, engine), "--no-workers")
        make_tenants(server, "http://127.0.0.1:9/hook")
        send([server], KINDS[1], folder, 200)
        answered = send([server], kind, folder, messages := sized(kind, share))
        return {f"{engine}: ingest": messages / (answered.last_answer_us - min(answered.sent_us.values())) * 1e6}


def kills(share: float, engine: str) -> dict[str, float]:
    """Seconds from kill -9 to the first delivery of what the dead process had in flight: by a neighbour, by a restart."""
    del share
    return {f"{engine}: {who}": seconds_after_kill(engine, neighbour=who == "neighbour") for who in ("neighbour", "restart")}


def seconds_after_kill(engine: str, *, neighbour: bool) -> float:
    """Every message hangs in flight when the process dies; the receiver is well again by then."""
    messages = TENANTS * 5
    with folder_and_stack() as (folder, stack):
        receiver = Receiver(stack, folder, "--behaviour", "hang")
        place = database(stack, folder, engine)
        victim = netra(stack, folder, place)
        make_tenants(victim, receiver.url)
        if neighbour:
            netra(stack, folder, place)
        accepted = send([victim], KINDS[1], folder, messages).sent_us.keys()
        wait_for(lambda: receiver.lines() >= messages, "every message in flight")
        receiver.process.send(signal.SIGUSR1)
        time.sleep(0.2)
        receiver.begin()
        killed_us = time.time() * 1e6
        victim.kill()
        if not neighbour:
            netra(stack, folder, place)
        wait_for(lambda: accepted <= receiver.arrived().keys(), "every message of the dead process")
        return (min(receiver.arrived().values()) - killed_us) / 1e6


def sized(kind: Kind, share: float) -> int:
    """A share of the kind's messages, in whole batches."""
    return max(PER_BATCH, int(kind.messages * share) // PER_BATCH * PER_BATCH)


PARTS: Final[dict[str, Callable[[float], dict[str, Any]]]] = {
    **{
        f"{engine}: {name}": partial(part, engine=engine)
        for engine in (SQLITE, POSTGRES)
        for name, part in {
            "peer": peer_flows,
            "one and two processes": one_and_two_processes,
            "ingest only": ingest_only,
            "kills": kills,
        }.items()
    },
}
FLOODED: Final = {"batches of 100": 4_000, "single POSTs": 1_500}
"""Messages per second that one process is to deliver."""


def rows(*, quick: bool) -> list[Row]:
    """Measure and compare."""
    share, runs = (0.1, 1) if quick else (1.0, RUNS)
    results: dict[str, list[Any]] = {}
    for outcomes in interleaved(list(PARTS), runs, lambda part: PARTS[part](share)).values():
        for outcome in outcomes:
            for name, value in outcome.items():
                results.setdefault(name, []).append(value)
    made = ([*flooded_rows(results, engine), *paced_rows(results, engine), *single_figures(results, engine)] for engine in ENGINES)
    return [each for of_engine in made for each in of_engine]


def row(engine: str, name: str, unit: str, ours: Sequence[float], peer: Sequence[float] = (), **more: Any) -> Row:
    """One row of this table."""
    words = f"{engine}, shared file" if engine == SQLITE and "processes" in name else engine
    return Row(name, words, unit, ENGINES[engine], ours, peer, PEERS[engine] if peer else None, **more)


def flooded_rows(results: dict[str, list[Flow]], engine: str) -> Iterator[Row]:
    """Rate, CPU and the queue's latency."""
    for processes in ("1 process", "2 processes"):
        for kind, aim in FLOODED.items():
            name, budget = f"{kind}, {processes}", aim if processes == "1 process" else None
            ours, peer = results[f"{engine}: {name}"], results[f"{engine}: {kind}, peer"]
            yield row(engine, f"end to end: {name}", "msg/s", rates(ours), rates(peer), budget=budget)
            cpu = "CPU per delivery, ingest included"
            yield row(engine, f"{cpu}: {name}", "us", [f.cpu_us for f in ours], [f.cpu_us for f in peer], better="lower")
            yield row(engine, f"flooded, p50: {name}", "ms", [f.p50_ms for f in ours], [f.p50_ms for f in peer], better="lower")
            yield row(engine, f"flooded, p99: {name}", "ms", [f.p99_ms for f in ours], [f.p99_ms for f in peer], better="lower")


def rates(flows: Sequence[Flow]) -> list[float]:
    """Messages per second of each run."""
    return [one.per_second for one in flows]


def paced_rows(results: dict[str, list[Flow]], engine: str) -> Iterator[Row]:
    """Latency under a load that leaves room."""
    kind = KINDS[2].name
    ours, peer = results[f"{engine}: {kind}, 1 process"], results[f"{engine}: {kind}, peer"]
    p99s = [f.p99_ms for f in ours], [f.p99_ms for f in peer]
    yield row(engine, f"request to receipt at {kind}, p50", "ms", [f.p50_ms for f in ours], [f.p50_ms for f in peer], better="lower")
    yield row(engine, f"request to receipt at {kind}, p99", "ms", *p99s, budget=50, better="lower")
    yield row(engine, f"CPU per delivery at {kind}", "us", [f.cpu_us for f in ours], [f.cpu_us for f in peer], better="lower")


def single_figures(results: dict[str, list[float]], engine: str) -> Iterator[Row]:
    """Ingest alone, and how long a kill is felt."""
    yield row(engine, "durable batch ingest, nothing delivered", "msg/s", results[f"{engine}: ingest"], budget=12_000)
    for who, words in {"neighbour": "a second process takes over", "restart": "the process is started again"}.items():
        yield row(engine, f"kill -9 to the first delivery, {words}", "s", results[f"{engine}: {who}"], budget=2, better="lower")


def options(parser: argparse.ArgumentParser) -> None:
    """What this table adds to the command line."""
    parser.add_argument("--serve", metavar="COMMAND", help="another command that serves, to compare two revisions")


def configure(given: argparse.Namespace) -> None:
    """Take the options over."""
    if given.serve:
        serve_command[:] = shlex.split(given.serve)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--quick", action="store_true", help="one short run of each: shows that it works, measures little")
    options(arguments)
    configure(chosen := arguments.parse_args())
    show([row.as_json() for row in rows(quick=chosen.quick)])
