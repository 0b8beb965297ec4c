"""Whatever process is killed at whatever moment, a recovery sends everything that it is to send, and nothing twice beyond what was in flight."""

from __future__ import annotations

import os
import random
import time
from contextlib import closing

import pytest

from ..support.places import place_of
from ..support.world import TENANT, World
from ..support.zygote import Died, until
from .test_kills import FAILPOINTS, evidence

OF_TASKS = [name for name in FAILPOINTS if name.startswith("webhooks.task_")]
NTH = {"webhooks.task_page_written": 2, "webhooks.task_moved_before_commit": 2}
"""Which hit is killed: of what happens at each page the second one."""

MESSAGES = 450
AT_ONCE = 50
KILLS = int(os.environ.get("NETRA_KILLS", "5"))
SEED = int(os.environ.get("NETRA_KILL_SEED", "1"))


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, zygote, tmp_path):
    """A world with one endpoint, and a client that makes no deliveries."""
    with closing(World(zygote, tmp_path, ["ok"], place=place_of(request.param, request))) as world:
        world.client = world.start(workers=False, seconds=300)
        world.children.remove(world.client)
        yield world
        if not world.client.gone:
            world.client.kill()


def skipped(world, count):
    """That many messages which the endpoint did not want at the time."""
    world.client.ask("set_disabled", tenant=TENANT, name="ok", disabled=True)
    for _ in range(count // AT_ONCE):
        assert world.client.answer(world.send(world.client, AT_ONCE)) == AT_ONCE
    assert world.states() == {"skipped": count}
    world.client.ask("set_disabled", tenant=TENANT, name="ok", disabled=False)


def recovering(world, child):
    return child.ask("recover", tenant=TENANT, name="ok", since=time.time() - 3600)


def state_of(world, task):
    return world.client.ask("task", tenant=TENANT, task=task)["state"]


def verify(world, task, count):
    """The task has ended, its counters say what it did, and all ledgers agree."""
    until(lambda: state_of(world, task) != "running", "the task ends", 60)
    found = world.client.ask("task", tenant=TENANT, task=task)
    assert (found["state"], found["messages"], found["changed"]) == ("finished", count, count)
    world.drained(60)
    world.stop_all()
    counts = world.compare()
    assert (counts.lost, counts.delivered, counts.acknowledged) == (0, count, count)
    return counts


def test_where_nobody_is_killed_a_recovery_sends_each_message_once(world):
    skipped(world, MESSAGES)
    world.start()
    world.start()
    counts = verify(world, recovering(world, world.client), MESSAGES)
    assert (counts.received, counts.duplicates, counts.late) == (MESSAGES, 0, 0)


@pytest.mark.parametrize("failpoint", OF_TASKS)
def test_a_process_killed_at_a_failpoint_of_a_task_loses_and_doubles_nothing(world, failpoint):
    skipped(world, MESSAGES)
    victim = world.start(f"{failpoint}@{NTH.get(failpoint, 1)}=kill")
    if failpoint == "webhooks.task_created_before_commit":
        with pytest.raises(Died):
            recovering(world, victim)
        world.killed_itself(victim)
        assert world.states() == {"skipped": MESSAGES}
        task = recovering(world, world.client)
    else:
        victim.ask("node")
        task = recovering(world, world.client)
        world.killed_itself(victim)
        assert state_of(world, task) == "running"
    world.start()
    verify(world, task, MESSAGES)


def test_random_kills_during_a_recovery_lose_nothing(world, request):
    chance = random.Random(f"{SEED}/{request.node.name}")
    count = 500 * KILLS
    skipped(world, count)
    task = recovering(world, world.client)
    while len(world.kills_us) < KILLS and state_of(world, task) == "running":
        while len(world.children) < 3:
            world.start(f"{chance.choice(OF_TASKS[1:])}@{chance.randint(1, 3)}=kill" if chance.random() < 0.5 else "")
        enough = world.received_bytes() + chance.randrange(1, 50_000)
        until(lambda: world.received_bytes() >= enough or world.deaths() or state_of(world, task) != "running", "it goes on", 60)  # noqa: B023
        if len(world.children) == 3:
            world.kill(chance.choice(world.children))
    for child in [*world.children]:
        world.kill(child)
    world.start()
    counts = verify(world, task, count)
    evidence(f"{request.node.callspec.id}, a recovery", len(world.kills_us), counts)
