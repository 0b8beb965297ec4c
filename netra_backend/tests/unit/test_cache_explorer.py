"""Every order of steps in small worlds, on the class that serves: no read older than the bound, and no guard that could be left out.

Each scope is a world of few commits, looks, loads and reads; the explorer goes through all states that they can lead to. Then one
guard at a time is taken away, and the same scope must lead to a stale read. `make soak PART=cache` goes through larger scopes.
"""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from netra_backend.cache.graph import Graph
from netra_backend.cache.node import Node

from ..support.cache.model import LIMIT, Scope, explore
from ..support.cache.tier_model import TierModel

BOTH = ("d", "e")
SCOPES = {
    "another process": Scope(commits=1, aborts=0, ticks=3, reads=1, looks=1, loads=1, nodes=(1,)),
    "the writing process": Scope(commits=1, aborts=1, ticks=0, reads=1, looks=1, loads=1, nodes=(0,), joins=True),
    "joiners": Scope(commits=1, aborts=0, ticks=2, reads=1, looks=1, loads=1, nodes=(1,), joins=True),
    "two dependencies": Scope(commits=2, aborts=0, ticks=0, reads=1, looks=1, loads=1, nodes=(0,), deps=("d", "e"), remembered=1),
    "a page made of a card": Scope(commits=1, aborts=0, ticks=1, reads=1, looks=1, loads=2, nodes=(1,), pages=True, bound=1.0),
    "a failover": Scope(commits=1, aborts=0, ticks=2, reads=1, looks=1, loads=1, losses=1, nodes=(1,)),
    "a gap": Scope(commits=1, aborts=0, ticks=2, reads=1, looks=1, loads=1, drops=1, nodes=(1,)),
    "a shared tier": Scope(commits=1, aborts=1, ticks=1, reads=1, looks=2, loads=1, nodes=(0,), shared=True, bound=1.0),
    "a late fill of the tier": Scope(
        commits=1, aborts=0, ticks=1, reads=1, looks=2, loads=1, crashes=1, loaders=(1,), shared=True, bound=1.0
    ),
    "a tier that goes back": Scope(
        commits=1, aborts=0, ticks=1, reads=1, looks=1, loads=1, crashes=1, goes_back=1, nodes=(1,), shared=True, bound=1.0, at_once=True
    ),
    "a tier that forgets": Scope(
        commits=2,
        aborts=0,
        ticks=1,
        reads=1,
        looks=1,
        loads=1,
        crashes=1,
        nodes=(1,),
        shared=True,
        deps=BOTH,
        remembered=1,
        bound=1.0,
        in_order=True,
    ),
    "a tier over a failover": Scope(commits=1, aborts=0, ticks=1, reads=1, looks=2, loads=1, losses=1, nodes=(1,), shared=True, bound=1.0),
    "a tier that lacks a row": Scope(
        commits=2,
        aborts=0,
        ticks=1,
        reads=1,
        looks=2,
        loads=1,
        crashes=1,
        goes_back=1,
        nodes=(1,),
        shared=True,
        deps=BOTH,
        bound=1.0,
        in_order=True,
        at_once=True,
    ),
}
LARGE = {
    "2 processes, 2 dependencies": Scope(commits=2, aborts=1, ticks=2, reads=1, looks=1, loads=1, deps=BOTH, of=BOTH),
    "2 processes with a shared tier": Scope(commits=1, aborts=0, ticks=3, reads=1, looks=2, loads=1, shared=True),
}
if os.environ.get("NETRA_EXPLORE"):
    SCOPES |= LARGE


class Unfenced(Node):
    def _is_fenced(self, ticket, sources):
        return False


class Unbounded(Node):
    def is_leased(self, now):
        return True


class BlindToTheOutbox(Node):
    def _hold(self, waiting):
        return


class LeasedFromTheEnd(Node):
    late = True


class InOneHistory(Node):
    def _is_same_history(self, look):
        return True


class InAnyOrder(Node):
    def _is_dense(self, look):
        return True


class Forgetful(Node):
    def is_pending(self, names):
        return False


class Floorless(Node):
    def _is_fenced(self, ticket, sources):
        return ticket.life != self.life or any(self.inv.get(source, 0) > ticket.p for source in sources)


class TakesWhatItIsGiven(Node):
    def accepts(self, p, sources, asked, now):
        return self.is_leased(now)


class TierUnfenced(TierModel):
    def is_passed(self, deps, p):
        return False


class TierWithoutFloor(TierModel):
    def is_remembered(self, p):
        return True


class TierOfOneLife(TierModel):
    def is_of_this_life(self, epoch):
        return True


class TierWithGaps(TierModel):
    def is_dense(self, seq):
        return seq > self.pos


class JoinsAnybody(Node):
    def is_fresh(self, ticket, sources):
        return True


class Shallow(Graph):
    def closure(self, names):
        return {each for name in names for each in self._dependents.get(name, ())}


class Backwards(Graph):
    def order(self, names):
        return list(reversed(super().order(names)))


def with_graph(graph):
    class Built(Node):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.graph = graph()

    return Built


GUARDS = {
    "fence": ("another process", Unfenced),
    "lease": ("another process", Unbounded),
    "look at the outbox": ("another process", BlindToTheOutbox),
    "lease from the look's beginning": ("another process", LeasedFromTheEnd),
    "epoch": ("a failover", InOneHistory),
    "density": ("a gap", InAnyOrder),
    "pending": ("the writing process", Forgetful),
    "joiner": ("the writing process", JoinsAnybody),
    "floor": ("two dependencies", Floorless),
    "closure": ("a page made of a card", with_graph(Shallow)),
    "topological order": ("a page made of a card", with_graph(Backwards)),
    "reader's own look at what the tier gives": ("a shared tier", TakesWhatItIsGiven),
}
TIER_GUARDS = {
    "fence": ("a late fill of the tier", {"tier": TierUnfenced}),
    "floor": ("a tier that forgets", {"tier": TierWithoutFloor}),
    "epoch": ("a tier over a failover", {"tier": TierOfOneLife}),
    "density": ("a tier that lacks a row", {"tier": TierWithGaps}),
    "position": ("a tier that goes back", {"is_current": False}),
}


def explored(scope, node=Node):
    return explore(scope, lambda scope: node(scope.bound, LIMIT, scope.remembered))


@pytest.mark.parametrize("name", SCOPES)
def test_no_order_of_steps_leads_to_a_read_that_is_older_than_the_bound(name):
    found = explored(SCOPES[name])
    print(f"{name}: {found.states} states")
    assert found.way is None, f"{found.reason}: {' > '.join(found.way)}"
    assert found.states > 300


@pytest.mark.parametrize("guard", GUARDS)
def test_without_any_one_guard_some_order_of_steps_leads_to_a_stale_read(guard):
    scope, node = GUARDS[guard]
    found = explored(SCOPES[scope], node)
    assert found.way is not None, f"nobody needs the {guard}: {found.states} states without it"
    print(f"without the {guard}, in {found.states} states: {' > '.join(found.way)}")


@pytest.mark.parametrize("guard", TIER_GUARDS)
def test_without_any_one_guard_of_the_shared_tier_some_order_of_steps_leads_to_a_stale_read(guard):
    scope, changes = TIER_GUARDS[guard]
    found = explored(replace(SCOPES[scope], **changes))
    assert found.way is not None, f"nobody needs the tier's {guard}: {found.states} states without it"
    print(f"without the tier's {guard}, in {found.states} states: {' > '.join(found.way)}")
