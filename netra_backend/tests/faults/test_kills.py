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
import random
import re
import time
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import pytest

import netra_backend
from netra_backend.kernel.failpoints import CATALOGUE

from ..support.ledgers import Counts
from ..support.places import Shared, place_of
from ..support.world import TENANT, World
from ..support.zygote import Child, Died, until

PACKAGE = Path(netra_backend.__file__).parent
DECLARES = re.compile(r"""\bdeclare\(\s*"([\w.]+)\"""")
DECLARED = {
    path.relative_to(PACKAGE.parent): names
    for path in sorted(PACKAGE.rglob("*.py"))
    if "tests" not in path.parts and (names := DECLARES.findall(path.read_text()))
}
FAILPOINTS = sorted(name for names in DECLARED.values() for name in names)
"""Read from the source: importing everything at collection would take longer than the kills."""
OF_WEBHOOKS = [
    name for name in FAILPOINTS if not name.startswith(("audit.", "batch.", "oauth.", "sso.", "debug.", "kpi.", "webhooks.task_"))
]
"""What this scenario reaches; those of the audit trail, batches, KPIs, debug sessions, operators' tasks, the vault and
single sign-on have files of their own."""

KILLS = int(os.environ.get("NETRA_KILLS", "3"))
"""Random kills per cell; `make soak PART=webhooks` asks for more."""
SEED = int(os.environ.get("NETRA_KILL_SEED", "1"))
DOORS = ("accept", "write", "transaction")

NTH = {
    "storage.before_commit": 30,
    "storage.after_commit_before_ack": 30,
    "webhooks.released_before_commit": 1,
    "webhooks.probe_taken_before_commit": 1,
    "webhooks.health_written_before_commit": 1,
    "webhooks.operational_taken_before_commit": 1,
}
"""Which hit is killed, where the first ones belong to the start of the process."""


@pytest.fixture(scope="module", params=["sqlite-1", "sqlite-3", "postgres-1", "postgres-3"])
def world(request, zygote, tmp_path_factory):
    """A world on an engine, and how many processes run in it."""
    engine, _, processes = request.param.partition("-")
    with closing(World(zygote, tmp_path_factory.mktemp("world"), place=place_of(engine, request))) as world:
        world.processes = int(processes)
        yield world


def settled(world: World) -> Counts:
    """Fill the world up with processes again, let them finish the job, and compare."""
    while len(world.children) < world.processes:
        world.start()
    world.drained()
    counts = world.compare()
    assert counts.lost == 0
    assert counts.acknowledged > 0
    return counts


def keep_busy(world: World, victim: Child, within_s: float = 60.0) -> None:
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


@pytest.fixture
def patient_world(zygote, tmp_path):
    """One in which a busy machine costs no life, no transaction and no request."""
    with closing(World(zygote, tmp_path, lease_ttl="60s", transaction_timeout="30s", webhooks_timeout="30s")) as world:
        yield world


def test_where_nobody_is_killed_nothing_is_sent_twice_and_both_logs_agree(patient_world):
    processes = [patient_world.start() for _ in range(3)]
    sending = [(child, patient_world.send(child, 20, door=door)) for child in processes for door in DOORS]
    assert [child.answer(number) for child, number in sending] == [20] * 9
    patient_world.drained()
    patient_world.stop_all()
    counts = patient_world.compare()
    assert (counts.acknowledged, counts.delivered) == (180, 540)
    assert (counts.duplicates, counts.late, counts.unrecorded, counts.lost) == (0, 0, 0, 0)


def test_the_catalogue_is_what_the_source_declares():
    for path in DECLARED:
        importlib.import_module(".".join(path.with_suffix("").parts))
    assert sorted(CATALOGUE) == FAILPOINTS


@pytest.mark.parametrize("failpoint", OF_WEBHOOKS)
def test_a_process_killed_at_a_failpoint_loses_nothing(world, failpoint):
    world.stop_all()
    if failpoint == "webhooks.released_before_commit":
        leave_rows_of_a_dead_node(world)
    victim = world.start(f"{failpoint}@{NTH.get(failpoint, 2)}=kill")
    try:
        victim.ask("node")  # it is there first, and so has the log's lead
        if failpoint == "webhooks.operational_taken_before_commit":
            victim.ask("tell_operator", tenant=TENANT)
            keep_busy(world, victim)  # before another process takes the event
        while len(world.children) < world.processes:
            world.start()
        keep_busy(world, victim)
    except Died:
        pass
    world.killed_itself(victim)
    settled(world)


@pytest.mark.parametrize("scenario", ["at any moment", "at a failpoint"])
@pytest.mark.parametrize("processes", [1, 3])
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_random_kills_lose_nothing(zygote, tmp_path, request, engine, processes, scenario):
    chance = random.Random(f"{SEED}/{engine}/{processes}/{scenario}")
    with closing(World(zygote, tmp_path, place=place_of(engine, request))) as world:
        world.processes = processes
        while len(world.kills_us) < KILLS:
            while len(world.children) < processes:
                child = world.start(f"{chance.choice(OF_WEBHOOKS)}@{chance.randint(1, 30)}=kill" if scenario == "at a failpoint" else "")
                produce(world, child, chance.choice(DOORS))
            enough = world.received_bytes() + chance.randrange(1, 100_000)
            until(lambda: world.received_bytes() >= enough or world.deaths(), "something is delivered, or somebody died")  # noqa: B023
            if len(world.children) == processes:
                world.kill(chance.choice(world.children))
        for child in [*world.children]:
            world.kill(child) if scenario == "at a failpoint" else come_to_rest(world, child)
        counts = settled(world)
        evidence(f"{release(world)}, {processes} process{'es' if processes > 1 else ''}, killed {scenario}", len(world.kills_us), counts)


def release(world: World) -> str:
    """The engine, and which of it where the server's programs may be anybody's."""
    return f"PostgreSQL {world.place.query('show server_version')[0][0].split()[0]}" if isinstance(world.place, Shared) else "sqlite"


def come_to_rest(world: World, child: Child) -> None:
    """Have it send nothing more: what is compared must stand still. One that could not even start has died of it."""
    try:
        child.ask("let_go")
    except Died:
        until(world.deaths, "its death is seen")


def produce(world: World, child: Child, door: str) -> None:
    """Have it send without end, unless its failpoint has killed it already."""
    try:
        child.tell("produce", tenant=TENANT, prefix=f"produced-{len(world.kills_us)}-{child.pid}", door=door)
    except Died:
        return


def evidence(cell: str, kills: int, counts: Counts, what: str = "kills") -> None:
    """A line for the soak's report, where it asked for one."""
    path = os.environ.get("NETRA_EVIDENCE")
    if path:
        with Path(path).open("a") as file:
            file.write(json.dumps({"cell": cell, what: kills, **asdict(counts)}) + "\n")
