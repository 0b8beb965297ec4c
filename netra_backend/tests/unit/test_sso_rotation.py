"""Where new logins go, decided purely: health, dwell, ramp, limits, pins; and a model test of all of it at once."""

from __future__ import annotations

import json

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from netra_backend.kernel.states import IllegalTransition
from netra_backend.oauth.sso.health import GOOD_PROBES, LEAST_SAMPLES, Health, Window, worst
from netra_backend.oauth.sso.rotation import HOUR_S, MOST_FLIPS, STEPS, Candidate, Rotation, decide, pinned
from netra_backend.oauth.sso.settings import SsoSettings
from netra_backend.oauth.sso.states import HEALTH, OPERATIONS, least

SETTINGS = SsoSettings(dwell_s=300, window_s=30, return_s=120)
FIRST, BACKUP = Candidate("first", "https://first.example"), Candidate("backup", "https://backup.example")
BOTH = [FIRST, BACKUP]
ALLOWED = {
    ("up", "degraded"), ("up", "down"), ("degraded", "degraded"), ("degraded", "down"), ("degraded", "up"),
    ("down", "returning"), ("returning", "down"), ("returning", "up"),
}  # fmt: skip


@pytest.mark.parametrize(("source", "to", "allowed"), [*HEALTH.pairs()])
def test_exactly_these_ways_lead_from_health_to_health(source, to, allowed):
    assert allowed == ((source, to) in ALLOWED)
    if not allowed:
        with pytest.raises(IllegalTransition):
            HEALTH.check(source, to)


class Story:
    """A rotation, told step by step."""

    def __init__(self, candidates=BOTH):
        self.candidates = candidates
        self.now, _ = decide(Rotation(), candidates, SETTINGS)
        self.told = []

    def probe(self, who, reason="", times=1, every=10.0):
        for _ in range(times):
            self.now = self.now.advanced(every)
            for operation in OPERATIONS:
                health = self.now.health.get(who.issuer, {}).get(operation, Health())
                self.now = self.now.with_health(who.issuer, operation, health.probed(reason, self.now.clock_s, SETTINGS.return_s))
            self.decide()

    def wait(self, seconds):
        self.now = self.now.advanced(seconds)
        self.decide()

    def decide(self):
        self.now, told = decide(self.now, self.candidates, SETTINGS)
        if told is not None:
            self.told.append((told.reason, told.target, told.share))

    def returned(self, who=FIRST):
        self.probe(who, times=14)


def test_three_failed_probes_in_a_row_lead_new_logins_to_the_backup_and_two_do_not():
    story = Story()
    story.probe(FIRST, "timeout", times=2)
    assert (story.now.active, story.now.state_of(FIRST.issuer)) == ("first", "degraded")
    story.probe(FIRST)
    story.probe(FIRST, "timeout", times=3)
    assert (story.now.active, story.told) == ("backup", [("down", "backup", 100)])


def test_traffic_alone_never_calls_an_issuer_down_and_with_it_one_failed_probe_does():
    story = Story()
    for _ in range(100):
        story.now = story.now.with_health(FIRST.issuer, "token", story.now.health[FIRST.issuer].get("token", Health()).doubted("503"))
        story.decide()
    assert (story.now.state_of(FIRST.issuer), story.now.active, story.told) == ("degraded", "first", [])
    story.probe(FIRST, "status_503")
    assert story.now.active == "backup"


def test_a_good_probe_takes_a_doubt_away():
    story = Story()
    story.now = story.now.with_health(FIRST.issuer, "token", Health().doubted("503"))
    story.probe(FIRST)
    story.probe(FIRST, "timeout")
    assert (story.now.state_of(FIRST.issuer), story.now.active) == ("degraded", "first")


def test_the_way_back_is_for_one_that_has_answered_for_long_and_goes_in_steps():
    story = Story()
    story.probe(FIRST, "timeout", times=3)
    story.wait(SETTINGS.dwell_s)
    story.probe(FIRST, times=GOOD_PROBES, every=1)
    assert story.now.state_of(FIRST.issuer) == "returning"  # five of them, and not for long enough
    assert story.now.active == "backup"
    story.probe(FIRST, times=13)
    assert story.told[-1] == ("recovered", "first", 10)
    story.probe(FIRST, times=30)
    assert story.told[1:] == [("recovered", "first", 10), ("ramp", "first", 50), ("ramp", "first", 100)]
    assert (story.now.active, story.now.returning) == ("first", None)


@pytest.mark.parametrize("share", STEPS[:-1])
def test_of_the_new_logins_just_that_share_goes_to_one_that_comes_back(share):
    rotation = Rotation("backup", returning="first", share=share)
    assert sum(rotation.choose(draw) == "first" for draw in range(100)) == share


def test_one_that_fails_again_on_its_way_back_is_left_at_once_and_dwelt_upon():
    story = Story()
    story.probe(FIRST, "timeout", times=3)
    story.wait(SETTINGS.dwell_s)
    story.returned()
    assert story.now.share == STEPS[0]
    story.probe(FIRST, "timeout", times=3)
    assert story.told[-1] == ("failed_again", "backup", 0)
    assert (story.now.active, story.now.share, story.now.dwells(SETTINGS.dwell_s)) == ("backup", 0, SETTINGS.dwell_s)


def test_nothing_changes_by_itself_before_the_dwell_is_over():
    story = Story()
    story.probe(FIRST, "timeout", times=3)
    at = story.now.clock_s
    story.probe(BACKUP, "timeout", times=3)
    story.returned()
    assert story.told == [("down", "backup", 100)]
    story.wait(SETTINGS.dwell_s - (story.now.clock_s - at))
    assert story.told[-1] == ("down", "first", 100)


def test_after_two_flips_in_an_hour_it_holds_says_so_once_and_goes_on_after_the_hour():
    story = Story()
    for down, up in ((FIRST, BACKUP), (BACKUP, FIRST), (FIRST, BACKUP)):
        story.probe(down, "timeout", times=3)
        story.probe(up, times=14)
        story.wait(SETTINGS.dwell_s)
    assert [told[0] for told in story.told] == ["down", "down", "held"]
    assert (story.now.active, story.now.held) == ("first", True)
    for _ in range(400):
        story.probe(BACKUP)
        if not story.now.held:
            break
    assert story.told[3] == ("down", "backup", 100)


def test_without_another_provider_that_is_well_it_stays():
    story = Story()
    story.probe(BACKUP, "timeout", times=3)
    story.probe(FIRST, "timeout", times=3)
    assert (story.now.active, story.told) == ("first", [])


def test_two_providers_of_one_issuer_are_no_choice():
    story = Story([FIRST, Candidate("twin", FIRST.issuer)])
    story.probe(FIRST, "timeout", times=9)
    assert story.told == []


def test_a_pin_holds_whatever_the_health_until_it_is_taken_away():
    story = Story()
    story.now, told = pinned(story.now, "backup")
    assert (told.reason, story.now.active) == ("pinned", "backup")
    story.probe(BACKUP, "timeout", times=9)
    assert (story.now.active, story.told) == ("backup", [])
    story.now, _ = pinned(story.now, None)
    story.wait(SETTINGS.dwell_s)
    assert story.told == [("down", "first", 100)]


def test_a_step_of_time_backwards_is_no_time():
    rotation = Rotation("first", since=5.0, clock_s=10.0).advanced(-1000)
    assert (rotation.clock_s, rotation.dwells(20)) == (10.0, 15.0)


def test_a_window_counts_what_is_young_and_needs_enough_of_it():
    window = Window(30)
    assert not any(window.add(at, failed=True) for at in range(LEAST_SAMPLES - 1))
    assert not window.add(100.0, failed=True)  # the others are too old
    assert not any(window.add(100.0 + at / 10, failed=at % 2 == 0) for at in range(1, LEAST_SAMPLES - 1))
    assert window.add(101.0, failed=True)
    assert not window.add(101.1, failed=True)  # it has told


def test_what_is_stored_is_what_was_decided():
    story = Story()
    story.probe(FIRST, "timeout", times=3)
    story.wait(SETTINGS.dwell_s)
    story.returned()
    found = Rotation.of(story.now.active, story.now.pinned, story.now.share, json.loads(json.dumps(story.now.body())))
    assert found == story.now
    assert not found.is_settled
    assert Rotation("first").is_settled


def test_the_least_of_roles_is_none_where_one_is_missing():
    assert [least("admin", "viewer"), least("admin", "admin"), least("admin", None)] == ["viewer", "admin", None]


class Rotations(RuleBasedStateMachine):
    """Any story of three providers, against what the module promises."""

    def __init__(self):
        super().__init__()
        self.candidates = [FIRST, BACKUP, Candidate("third", "https://third.example")]
        self.now, _ = decide(Rotation(), self.candidates, SETTINGS)
        self.changes = []

    def step(self, now):
        before = self.now
        self.now, told = decide(now, self.candidates, SETTINGS)
        if told is not None and told.reason in {"down", "recovered"}:
            self.changes.append(self.now.clock_s)
            assert before.pinned is None
        if self.now.active != before.active and told.reason == "down":
            assert worst(now.health[self.issuer(before.active)]) == "down"
        if told is None:
            assert (self.now.active, self.now.share) == (before.active, before.share)

    def issuer(self, name):
        return next(each.issuer for each in self.candidates if each.name == name)

    @rule(who=st.integers(0, 2), reason=st.sampled_from(["", "", "timeout"]), times=st.integers(1, 4), elapsed=st.floats(0, 40))
    def probe(self, who, reason, times, elapsed):
        issuer = self.candidates[who].issuer
        for _ in range(times):
            now = self.now.advanced(elapsed)
            health = now.health.get(issuer, {}).get("token", Health())
            self.step(now.with_health(issuer, "token", health.probed(reason, now.clock_s, SETTINGS.return_s)))

    @rule(who=st.integers(0, 2))
    def doubt(self, who):
        issuer = self.candidates[who].issuer
        health = self.now.health.get(issuer, {}).get("token", Health())
        self.step(self.now.with_health(issuer, "token", health.doubted("503")))

    @rule(seconds=st.floats(-100, 2000))
    def wait(self, seconds):
        self.step(self.now.advanced(seconds))

    @rule(who=st.integers(0, 2))
    def pin(self, who):
        self.now, _ = pinned(self.now, self.candidates[who].name)

    @precondition(lambda self: self.now.pinned is not None)
    @rule()
    def unpin(self):
        self.now, _ = pinned(self.now, None)

    @invariant()
    def keeps_its_promises(self):
        at = self.now.clock_s
        assert len([change for change in self.changes if change > at - HOUR_S]) <= MOST_FLIPS
        assert all(later - earlier >= SETTINGS.dwell_s for earlier, later in zip(self.changes, self.changes[1:], strict=False))
        assert (self.now.returning is None) == (self.now.share == 0)
        assert self.now.active in {each.name for each in self.candidates}


TestRotations = Rotations.TestCase
TestRotations.settings = hypothesis_settings(max_examples=100, stateful_step_count=40, deadline=None)
