"""The memory ladder level by level, read from files of our own making: control groups of both versions, nested, and stalls."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.batch.ladder import CALM_S, LOOK_AGAIN_S, Ladder
from netra_backend.kernel.runtime import Runtime
from netra_backend.resilience.memory_pressure import Level, MemoryProbe
from netra_backend.testing.clock import FakeClock

from .test_memory_pressure import MIB, Machine, psi


class Measured:
    """Metrics that remember gauges."""

    def __init__(self):
        self.gauges = {}

    def count(self, name, amount=1, **labels):
        pass

    def gauge(self, name, value, **labels):
        self.gauges[name] = value


class Roots:
    """A ladder over fake roots of one layout; `use` sets how much of the limit is used."""

    def __init__(self, folder, layout):
        self.machine, self.layout, self.clock, self.metrics = Machine(folder), layout, FakeClock(), Measured()
        self.given_back = 0
        groups = {"v2": "0::/app", "v1": "4:memory:/app", "nested": "0::/outer/app"}
        self.machine.write("proc/self/cgroup", groups[layout] + "\n")
        probe = MemoryProbe(self.machine.proc, self.machine.cgroups)
        self.ladder = Ladder(Runtime(clock=self.clock, metrics=self.metrics), probe, self._give_back)

    def _give_back(self):
        self.given_back += 1

    async def use(self, percent, some=0.0, full=0.0):
        used = percent * MIB
        if self.layout == "v1":
            self.machine.group_v1("app", usage=used, limit=100 * MIB)
            self.machine.write("proc/pressure/memory", psi(some, full))
        elif self.layout == "v2":
            self.machine.group_v2("app", current=used, maximum=100 * MIB, psi=psi(some, full))
        else:  # the limit is an ancestor's
            self.machine.group_v2("outer", current=used, maximum=100 * MIB)
            self.machine.group_v2("outer/app", current=1, psi=psi(some, full))
        await self.clock.advance(1.0)
        return self.ladder.look()


@pytest.fixture(params=["v2", "v1", "nested"])
def roots(request, tmp_path):
    return Roots(tmp_path, request.param)


@pytest.mark.parametrize(
    ("percent", "level"),
    [(10, Level.GROW), (60, Level.HOLD), (70, Level.HALVE), (80, Level.PAUSE), (90, Level.RECYCLE), (95, Level.ABORT)],
)
async def test_each_level_begins_where_the_page_says(roots, percent, level):
    assert await roots.use(percent) == level
    assert roots.metrics.gauges == {"netra_batch_memory_level": int(level)}
    assert roots.ladder.may_read_ahead == (level < Level.HALVE)
    assert roots.given_back == (level >= Level.PAUSE)
    roots.ladder.under_way = 1
    assert roots.ladder.may_claim == (level < Level.PAUSE)
    roots.ladder.under_way = 0
    assert roots.ladder.may_claim, "one partition may always be worked on"


@pytest.mark.parametrize(("some", "full", "level"), [(11, 0, Level.HALVE), (0, 6, Level.RECYCLE), (9, 4, Level.GROW)])
async def test_stalls_count_as_use_does(roots, some, full, level):
    assert await roots.use(10, some, full) == level


async def test_a_level_is_left_only_well_below_where_it_begins(roots):
    assert await roots.use(81) == Level.PAUSE
    assert await roots.use(78) == Level.PAUSE
    assert await roots.use(74) == Level.HALVE
    assert await roots.use(20) == Level.GROW


async def test_each_second_of_pressure_costs_a_partition_and_each_of_rest_gives_one_back(roots):
    for left in (3, 2, 1, 1):
        await roots.use(85)
        assert roots.ladder.partitions(4) == left
    await roots.use(65)
    assert roots.ladder.partitions(4) == 1, "holding is no rest"
    for left in (2, 3, 4, 4):
        await roots.use(10)
        assert roots.ladder.partitions(4) == left


async def test_a_chunk_waits_under_pressure_and_the_only_one_has_one_item(roots):
    await roots.use(85)
    async with roots.ladder.admitted(1000, lambda: True) as size:
        assert size == 1, "nothing else is under way"
        waiting = asyncio.ensure_future(admitted_size(roots.ladder))
        await roots.clock.advance(1.0)
        assert not waiting.done()
        await roots.use(30)
        await roots.clock.advance(1.0)
        assert await waiting == 1000


async def test_whoever_waits_is_let_go_when_it_is_told_to_stop(roots):
    await roots.use(85)
    going = [True]
    async with roots.ladder.admitted(1000, lambda: True):
        waiting = asyncio.ensure_future(admitted_size(roots.ladder, going))
        await roots.clock.advance(1.0)
        going.clear()
        await roots.clock.advance(1.0)
        assert await waiting == 0
        assert roots.ladder.under_way == 1


async def test_a_chunk_may_hold_a_quarter_of_what_is_left_shared_by_those_under_way(roots):
    await roots.use(20)
    assert roots.ladder.budget() == 20 * MIB
    roots.ladder.under_way = 4
    assert roots.ladder.budget() == 5 * MIB
    await roots.use(100)
    assert roots.ladder.budget() == 1


@pytest.mark.parametrize(("began", "now", "percent", "recycles"), [(100, 151, 91, True), (100, 149, 91, False), (100, 300, 85, False)])
async def test_a_process_makes_way_where_memory_ends_and_it_has_grown(roots, began, now, percent, recycles):
    ladder = new_ladder(roots, began)
    roots.machine.write("proc/self/status", f"VmRSS:\t{now} kB\n")
    await roots.use(percent)
    ladder.look()
    assert ladder.recycles == recycles


def new_ladder(roots, kib):
    roots.machine.write("proc/self/status", f"VmRSS:\t{kib} kB\n")
    return Ladder(Runtime(clock=roots.clock), MemoryProbe(roots.machine.proc, roots.machine.cgroups), lambda: None)


async def test_without_a_probe_there_is_no_pressure():
    ladder = Ladder(Runtime())
    assert (ladder.look(now=True), ladder.budget(), ladder.oom_kills()) == (Level.GROW, None, 0)


async def admitted_size(ladder, going=(True,)):
    async with ladder.admitted(1000, lambda: bool(going)) as size:
        return size


def test_what_the_kernel_has_killed_is_counted_where_it_says_so(tmp_path):
    machine = Machine(tmp_path)
    probe = MemoryProbe(machine.proc, machine.cgroups)
    assert probe.oom_kills() == 0
    machine.write("proc/self/cgroup", "0::/app\n4:memory:/old\n")
    machine.write("cgroup/app/memory.events", "low 0\noom 3\noom_kill 2\n")
    assert probe.oom_kills() == 2
    machine.write("proc/self/cgroup", "4:memory:/old\n")
    machine.write("cgroup/memory/old/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert probe.oom_kills() == 5


async def test_who_waits_for_calm_begins_once_the_reading_is_below_the_end_of_memory(roots):
    await roots.use(99)
    assert roots.ladder.level == Level.ABORT
    waiting = asyncio.create_task(roots.ladder.calmed())
    await roots.clock.advance(LOOK_AGAIN_S)
    assert not waiting.done()
    await roots.use(10)
    await asyncio.wait_for(waiting, 30)


async def test_a_pressure_that_stays_is_somebody_elses_and_is_waited_for_only_so_long(roots):
    await roots.use(99)
    waiting = asyncio.create_task(roots.ladder.calmed())
    for _ in range(round(CALM_S / LOOK_AGAIN_S) + 2):
        await roots.clock.advance(LOOK_AGAIN_S)
    await asyncio.wait_for(waiting, 30)
    assert roots.ladder.level == Level.ABORT
