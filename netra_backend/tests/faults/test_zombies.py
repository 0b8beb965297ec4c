"""A process that is stopped past its lease and wakes up again changes no state (S2).

Stopped (SIGSTOP) it holds its memory, its sockets and, inside a group or a transaction, the database's write lock, and
on waking it goes on as if nothing had been. Its rows are somebody else's by then; what it still sends is appended to
the log of attempts, marked late.
"""

from __future__ import annotations

import pytest

from ..support.world import TENANT, TTL_S
from ..support.zygote import until


def stopped_with_work_in_hand(world, failpoint):
    """A process that stands still at the failpoint."""
    zombie = world.start(f"{failpoint}=pause")
    life = zombie.ask("node")
    sending = world.send(zombie, 1)  # one commit, so that nothing new is written after it wakes
    zombie.frozen()
    return zombie, life, sending


@pytest.mark.parametrize("failpoint", ["webhooks.before_attempt", "webhooks.after_attempt_before_ack"])
def test_a_process_that_wakes_after_its_lease_changes_no_state_and_its_attempts_are_late(fresh_world, failpoint):
    zombie, life, sending = stopped_with_work_in_hand(fresh_world, failpoint)
    fresh_world.start()
    until(lambda: life not in fresh_world.nodes(), "its node row is reaped", TTL_S + 5)
    fresh_world.drained()
    before = fresh_world.deliveries()
    assert fresh_world.attempts(late=True) == 0

    fresh_world.note_kill()  # what it has in flight is what a kill would have left in flight
    zombie.thaw()
    assert zombie.answer(sending) == 1
    until(lambda: fresh_world.attempts(late=True), "its attempt is appended, marked late")
    until(lambda: zombie.ask("node") != life, "it has begun another life")

    assert fresh_world.deliveries() == before
    fresh_world.stop_all()
    assert fresh_world.deliveries() == before
    counts = fresh_world.compare()
    assert counts.acknowledged >= 1
    assert counts.late >= 1


@pytest.mark.parametrize("failpoint", ["webhooks.acknowledged_before_attempts", "webhooks.deliveries_written"])
def test_a_process_stopped_inside_a_group_blocks_the_writers_who_say_by_whom_and_recover(fresh_world, failpoint):
    peer = open_already(fresh_world)
    stopped = fresh_world.start(f"{failpoint}=pause")
    sending = fresh_world.send(stopped, 3)
    stopped.frozen()

    refused = refusal(fresh_world, peer)
    assert refused == {"error": "WriterBlocked", "facts": {"pid": str(stopped.pid)}}
    assert fresh_world.states().get("leased", 0) <= 9, "reads go on"

    stopped.thaw()
    assert stopped.answer(sending) == 3
    accepted_again(fresh_world, peer)
    fresh_world.drained()
    fresh_world.stop_all()
    assert fresh_world.compare().acknowledged >= 4


def test_a_process_stopped_inside_a_transaction_blocks_the_writers_until_it_is_killed(fresh_world):
    peer = open_already(fresh_world)
    holder = hold(fresh_world)
    holder.freeze()
    refused = refusal(fresh_world, peer)
    assert refused == {"error": "WriterBlocked", "facts": {"pid": str(holder.pid)}}

    fresh_world.kill(holder)
    accepted_again(fresh_world, peer)
    fresh_world.drained()
    fresh_world.stop_all()
    counts = fresh_world.compare()
    assert counts.submitted > counts.acknowledged
    assert "held" not in fresh_world.received.read_text(), "what was sent in a transaction that never ended was delivered"


def test_a_process_that_wakes_inside_a_transaction_past_its_time_has_lost_it(fresh_world):
    peer = open_already(fresh_world)
    holder = hold(fresh_world)
    holder.freeze()
    refusal(fresh_world, peer)

    holder.thaw()
    holder.tell("let_go")
    assert holder.answer(holder.holding)["error"] == "TransactionTimeout"
    accepted_again(fresh_world, peer)
    accepted_again(fresh_world, holder)
    fresh_world.drained()
    fresh_world.stop_all()
    fresh_world.compare()
    assert "held" not in fresh_world.received.read_text()


def open_already(world):
    """A process that has joined the others: one that is still opening the file would not start at all while it is blocked."""
    child = world.start()
    child.ask("node")
    return child


def hold(world):
    """A process with an open transaction in which it has sent a message."""
    holder = world.start()
    holder.holding = holder.tell("hold", tenant=TENANT, ref="held")
    until(lambda: holder.ledger.exists() and "holding" in holder.ledger.read_text(), "the transaction is open")
    return holder


def refusal(world, peer):
    """What intake answers while the writer is blocked."""
    return until(
        lambda: (found := peer.ask("try_to_send", tenant=TENANT, ref=world.refs(1)[0])).get("error") and found, "refused", TTL_S + 5
    )


def accepted_again(world, child):
    """Intake takes messages again, without a restart."""
    until(lambda: child.ask("try_to_send", tenant=TENANT, ref=world.refs(1)[0]) == {}, "accepted again", TTL_S + 5)
