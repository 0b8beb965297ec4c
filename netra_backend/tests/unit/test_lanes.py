"""Lanes against a model of lists: no limit is passed, nothing is lost or started twice, and every tenant gets its turn."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from netra_backend.webhooks.lanes import WAITING_PER_LANE, Lanes
from netra_backend.webhooks.model import Delivery, Message

TENANTS = ("a", "b", "c")
ENDPOINTS = (b"1" * 16, b"2" * 16)
LANES = [(tenant, endpoint) for tenant in TENANTS for endpoint in ENDPOINTS]


def delivery(tenant="a", endpoint=ENDPOINTS[0], number=0):
    message = Message(tenant, number.to_bytes(16, "big"), "t", None, "{}", None, None, None, 0)
    return Delivery(message, endpoint, b"n" * 16, 0, 0)


def lane_of(each):
    return each.key[0], each.endpoint_id


def up_to(in_flight):
    return lambda _: in_flight


class LanesMachine(RuleBasedStateMachine):
    """What the sender and the dispatcher do with lanes, in any order."""

    @initialize(in_flight=st.integers(1, 4), total=st.integers(1, 8))
    def begin(self, in_flight, total):
        self.limit, self.total = in_flight, total
        self.allowed = dict.fromkeys(LANES, in_flight)
        self.lanes = Lanes(self.allowed.__getitem__, total)
        self.waiting: list[Delivery] = []
        self.flying: list[Delivery] = []
        self.unsettled: list[tuple] = []
        self.number = 0

    def new(self, lane):
        self.number += 1
        return delivery(*lane, self.number)

    @rule(lane=st.sampled_from(LANES), claimed=st.booleans())
    def add(self, lane, claimed):
        fresh = self.new(lane)
        self.lanes.add(fresh, claimed=claimed)
        self.waiting.append(fresh)

    @rule(lane=st.sampled_from(LANES))
    def reserve(self, lane):
        if self.lanes.reserve(lane):
            key = self.new(lane).key
            self.lanes.expect([key])
            self.unsettled.append(key)

    @precondition(lambda self: self.unsettled)
    @rule(data=st.data(), arrives=st.booleans())
    def settle(self, data, arrives):
        key = data.draw(st.sampled_from(self.unsettled))
        self.unsettled.remove(key)
        if arrives:
            fresh = delivery(key[0], key[2], int.from_bytes(key[1], "big"))
            self.lanes.add(fresh, claimed=False)
            self.waiting.append(fresh)
        self.lanes.settle([key])

    @rule()
    def start_one(self):
        started = self.lanes.next()
        if started is None:
            assert not self.may_start(), "something could have started and did not"
            return
        assert started in self.waiting, "it was started before, or never given"
        assert self.flying_in(started) < self.allowed[lane_of(started)]
        self.waiting.remove(started)
        self.flying.append(started)

    @precondition(lambda self: self.flying)
    @rule(data=st.data())
    def land(self, data):
        landed = data.draw(st.sampled_from(self.flying))
        self.flying.remove(landed)
        self.lanes.landed(landed)
        self.lanes.drop(landed)

    @rule(lane=st.sampled_from(LANES), share=st.sampled_from([0.0, 0.5, 1.0]))
    def allow(self, lane, share):
        self.allowed[lane] = int(self.limit * share)
        self.lanes.touch(lane)

    @rule()
    def give_back(self):
        taken = self.lanes.take_blocked()
        assert sorted(map(id, taken)) == sorted(id(each) for each in self.waiting if not self.allowed[lane_of(each)])
        for each in taken:
            self.waiting.remove(each)
            self.lanes.drop(each)

    @rule(lane=st.sampled_from(LANES), more=st.booleans())
    def note_backlog(self, lane, more):
        self.lanes.note_backlog(lane, more=more)

    @rule()
    def forget(self):
        taken = self.lanes.waiting_deliveries()
        assert sorted(map(id, taken)) == sorted(map(id, self.waiting))
        for each in taken:
            self.lanes.drop(each)
        self.waiting = []

    def may_start(self):
        return len(self.flying) < self.total and any(self.flying_in(each) < self.allowed[lane_of(each)] for each in self.waiting)

    def waits_fresh(self, lane):
        state = self.lanes._lanes.get(lane)
        return len(state.fresh) if state is not None else 0

    def flying_in(self, other):
        return sum(lane_of(each) == lane_of(other) for each in self.flying)

    @invariant()
    def limits_hold(self):
        assert self.lanes.in_flight == len(self.flying) <= self.total
        assert all(count <= self.limit for count in Counter(map(lane_of, self.flying)).values())

    @invariant()
    def nothing_is_lost(self):
        assert self.lanes.waiting == len(self.waiting)
        assert set(self.lanes.held) == {each.key for each in [*self.waiting, *self.flying]}
        assert set(self.lanes.expected) == set(self.unsettled)

    @invariant()
    def a_claim_never_overfills_a_lane(self):
        for lane in LANES:
            busy, limit = sum(lane_of(each) == lane for each in self.flying), self.allowed[lane]
            fresh = min(self.waits_fresh(lane), (limit + 1) // 2)  # so many turns go to the table's
            assert 0 <= self.lanes.free(lane) <= max(limit - busy, fresh if limit else 0, 0)


LanesMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestLanes = LanesMachine.TestCase


def test_turns_go_from_tenant_to_tenant_whatever_the_length_of_their_queues():
    lanes = Lanes(up_to(10), 1000)
    for number in range(60):
        lanes.add(delivery("flood", number=number), claimed=False)
    for number, tenant in enumerate(("b", "c")):
        for extra in range(3):
            lanes.add(delivery(tenant, number=1000 + 10 * number + extra), claimed=False)
    started = [lanes.next().message.tenant for _ in range(9)]
    assert Counter(started) == {"flood": 3, "b": 3, "c": 3}
    assert [set(started[at : at + 3]) for at in (0, 3, 6)] == [{"flood", "b", "c"}] * 3


def test_turns_of_one_tenant_go_from_endpoint_to_endpoint():
    lanes = Lanes(up_to(10), 1000)
    for number in range(20):
        lanes.add(delivery("a", ENDPOINTS[0], number), claimed=False)
    lanes.add(delivery("a", ENDPOINTS[1], 99), claimed=False)
    assert {lanes.next().endpoint_id for _ in range(2)} == set(ENDPOINTS)


def test_a_lane_that_is_fed_steadily_comes_to_its_retries():
    lanes = Lanes(up_to(10), 1000)
    for number in range(5):
        lanes.add(delivery(number=number), claimed=False)
    retry = delivery(number=100)
    lanes.add(retry, claimed=True)
    assert retry in [lanes.next(), lanes.next()]


def test_a_lane_whose_slots_are_all_taken_leaves_the_others_theirs():
    lanes = Lanes(up_to(2), 1000)
    for number in range(50):
        lanes.add(delivery("a", ENDPOINTS[0], number), claimed=False)
    hung = [lanes.next(), lanes.next()]
    assert lanes.next() is None
    lanes.add(healthy := delivery("a", ENDPOINTS[1], 99), claimed=False)
    assert lanes.next() is healthy
    lanes.landed(hung[0])
    assert lanes.next() is not None


def test_no_more_wait_in_a_lane_than_it_has_room_for():
    lanes = Lanes(up_to(10), 1000)
    assert all(lanes.reserve(("a", ENDPOINTS[0])) for _ in range(WAITING_PER_LANE))
    assert not lanes.reserve(("a", ENDPOINTS[0]))
    assert lanes.reserve(("a", ENDPOINTS[1]))


def test_a_lane_without_work_leaves_nothing_behind():
    lanes = Lanes(up_to(10), 1000)
    key = delivery().key
    assert lanes.reserve((key[0], key[2]))
    lanes.expect([key])
    lanes.settle([key])
    lanes.add(flown := delivery(number=1), claimed=False)
    lanes.landed(lanes.next())
    lanes.drop(flown)
    assert not lanes._lanes and not lanes.held and not lanes.expected and not lanes._ready


def test_a_lane_that_drains_asks_for_its_backlog():
    lanes = Lanes(up_to(4), 1000)
    for number in range(4):
        lanes.add(delivery(number=number), claimed=True)
    lanes.note_backlog(("a", ENDPOINTS[0]), more=True)
    flying = [lanes.next() for _ in range(4)]
    assert [lanes.landed(each) for each in flying] == [False, True, True, True]


def test_a_slow_lane_that_is_fed_without_end_still_claims_what_the_table_has():
    lanes, lane = Lanes(up_to(10), 1000), ("a", ENDPOINTS[0])
    for number in range(30):
        lanes.add(delivery(number=number), claimed=False)
    flying = [lanes.next() for _ in range(10)]
    for number in range(30, 130):  # two seconds an attempt, and one more message for each that lands
        lanes.landed(landed := flying.pop(0), 2.0)
        lanes.drop(landed)
        lanes.add(delivery(number=number), claimed=False)
        flying.append(lanes.next())
        assert 0 < lanes.free(lane) <= 5


def test_a_tenant_with_a_hundred_hung_endpoints_leaves_room_to_start_and_to_wait():
    lanes = Lanes(up_to(10), 1000)
    for endpoint in range(100):
        for number in range(100):
            lane = ("flood", endpoint.to_bytes(16, "big"))
            if lanes.has_room(lane, 1):
                lanes.add(delivery("flood", lane[1], 1000 * endpoint + number), claimed=False)
            if number < 10:
                lanes.next()
    assert 800 < lanes.in_flight <= 901
    victim = delivery("victim", ENDPOINTS[0], 1)
    lane = ("victim", ENDPOINTS[0])
    assert lanes.has_room(lane, 1)
    assert lanes.free(lane) == 10
    lanes.add(victim, claimed=True)
    assert lanes.next() is victim
