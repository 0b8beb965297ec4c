"""What a debug session survives, and what survives it: clocks that step, a dead flusher, a full disk, a kill, a database that is gone."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest

from netra_backend.errors import Unavailable
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.sizes import MIB
from netra_backend.observability.debug import hub as hub_module
from netra_backend.observability.debug import store
from netra_backend.storage.sqlite import Sqlite
from netra_backend.testing.clock import settle

from ..support.disks import RealDisk, mounted
from ..support.looking import look, of_kind, opened, seen
from ..support.storage import database_url, eventually

LOG = logging.getLogger("shop")


@pytest.fixture
async def netra(engine, prepared):
    async with opened(prepared) as netra:
        await netra.tenant("acme")
        yield netra


def say(netra, words):
    with netra.scope("acme"):
        LOG.debug("%s", words)


def heard(netra):
    """Whether the process would hear acme now."""
    with netra.scope("acme"):
        from netra_backend.kernel import debugging

        watch = debugging.watched.get()
        return watch is not None and watch.wants("log")


class SteppedClock:
    """The real clock, whose wall can be moved and whose time can be let pass."""

    def __init__(self, clock):
        self._clock = clock
        self.step_us = 0
        self.passed_s = 0.0

    def wall_us(self):
        return self._clock.wall_us() + self.step_us

    def monotonic(self):
        return self._clock.monotonic() + self.passed_s

    async def sleep(self, seconds):
        await self._clock.sleep(seconds)


HOUR_US = 3600 * 1_000_000


@pytest.mark.parametrize(
    ("step_us", "passed_s", "hears"),
    [
        (0, 0, True),
        (-HOUR_US, 0, True),
        (-HOUR_US, 59, True),
        (-HOUR_US, 61, False),
        (0, 61, False),
        (61 * 1_000_000, 0, False),
        (HOUR_US, 0, False),
    ],
)
async def test_nothing_is_heard_after_the_time_whichever_clock_steps(tmp_path, step_us, passed_s, hears):
    clock = SteppedClock(Runtime().clock)
    async with opened(tmp_path, runtime=Runtime(clock=clock)) as netra:
        await netra.tenant("acme")
        await look(netra, ttl="1m")
        assert heard(netra)
        netra.debug.hub._vouched_until = float("inf")
        clock.step_us, clock.passed_s = step_us, passed_s
        assert heard(netra) is hears


async def test_a_new_look_under_a_wall_that_stepped_back_gives_no_time(tmp_path):
    clock = SteppedClock(Runtime().clock)
    async with opened(tmp_path, runtime=Runtime(clock=clock)) as netra:
        await netra.tenant("acme")
        await look(netra, ttl="1m")
        clock.step_us = -HOUR_US
        await netra.debug.hub.look()
        clock.passed_s = 61
        await netra.debug.hub.look()
        assert not heard(netra)


async def test_a_process_that_cannot_look_hears_nobody_after_a_while(netra, monkeypatch):
    await look(netra)
    assert heard(netra)

    async def refuse(*_, **__):
        raise Unavailable

    monkeypatch.setattr(netra.database, "read", refuse)
    netra.debug.hub._vouched_until = netra.runtime.clock.monotonic() - 0.001  # as when the last look is VOUCHED_S old
    say(netra, "unheard")
    assert not netra.debug.hub.lives[0]._ring


async def test_a_dead_flusher_holds_up_nobody_and_the_oldest_go(netra):
    session = await look(netra)
    for rounds in netra.debug.hub._rounds:
        await rounds.stop()
    live = netra.debug.hub.lives[0]
    live.quotas = type(live.quotas)(replace(netra.debug.hub._settings, hits=1e9, bytes=1e9, cpu=1e9), 0.0)
    began = netra.runtime.clock.monotonic()
    for n in range(2000):
        say(netra, f"number {n}")
    took = netra.runtime.clock.monotonic() - began
    assert len(live._ring) == netra.debug.hub._settings.ring
    assert took < 5.0  # 2,000 records, none of which waited for anybody
    records = await seen(netra, session)
    messages = [data["message"] for data in of_kind(records, "log")]
    assert messages == [f"number {n}" for n in range(1500, 2000)]
    assert sum(data["count"] for data in of_kind(records, "dropped")) == 1500


async def test_a_full_disk_holds_up_nobody_and_what_was_lost_is_told(netra, monkeypatch):
    """The write is refused as SQLite and PostgreSQL refuse it on a full disk; the work goes on, and afterwards so does the session."""
    session = await look(netra)
    write = netra.database.write

    async def full(fn, *args, **options):
        if fn is store.append:
            raise Unavailable("the disk is full")
        return await write(fn, *args, **options)

    monkeypatch.setattr(netra.database, "write", full)
    for n in range(3):
        say(netra, f"lost {n}")
    await netra.debug.hub._flush(netra.debug.hub.lives[0])
    monkeypatch.setattr(netra.database, "write", write)
    say(netra, "kept")
    records = await seen(netra, session)
    assert [data["message"] for data in of_kind(records, "log")] == ["kept"]
    assert [data["why"] for data in of_kind(records, "dropped")] == [{"unwritten": 3}]


async def test_who_wants_all_records_waits_for_those_that_are_on_their_way(netra, monkeypatch):
    session = await look(netra)
    write, gate = netra.database.write, asyncio.Event()

    async def slow(fn, *args, **options):
        if fn is store.append:
            await gate.wait()
        return await write(fn, *args, **options)

    monkeypatch.setattr(netra.database, "write", slow)
    say(netra, "first")
    live = netra.debug.hub.lives[0]
    flushes = [asyncio.create_task(netra.debug.hub._flush(live))]
    await eventually(lambda: not live.has_records)
    flushes.append(asyncio.create_task(netra.debug.hub._flush(live)))
    await settle()
    assert [flush.done() for flush in flushes] == [False, False]
    gate.set()
    await flushes[1]
    records = (await netra.debug.export(session, tenant="acme"))["records"]
    assert [record["data"]["message"] for record in records if record["kind"] == "log"] == ["first"]
    await flushes[0]


class RefusingDisk:
    """What stands in for a small file system where none can be mounted: a database that says that the disk is full."""

    def __init__(self, monkeypatch):
        self._monkeypatch = monkeypatch

    def fill(self):
        def refuse(*_, **__):
            raise Unavailable("the disk is full")

        self._monkeypatch.setattr(Sqlite, "write", refuse)

    def free(self):
        self._monkeypatch.undo()


async def test_a_disk_without_room_holds_up_nobody_and_the_session_goes_on_when_there_is_some(tmp_path, monkeypatch):
    """A small file system that another program fills. Every record is in the table afterwards, or was counted as lost."""
    with mounted(64 * MIB) as small:
        disk = RealDisk(small) if small is not None else RefusingDisk(monkeypatch)
        async with opened(small or tmp_path) as netra:
            await netra.tenant("acme")
            session = await look(netra)
            disk.fill()
            long = "x" * 1000
            began = netra.runtime.clock.monotonic()
            for n in range(300):
                say(netra, f"{n} {long}")
                await asyncio.sleep(0)
            assert netra.runtime.clock.monotonic() - began < 5.0  # nobody waited for the disk
            await eventually(lambda: sum(netra.debug.hub.lives[0].quotas.lost.values()) > 0)
            disk.free()

            async def heard_again():
                say(netra, "kept")
                try:
                    records = await seen(netra, session)
                except Unavailable:  # the writer has not seen yet that there is room
                    return False
                return "kept" in {data["message"] for data in of_kind(records, "log")}

            await eventually(heard_again)
            records = await seen(netra, session)
            kept = sum(data["message"].endswith(long) for data in of_kind(records, "log"))
            assert kept < 300
            assert kept + sum(data["count"] for data in of_kind(records, "dropped")) >= 300


async def test_a_session_whose_time_is_over_ends_by_itself_with_an_entry(tmp_path):
    clock = SteppedClock(Runtime().clock)
    async with opened(tmp_path, runtime=Runtime(clock=clock)) as netra:
        await netra.tenant("acme")
        session = await look(netra, ttl="1m")
        clock.step_us, clock.passed_s = 61 * 1_000_000, 61
        netra.debug.hub._vouched_until = float("inf")
        await netra.debug.hub._carry(netra.debug.hub.lives[0])
        (shown,) = await netra.debug.sessions(tenant="acme", ended=True)
        assert (shown["session"], shown["state"], shown["ended_by"]) == (session, "ended", "time")
        assert shown["ended_at"] == shown["expires_at"]


async def test_a_stopped_process_leaves_what_it_has_captured(engine, prepared):
    async with opened(prepared) as netra:
        await netra.tenant("acme")
        session = await look(netra)
        say(netra, "just before the end")
    async with opened(prepared) as netra:
        records = await netra.debug.records(session, tenant="acme")
        assert [data["message"] for data in of_kind(records, "log")] == ["just before the end"]


async def test_a_delivery_waits_no_longer_than_a_second_to_hear_who_debugs_it(netra, monkeypatch):
    from netra_backend.kernel.scope import Scope

    await look(netra, user="alice")

    async def hang(*_, **__):
        await asyncio.Event().wait()

    monkeypatch.setattr(hub_module, "MARKS_WITHIN_S", 0.01)
    monkeypatch.setattr(netra.database, "read", hang)
    watch = await netra.debug.hub.pick_up(Scope("acme"), b"m" * 16, {})
    assert not watch.wants("log")


PROGRAM = """
import asyncio, logging, sys
from netra_backend import Netra

async def main(url, folder, step):
    async with Netra(url, workers=False, data=folder, root_keys=folder + "/root.keys") as netra:
        await netra.tenant("acme")
        if step == "start":
            await netra.debug.start(tenant="acme", reason="killed")
        session = (await netra.debug.sessions(tenant="acme"))[0]["session"]
        if step == "end":
            await netra.debug.end(session, tenant="acme")
        with netra.scope("acme"):
            logging.getLogger("shop").debug("written or not")
        await asyncio.sleep(30)

asyncio.run(main(*sys.argv[1:]))
"""
STEPS = {"start": store.STARTED, "end": store.ENDED, "record": store.RECORDED}


@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_before_the_commit_leaves_the_session_as_it_was_and_the_next_one_works(engine, prepared, step):
    if step != "start":
        async with opened(prepared) as netra:
            await netra.tenant("acme")
            session = await look(netra)
    env = {**os.environ, "NETRA_TEST_MODE": "1", "NETRA_FAILPOINT": f"{STEPS[step]}=kill", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PROGRAM, database_url(prepared), str(prepared), step]
    killed = await asyncio.to_thread(subprocess.run, command, env=env, capture_output=True, timeout=60)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()[-2000:]
    async with opened(prepared) as netra:
        found = await netra.debug.sessions(tenant="acme", ended=True)
        if step == "start":
            assert found == []
            session = await look(netra)
        else:
            assert [(each["state"], each["records"]) for each in found] == [("active", 0)]
        say(netra, "afterwards")
        records = await seen(netra, session)
        assert [(each["seq"], each["data"]["message"]) for each in records] == [(1, "afterwards")]
        assert (await netra.debug.end(session, tenant="acme"))["state"] == "ended"
