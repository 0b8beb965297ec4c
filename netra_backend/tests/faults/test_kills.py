"""Whatever process is killed at whatever moment, no acknowledged message is lost.

One world per number of processes, killed again and again; after each kill the survivors and the process restarted in
its place finish the job, and all ledgers so far are compared. Every failpoint of the catalogue is killed once, whoever
declares it: one that the scenario does not reach fails its test.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import pkgutil
import random
import time
from dataclasses import asdict
from pathlib import Path

import pytest

import netra_backend
from netra_backend.kernel.failpoints import CATALOGUE

from ..support.world import TENANT, World
from ..support.zygote import Child, Died, until

for _module in pkgutil.walk_packages(netra_backend.__path__, "netra_backend."):  # everything that may declare one
    if ".tests" not in _module.name and ".server" not in _module.name and not _module.name.endswith("__main__"):
        importlib.import_module(_module.name)

KILLS = int(os.environ.get("NETRA_KILLS", "5"))
"""Random kills per cell; `make soak PART=webhooks` asks for more."""
SEED = int(os.environ.get("NETRA_KILL_SEED", "1"))
DOORS = ("accept", "write", "transaction")

NTH = {"storage.before_commit": 30, "storage.after_commit_before_ack": 30, "webhooks.released_before_commit": 1}
"""Which hit is killed, where the first ones belong to the start of the process."""


@pytest.fixture(scope="module", params=[1, 3], ids=["1-process", "3-processes"])
def world(request, zygote, tmp_path_factory):
    """A world, and how many processes run in it."""
    world = World(zygote, tmp_path_factory.mktemp("world"))
    world.processes = request.param
    yield world
    world.close()


def settled(world: World) -> None:
    """Fill the world up with processes again, let them finish the job, and compare."""
    while len(world.children) < world.processes:
        world.start()
    world.drained()
    counts = world.compare()
    assert counts.lost == 0
    assert counts.acknowledged > 0
    evidence(world, counts)


def evidence(world: World, counts) -> None:
    """A line for the soak's report, where it asked for one."""
    path = os.environ.get("NETRA_EVIDENCE")
    if path:
        with Path(path).open("a") as file:
            file.write(json.dumps({"processes": world.processes, "kills": len(world.kills_us), **asdict(counts)}) + "\n")


def keep_busy(world: World, victim: Child, within_s: float = 15.0) -> None:
    """Send through every door in turn until the victim has died of it."""
    ends = time.monotonic() + within_s
    for door in itertools.cycle(DOORS):
        assert time.monotonic() < ends, f"the failpoint was not reached within {within_s:g} s\n{victim.last_words()}"
        try:
            victim.answer(world.send(victim, 10, door=door))
        except Died:
            return


def leave_rows_of_a_dead_node(world: World) -> None:
    """A process is killed with deliveries leased to it, and nobody is there to see it."""
    victim = world.start("webhooks.after_attempt_before_ack=kill")
    keep_busy(world, victim)
    world.killed_itself(victim)


@pytest.mark.parametrize("failpoint", sorted(CATALOGUE))
def test_a_process_killed_at_a_failpoint_loses_nothing(world, failpoint):
    world.stop_all()
    if failpoint == "webhooks.released_before_commit":
        leave_rows_of_a_dead_node(world)
    victim = world.start(f"{failpoint}@{NTH.get(failpoint, 2)}=kill")
    try:
        victim.ask("node")  # it is there first, and so has the log's lead
        while len(world.children) < world.processes:
            world.start()
        keep_busy(world, victim)
    except Died:
        pass
    world.killed_itself(victim)
    settled(world)


def test_random_kills_lose_nothing(world):
    chance = random.Random(f"{SEED}/{world.processes}")
    world.stop_all()
    for number in range(KILLS):
        while len(world.children) < world.processes:
            child = world.start()
            child.tell("produce", tenant=TENANT, prefix=f"kill-{SEED}-{number}-{child.pid}", door=chance.choice(DOORS))
        enough = world.received_bytes() + chance.randrange(1, 100_000)
        until(lambda: world.received_bytes() >= enough, f"something is delivered\n{world.children[0].last_words()}")
        world.kill(chance.choice(world.children))
    for child in world.children:
        child.tell("let_go")
    settled(world)
