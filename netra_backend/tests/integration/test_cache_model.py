"""Three processes' caches beside the truth, in any order of steps, with a clock and a network that only the machine moves.

Everything is Netra's own (service, loader, follower, node, the class that talks to Valkey, SQLite with its outbox and its log) save the clock, the
server of the shared tier, and the ways to both: these can be cut, lose an answer, forget, and go back in time. A process can die, and be
stopped for as long as the clock likes to jump. Loads are held open while anything else happens.

After each step: no answer was older than the bound, nor, in a process that wrote, than its own commit (C5, C6); no entry has a dependency
with an event behind its position (C1), or shows less than the events up to that (C2); positions only move forward (C3). At the end
everything is well again and, once everybody has looked, each hit equals the database (C11).
"""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from netra_backend.cache import store, valkey
from netra_backend.cache.service import Cache
from netra_backend.cache.settings import CacheSettings
from netra_backend.cache.stats import Stats
from netra_backend.errors import NetraError, Unavailable
from netra_backend.kernel.runtime import Runtime
from netra_backend.storage import log
from netra_backend.testing.clock import FakeClock, SeededChance, settle

from ..support.cache.network import Link, SimulatedServer
from ..support.cache.race import version_of
from ..support.storage import ACME, SYSTEM, Q, opened
from ..support.webhooks import live_node

BOUND_S = 1.0
DEPS = ("a", "b")
KEYS = {"card:a": ("a",), "card:b": ("b",), "page": ("a", "b")}
NODES = (0, 1, 2)
STUCK_S = 60.0
TEMPLATES: list[Path] = []


@pytest.fixture(autouse=True, scope="module")
def _a_template(templates):
    TEMPLATES.append(templates["sqlite3"])
    yield
    TEMPLATES.pop()


class RolledBack(Exception):
    """The transaction shall not be."""


class Host:
    """A tenant is its own name."""

    is_here = True

    def current_scope(self):
        return ACME

    async def tenant(self, reference):
        return reference

    def run_blocking(self, work):
        raise AssertionError(work)

    def hurry_log(self):
        """The machine numbers."""


class Way:
    """A process's way to the database, which can be cut. Counts what is under way, so that the machine knows when nothing moves."""

    def __init__(self, database):
        self.cut = False
        self.under_way = self.ended = 0
        self.on_wake = []
        self._database = database

    async def read(self, fn, *args, scope):
        return await self._pass(self._database.read(fn, *args, scope=scope))

    async def write(self, fn, *args, scope):
        return await self._pass(self._database.write(fn, *args, scope=scope))

    async def _pass(self, work):
        if self.cut:
            work.close()
            raise Unavailable("cut")
        self.under_way += 1
        try:
            return await work
        finally:
            self.under_way -= 1
            self.ended += 1


class Process:
    """One life of a process."""

    def __init__(self, world, seed):
        self.way = Way(world.database)
        self.link = Link(world.server)
        runtime = Runtime(clock=world.clock, chance=SeededChance(seed))
        stats = Stats()
        valkey._client, real = (lambda _: self.link), valkey._client
        try:
            shared = valkey.Valkey("", "n", runtime, stats)
        finally:
            valkey._client = real
        self.cache = Cache(self.way, runtime, CacheSettings(lease_s=BOUND_S, max_bytes=1 << 20), Host(), shared, stats)
        self.cache.follower.start = lambda: None  # the machine decides when it looks
        self.own = dict.fromkeys(DEPS, 0)
        self.position = (0, 0)


@dataclass(eq=False)
class Asked:
    """A question under way, and what its answer must show at least."""

    process: Process
    key: str
    least: dict[str, int]
    task: asyncio.Task[Any]


class World:
    """One example's file, clock, server and loop."""

    def __init__(self, template):
        self.folder = TemporaryDirectory()
        shutil.copy(template, self.folder.name)
        self.runner = asyncio.Runner()
        self.clock = FakeClock()
        self.server = SimulatedServer(self.clock.monotonic)
        self.opened = opened("sqlite3", Path(self.folder.name), synchronous="off")
        self.database = self.runner.run(self.opened.__aenter__())

    def close(self):
        self.runner.run(self.opened.__aexit__(None, None, None))
        self.runner.close()
        self.folder.cleanup()


class CachesBesideTheTruth(RuleBasedStateMachine):
    """See the module's docstring."""

    def __init__(self):
        super().__init__()
        self.world = World(TEMPLATES[0])
        self.clock, self.server = self.world.clock, self.world.server
        self.lives = 0
        self.ways: list[Way] = []
        self.history = [(float("-inf"), dict.fromkeys(DEPS, 0))]
        self.events: list[tuple[str, ...]] = []
        self.asked: list[Asked] = []
        self.gates: list[asyncio.Future[None]] = []
        self.holding = False
        self.wrong: list[str] = []
        self.run(self.begin())

    def run(self, work):
        return self.world.runner.run(asyncio.wait_for(work, STUCK_S))

    async def begin(self):
        self.leader = await live_node(self.world.database)
        await self.world.database.write(log.take_lead, "log", self.leader, scope=SYSTEM)
        self.processes = [self.new_process() for _ in NODES]
        for process in self.processes:
            await process.cache.follower.look()

    def new_process(self):
        self.lives += 1
        process = Process(self.world, self.lives)
        self.ways.append(process.way)
        return process

    def teardown(self):
        try:
            self.run(self.finish())
        finally:
            self.world.close()

    # the rules

    @rule(node=st.sampled_from(NODES), dep=st.sampled_from(DEPS), commits=st.sampled_from([True, True, True, False]))
    def somebody_writes(self, node, dep, commits):
        self.run(self.write(self.processes[node], dep, commits))

    @rule()
    def the_leader_numbers(self):
        self.run(self.number())

    @rule(node=st.sampled_from(NODES))
    def one_looks(self, node):
        self.run(self.look(node))

    @rule(node=st.sampled_from(NODES), key=st.sampled_from(sorted(KEYS)), holding=st.sampled_from([True, True, False]))
    def somebody_asks(self, node, key, holding):
        """With `holding`, what is loaded for it waits after it has read."""
        self.run(self.ask(node, key, holding))

    @rule(node=st.sampled_from(NODES))
    def everything_is_asked_for(self, node):
        for key in sorted(KEYS):
            self.run(self.ask(node, key, holding=False))

    @precondition(lambda self: self.gates)
    @rule(which=st.integers(0, 9))
    def a_load_goes_on(self, which):
        self.run(self.go_on(which))

    @rule(seconds=st.sampled_from([0.3, 0.6, 1.1, 12.0]))
    def time_passes(self, seconds):
        self.run(self.pass_time(seconds))

    @rule(node=st.sampled_from(NODES), what=st.sampled_from(["database", "tier", "answers"]), cut=st.booleans())
    def the_network_changes(self, node, what, cut):
        process = self.processes[node]
        if what == "database":
            process.way.cut = cut
        elif what == "tier":
            process.link.cut = cut
        else:
            process.link.loses_answers = cut

    @rule(what=st.sampled_from(["forget", "keep_aside", "go_back"]))
    def the_tier_changes(self, what):
        getattr(self.server, what)()

    @rule(node=st.sampled_from(NODES))
    def one_dies_and_starts_again(self, node):
        self.run(self.crash(node))

    @rule(node=st.sampled_from(NODES))
    def memory_runs_short(self, node):
        self.processes[node].cache.node.drop_everything()

    @invariant()
    def all_is_well(self):
        assert self.wrong == []
        for process in self.processes:
            self.check(process)

    # what they do

    async def write(self, process, dep, commits):
        async def change(tx):
            await tx.execute(Q.raise_tally, name=dep)
            await process.cache.invalidate(tx, dep)
            if not commits:
                raise RolledBack

        with suppress(RolledBack, Unavailable):
            await process.way.write(change, scope=ACME)
            versions = dict(self.history[-1][1])
            versions[dep] += 1
            process.own[dep] = versions[dep]
            self.history.append((self.clock.monotonic(), versions))
        await self.settle()

    async def number(self):
        while await self.world.database.write(log.sequence, self.leader, 100, scope=SYSTEM):
            pass
        seen = await self.world.database.read(store.look, len(self.events), scope=SYSTEM)
        self.events += [tuple(name for event in row.events for name in event.names) for row in seen.rows]

    async def look(self, node):
        await self.processes[node].cache.follower.look()
        await self.settle()

    async def ask(self, node, key, holding):
        process = self.processes[node]
        self.holding = holding
        least = {dep: max(self.current(self.clock.monotonic() - BOUND_S)[dep], process.own[dep]) for dep in KEYS[key]}
        self.asked.append(Asked(process, key, least, asyncio.create_task(self.get(process, key))))
        await self.settle()
        self.holding = False

    async def get(self, process, key):
        """A page is made of its cards, so its dependencies are collected; a card's are declared."""

        async def card():
            dep = key[-1]
            value = await process.way.read(version_of, dep, scope=ACME)
            await self.pass_gate()
            return {dep: value}

        async def page():
            cards = [await self.get(process, f"card:{dep}") for dep in DEPS]
            await self.pass_gate()
            return {dep: value for card in cards for dep, value in card.items()}

        load, deps = (page, []) if key == "page" else (card, KEYS[key])
        return await process.cache.get_or_load(key, load, ttl="1h", depends_on=deps)

    async def pass_gate(self):
        if self.holding:
            gate = asyncio.get_running_loop().create_future()
            self.gates.append(gate)
            await gate

    async def go_on(self, which):
        self.gates.pop(which % len(self.gates)).set_result(None)
        await self.settle()

    async def pass_time(self, seconds):
        await self.clock.jump(seconds)
        await self.settle()

    async def crash(self, node):
        old = self.processes[node]
        for each in [each for each in self.asked if each.process is old]:
            each.task.cancel()
            self.asked.remove(each)
        await old.cache.loader.close()
        self.gates = [gate for gate in self.gates if not gate.done()]
        self.processes[node] = self.new_process()
        await self.settle()

    async def settle(self):
        """Until nothing moves that the machine does not hold; then what has been answered is judged."""
        while True:
            before = self.moved()
            await settle(40)
            if not before[0] and self.moved() == before:
                break
            await asyncio.sleep(0.0002)
        for each in [each for each in self.asked if each.task.done()]:
            self.asked.remove(each)
            self.judge(each)

    def moved(self):
        """How many questions to the database are under way, and how many have ended: what began or ended while it settled goes on."""
        return sum(way.under_way for way in self.ways), sum(way.ended for way in self.ways)

    # the truth

    def current(self, at):
        """The versions that were committed by then."""
        return next(versions for time, versions in reversed(self.history) if time <= at)

    def judge(self, asked):
        error = asked.task.exception()
        if error is not None:
            if not isinstance(error, NetraError):
                raise error
            return
        shown = asked.task.result()
        for dep, least in asked.least.items():
            if shown[dep] < least:
                self.wrong.append(f"{asked.key} showed {dep} {shown[dep]}, {least} was due")

    def check(self, process):
        node = process.cache.node
        life, applied = process.position
        assert (node.life, node.applied) >= (life, applied), "a position moved back"
        process.position = (node.life, node.applied)
        for entry in node.tier.entries.values():
            behind = [name for name in node.sources_of(entry) if node.inv.get(name, 0) > entry.p]
            assert not behind, f"{entry.name} of {entry.p} is kept, and {behind} has changed"
            for dep, shown in entry.value.items():
                due = sum(f"acme|{dep}" in names for names in self.events[: entry.p])
                assert shown >= due, f"{entry.name} shows {dep} {shown} at {entry.p}, where it was {due}"

    async def finish(self):
        """Everything is well, and everybody has looked: each answer, kept or not, is what the database says."""
        for process in self.processes:
            process.way.cut = process.link.cut = process.link.loses_answers = False
        while self.gates or self.asked:
            while self.gates:
                await self.go_on(0)
            await self.pass_time(15.0)
        await self.number()
        await self.pass_time(BOUND_S + 60.0)  # the breakers ask the tier again
        for _ in range(2):
            for node in NODES:
                await self.look(node)
        truth = self.history[-1][1]
        for again in range(2):
            for process in self.processes:
                for key, deps in KEYS.items():
                    hits = process.cache.stats.l1.hits
                    assert await self.get(process, key) == {dep: truth[dep] for dep in deps}
                    assert not again or process.cache.stats.l1.hits > hits, "at rest everything is kept"
        assert self.wrong == []
        for process in self.processes:
            await process.cache.loader.close()


def test_no_order_of_steps_makes_three_processes_show_what_is_too_old():
    run_state_machine_as_test(
        CachesBesideTheTruth,
        settings=settings(
            max_examples=100,
            stateful_step_count=50,
            deadline=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.explicit, Phase.generate, Phase.shrink],
        ),
    )
