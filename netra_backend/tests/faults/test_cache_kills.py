"""A writer killed anywhere: there is an event for each commit, and for nothing else. And a fleet that wants one cold key."""

from __future__ import annotations

import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext

import pytest

from ..support.adopting import settings_of
from ..support.cache.race import version_of
from ..support.cache.server import Server
from ..support.storage import SYSTEM, database_url, eventually, new_database, with_its_server
from ..support.zygote import Zygote, until
from .test_cache_faults import PROGRAMS, all_rows, is_numbered

KILLS = 4
PROCESSES, CALLERS = 4, 25
MOST_S = 6.0


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
    with fleet(warm, tmp_path, prepared, engine, shared=shared) as children, ThreadPoolExecutor(PROCESSES) as pool:
        answers = list(pool.map(lambda child: child.ask("ask", key="cold", callers=CALLERS), children))
        assert answers == [["loaded"] * CALLERS] * PROCESSES
        assert len((tmp_path / "loads").read_text().split()) == (1 if shared else PROCESSES)


async def test_a_process_killed_while_it_loads_keeps_the_others_waiting_for_a_moment(warm, tmp_path, prepared, engine):
    """They wait for its lead to end, which it renews no more; the limit of a load tells whether that takes long."""
    with fleet(warm, tmp_path, prepared, engine, shared=True) as (first, *others), ThreadPoolExecutor(PROCESSES) as pool:
        first.ask("hang", key="cold")
        asking = [pool.submit(child.ask, "ask", key="cold", callers=CALLERS, most_s=MOST_S) for child in others]
        first.kill()
        assert [each.result() for each in asking] == [["loaded"] * CALLERS] * len(others)
        assert len((tmp_path / "loads").read_text().split()) == 2


@contextmanager
def fleet(warm, tmp_path, prepared, engine, *, shared):
    """Processes that want a cold key, and are ready to."""
    (tmp_path / "valkey").mkdir()
    with closing(Server(tmp_path / "valkey")) if shared else nullcontext() as server:
        more = {"cache_url": server.url} if server else {}
        spec = {**spec_of(engine, prepared, cache_lease="20s", **more), "loads": str(tmp_path / "loads")}
        children = [warm.fork("caller", spec, log=tmp_path / f"{number}.log") for number in range(PROCESSES)]
        try:
            for child in children:
                child.ask("ready")
            yield children
        finally:
            for child in children:
                child.kill()
