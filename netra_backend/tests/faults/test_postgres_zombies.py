"""A process that is stopped past its lease, on PostgreSQL: it holds up nobody, and changes no state on waking (S2).

Inside a transaction it keeps locks, its own node's row among them; the server ends that transaction when it has idled for a
lease's time. On SQLite such a process holds the writer: see `test_zombies.py`.
"""

from __future__ import annotations

import time

import pytest

from netra_backend.errors import OutcomeUnknown
from netra_backend.kernel.runtime import Runtime
from netra_backend.storage.jobs import BEFORE_COMMIT

from ..support.storage import ACME, SYSTEM, everybody, opened, put, with_its_server
from ..support.world import TENANT, TTL_S
from ..support.zygote import until
from .test_zombies import (
    accepted_again,
    hold,
    open_already,
    test_a_process_that_wakes_after_its_lease_changes_no_state_and_its_attempts_are_late,
)

__all__ = ["test_a_process_that_wakes_after_its_lease_changes_no_state_and_its_attempts_are_late"]

SESSIONS = """select pid, state, wait_event, (now() - state_change)::text, (now() - xact_start)::text, left(query, 40) from pg_stat_activity
  where datname = current_database() order by state"""
OPEN = "select count(*)::int from pg_stat_activity where datname = current_database() and state like 'idle in transaction%'"


@pytest.fixture(params=["postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
def fresh_world(shared_world):
    """The test that is imported above runs here too."""
    return shared_world


def transactions_left_open(world):
    return world.place.query(OPEN)[0][0]


def reaped(world, life, within_s):
    """Wait until the node is declared dead; who stands in the way, if not."""
    try:
        until(lambda: life not in world.nodes(), "its node row is reaped", within_s)
    except AssertionError as error:
        raise AssertionError(f"{error}: {world.place.query(SESSIONS)}") from None


@pytest.mark.parametrize("failpoint", ["webhooks.acknowledged_before_attempts", "webhooks.deliveries_written"])
def test_a_process_stopped_inside_a_transaction_holds_up_nobody_and_loses_nothing(shared_world, failpoint):
    peer = open_already(shared_world)
    stopped = shared_world.start(f"{failpoint}=pause")
    life = stopped.ask("node")
    sending = shared_world.send(stopped, 3)
    stopped.frozen()
    assert transactions_left_open(shared_world) >= 1
    began = time.monotonic()

    assert peer.ask("try_to_send", tenant=TENANT, ref=shared_world.refs(1)[0]) == {}
    reaped(shared_world, life, TTL_S + 2 - (time.monotonic() - began))
    until(lambda: not transactions_left_open(shared_world), "the server has ended its transactions", TTL_S)

    stopped.thaw()
    stopped.answer(sending)  # stored or refused: the ledgers tell whether it spoke the truth
    until(lambda: stopped.ask("node") != life, "it has begun another life")
    accepted_again(shared_world, stopped)
    shared_world.drained()
    shared_world.stop_all()
    counts = shared_world.compare()
    assert counts.acknowledged >= 2 and counts.unrecorded == 0


def test_a_process_that_wakes_inside_a_held_transaction_past_its_time_has_lost_it(shared_world):
    peer = open_already(shared_world)
    holder = hold(shared_world)
    holder.freeze()
    assert transactions_left_open(shared_world) >= 1
    assert peer.ask("try_to_send", tenant=TENANT, ref=shared_world.refs(1)[0]) == {}
    until(lambda: not transactions_left_open(shared_world), "the server ends it", TTL_S + 2)

    holder.thaw()
    holder.tell("let_go")
    assert holder.answer(holder.holding)["error"] == "TransactionTimeout"
    accepted_again(shared_world, holder)
    shared_world.drained()
    shared_world.stop_all()
    shared_world.compare()
    assert "held" not in shared_world.received.read_text()


@pytest.mark.parametrize("door", ["write", "held"])
async def test_a_process_that_wakes_just_before_its_commit_finds_the_transaction_ended_and_knows_it(
    engine, prepared, postgres_server, door
):
    """The loop stands still as the process would: what the server has said is read by the commit."""
    runtime, told = Runtime(), []
    async with opened(engine, prepared, runtime, idle_limit_s=0.3) as database:
        name = database.url.rpartition("/")[2]
        database.on_unknown_outcome.append(lambda: told.append(1))
        runtime.failpoints.arm(BEFORE_COMMIT, lambda: until(lambda: postgres_server.query(name, OPEN) == [(0,)], "the server ends it"))
        try:
            outcome = await (database.write(put, "stopped", scope=ACME) if door == "write" else by_hand(database))
        except Exception as error:
            outcome = error
        rows = await database.read(everybody, scope=SYSTEM)
        assert not isinstance(outcome, OutcomeUnknown) and told == []
        assert rows == ({"stopped": 2} if outcome == "stopped" else {})
        assert (outcome == "stopped") == (door == "write"), "a write is run again, what its owner did by hand is not"


async def by_hand(database):
    async with database.transaction(ACME) as tx:
        return await put(tx, "stopped")
