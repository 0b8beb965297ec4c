"""The breaker: transitions apart from measurement, and a random walk beside a simple model."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netra_backend.resilience.circuit_breaker import CLOSED, Breaker, CircuitBreaker, Health, Outcome, Policy, admit, opened, record
from netra_backend.testing.clock import FakeClock, SeededChance

POLICY = Policy()
S = 1_000_000
OK, BAD, ANSWERED, NOT_SENT = Outcome.SUCCESS, Outcome.FAILURE, Outcome.ANSWERED, Outcome.NOT_SENT


def measured(*outcomes, every_s=0.1, policy=POLICY):
    health = Health()
    for n, outcome in enumerate(outcomes):
        health = health.after(policy, outcome, 500 + n * every_s)
    return health


def an_open_breaker(openings=0, now_us=0, seed=1):
    return opened(Breaker(openings=openings), POLICY, now_us, SeededChance(seed))


def after(state, outcome, health=None, now_us=0):
    return record(state, health or Health(), POLICY, outcome, now_us, SeededChance())


def test_ten_failures_in_a_row_are_sick_and_nine_are_not():
    assert not measured(*[BAD] * 9).is_sick(POLICY)
    assert measured(*[BAD] * 10).is_sick(POLICY)
    assert not measured(*[BAD] * 9, OK, *[BAD] * 9).is_sick(POLICY)


def test_half_of_twenty_within_a_minute_is_sick():
    assert measured(*[OK, BAD] * 10).is_sick(POLICY)
    assert not measured(*[OK, BAD] * 9, OK).is_sick(POLICY)
    assert not measured(*[OK, OK, BAD] * 20).is_sick(POLICY)


def test_what_is_older_than_the_window_is_forgotten():
    assert not measured(*[OK, BAD] * 10, every_s=7).is_sick(POLICY)
    assert len(measured(*[OK] * 500, every_s=1).buckets) <= 12


def test_answers_and_our_own_faults_are_no_measure_of_health():
    assert measured(*[ANSWERED] * 50, *[NOT_SENT] * 50) == Health()


def test_a_closed_breaker_lets_all_pass_and_opens_when_sick():
    assert admit(CLOSED, POLICY, 0, in_flight=500, wanted=7) == (CLOSED, 7)
    assert after(CLOSED, BAD, measured(*[BAD] * 9)) == CLOSED
    opening = after(CLOSED, BAD, measured(*[BAD] * 10), now_us=5 * S)
    assert opening.phase == "open" and opening.since_us == 5 * S
    assert 24 * S <= opening.until_us - 5 * S <= 36 * S


def test_the_open_time_doubles_to_half_an_hour_within_its_jitter():
    for openings, nominal_s in [(0, 30), (1, 60), (2, 120), (5, 960), (6, 1800), (60, 1800), (10_000, 1800)]:
        spans = [an_open_breaker(openings, seed=seed).until_us / S for seed in range(40)]
        assert nominal_s * 0.8 <= min(spans) < nominal_s * 0.9
        assert nominal_s * 1.1 < max(spans) <= nominal_s * 1.2


def test_an_open_breaker_admits_nothing_then_one_probe_and_no_second():
    state = an_open_breaker()
    assert admit(state, POLICY, state.until_us - 1, 0, 10) == (state, 0)
    probing, allowed = admit(state, POLICY, state.until_us, 0, 10)
    assert (probing.phase, allowed) == ("half_open", 1)
    assert admit(probing, POLICY, state.until_us + S, 1, 10) == (probing, 0)


def test_nobody_takes_the_probe_without_something_to_send():
    state = an_open_breaker()
    assert admit(state, POLICY, state.until_us, 0, 0) == (state, 0)


def test_a_prober_that_died_is_replaced():
    state = an_open_breaker()
    probing, _ = admit(state, POLICY, state.until_us, 0, 1)
    again, allowed = admit(probing, POLICY, probing.until_us, 0, 1)
    assert allowed == 1 and again.phase == "half_open" and again.until_us > probing.until_us


def test_a_clock_that_steps_back_keeps_nobody_parked():
    state = an_open_breaker(openings=9, now_us=10_000 * S)
    assert admit(state, POLICY, 10_000 * S - 3600 * S, 0, 1)[1] == 1


def test_a_failed_probe_opens_for_twice_as_long():
    state = an_open_breaker()
    probing, _ = admit(state, POLICY, state.until_us, 0, 1)
    again = after(probing, BAD, now_us=100 * S)
    assert again.phase == "open" and again.openings == 2
    assert 48 * S <= again.until_us - 100 * S <= 72 * S


@pytest.mark.parametrize("outcome", [OK, ANSWERED])
def test_a_probe_that_is_answered_closes_into_a_slow_start(outcome):
    probing = Breaker("half_open", 0, S, openings=3)
    assert after(probing, outcome) == Breaker(openings=3, limit=1)


def test_a_probe_that_was_never_sent_is_given_back():
    probing = Breaker("half_open", 0, 50 * S, openings=3)
    returned = after(probing, NOT_SENT, now_us=S)
    assert returned.phase == "open" and returned.openings == 3
    assert admit(returned, POLICY, S, 0, 1)[1] == 1


def test_slow_start_allows_one_two_four_eight_and_then_all():
    state, limits = Breaker(openings=3, limit=1), []
    while state.limit:
        limits.append(state.limit)
        assert admit(state, POLICY, 0, state.limit - 1, 10)[1] == 1
        assert admit(state, POLICY, 0, state.limit, 10)[1] == 0
        for _ in range(state.limit):
            state = after(state, OK)
    assert limits == [1, 2, 4, 8]
    assert state == CLOSED  # the doubling of open times is forgotten here, not before


def test_a_failure_in_slow_start_halves_it_and_sickness_opens_with_the_doubling_kept():
    state = Breaker(openings=3, limit=8, credit=5)
    assert after(state, BAD) == Breaker(openings=3, limit=4)
    assert after(Breaker(limit=1, openings=3), BAD).limit == 1
    assert after(state, BAD, measured(*[BAD] * 10)).openings == 4


def test_results_of_attempts_from_before_the_opening_change_nothing():
    state = an_open_breaker()
    for outcome in Outcome:
        assert after(state, outcome, measured(*[BAD] * 30)) == state


def test_a_row_can_hold_the_state():
    for state in (CLOSED, an_open_breaker(3), Breaker("half_open", 1, 2, 3, 4, 5)):
        row = asdict(state)
        assert all(isinstance(value, str | int) for value in row.values())
        assert Breaker(**row) == state


async def test_old_failures_do_not_count_against_a_breaker_that_has_closed_again():
    clock = FakeClock()
    breaker = CircuitBreaker(clock, SeededChance())
    for _ in range(10):
        assert breaker.try_begin()
        breaker.finish(BAD)
    assert breaker.state.phase == "open" and not breaker.try_begin()
    await clock.advance(36)
    assert breaker.try_begin() and not breaker.try_begin()
    breaker.finish(OK)
    for _ in range(9):
        assert breaker.try_begin()
        breaker.finish(BAD)
    assert breaker.state.phase == "closed"


def test_two_processes_that_compare_and_swap_one_row_send_one_probe():
    row = state = an_open_breaker()
    probes = 0
    for _ in range(2):  # both read before either writes
        wanted, allowed = admit(state, POLICY, state.until_us, 0, 1)
        if allowed and row == state:
            row, probes = wanted, probes + 1
    assert probes == 1


class BreakerBesideItsModel(RuleBasedStateMachine):
    """Random attempts, outcomes and times; the model keeps plain lists and knows nothing of the implementation."""

    def __init__(self):
        super().__init__()
        self.clock = FakeClock(wall_us=0, monotonic_s=0)
        self.policy = replace(POLICY, jitter=0.0)
        self.breaker = CircuitBreaker(self.clock, SeededChance(), self.policy)
        self.flying: list[str] = []  # the phase in which each attempt began
        self.row_of_failures = 0
        self.opened_at = None
        self.openings = 0

    def wait(self, seconds):
        self.clock._move_to(self.clock._now_us + round(seconds * S))

    @rule(seconds=st.sampled_from([0.5, 5, 29, 31, 120, 2000]))
    def time_passes(self, seconds):
        self.wait(seconds)

    @rule()
    def an_attempt_wants_to_begin(self):
        before = self.breaker.state
        allowed = self.breaker.try_begin()
        if before.phase == "open":
            due = self.clock.wall_us() - self.opened_at >= min(30 * 2 ** (self.openings - 1), 1800) * S
            assert allowed is due
        elif before.phase == "closed" and before.limit == 0:
            assert allowed
        elif before.phase == "closed":
            assert allowed is (len(self.flying) < before.limit)
        if allowed:
            self.flying.append(self.breaker.state.phase)

    @precondition(lambda self: self.flying)
    @rule(outcome=st.sampled_from(Outcome), which=st.integers(0, 1000))
    def an_attempt_ends(self, outcome, which):
        self.flying.pop(which % len(self.flying))
        before = self.breaker.state
        self.breaker.finish(outcome)
        self.follow(before, outcome)

    @precondition(lambda self: self.breaker.state == CLOSED)
    @rule()
    def ten_failures_in_a_row(self):
        for _ in range(10):
            before = self.breaker.state
            if self.breaker.try_begin():
                self.breaker.finish(BAD)
                self.follow(before, BAD)
        assert self.breaker.state.phase == "open"

    def follow(self, before, outcome):
        state = self.breaker.state
        if before.phase != "open" and state.phase == "open" and outcome is BAD:
            self.openings += 1
            self.opened_at = self.clock.wall_us()
        if before.phase == "closed":
            if outcome in {OK, BAD}:
                self.row_of_failures = self.row_of_failures + 1 if outcome is BAD else 0
            assert state.phase in {"closed", "open"}
            assert not (state.phase == "open" and outcome is not BAD)
            assert not (state.phase == "closed" and self.row_of_failures >= 10)
        if before.phase == "half_open":
            expected = {OK: "closed", ANSWERED: "closed", BAD: "open", NOT_SENT: "open"}[outcome]
            assert state.phase == expected
            if outcome is NOT_SENT:
                self.opened_at = -(10**15)  # due again at once
        if before.phase == "open":
            assert state == before
        if state.phase != "closed" or before.phase != "closed":
            self.row_of_failures = 0
        if state == CLOSED:
            self.openings = 0

    @invariant()
    def counts_agree(self):
        assert self.breaker.in_flight == len(self.flying)
        assert self.breaker.state.openings == self.openings


TestBreakerBesideItsModel = BreakerBesideItsModel.TestCase
TestBreakerBesideItsModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
