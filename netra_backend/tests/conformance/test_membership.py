"""Who is alive, who may say otherwise, and what a clock has to do with it (nothing)."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

from netra_backend.storage import nodes
from netra_backend.testing.clock import FakeClock

from ..support.members import living, member, new_node
from ..support.storage import SYSTEM, eventually

HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


async def test_a_node_lives_from_its_start_to_its_stop(database):
    async with member(database) as node:
        assert await living(database) == {node.id: 1}
        assert not node.quiet
        assert list((database.lock_dir / "nodes").iterdir()) == [node._lock_path(node.id)]
    assert await living(database) == {}
    assert list((database.lock_dir / "nodes").iterdir()) == []


async def test_a_node_beats_by_itself_every_fifth_of_its_ttl(database):
    async with member(database, clock := FakeClock()) as node:
        beating = asyncio.create_task(node._beat_forever())
        for wanted in (2, 3, 4):
            await eventually(lambda: clock.sleeping == 1)
            await clock.advance(2.0)
            await eventually(lambda wanted=wanted: _beat_is(database, node.id, wanted))
        await eventually(lambda: clock.sleeping == 1)
        await clock.advance(1.9)
        assert (await living(database))[node.id] == 4
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def _beat_is(database, node, beat):
    return (await living(database)).get(node) == beat


async def test_a_silent_node_is_reaped_after_a_whole_ttl_of_the_observers_clock(database):
    async with member(database) as silent, member(database, clock := FakeClock()) as observer:
        await observer._observe_once()
        await clock.advance(9.9)
        await observer._observe_once()
        assert silent.id in await living(database)
        await clock.advance(0.1)
        await observer._observe_once()
        assert silent.id not in await living(database)
        assert observer.id in await living(database)


async def test_a_node_that_beats_is_never_reaped(database):
    async with member(database) as node, member(database, clock := FakeClock()) as observer:
        for _ in range(5):
            await observer._observe_once()
            await clock.advance(9.9)
            await node._beat_once()
        await observer._observe_once()
        assert set(await living(database)) == {node.id, observer.id}


async def test_a_clock_step_kills_nobody(database):
    async with member(database, theirs := FakeClock()) as node, member(database, ours := FakeClock()) as observer:
        for step in (86_400.0, -200_000.0, 3.0):
            await observer._observe_once()
            ours.step_wall(step)
            theirs.step_wall(-step)
            await ours.advance(1.0)
            await observer._observe_once()
            assert node.id in await living(database)
            assert not node.quiet and not observer.quiet


async def test_a_beat_between_the_look_and_the_verdict_saves_the_node(database):
    node = await new_node(database)
    seen = (await living(database))[node]
    assert await database.write(nodes.beat, node, scope=SYSTEM)
    assert not await database.write(nodes.reap, node, seen, scope=SYSTEM)
    assert await living(database) == {node: seen + 1}
    assert await database.write(nodes.reap, node, seen + 1, scope=SYSTEM)
    assert await living(database) == {}


async def test_of_two_observers_at_once_one_reaps(database):
    node = await new_node(database)
    verdicts = await asyncio.gather(*(database.write(nodes.reap, node, 1, scope=SYSTEM) for _ in range(2)))
    assert sorted(verdicts) == [False, True]


async def test_a_dead_process_is_reaped_at_once_by_its_lock_file(database):
    async with member(database) as observer:
        node = await new_node(database)
        lock = observer._lock_path(node)
        with subprocess.Popen([sys.executable, "-c", HOLDER, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout.readline() == b"held\n"
            await observer._observe_once()
            assert node in await living(database)
            process.kill()
            process.wait()
            await observer._observe_once()
        assert node not in await living(database)
        assert not lock.exists()


async def test_a_node_without_a_lock_file_here_is_left_to_its_ttl(database):
    async with member(database) as observer:
        node = await new_node(database)
        await observer._observe_once()
        assert node in await living(database)


async def test_a_reaped_node_starts_another_life_and_says_so(database):
    async with member(database) as node:
        former, told = node.id, []
        node.on_new_life.append(lambda: told.append(node.id))
        assert await database.write(nodes.reap, former, 1, scope=SYSTEM)
        await node._beat_once()
        assert node.id != former
        assert told == [node.id]
        assert set(await living(database)) == {node.id}


async def test_a_node_is_quiet_once_its_last_beat_is_older_than_half_the_ttl(database):
    async with member(database, clock := FakeClock()) as node:
        await clock.advance(5.0)
        assert not node.quiet
        await clock.advance(0.1)
        assert node.quiet
        await node._beat_once()
        assert not node.quiet


async def test_an_unknown_commit_outcome_ends_this_life(database):
    async with member(database) as node:
        former = node.id
        for listener in database.on_unknown_outcome:
            threading.Thread(target=listener).start()
        await eventually(node._doubt.is_set)
        await node._beat_once()
        assert node.id != former
        assert set(await living(database)) == {node.id}
        await node._beat_once()
        assert set(await living(database)) == {node.id}


async def test_doubt_that_arises_while_a_life_begins_is_not_forgotten(database, monkeypatch):
    async with member(database) as node:
        begin = node._begin_life

        async def begin_and_doubt():
            await begin()
            node._doubt.set()

        monkeypatch.setattr(node, "_begin_life", begin_and_doubt)
        node._doubt.set()
        await node._beat_once()
        assert node._doubt.is_set()
