"""The life of a delivery, and of a breaker, is one table; the schema, the statements and the audit's columns agree with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import netra_backend
from netra_backend.kernel.states import IllegalTransition
from netra_backend.storage.statements import Statements
from netra_backend.webhooks.states import BREAKER, DECISIONS, DELIVERY, TASK

PACKAGE = Path(netra_backend.__file__).parent
MIGRATION = "".join(path.read_text() for path in sorted((PACKAGE / "storage/migrations/sqlite").glob("*.sql")))
Q = Statements("netra_backend.webhooks")
FINAL = ("delivered", "skipped", "dead", "cancelled")


@pytest.mark.parametrize(("source", "to", "allowed"), list(DELIVERY.pairs()))
def test_every_pair_of_states_is_allowed_or_refused_as_the_design_says(source, to, allowed):
    expected = {
        "due": {"leased", "skipped", "dead", "cancelled", "due"},
        "leased": {"due", "delivered", "skipped", "dead", "cancelled"},
        **{state: {"due"} for state in FINAL},
    }
    assert allowed == (to in expected[source])
    if not allowed:
        with pytest.raises(IllegalTransition):
            DELIVERY.check(source, to)


def test_the_schemas_check_is_the_tables_states():
    table = MIGRATION[MIGRATION.index("create table netra_delivery") :]
    check = re.search(r"state text not null check \(state in \(([^)]*)\)\)", table)
    assert tuple(re.findall(r"'(\w+)'", check[1])) == DELIVERY.states


def test_the_breakers_check_is_its_tables_states_and_every_open_breaker_may_be_reset():
    migration = (PACKAGE / "storage/migrations/sqlite/0003_endpoint_health.sql").read_text()
    check = re.search(r"phase text not null check \(phase in \(([^)]*)\)\)", migration)
    assert tuple(re.findall(r"'(\w+)'", check[1])) == BREAKER.states
    assert states_in(Q.take_probes.text.replace("phase", "state")) == BREAKER.sources("probe")
    assert {*BREAKER.sources("reset")} == {*BREAKER.states}


def states_in(text):
    listed = re.search(r"state in \(([^)]*)\)", text)
    return tuple(re.findall(r"'(\w+)'", listed[1] if listed else re.search(r"and state = ('\w+')|where state = ('\w+')", text)[0]))


@pytest.mark.parametrize(
    ("statement", "event"), [("claim", "claim"), ("release", "release"), ("release_dead", "release"), ("resend", "resend")]
)
def test_each_statement_leaves_only_the_states_that_its_event_may_leave(statement, event):
    text = Q.by_name[statement].text
    update = text[text.index("update netra_delivery") :]
    assert states_in(update) == DELIVERY.sources(event)
    assert f"state = '{DELIVERY.transitions[event][1]}'" in update


def test_a_task_is_running_until_it_has_one_of_three_ends_and_the_schema_knows_these_states():
    assert {event: TASK.sources(event) for event in TASK.transitions} == dict.fromkeys(("finish", "cancel", "fail"), ("running",))
    table = MIGRATION[MIGRATION.index("create table netra_webhook_task") :]
    assert tuple(re.findall(r"'(\w+)'", re.search(r"state text not null check \(state in \(([^)]*)\)\)", table)[1])) == TASK.states


@pytest.mark.parametrize(
    ("statement", "event"), [("redrive", "resend"), ("cancel_chosen", "cancel"), ("cancel_delivery", "cancel"), ("cancel_erased", "cancel")]
)
def test_a_verb_over_many_messages_leaves_only_states_that_its_event_may_leave(statement, event):
    text = Q.by_name[statement].text
    assert {*states_in(text[text.index("where") :])} <= {*DELIVERY.sources(event)}
    assert f"state = '{DELIVERY.transitions[event][1]}'" in text


def test_the_page_draws_the_tasks_table():
    assert TASK.mermaid() in (PACKAGE.parent / "docs/webhooks.md").read_text()


def test_an_acknowledgement_leaves_a_lease_only():
    assert "netra_delivery.state = 'leased'" in Q.acknowledge.text
    for event in ("acknowledge", "retry", "dead_letter", "skip", "cancel"):
        assert "leased" in DELIVERY.sources(event)


@pytest.mark.parametrize("table", DECISIONS)
def test_the_audits_triggers_guard_exactly_the_columns_that_are_decisions(table):
    # a later migration replaces an earlier one's
    trigger = re.findall(rf"after update of ([\w, \n]+)\s+on {table}(?:\nwhen [^;]*?)? begin", MIGRATION)[-1]
    assert {*re.findall(r"\w+", trigger)} - {"audit_id"} == {*DECISIONS[table]} - {"audit_id"}


def test_the_diagram_begins_due_and_shows_every_final_state_sent_again():
    drawn = DELIVERY.mermaid()
    assert "[*] --> due" in drawn
    for state in FINAL:
        assert f"{state} --> due: resend" in drawn
