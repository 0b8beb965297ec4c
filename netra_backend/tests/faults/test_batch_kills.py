"""Whatever process is killed at whatever moment, every item of a run ends once, in the output or among the dead letters."""

from __future__ import annotations

import json
import os
import random
from contextlib import closing
from pathlib import Path

import pytest

from ..support.batch_items import LINGERED_S
from ..support.batches import ENDED, BatchWorld
from ..support.places import Shared, place_of
from ..support.world import TENANT
from ..support.zygote import until
from .test_kills import FAILPOINTS

OF_SCHEDULES = [name for name in FAILPOINTS if name.startswith("batch.schedule_")]
OF_BATCHES = [name for name in FAILPOINTS if name.startswith("batch.") and name not in OF_SCHEDULES]
NTH = {
    "batch.planned_before_commit": 1,
    "batch.claimed_before_commit": 1,
    "batch.run_ended_before_commit": 1,
    "batch.released_before_commit": 1,
}
"""Which hit is killed: of what happens once in a run the first one, of each chunk's the third."""

ITEMS = 600
KILLS = int(os.environ.get("NETRA_KILLS", "10"))
"""Random kills per cell; `make soak PART=batch` asks for more."""
SEED = int(os.environ.get("NETRA_KILL_SEED", "1"))


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def world(request, zygote, tmp_path_factory):
    """A world on an engine, for many runs one after the other."""
    with closing(BatchWorld(zygote, tmp_path_factory.mktemp("batch"), place_of(request.param, request))) as world:
        yield world


@pytest.fixture(params=["sqlite", "postgres"])
def small_world(request, zygote, tmp_path):
    """A world of the test's own on each engine."""
    with closing(BatchWorld(zygote, tmp_path, place_of(request.param, request))) as world:
        yield world


@pytest.fixture(params=["sqlite", "postgres"])
def patient_world(request, zygote, tmp_path):
    """The same with long leases, where it counts that nobody lost his: on a busy machine a beat may come late."""
    with closing(BatchWorld(zygote, tmp_path, place_of(request.param, request), lease_ttl="60s")) as world:
        yield world


@pytest.mark.parametrize("failpoint", OF_BATCHES)
def test_a_process_killed_at_a_failpoint_loses_and_doubles_nothing(world, failpoint):
    if failpoint == "batch.released_before_commit":
        return_of_a_partition(world)
        return
    world.kill_all()
    run = world.begin(ITEMS, failpoint)
    victim = world.start(f"{failpoint}@{NTH.get(failpoint, 3)}=kill")
    assert victim.died() == 9, victim.last_words()
    world.children.remove(victim)
    world.start()
    world.verify(run, ITEMS)


@pytest.mark.parametrize("failpoint", [name for name in OF_BATCHES if name != "batch.released_before_commit"])
def test_four_processes_killed_at_a_failpoint_lose_and_double_nothing(world, failpoint):
    """Every one of them dies there the first time that it comes by, as far as the run lasts."""
    world.kill_all()
    run = world.begin(2 * ITEMS, f"four at {failpoint}", partitions=8)
    for _ in range(4):
        world.start(f"{failpoint}=kill")
    until(lambda: world.deaths(), f"nobody dies at {failpoint}")
    world.fill(4)
    world.verify(run, 2 * ITEMS)


@pytest.mark.parametrize("failpoint", OF_SCHEDULES)
def test_a_process_killed_while_it_fires_a_schedule_leaves_one_run_for_the_time(world, failpoint):
    world.kill_all()
    victim = world.start(f"{failpoint}=kill")
    world.client.ask("schedule_now", tenant=TENANT, name=failpoint, job="numbers", params={"n": ITEMS})
    assert victim.died() == 9, victim.last_words()
    world.children.remove(victim)
    world.fill(2)

    def fired():
        return [run["run"] for run in world.client.ask("runs", tenant=TENANT) if run["key"].startswith(f"cron:{failpoint}:")]

    until(fired, "it is fired by another one")
    (run,) = fired()
    world.verify(run, ITEMS)
    assert fired() == [run]


def return_of_a_partition(world):
    """A partition is given back where its run was paused while a chunk of it was in hand."""
    world.kill_all()
    run = world.begin(ITEMS, "released", partitions=1)
    victim = world.start("batch.processed_before_write@3=pause,batch.released_before_commit=kill")
    victim.frozen()
    world.decide(run, "pause")
    victim.thaw()
    assert victim.died() == 9, victim.last_words()
    world.children.remove(victim)
    world.decide(run, "resume")
    world.start()
    world.verify(run, ITEMS)


@pytest.mark.parametrize("processes", [1, 4])
def test_random_kills_lose_and_double_nothing(small_world, processes, request):
    """Half of the processes die at a failpoint, mid-bisection included, the others whenever it is."""
    world, chance = small_world, random.Random(f"{SEED}/{request.node.name}")
    n, killed = 400 * KILLS, 0
    run = world.begin(n, "random", partitions=max(2, processes))
    while killed < KILLS and world.state(run) not in ENDED:
        while len(world.children) < processes:
            world.start(f"{chance.choice(OF_BATCHES)}@{chance.randint(1, 6)}=kill" if chance.random() < 0.5 else "")
        before = world.status(run)
        reached = before["done"] + before["failed"] + chance.randrange(1, 300)
        until(lambda: world.has_come(run, reached) or world.deaths(), f"{before} goes on after {killed} kills", 90)  # noqa: B023
        if len(world.children) == processes:
            world.kill(chance.choice(world.children))
        killed += processes - len(world.children)
    world.kill_all()
    world.start()
    status = world.verify(run, n)
    assert status["restarts"] > 0
    evidence(f"{request.node.callspec.id}", killed, n)


def evidence(cell, kills, items):
    """A line for the soak's report, where it asked for one."""
    path = os.environ.get("NETRA_EVIDENCE")
    if path:
        with Path(path).open("a") as file:
            file.write(json.dumps({"cell": cell, "kills": kills, "items": items, "lost": 0, "duplicates": 0}) + "\n")


def test_a_process_that_slept_past_its_lease_commits_nothing_when_it_wakes(small_world):
    """B3: it is stopped with a chunk in hand; another has committed that chunk when it goes on.

    A clean job, whose output has no key: nothing but the fence stands between the two.
    """
    world = small_world
    zombie = world.start("batch.processed_before_write@3=pause")
    life = zombie.ask("node")
    run = world.begin(ITEMS, "zombie", partitions=1, job="noted")
    zombie.frozen()
    held = world.status(run)
    second = world.start("batch.processed_before_write@2=pause")
    second.frozen()
    assert world.status(run)["done"] > held["done"] > 0
    zombie.thaw()
    until(lambda: zombie.ask("node") != life, "it knows that it was declared dead")
    second.thaw()
    status = world.ended(run)
    world.stop_all()
    assert world.output(run) == list(range(ITEMS))
    assert (status["state"], status["done"]) == ("completed", ITEMS)
    assert world.status(run)["done"] == ITEMS


def test_a_chunk_that_takes_longer_than_a_lease_stays_with_the_process_that_beats(zygote, tmp_path):
    with closing(BatchWorld(zygote, tmp_path, lease_ttl=f"{LINGERED_S - 1}s")) as world:
        world.fill(2)
        run = world.begin(80, "lingering", partitions=1, job="lingering")
        status = world.ended(run, 60)
        assert (status["state"], status["restarts"]) == ("completed", 0)
        assert sorted(world.processed()) == world.output(run) == list(range(80))


def test_a_restart_does_at_most_one_chunk_again(patient_world):
    """B5, by what was processed: the chunk that the killed process had in hand, and no other item."""
    world = patient_world
    run = world.begin(200, "again", partitions=1, job="noted")
    victim = world.start("batch.cursor_moved_before_commit@3=kill")
    assert victim.died() == 9
    world.children.remove(victim)
    world.start()
    assert world.ended(run)["state"] == "completed"
    twice = sorted(world.processed())
    assert world.output(run) == list(range(200))
    assert sorted({*twice}) == list(range(200))
    assert len(twice) - 200 == 40


def test_two_processes_never_hold_one_partition(patient_world):
    """B4: four processes claim at once, and each partition is claimed once."""
    world = patient_world
    world.fill(4)
    run = world.begin(2 * ITEMS, "shared", partitions=8)
    status = world.verify(run, 2 * ITEMS)
    assert status["restarts"] == 0


def test_a_paused_run_does_no_work_and_goes_on_where_it_stood(small_world):
    """B8: what is in the database when the pause was answered is there later, although a process holds a chunk."""
    world = small_world
    run = world.begin(ITEMS, "paused", partitions=1)
    holder = world.start("batch.processed_before_write@3=pause")
    holder.frozen()
    assert world.decide(run, "pause") == "paused"
    before = world.status(run), world.output(run)
    holder.thaw()
    until(lambda: not world.status(run)["working"], "the partition is given back")
    world.start()
    assert world.status(run)["state"] == "paused"
    assert world.output(run) == before[1]
    assert world.status(run)["done"] == before[0]["done"]
    world.decide(run, "resume")
    world.verify(run, ITEMS)


@pytest.mark.parametrize("how", ["fast", "immediate", "terminated"])
def test_a_server_that_comes_and_goes_costs_no_item(zygote, tmp_path, postgres_server, how):
    """PostgreSQL restarted, crashed, or with every connection ended, in the middle of a run: the same processes go on."""
    with closing(BatchWorld(zygote, tmp_path, Shared(postgres_server, postgres_server.create_database()))) as world:
        world.fill(2)
        n, bouts = 3 * ITEMS, 5 if how == "terminated" else 2
        run = world.begin(n, "cut", partitions=2)
        for bout in range(1, bouts + 1):
            until(lambda: world.has_come(run, n * bout // (bouts + 2)), f"it goes on after {bout - 1} times", 60)  # noqa: B023
            if how == "terminated":
                postgres_server.terminate_backends(world.place.name)
            else:
                postgres_server.restart(how)
        world.verify(run, n)
        assert [child.has_ended() for child in world.children] == [False, False]


def test_processes_stopped_past_their_lease_at_any_moment_lose_and_double_nothing(small_world, request):
    """SIGSTOP whenever it is, SIGCONT once it was declared dead; on SQLite it may hold the one writer, and then nobody can do that."""
    world, chance = small_world, random.Random(f"{SEED}/{request.node.name}")
    world.fill(2)
    n = 6 * ITEMS
    run = world.begin(n, "stopped", partitions=2)
    for bout in range(1, 4):
        until(lambda: world.has_come(run, n * bout // 6 + chance.randrange(100)), f"it goes on after {bout - 1} stops", 60)  # noqa: B023
        sleeper = chance.choice(world.children)
        life = sleeper.ask("node")
        sleeper.freeze()
        world.declared_dead(life)
        sleeper.thaw()
    world.verify(run, n)
