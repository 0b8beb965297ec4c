"""The cache in processes of its own, while all around it breaks: no read beyond the bound, no event lost or invented, and at rest the truth.

Three processes of eight readers and their writers (short transactions, long ones, some that are rolled back), a process that leads the
log, a Valkey. In rounds: the leader is stopped while Valkey answers, a process is stopped, cut off, killed and replaced, connections are
ended, Valkey dies and comes back as it was, forgets, stalls. Behind its faults a round goes on until its share of the reads is answered: what
they left behind must not be served either, and on a busy machine hits are few while they last. `make soak PART=cache` asks for 10^7 reads.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from netra_backend.cache import store
from netra_backend.storage import log
from netra_backend.testing.tcp_proxy import Fault, TcpProxy

from ..support.adopting import settings_of
from ..support.cache.commits import Commits
from ..support.cache.server import Server
from ..support.storage import SYSTEM, database_url, eventually, new_database, with_its_server
from ..support.zygote import Zygote

READS = int(os.environ.get("NETRA_CACHE_READS", "50000"))
SEED = os.environ.get("NETRA_CACHE_SEED", "1")
BOUND_S = {"sqlite3": 0.3, "postgres": 1.5}
"""A look takes longer where each question goes to a server: a lease that ends before the look does is none."""
KEYS = 40
READS_A_ROUND = 250_000
NODES = 3
READERS = 8
PROGRAMS = "netra_backend.tests.support.cache.programs"


@pytest.fixture(params=["sqlite3", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture(scope="module")
def warm():
    with Zygote(PROGRAMS) as zygote:
        yield zygote


class Race:
    """The processes, and what is done to them."""

    def __init__(self, warm, folder, engine, server):
        self.engine, self.server, self.folder = engine, server, folder
        self.bound_s = BOUND_S[engine]
        self.commits = Commits(folder / "commits", KEYS)
        self.nodes = []
        self._warm = warm
        self._retired = Counter()
        self.stale = []
        driver = {} if engine == "postgres" else {"sqlite_driver": engine}
        settings = {"disk_reserve_bytes": 0, "cache_lease": f"{self.bound_s}s", "lease_ttl": "600s", "cache_url": server.url}
        self.settings = {**settings_of(folder), **driver, **settings}

    def fork(self, program, url, **spec):
        whole = {"url": url, "settings": self.settings, **spec}
        return self._warm.fork(program, whole, log=self.folder / f"{program}.log", seconds=1700)

    def racer(self, number, url, **more):
        spec = {
            "commits": str(self.folder / "commits"),
            "keys": KEYS,
            "readers": READERS,
            "seed": f"{SEED}/{number}",
            "bound_s": self.bound_s,
        }
        held_s = 1.5 * self.bound_s if self.engine == "postgres" else 0.02  # there one that is held open holds up nobody else
        return self.fork("racer", url, writes=list(range(number, KEYS, NODES)), pause_s=0.001, held_s=held_s, **spec, **more)

    async def ask(self, child, op, limit_s=60.0, **arguments):
        return await asyncio.to_thread(child.ask, op, limit_s, **arguments)

    async def go_on(self, reads):
        """Nothing breaks until so many more reads are answered; writers go on."""
        await asyncio.gather(*(self.ask(node, "answer", 600.0, reads=-(-reads // NODES)) for node in self.nodes))

    async def counts(self):
        """Of all lives of all processes."""
        total = Counter(self._retired)
        for node in self.nodes:
            found = await self.ask(node, "counts")
            assert found.pop("broken") == [], node.last_words()
            self.stale += found.pop("stale")
            total.update(found)
        return total

    async def retire(self, node):
        """Its counts are kept; then it is killed."""
        found = await self.ask(node, "counts")
        self.stale += found.pop("stale")
        found.pop("broken")
        self._retired.update(found)
        await asyncio.to_thread(node.kill)

    async def round(self, leader, urls, proxy, postgres):
        """Each fault once."""
        leader.freeze()
        await asyncio.sleep(1.2 * self.bound_s)
        leader.thaw()
        self.nodes[2].freeze()
        await asyncio.sleep(1.2 * self.bound_s)
        self.nodes[2].thaw()
        await asyncio.to_thread(self.server.remember)
        await asyncio.sleep(0.3 * self.bound_s)
        await asyncio.to_thread(self.server.roll_back)
        await asyncio.sleep(0.5 * self.bound_s)
        self.server.client().flushall()
        self.server.stall()
        if proxy is not None:
            proxy.fault = Fault(half_open=True)
            await asyncio.sleep(1.2 * self.bound_s)
            proxy.fault = Fault()
        else:
            await self.ask(self.nodes[1], "cut", seconds=1.2 * self.bound_s)
        self.server.go_on()
        if postgres is not None:
            await asyncio.to_thread(postgres[0].terminate_backends, postgres[1])
        await self.retire(self.nodes[2])
        self.nodes[2] = self.racer(2, urls[2])
        await self.ask(self.nodes[2], "begin")


async def test_no_read_is_stale_no_event_lost_and_at_rest_all_is_true_whatever_breaks(warm, tmp_path, prepared, engine, request):
    (tmp_path / "valkey").mkdir()
    url = database_url(prepared)
    async with AsyncExitStack() as stack:
        server = Server(tmp_path / "valkey")
        stack.callback(server.close)
        race = Race(warm, tmp_path, engine, server)
        proxy, urls, postgres = None, [url] * NODES, None
        if engine == "postgres":
            parts = urlsplit(url)
            proxy = await stack.enter_async_context(TcpProxy(parts.hostname, parts.port))
            urls[1] = url.replace(f":{parts.port}/", f":{proxy.port}/")
            postgres = (request.getfixturevalue("postgres_server"), parts.path[1:])
        leader = race.fork("leader", url)
        stack.callback(leader.kill)
        await race.ask(leader, "leads")
        race.nodes = [race.racer(number, each) for number, each in enumerate(urls)]
        stack.callback(lambda: [node.kill() for node in race.nodes])
        for node in race.nodes:
            await race.ask(node, "begin")
        rounds, amid_faults = -(-READS // READS_A_ROUND), 0
        for number in range(1, rounds + 1):
            before = (await race.counts())["reads"]
            await race.round(leader, urls, proxy, postgres)
            after = (await race.counts())["reads"]
            amid_faults += after - before
            await race.go_on(max(0, READS * number // rounds - after))
            assert race.stale == []
        for node in race.nodes:
            await race.ask(node, "quiet")
        await race.ask(leader, "leads")
        kept = await at_rest(race, engine, prepared)
        counts = await race.counts()
        assert race.stale == []
        assert min(counts["commits"], counts["l1"], counts["l2"]) > 10, counts
        assert counts["reads"] >= READS
        evidence(engine, {**counts, "amid_faults": amid_faults, "rounds": rounds, "kept": kept})


async def test_the_judge_finds_the_reads_of_a_process_without_a_lease_that_does_not_look(warm, tmp_path, prepared, engine):
    (tmp_path / "valkey").mkdir()
    server = Server(tmp_path / "valkey")
    race = Race(warm, tmp_path, engine, server)
    race.nodes = [race.racer(number, database_url(prepared), blind=number == 1) for number in range(2)]
    try:
        for node in race.nodes:
            await race.ask(node, "begin")
        await eventually(lambda: has_stale(race))
    finally:
        for node in race.nodes:
            node.kill()
        server.close()


async def has_stale(race):
    await race.counts()
    return race.stale


async def at_rest(race, engine, folder):
    """C2, C10 and C11; how many entries were looked at for C2."""
    database = new_database(engine, folder)
    await database.open()
    try:
        await eventually(lambda: is_numbered(database))
        rows = await all_rows(database)
    finally:
        await database.close()
    events = [name for row in rows for event in row.events for name in event.names]
    kept = 0
    for node in race.nodes:
        found = await race.ask(node, "rest")
        assert found["shown"] == {name: [version, version] for name, version in found["truth"].items()}, "C11: at rest"
        assert found["hits"].items() <= found["truth"].items(), "C11: a hit at rest"
        assert Counter(events) == {f"acme|{name}": version for name, version in found["truth"].items() if version}, (
            "C10: an event for each commit"
        )
        for name, position, shown in found["kept"]:
            if name.startswith("acme|k"):
                assert shown >= due(rows, name, position), f"C2: {name} was kept as {shown} at {position}"
                kept += 1
    return kept


def due(rows, name, position):
    """The version by that position of the log."""
    return sum(name in event.names for row in rows[:position] for event in row.events)


async def is_numbered(database):
    return not (await database.read(store.look, 0, scope=SYSTEM)).waiting


async def all_rows(database):
    rows = []
    while True:
        seen = await database.read(store.look, len(rows), scope=SYSTEM)
        if not seen.rows:
            assert await database.read(log.last_seq, store.STREAM, scope=SYSTEM) == len(rows)
            return rows
        rows += seen.rows


def evidence(cell, counts):
    """A line for the soak's report, where it asked for one."""
    if path := os.environ.get("NETRA_EVIDENCE"):
        with Path(path).open("a") as file:
            file.write(json.dumps({"cell": cell, **counts}) + "\n")
