"""One process's view of endpoint health: what it knows at once, what it reads, and what it shares with the other senders."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netra_backend.kernel.runtime import Runtime
from netra_backend.resilience.circuit_breaker import Breaker, Outcome
from netra_backend.testing.clock import FakeClock, SeededChance
from netra_backend.webhooks import breakers as module
from netra_backend.webhooks.breakers import Breakers
from netra_backend.webhooks.model import WELL, EndpointHealth
from netra_backend.webhooks.replies import Said
from netra_backend.webhooks.settings import WebhookSettings

ME, OTHER = b"m" * 16, b"o" * 16
LANE = ("acme", b"e" * 16)
S = 1_000_000
OK, BAD, ANSWERED, NOT_SENT = (Said(outcome) for outcome in (Outcome.SUCCESS, Outcome.FAILURE, Outcome.ANSWERED, Outcome.NOT_SENT))


class Table:
    """What stands in the database; a read may be held until the test lets it go."""

    def __init__(self):
        self.rows: dict = {}
        self.commits = 0
        self.reads = 0
        self.held: asyncio.Event | None = None

    def version(self):
        return self.commits

    async def read(self, fn, lanes, *, scope):
        self.reads += 1
        answer = dict(self.rows)
        if self.held is not None:
            await self.held.wait()
        return {lane: answer[lane] for lane in lanes if lane in answer} if fn.__name__ == "health_of" else list(answer.items())

    def put(self, row, lane=LANE):
        self.rows[lane] = row
        self.commits += 1


def steady(health):
    """As it would be if nobody looked at for how long the endpoint fails."""
    return replace(health, failing_since_us=0)


class World:
    def __init__(self, senders=(ME,), **settings):
        self.clock, self.table, self.changed = FakeClock(), Table(), []
        self.membership = SimpleNamespace(id=ME, senders={node: number for number, node in enumerate(sorted(senders))})
        runtime = Runtime(clock=self.clock, chance=SeededChance())
        self.breakers = Breakers(self.table, runtime, WebhookSettings(**settings), self.membership)
        self.breakers.changed = self.changed.append
        self.every = []

    @property
    def now_us(self):
        return self.clock.wall_us()

    def note(self, *said, started_us=None):
        """The last news of those outcomes that change more than how long the endpoint has been failing, which is `failing.py`'s."""
        news = None
        for each in said:
            found = self.breakers.note(LANE, each, self.now_us if started_us is None else started_us)
            if found is not None:
                self.every.append(found)
                found = replace(found, before=steady(found.before), after=steady(found.after))
                news = news if found.only_counts else found
        return news

    @property
    def rows(self):
        """What is remembered beside that."""
        return {lane: row for lane, each in self.breakers._rows.items() if (row := steady(each)) != WELL}

    def open_for(self, seconds, **fields):
        return EndpointHealth(Breaker("open", self.now_us, self.now_us + seconds * S, openings=1), **fields)


@pytest.fixture
def world():
    return World()


def test_a_healthy_endpoint_is_news_to_nobody_and_stands_nowhere(world):
    assert world.note(*[OK] * 50, *[BAD] * 9, OK, *[ANSWERED] * 5) is None
    assert world.rows == {}
    assert world.breakers.allowance(LANE) == 10


def test_the_tenth_failure_in_a_row_stops_everything_before_the_table_knows(world):
    news = world.note(*[BAD] * 10)
    assert (news.before, news.after.breaker.phase) == (WELL, "open")
    assert world.breakers.allowance(LANE) == 0 and set(world.changed) == {LANE}
    assert 24 * S <= world.breakers.opens_us(LANE, world.now_us) - world.now_us <= 36 * S
    assert world.note(*[BAD] * 9, OK) is None, "what was under way beside it changes nothing"


async def test_a_swap_that_was_lost_is_seen_at_once_and_the_measure_goes_on(world):
    world.note(*[BAD] * 10)
    world.table.put(EndpointHealth(Breaker(limit=4, openings=2)))
    for news in world.every:
        await world.breakers.settled(news)
    assert world.breakers.allowance(LANE) == 4
    assert world.note(BAD).after.breaker.phase == "open", "it is as sick as before"


async def test_a_read_that_began_before_a_change_of_ours_is_not_taken_over(world):
    world.table.put(EndpointHealth(gate_us=world.now_us + 5 * S), ("acme", b"f" * 16))
    world.table.held = asyncio.Event()
    looking = asyncio.create_task(world.breakers.look())
    await asyncio.sleep(0)
    news = world.note(*[BAD] * 10)
    world.table.held.set()
    await looking
    assert world.breakers.allowance(LANE) == 0
    world.table.held = None
    world.table.put(news.after)
    await world.breakers.settled(news)
    assert world.breakers.allowance(LANE) == 0


async def test_what_a_look_could_not_take_over_is_looked_at_again_though_nobody_commits(world):
    news = world.note(*[BAD] * 10)
    await world.breakers.look()
    world.breakers._pending.clear()
    await world.breakers.look()
    assert world.breakers.allowance(LANE) == 10, news


async def test_what_others_have_changed_is_known_after_a_look_and_a_look_without_a_commit_reads_nothing(world):
    world.table.put(world.open_for(30))
    await world.breakers.look()
    assert world.breakers.allowance(LANE) == 0 and world.changed == [LANE]
    reads = world.table.reads
    await world.breakers.look()
    assert world.table.reads == reads
    world.table.put(WELL)
    await world.breakers.look()
    assert world.breakers.allowance(LANE) == 10 and world.breakers._rows == {}


async def test_only_the_prober_has_one_slot_and_only_for_the_probes_time(world):
    world.table.put(world.open_for(30))
    await world.breakers.look()
    assert world.breakers.next_probe(LANE, world.now_us) is None
    await world.clock.advance(31)
    _, before, after = world.breakers.next_probe(LANE, world.now_us)
    assert (before.breaker.phase, after.breaker.phase, after.prober) == ("open", "half_open", ME)
    world.breakers.took(LANE, after)
    assert world.breakers.allowance(LANE) == 1
    world.membership.id = OTHER  # a new life, or another process
    assert world.breakers.allowance(LANE) == 0
    world.membership.id = ME
    await world.clock.advance(31)
    assert world.breakers.allowance(LANE) == 0 and world.breakers.next_probe(LANE, world.now_us) is not None


async def test_a_probe_that_was_not_sent_is_given_back_at_once(world):
    world.breakers.took(LANE, EndpointHealth(Breaker("half_open", world.now_us, world.now_us + 30 * S, openings=1), ME))
    news = world.note(NOT_SENT)
    assert (news.after.breaker.phase, news.after.prober) == ("open", None)
    assert world.breakers.next_probe(LANE, world.now_us) is not None


@pytest.mark.parametrize("said", [OK, BAD])
def test_an_attempt_from_before_the_opening_is_not_the_probe(world, said):
    probing = EndpointHealth(Breaker("half_open", world.now_us, world.now_us + 30 * S, openings=1), ME)
    world.breakers.took(LANE, probing)
    assert world.note(said, started_us=world.now_us - 1) is None
    assert world.note(said) is not None


def test_another_processes_probe_is_not_decided_here(world):
    world.breakers.took(LANE, EndpointHealth(Breaker("half_open", world.now_us - S, world.now_us + 30 * S, openings=1), OTHER))
    assert world.note(OK, BAD) is None


def test_failures_from_before_the_breaker_closed_are_not_held_against_a_slow_start(world):
    world.breakers.took(LANE, EndpointHealth(Breaker(since_us=world.now_us, openings=1, limit=8)))
    for _ in range(20):
        assert world.note(BAD, started_us=world.now_us - 1) is None
    assert world.note(BAD).after.breaker.limit == 4


async def test_a_gate_stops_everything_until_its_time_and_is_cleared_by_the_next_outcome(world):
    news = world.note(Said(Outcome.FAILURE, 60.0, gates=True))
    assert news.after == EndpointHealth(gate_us=world.now_us + 60 * S)
    assert world.breakers.allowance(LANE) == 0 and world.breakers.opens_us(LANE, world.now_us) == world.now_us + 60 * S
    assert world.note(Said(Outcome.FAILURE, 5.0, gates=True)) is None, "the later one holds"
    await world.clock.advance(60)
    assert world.breakers.allowance(LANE) == 10
    assert world.note(OK).after == WELL
    assert world.breakers._rows == {}


def test_a_gate_further_off_than_any_retry_after_is_a_clock_that_stepped(world):
    world.breakers.took(LANE, EndpointHealth(gate_us=world.now_us + 10 * 24 * 3600 * S))
    assert world.breakers.allowance(LANE) == 10


async def test_nothing_is_sent_to_an_endpoint_that_is_being_disabled(world):
    news = world.note(Said(Outcome.ANSWERED, disable="the receiver answered 410"))
    assert (news.before, news.after, news.disable) == (WELL, WELL, "the receiver answered 410")
    assert world.breakers.allowance(LANE) == 0
    await world.breakers.settled(news)
    assert world.breakers.allowance(LANE) == 10 and LANE in world.changed


def test_a_prober_that_is_none_of_the_living_has_abandoned_its_probe(world):
    for lane, prober in ((LANE, OTHER), (("acme", b"f" * 16), ME)):
        world.breakers.took(lane, EndpointHealth(Breaker("half_open", 0, 1, openings=1), prober))
    assert world.breakers.abandoned({ME}) == [LANE]
    assert world.breakers.abandoned({ME, OTHER}) == []


def test_measures_are_bounded_and_the_longest_silent_endpoint_is_forgotten(world, monkeypatch):
    monkeypatch.setattr(module, "MOST_MEASURED", 3)
    lanes = [("acme", bytes([number]) * 16) for number in range(5)]
    for lane in (*lanes[:3], lanes[0], *lanes[3:]):
        world.breakers.note(lane, BAD, world.now_us)
    assert list(world.breakers._measures) == [lanes[0], *lanes[3:]]


@given(st.integers(1, 12), st.integers(1, 40), st.binary(min_size=16, max_size=16))
def test_the_senders_share_an_endpoints_limit_and_none_of_it_twice(limit, count, endpoint):
    nodes = [number.to_bytes(16, "big") for number in range(count)]
    shares = []
    for node in nodes:
        world = World(nodes, in_flight=limit)
        world.membership.id = node
        shares.append(world.breakers.allowance(("acme", endpoint)))
    assert sum(shares) == limit
    assert max(shares) - min(shares) <= 1


def test_in_a_slow_start_the_whole_fleet_begins_with_one(world):
    nodes = [number.to_bytes(16, "big") for number in range(3)]
    shares = []
    for node in nodes:
        world = World(nodes)
        world.membership.id = node
        world.breakers.took(LANE, EndpointHealth(Breaker(since_us=1, openings=1, limit=1)))
        shares.append(world.breakers.allowance(LANE))
    assert sorted(shares) == [0, 0, 1]


def test_a_life_that_just_began_takes_no_more_than_its_part():
    world = World([ME, OTHER])
    world.membership.id = b"x" * 16
    assert world.breakers.allowance(LANE) == 5
