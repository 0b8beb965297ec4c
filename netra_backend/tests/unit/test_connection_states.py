"""The life of a connection: every pair of states, and that schema and table say the same."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import netra_backend
from netra_backend.kernel.states import IllegalTransition
from netra_backend.oauth.model import LONGEST_RETRY_AFTER_S, US, Connection
from netra_backend.oauth.states import CONNECTION, DECISIONS, REFRESHED, SUCCEEDED

MIGRATIONS = [*Path(netra_backend.__file__).parent.glob("storage/migrations/*/*_oauth.sql")]
ALLOWED = {
    ("pending", "active"),
    ("pending", "failed"),
    ("pending", "revoked"),
    ("active", "active"),
    ("active", "at_risk"),
    ("active", "reauth_required"),
    ("active", "revoked"),
    ("at_risk", "active"),
    ("at_risk", "reauth_required"),
    ("at_risk", "revoked"),
    ("reauth_required", "active"),
    ("reauth_required", "revoked"),
    ("revoked", "active"),
    ("failed", "active"),
    ("failed", "revoked"),
}


@pytest.mark.parametrize(("source", "to", "allowed"), [*CONNECTION.pairs()])
def test_exactly_these_ways_lead_from_state_to_state(source, to, allowed):
    assert allowed == ((source, to) in ALLOWED)
    if not allowed:
        with pytest.raises(IllegalTransition):
            CONNECTION.check(source, to)


def test_a_refresh_token_is_sent_and_its_successor_taken_where_the_grant_may_live():
    assert set(REFRESHED) == set(CONNECTION.sources("reject"))
    assert set(SUCCEEDED) == {*REFRESHED, "reauth_required"}


@pytest.mark.parametrize("path", MIGRATIONS, ids=lambda path: path.parent.name)
def test_the_schema_knows_the_same_states_and_decisions(path):
    texts = [each.read_text() for each in sorted(path.parent.glob("*.sql"))]  # a later one replaces an earlier trigger
    text = "\n".join(each for each in texts if any(f"{table}_audit_update" in each for table in DECISIONS))
    states = re.search(r"check \(state in \(([^)]*)\)\)", text)[1]
    assert tuple(re.findall(r"\w+", states)) == CONNECTION.states
    for table, columns in DECISIONS.items():
        watched = re.findall(rf"{table}_audit_update\s+after update of (.*?)\son\s", text, re.DOTALL)[-1]
        assert tuple(re.findall(r"\w+", watched)) == columns


@pytest.mark.parametrize(
    ("state", "left_s", "paused"),
    [
        ("active", 0, False),
        ("active", 1, True),
        ("active", LONGEST_RETRY_AFTER_S, True),
        ("active", LONGEST_RETRY_AFTER_S + 1, False),  # it began before the wall clock was set back
        ("at_risk", LONGEST_RETRY_AFTER_S + 1, True),  # a grant in doubt waits for its token's end
    ],
)
def test_a_pause_after_a_failure_outlasts_no_step_of_the_clock(state, left_s, paused):
    known = dict.fromkeys((field.name for field in fields(Connection)), None)
    assert Connection(**{**known, "state": state, "retry_us": US + int(left_s * US)}).is_paused(US) is paused
