"""Whose turn it is: priorities, shares of tenants, and who gives a slot up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netra_backend.batch.model import ActiveRun
from netra_backend.batch.turns import SLICE_S, Held, Turns


def run_of(tenant, priority=0, place=0):
    return ActiveRun(tenant, b"r", "job", "running", 4, priority, (), place)


def held_by(*tenants, priority=0, since=0.0):
    return [Held(tenant, priority, since) for tenant in tenants]


def shared_out(turns, runs, slots):
    held = []
    for _ in range(slots):
        run = turns.first(runs, held)
        turns.served(run.tenant)
        held.append(Held(run.tenant, run.priority, 0.0))
    return [each.tenant for each in held]


def test_a_higher_priority_goes_first_whosever_it_is():
    assert Turns().first([run_of("a"), run_of("b", 5, 1)], held_by("b", "b")).tenant == "b"


def test_each_tenant_has_its_turn_and_the_oldest_run_of_it():
    runs = [run_of("noisy", place=place) for place in range(5)] + [run_of("quiet", place=9)]
    assert shared_out(Turns(), runs, 4) == ["noisy", "quiet", "noisy", "quiet"]
    assert Turns().first(runs, []).place == 0


def test_weights_are_shares():
    shared = shared_out(Turns({"a": 3.0}), [run_of("a"), run_of("b", place=1)], 8)
    assert (shared.count("a"), shared.count("b")) == (6, 2)


def test_over_time_one_slot_goes_round():
    turns, runs, order = Turns(), [run_of(tenant, place=n) for n, tenant in enumerate("abc")], []
    for _ in range(6):
        run = turns.first(runs, [])
        turns.served(run.tenant)
        order.append(run.tenant)
    assert order == ["a", "b", "c", "a", "b", "c"]


def test_a_slot_is_given_up_to_a_higher_priority_at_once():
    held = [*held_by("a", priority=2), *held_by("b")]
    assert Turns().gives_way([run_of("c", 1)], held, 0.0) == 1
    assert Turns().gives_way([run_of("c", 0)], held_by("a", priority=2), 100.0) is None


def test_whoever_has_several_gives_one_up_to_a_tenant_that_has_none():
    assert Turns().gives_way([run_of("c")], held_by("a", "b", "b"), 0.0) in {1, 2}
    assert Turns().gives_way([run_of("b")], held_by("a", "b", "b"), 100.0) is None


def test_where_each_has_one_a_slot_is_given_up_after_a_slice_of_time():
    turns = Turns()
    assert turns.gives_way([run_of("c")], held_by("a", "b"), SLICE_S / 2) is None
    assert turns.gives_way([run_of("c")], [Held("a", 0, 1.0), Held("b", 0, 0.0)], SLICE_S) == 1


@given(
    held=st.lists(st.builds(Held, st.sampled_from("abc"), st.integers(0, 2), st.floats(0, 10)), max_size=6),
    waiting=st.lists(st.builds(run_of, st.sampled_from("abcd"), st.integers(0, 2)), max_size=6),
    now=st.floats(10, 20),
)
def test_nobody_gives_way_to_a_lower_priority(held, waiting, now):
    chosen = Turns().gives_way(waiting, held, now)
    if chosen is not None:
        assert held[chosen].priority <= max(run.priority for run in waiting)
        assert held[chosen].tenant not in {run.tenant for run in waiting if run.tenant not in {each.tenant for each in held}}
