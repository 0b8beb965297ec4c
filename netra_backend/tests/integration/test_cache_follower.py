"""How soon a process applies what was committed: with the leader's next commit, on a clock that stands still otherwise."""

from __future__ import annotations

from unittest.mock import MagicMock

import pytest

from netra_backend.cache import follower, store
from netra_backend.cache.follower import LOOKS_PER_LEASE, Follower
from netra_backend.cache.node import Node
from netra_backend.cache.stats import Stats
from netra_backend.kernel.runtime import Runtime
from netra_backend.storage import log, nodes
from netra_backend.storage.postgres_transaction import PostgresTx
from netra_backend.testing.clock import FakeClock

from ..support.platform import platform
from ..support.storage import SYSTEM, eventually, opened, with_its_server


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


async def test_what_was_seen_to_wait_is_applied_within_two_milliseconds_of_its_number(prepared, monkeypatch):
    monkeypatch.setattr(follower, "LOOKS_AT_ONCE", 1)  # as where looks that saw nothing have taken all that there are at once
    clock = FakeClock()
    async with platform(prepared, workers=False, runtime=Runtime(clock=clock)) as netra:
        node = netra.cache.node
        await netra.cache.position()
        while not netra.leader.leads:
            await clock.advance(1.0)
            await eventually(lambda: not netra.membership.quiet)
        netra.leader._task.cancel()  # from here on it sequences when told
        await netra.leader.drain()
        before = node.applied
        await netra.write(netra.cache.invalidate, "org:7", tenant="acme")
        while not node.sees_waiting:
            await clock.advance(0.001)
            if netra.cache.follower._looking is not None:
                await netra.cache.follower.look()  # the same one: time stands still for as long as it lasts
        await netra.leader.drain()
        await clock.advance(0.002)
        await eventually(lambda: node.applied == before + 1)


class Counting(Follower):
    """Counts its looks, which see nothing and take no time."""

    looks = 0

    async def look(self):
        self.looks += 1
        return True


@pytest.fixture
async def counting():
    clock = FakeClock()
    counting = Counting(MagicMock(on_wake=[]), Runtime(clock=clock), Node(1.0, 1), None, Stats())
    counting.start()
    yield counting, clock
    await counting.stop()


async def told(counting, clock, seconds):
    """Looks in that many seconds in which somebody says every millisecond that there is something to see."""
    before = counting.looks
    for _ in range(round(seconds * 1000)):
        counting.hurry()
        await clock.advance(0.001)
    return counting.looks - before


async def test_a_look_that_saw_nothing_keeps_the_next_notice_waiting_for_a_millisecond_only(counting):
    looking, clock = counting
    await clock.advance(0.1)
    for looks in range(1, 5):
        assert looking.looks == looks
        looking.hurry()
        await clock.advance(0.001)
    assert looking.looks == 5
    looking.hurry()
    await clock.advance(0.001)
    assert looking.looks == 5


async def test_notices_without_end_make_no_more_than_ten_looks_for_each_regular_one(counting):
    looking, clock = counting
    await told(looking, clock, 1.0)
    assert 10 * LOOKS_PER_LEASE - 1 <= await told(looking, clock, 1.0) <= 10 * LOOKS_PER_LEASE + 1


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_a_look_and_a_turn_of_the_leader_are_two_round_trips_each_before_they_end(engine, prepared, monkeypatch):
    async with opened(engine, prepared) as database:
        node = await database.write(a_leader, scope=SYSTEM)
        await database.write(three_events, scope=SYSTEM)
        asked = []
        ask = PostgresTx._ask

        async def counted(tx, call, *arguments):
            asked.append(arguments[0])
            return await ask(tx, call, *arguments)

        monkeypatch.setattr(PostgresTx, "_ask", counted)
        assert await database.write(log.sequence, node, 10, scope=SYSTEM) == 2
        assert len(asked) == 2, asked
        seen = await database.read(store.look, 0, scope=SYSTEM)
        assert len(asked) == 4, asked
    assert ([row.seq for row in seen.rows], seen.last_seq, seen.is_whole, len(seen.waiting)) == ([1], 1, True, 0)


async def a_leader(tx):
    node = tx.new_id()
    await nodes.register(tx, node, "host", 1, "test")
    await log.take_lead(tx, "log", node)
    return node


async def three_events(tx):
    """Two streams, so two rows of the outbox."""
    store.invalidate(tx, "one", ["org:7"])
    store.invalidate(tx, "two", ["org:8"])
    tx.emit("events", {"type": "thing.happened"})
