"""Leases, the outbox and the one log: S5, each stream is dense and complete, and S2 for who leads it."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from netra_backend.errors import NetraError
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.storage import log, nodes
from netra_backend.storage.leader import LogLeader
from netra_backend.storage.leader import Q as LEADER
from netra_backend.testing.clock import FakeClock

from ..support.members import member, new_node
from ..support.storage import ACME, SYSTEM, Q, eventually, opened, put, query

FOREVER_US = 2**62
STREAMS = ("audit", "events")


async def emit(tx, stream, items):
    for item in items:
        tx.emit(stream, item)


async def drain(database, node, limit=500):
    while await database.write(log.sequence, node, limit, scope=SYSTEM):
        pass


async def all_of(database, stream, after=0):
    entries = await database.read(log.read_after, stream, after, 10_000, scope=SYSTEM)
    return [(entry.seq, item) for entry in entries for _, item in entry.items], [entry.seq for entry in entries]


# Leases


async def test_one_of_two_nodes_leads(database):
    one, two = await new_node(database), await new_node(database)
    fences = await asyncio.gather(*(database.write(log.take_lead, "log", node, scope=SYSTEM) for node in (one, two)))
    assert sorted(fences, key=str) == [1, None]


async def test_a_lease_is_taken_from_a_dead_node_only_and_its_fence_grows(database):
    one, two = await new_node(database), await new_node(database)
    assert await database.write(log.take_lead, "log", one, scope=SYSTEM) == 1
    assert await database.write(log.take_lead, "log", two, scope=SYSTEM) is None
    await database.write(nodes.reap, one, 1, scope=SYSTEM)
    assert await database.write(log.take_lead, "log", one, scope=SYSTEM) is None
    assert await database.write(log.take_lead, "log", two, scope=SYSTEM) == 2


async def test_a_lease_given_back_is_free(database):
    one, two = await new_node(database), await new_node(database)
    await database.write(log.take_lead, "log", one, scope=SYSTEM)
    await database.write(log.drop_lead, "log", two, scope=SYSTEM)
    assert await database.write(log.take_lead, "log", two, scope=SYSTEM) is None
    await database.write(log.drop_lead, "log", one, scope=SYSTEM)
    assert await database.write(log.take_lead, "log", two, scope=SYSTEM) == 2


async def test_a_former_leader_moves_nothing(database):
    one, two = await new_node(database), await new_node(database)
    await database.write(log.take_lead, "log", one, scope=SYSTEM)
    await database.write(emit, "events", ["a"], scope=ACME)
    await database.write(nodes.reap, one, 1, scope=SYSTEM)
    assert await database.write(log.sequence, one, 10, scope=SYSTEM) is None
    await database.write(log.take_lead, "log", two, scope=SYSTEM)
    assert await database.write(log.sequence, one, 10, scope=SYSTEM) is None
    assert await all_of(database, "events") == ([], [])
    assert await database.write(log.sequence, two, 10, scope=SYSTEM) == 1
    assert await all_of(database, "events") == ([(1, "a")], [1])


async def test_a_living_node_that_does_not_lead_moves_nothing(database):
    one, two = await new_node(database), await new_node(database)
    await database.write(log.take_lead, "log", one, scope=SYSTEM)
    await database.write(emit, "events", ["a"], scope=ACME)
    assert await database.write(log.sequence, two, 10, scope=SYSTEM) is None
    assert await all_of(database, "events") == ([], [])


# The outbox


async def test_a_group_adds_one_row_per_stream_and_each_item_names_its_tenant(database):
    node = await new_node(database)
    await database.write(log.take_lead, "log", node, scope=SYSTEM)

    async def mixed(tx):
        tx.emit("events", 1, "acme")
        tx.emit("events", 2, "globex")
        tx.emit("audit", 3, "acme")

    await database.write(mixed, scope=SYSTEM)
    assert len(await database.read(query, Q.outbox_items, scope=SYSTEM)) == 2
    await drain(database, node)
    (entry,) = await database.read(log.read_after, "events", 0, 10, scope=SYSTEM)
    assert entry.items == [("acme", 1), ("globex", 2)]
    (entry,) = await database.read(log.read_after, "audit", 0, 10, scope=SYSTEM)
    assert entry.items == [("acme", 3)]


async def test_what_is_rolled_back_is_not_emitted(database):
    async def fails(tx):
        await put(tx, "lost")
        raise LookupError

    with pytest.raises(LookupError):
        await database.write(fails, scope=ACME)
    async with database.transaction(ACME) as tx:
        await put(tx, "kept")
    items = await database.read(query, Q.outbox_items, scope=SYSTEM)
    assert [text for (text,) in items] == ['[["acme",{"who":"kept"}]]']


async def test_an_item_that_is_no_json_fails_its_function_alone(database):
    async def emit_bytes(tx):
        tx.emit("events", b"bytes")

    outcomes = await asyncio.gather(
        database.write(put, "before", scope=ACME),
        database.write(emit_bytes, scope=ACME),
        database.write(put, "after", scope=ACME),
        return_exceptions=True,
    )
    assert outcomes[0] == "before" and outcomes[2] == "after"
    assert isinstance(outcomes[1], TypeError)


# Cursors and trimming


async def test_a_cursor_only_moves_forward(database):
    assert await database.read(log.cursor, "kpi", scope=SYSTEM) == 0
    for seq in (3, 2):
        await database.write(log.move_cursor, "kpi", "events", seq, scope=SYSTEM)
        assert await database.read(log.cursor, "kpi", scope=SYSTEM) == 3


async def test_trimming_keeps_what_a_cursor_has_not_passed_and_never_restarts_a_stream(database):
    node = await new_node(database)
    await database.write(log.take_lead, "log", node, scope=SYSTEM)
    for item in range(4):
        await database.write(emit, "events", [item], scope=ACME)
    await drain(database, node)
    await database.write(log.move_cursor, "slow", "events", 2, scope=SYSTEM)
    await database.write(log.move_cursor, "fast", "events", 4, scope=SYSTEM)
    assert await database.write(log.trim, "events", FOREVER_US, 100, scope=SYSTEM) == 2
    assert (await all_of(database, "events"))[1] == [3, 4]
    await database.write(log.move_cursor, "slow", "events", 4, scope=SYSTEM)
    assert await database.write(log.trim, "events", 0, 100, scope=SYSTEM) == 0
    assert await database.write(log.trim, "events", FOREVER_US, 1, scope=SYSTEM) == 1
    assert await database.write(log.trim, "events", FOREVER_US, 100, scope=SYSTEM) == 1
    assert await database.read(log.last_seq, "events", scope=SYSTEM) == 4
    await database.write(emit, "events", ["next"], scope=ACME)
    await drain(database, node)
    assert await all_of(database, "events", after=4) == ([(5, "next")], [5])


# S5 as a property

write_step = st.tuples(st.just("write"), st.lists(st.sampled_from(STREAMS), max_size=3))
STEPS = st.lists(
    st.one_of(
        write_step,
        write_step,
        st.tuples(st.just("race"), st.integers(1, 4)),
        st.tuples(st.just("sequence"), st.integers(0, 2), st.integers(1, 3)),
        st.tuples(st.just("abort"), st.integers(0, 2)),
        st.tuples(st.just("take"), st.integers(0, 2)),
        st.tuples(st.just("kill"), st.integers(0, 2)),
        st.tuples(st.just("give back"), st.integers(0, 2)),
        st.tuples(st.just("read"), st.sampled_from(STREAMS)),
        st.tuples(st.just("trim"), st.sampled_from(STREAMS)),
    ),
    min_size=8,
    max_size=40,
)


class World:
    """Writers, three would-be leaders that die and come back, one reader per stream, and what each of them saw."""

    def __init__(self, database):
        self.database = database
        self.nodes = {}
        self.sent = {stream: [] for stream in STREAMS}
        self.seen = {stream: [] for stream in STREAMS}
        self.position = dict.fromkeys(STREAMS, 0)
        self.numbers = iter(range(10**6))

    def do(self, verb, *args):
        return self.database.write(verb, *args, scope=SYSTEM)

    async def node(self, which):
        if which not in self.nodes:
            self.nodes[which] = await new_node(self.database)
        return self.nodes[which]

    async def step(self, kind, *args):
        await getattr(self, kind.replace(" ", "_"))(*args)

    async def write(self, streams):
        items = [(stream, next(self.numbers)) for stream in streams]

        async def send(tx):
            for stream, item in items:
                tx.emit(stream, item)

        await self.database.write(send, scope=Scope("acme"))
        for stream, item in items:
            self.sent[stream].append(item)

    async def race(self, writers):
        """Writers and every would-be leader at once."""
        sequencing = [self.do(log.sequence, await self.node(which), 2) for which in range(3)]
        await asyncio.gather(*(self.write(STREAMS) for _ in range(writers)), *sequencing)

    async def sequence(self, which, limit):
        await self.do(log.sequence, await self.node(which), limit)

    async def abort(self, which):
        """A leader that dies after it has moved rows and before the commit."""
        node = await self.node(which)

        async def moved_then_killed(tx):
            await log.sequence(tx, node, 100)
            raise LookupError

        with pytest.raises(LookupError):
            await self.do(moved_then_killed)

    async def take(self, which):
        await self.do(log.take_lead, "log", await self.node(which))

    async def kill(self, which):
        if node := self.nodes.pop(which, None):
            assert await self.do(nodes.reap, node, 1)

    async def give_back(self, which):
        await self.do(log.drop_lead, "log", await self.node(which))

    async def read(self, stream):
        entries = await self.database.read(log.read_after, stream, self.position[stream], 10_000, scope=SYSTEM)
        assert [entry.seq for entry in entries] == list(range(self.position[stream] + 1, self.position[stream] + len(entries) + 1))
        self.seen[stream] += [item for entry in entries for _, item in entry.items]
        self.position[stream] += len(entries)
        await self.do(log.move_cursor, f"reader of {stream}", stream, self.position[stream])

    async def trim(self, stream):
        if self.position[stream]:
            await self.do(log.trim, stream, FOREVER_US, 2)

    async def finish(self):
        for which in list(self.nodes):
            await self.kill(which)
        last = await new_node(self.database)
        assert await self.do(log.take_lead, "log", last)
        await drain(self.database, last)
        for stream in STREAMS:
            await self.read(stream)


@given(steps=STEPS)
@settings(
    max_examples=20,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],  # shrinking opens hundreds of databases; the steps are told as they are
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_each_stream_is_dense_and_complete_whoever_leads_and_dies(engine, steps):
    async def check(folder):
        async with opened(engine, Path(folder)) as database:
            world = World(database)
            for step in steps:
                await world.step(*step)
            await world.finish()
            assert not await database.read(query, LEADER.outbox_has_rows, scope=SYSTEM)
            for stream in STREAMS:
                assert Counter(world.seen[stream]) == Counter(world.sent[stream])

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(check(folder))


# The leader's loop


async def test_the_leader_sequences_what_others_commit_and_hands_over_when_it_dies(database):
    ttl_s = 1e6  # nobody beats here, and the clock is turned as often as the machine needs
    async with member(database, clock := FakeClock(), ttl_s) as first, member(database, clock, ttl_s) as second:
        leaders = [LogLeader(database, node, Runtime(clock=clock)) for node in (first, second)]
        for leader in leaders:
            leader.start()
        await eventually(lambda: any(leader.leads for leader in leaders))
        await database.write(emit, "events", ["a"], scope=ACME)
        await eventually(partial(_sequenced, database, clock, 1))
        (leading,) = [leader for leader in leaders if leader.leads]
        (other,) = [leader for leader in leaders if not leader.leads]
        await database.write(nodes.remove, leading._membership.id, scope=SYSTEM)
        await database.write(emit, "events", ["b"], scope=ACME)
        await eventually(partial(_sequenced, database, clock, 2))
        assert other.leads
        for leader in leaders:
            await leader.stop()


async def _sequenced(database, clock, wanted):
    await clock.advance(0.5)
    return await database.read(log.last_seq, "events", scope=SYSTEM) == wanted


async def test_what_an_error_kept_in_the_outbox_is_sequenced_without_another_commit(database, monkeypatch):
    async with member(database, clock := FakeClock()) as node:
        leader = LogLeader(database, node, Runtime(clock=clock))
        await leader._seek()
        await database.write(emit, "events", ["a"], scope=ACME)
        sequence, failing = leader._sequence, [NetraError("once")]

        async def fails_once():
            if failing:
                raise failing.pop()
            await sequence()

        monkeypatch.setattr(leader, "_sequence", fails_once)
        with pytest.raises(NetraError, match="once"):
            await leader._lead()
        await leader._lead()
        assert await database.read(log.last_seq, "events", scope=SYSTEM) == 1


async def test_a_leader_in_a_hurry_sequences_without_a_look_before_and_writes_nothing_where_another_commit_left_nothing(
    database, monkeypatch
):
    async with member(database, FakeClock()) as node:
        leader = LogLeader(database, node, Runtime(clock=FakeClock()))
        await leader._seek()
        writes = []
        write = database.write

        async def counted(fn, *args, **options):
            writes.append(fn)
            return await write(fn, *args, **options)

        monkeypatch.setattr(database, "write", counted)
        await leader._lead()
        assert writes == []
        await write(emit, "events", ["a"], scope=ACME)
        monkeypatch.setattr(database, "read", None)
        leader._version = -1
        leader.hurry()
        await leader._lead()
        assert writes == [log.sequence]
    monkeypatch.undo()
    assert await database.read(log.last_seq, "events", scope=SYSTEM) == 1


async def test_a_leader_that_is_hurried_without_end_stops_when_it_is_told(database):
    """A cancellation may come at any of its waits, also while it clears away the one before."""
    async with member(database) as node:
        for turns in range(12):
            leader = LogLeader(database, node, Runtime())
            leader.leads = True
            leader.start()
            for _ in range(turns):
                await asyncio.sleep(0.0005)
                leader.hurry()
            async with asyncio.timeout(20):
                await leader.stop()
            assert leader.hurry not in database.on_notice
            assert leader._hurry.set not in database.on_wake
