"""The life of a run is one table; the schema, the statements and the audit's columns agree with it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import netra_backend
from netra_backend.batch.causes import WORDS
from netra_backend.batch.states import DECISIONS, FINISHED, PARTITION, RUN
from netra_backend.kernel.states import IllegalTransition
from netra_backend.storage.statements import Statements

MIGRATIONS = Path(netra_backend.__file__).parent / "storage/migrations/sqlite"
MIGRATION = "\n".join(path.read_text() for path in sorted(MIGRATIONS.glob("*_batch*.sql")))
Q = Statements("netra_backend.batch")


@pytest.mark.parametrize(("source", "to", "allowed"), list(RUN.pairs()))
def test_every_pair_of_states_is_allowed_or_refused_as_the_design_says(source, to, allowed):
    expected = {
        "queued": {"running", "failed", "paused", "cancelled"},
        "running": {"completed", "completed_with_failures", "failed", "paused", "cancelled"},
        "failed": {"queued", "cancelled"},
        "paused": {"queued", "cancelled"},
    }
    assert allowed == (to in expected.get(source, set()))
    if not allowed:
        with pytest.raises(IllegalTransition):
            RUN.check(source, to)


@pytest.mark.parametrize(("table", "states"), [("netra_job_run", RUN.states), ("netra_job_partition", PARTITION.states)])
def test_the_schemas_check_is_the_tables_states(table, states):
    text = MIGRATION[MIGRATION.index(f"create table {table} ") :]
    check = re.search(r"state text not null check \(state in \(([^)]*)\)\)", text)
    assert tuple(re.findall(r"'(\w+)'", check[1])) == states


def test_the_page_draws_the_table():
    assert RUN.mermaid() in (MIGRATIONS.parents[3] / "docs/batch.md").read_text()


def test_what_has_an_end_is_what_no_worker_touches():
    assert set(FINISHED) == {*RUN.terminal, "failed"}


@pytest.mark.parametrize(("statement", "event"), [("begin_run", "begin"), ("end_run", "fail")])
def test_each_statement_leaves_only_the_states_that_its_event_may_leave(statement, event):
    where = Q.by_name[statement].text.partition("where")[2]
    assert tuple(re.findall(r"'(\w+)'", where)) == RUN.sources(event)


@pytest.mark.parametrize("table", DECISIONS)
def test_the_audits_trigger_watches_the_columns_that_are_decisions(table):
    watched = re.search(rf"after update of ([\w, ]+) on {table}\s", MIGRATION)[1]
    assert tuple(re.findall(r"\w+", watched)) == DECISIONS[table]


def test_every_way_that_only_people_lead_along_is_watched():
    """Into paused and cancelled, and out of what has ended or stands still; a run's own beginning and end are not."""
    condition = MIGRATION[MIGRATION.index("netra_job_run_audit_update") :].partition("begin")[0]
    into, out_of = (set(re.findall(r"'(\w+)'", found)) for found in re.findall(r"in \(([^)]*)\)", condition))
    by_people = {event: RUN.transitions[event] for event in ("pause", "resume", "cancel")}
    for froms, to in by_people.values():
        assert to in into or set(froms) <= out_of
    for event in RUN.transitions.keys() - by_people.keys():
        froms, to = RUN.transitions[event]
        assert to not in into
        assert not set(froms) & out_of


def test_whoever_waits_for_a_run_is_told_so_in_every_state_but_one():
    assert WORDS.keys() == {*RUN.states} - {"completed"}
