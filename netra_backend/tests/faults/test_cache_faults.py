"""Readers and writers on real databases while everything around the cache breaks: no read is older than the bound.

`make soak PART=cache` asks for far more reads than the ones here.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager

import pytest

from netra_backend import Netra
from netra_backend.cache.node import Node
from netra_backend.errors import Unavailable

from ..support.adopting import settings_of
from ..support.cache.race import Race
from ..support.cache.server import Server
from ..support.storage import database_url, eventually, with_its_server

READS = int(os.environ.get("NETRA_CACHE_READS", "17000"))
SEED = int(os.environ.get("NETRA_CACHE_SEED", "1"))
BOUND_S = 0.5

LEADER = """
import asyncio, sys
from netra_backend import Netra

async def main():
    async with Netra(sys.argv[1], workers=False, environ={}, data=sys.argv[2], disk_reserve_bytes=0, lease_ttl="600s") as netra:
        while not netra.leader.leads:
            await asyncio.sleep(0.01)
        print("leads", flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite3", "postgres"])
def engine(request):
    return with_its_server(request)


@contextmanager
def leading(prepared):
    """A process of its own that leads the log, to be stopped."""
    command = [sys.executable, "-c", LEADER, database_url(prepared), str(prepared)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "leads\n"
            yield child
        finally:
            child.send_signal(signal.SIGCONT)
            child.kill()


@asynccontextmanager
async def opened(engine, prepared, count, **settings):
    driver = {} if engine == "postgres" else {"sqlite_driver": engine}
    options = {**settings_of(prepared), **driver, "disk_reserve_bytes": 0, "cache_lease": f"{BOUND_S}s", "lease_ttl": "600s", **settings}
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Netra(database_url(prepared), workers=False, environ={}, **options)) for _ in range(count)]


async def pause(race, seconds):
    """Let the race go on for a while, unless it is over."""
    ends = asyncio.get_running_loop().time() + seconds
    while not race.over and asyncio.get_running_loop().time() < ends:
        await asyncio.sleep(0.01)


def judged(race):
    assert race.stale == []
    assert race.done >= READS
    assert race.commits > 3


async def test_no_read_is_stale_while_the_logs_leader_is_stopped_and_goes_on(engine, prepared):
    with leading(prepared) as leader:
        async with opened(engine, prepared, 3) as nodes:

            async def faults(race):
                while not race.over:
                    leader.send_signal(signal.SIGSTOP)
                    await pause(race, 0.7)
                    leader.send_signal(signal.SIGCONT)
                    await pause(race, 0.3)

            race = Race(nodes, BOUND_S, READS, SEED)
            await race.run(faults=faults)
    judged(race)


async def test_no_read_is_stale_in_a_process_that_is_cut_off_and_comes_back(engine, prepared):
    async with opened(engine, prepared, 3) as nodes:
        cut = nodes[2].database

        async def refused(*_, **__):
            await asyncio.sleep(0.01)
            raise Unavailable("cut off")

        async def faults(race):
            while not race.over:
                cut.read = refused
                await pause(race, 0.9)
                del cut.read
                await pause(race, 0.3)
            cut.__dict__.pop("read", None)

        race = Race(nodes, BOUND_S, READS, SEED)
        await race.run(faults=faults)
    judged(race)


async def test_no_read_is_stale_while_valkey_dies_forgets_stalls_and_goes_back_in_time(engine, prepared):
    (prepared / "valkey").mkdir()
    with closing(Server(prepared / "valkey")) as server:
        async with opened(engine, prepared, 3, cache_url=server.url) as nodes:

            async def faults(race):
                while not race.over:
                    await asyncio.to_thread(server.remember)
                    await pause(race, 0.2)
                    await asyncio.to_thread(server.roll_back)
                    await pause(race, 0.4)
                    server.client().flushall()
                    await pause(race, 0.2)
                    server.stall()
                    await pause(race, 0.4)
                    server.go_on()

            race = Race(nodes, BOUND_S, READS, SEED)
            await race.run(faults=faults)
    judged(race)


async def test_the_judge_finds_the_reads_of_a_cache_without_a_lease_and_a_fence(prepared, engine, monkeypatch):
    monkeypatch.setattr(Node, "is_leased", lambda *_: True)
    monkeypatch.setattr(Node, "observe", lambda *_: [])
    async with opened(engine, prepared, 2) as nodes:
        for node in nodes:
            node.cache.node.flush(0)
            node.cache.node.lease_until = float("inf")
        race = Race(nodes, BOUND_S, 10**9, SEED)

        async def faults(race):
            await eventually(lambda: race.stale)
            race.reads = 0

        await race.run(writers=1, faults=faults)
    assert race.stale
