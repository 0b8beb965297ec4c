"""PostgreSQL restarted, crashed and with its connections ended, under load: nothing acknowledged is lost, nobody of ours is restarted.

One world per number of processes, each of which produces without end through one of the doors. Each bout waits until
deliveries are under way, hurts the server, and waits until they are under way again.
"""

from __future__ import annotations

import json
import os
import random
from contextlib import closing

import pytest

from ..support.places import Shared
from ..support.world import TENANT, World
from ..support.zygote import until
from .test_kills import DOORS, evidence, release

BOUTS = int(os.environ.get("NETRA_RESTARTS", "3"))
"""Per cell; `make soak PART=postgres` asks for more."""
SEED = int(os.environ.get("NETRA_KILL_SEED", "1"))
CONNECTIONS = 3
BESIDES = 2
"""A process has two more: for its beats, and for the watch."""

SESSIONS = "select state, count(*)::int from pg_stat_activity where datname = '{}' and pid <> pg_backend_pid() group by state"


def hurt(server, name, how, chance):
    """One thing that happens to servers."""
    if how == "terminated":
        for _ in range(chance.randint(1, 5)):
            server.terminate_backends(name)
    else:
        server.restart(how)


@pytest.mark.parametrize("how", ["fast", "immediate", "terminated"])
@pytest.mark.parametrize("processes", [1, 3])
def test_a_server_that_comes_and_goes_loses_nothing(zygote, tmp_path, postgres_server, processes, how):
    chance = random.Random(f"{SEED}/{processes}/{how}")
    place = Shared(postgres_server, postgres_server.create_database())
    with closing(World(zygote, tmp_path, place=place, postgres_connections=CONNECTIONS)) as world:
        children = [world.start() for _ in range(processes)]
        producing = [(child, child.tell("produce", tenant=TENANT, prefix=f"p{n}", door=DOORS[n])) for n, child in enumerate(children)]
        for _ in range(BOUTS):
            more_is_received(world, chance.randrange(1, 50_000))
            hurt(postgres_server, place.name, how, chance)
        more_is_received(world, 50_000)
        for child, number in producing:
            child.ask("let_go")
            assert child.answer(number) > 0
        world.drained()
        the_log_is_dense_and_complete(place)
        assert [child.has_ended() for child in children] == [False] * processes
        nothing_is_left_open(postgres_server, place.name, processes)
        cell = f"{release(world)}, {processes} process{'es' if processes > 1 else ''}, {how}"
        world.stop_all()
        until(lambda: postgres_server.backends(place.name) == 0, "every connection is closed")
        counts = world.compare()
        assert counts.lost == 0 and counts.acknowledged > 0
        evidence(cell, BOUTS, counts, what="times")


def more_is_received(world, size):
    enough = world.received_bytes() + size
    until(lambda: world.received_bytes() >= enough, "something is delivered")


def the_log_is_dense_and_complete(place):
    """S5: each stream's numbers without a gap, and every message that is stored announced once."""
    until(lambda: place.query("select count(*) from netra_outbox") == [(0,)], "the log's leader has moved everything")
    streams = place.query(
        "select l.stream, min(seq), max(seq), count(*), last_seq from netra_log l join netra_stream using (stream) group by 1, 5"
    )
    assert [(first, last - count, last - known) for _, first, last, count, known in streams] == [(1, 0, 0)] * len(streams), streams
    items = [item for (items,) in place.query("select items from netra_log where stream = 'events'") for _, item in json.loads(items)]
    announced = [item["message"] for item in items if not item["type"].startswith("webhook.")]
    assert sorted(announced) == [id_.hex() for (id_,) in place.query("select id from netra_message order by id")]


def nothing_is_left_open(server, name, processes):
    """When all is quiet each process has its own connections and no more, and no transaction of anybody is open."""
    until(lambda: server.backends(name) <= processes * (CONNECTIONS + BESIDES), "no connection is left behind")
    until(lambda: not [state for state, _ in server.query("", SESSIONS.format(name)) if "transaction" in (state or "")], "all are idle")
