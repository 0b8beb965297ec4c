"""A writer killed anywhere: there is an event for each commit, and for nothing else. And a fleet that wants one cold key."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from netra_backend.storage import tenants

from ..support.adopting import settings_of
from ..support.cache.race import version_of
from ..support.cache.server import Server
from ..support.storage import ACME, SYSTEM, database_url, eventually, new_database, with_its_server
from ..support.zygote import Zygote, until
from .test_cache_faults import PROGRAMS, all_rows, is_numbered

KILLS = 4
PROCESSES, CALLERS = 4, 25


@pytest.fixture(params=["sqlite3", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture(scope="module")
def warm():
    with Zygote(PROGRAMS) as zygote:
        yield zygote


def spec_of(engine, folder, **more):
    driver = {} if engine == "postgres" else {"sqlite_driver": engine}
    settings = {**settings_of(folder), **driver, "disk_reserve_bytes": 0, "lease_ttl": "1s", **more}
    return {"url": database_url(folder), "settings": settings}


async def test_a_writer_killed_anywhere_leaves_an_event_for_each_commit_and_for_nothing_else(warm, tmp_path, prepared, engine):
    written = 0
    for kill in range(KILLS):
        child = warm.fork("writer", spec_of(engine, prepared), log=tmp_path / "writer.log")
        await asyncio.to_thread(child.ask, "begin")
        await asyncio.to_thread(until, lambda child=child, kill=kill: child.ask("written") > 20 * kill + 5, "it writes")
        written += child.ask("written")
        child.kill()
    last = warm.fork("leader", spec_of(engine, prepared), log=tmp_path / "leader.log")
    database = new_database(engine, prepared)
    await database.open()
    try:
        await asyncio.to_thread(last.ask, "leads")
        await eventually(lambda: is_numbered(database))
        events = Counter(name for row in await all_rows(database) for event in row.events for name in event.names)
        truth = {f"acme|k{number}": await database.read(version_of, f"k{number}", scope=SYSTEM) for number in range(8)}
        assert events == {name: version for name, version in truth.items() if version}
        assert events.total() >= written > 20
    finally:
        last.kill()
        await database.close()


@pytest.mark.parametrize("shared", [True, False], ids=["with a shared tier", "without"])
async def test_a_hundred_callers_of_a_cold_key_cause_one_load_or_one_in_each_process(warm, tmp_path, prepared, engine, shared):
    (tmp_path / "valkey").mkdir()
    server = Server(tmp_path / "valkey") if shared else None
    loads = tmp_path / "loads"
    database = new_database(engine, prepared)
    await database.open()
    await database.write(tenants.ensure, "acme", scope=ACME)
    await database.close()
    spec = spec_of(engine, prepared, cache_lease="20s", **({"cache_url": server.url} if server else {}))
    children = [warm.fork("caller", {**spec, "loads": str(loads)}, log=tmp_path / f"{number}.log") for number in range(PROCESSES)]
    try:
        with ThreadPoolExecutor(PROCESSES) as pool:
            list(pool.map(lambda child: child.ask("ready"), children))
            answers = list(pool.map(lambda child: child.ask("ask", key="cold", callers=CALLERS), children))
        assert answers == [["loaded"] * CALLERS] * PROCESSES
        assert len(loads.read_text().split()) == (1 if shared else PROCESSES)
    finally:
        for child in children:
            child.kill()
        if server:
            server.close()
