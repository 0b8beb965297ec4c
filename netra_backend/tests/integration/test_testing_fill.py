"""The filler writes what the product could have written: exact counts, every state, nothing that a check of ours refuses."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict

import pytest

from ...cli.main import main as netra
from ...testing.fill import main
from ...testing.fill_plan import Endpoints, Plan
from ...webhooks.states import DELIVERY

NOW_US = 1_800_000_000_000_000
ENDPOINTS = Endpoints([bytes([n]) * 16 for n in (1, 2, 3)], b"\x04" * 16, b"\x05" * 16)


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """(the folder, the printed summary)."""
    data = tmp_path_factory.mktemp("filled") / "data"
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("sys.stdout.write", printed.append)
        code = main(["--deliveries", "4001", "--tenants", "3", "--seed", "7", "--data", str(data)])
    assert code == 0
    return data, json.loads("".join(printed))


def ask(data, sql, *values):
    connection = sqlite3.connect(data / "netra.db")
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.close()


def test_the_summary_is_what_stands_in_the_database(filled):
    data, summary = filled
    assert (summary["event"], summary["deliveries"], summary["tenants"], summary["endpoints"]) == ("ready", 4001, 3, 15)
    for name in ("message", "delivery", "attempt", "tenant", "endpoint"):
        plural = {"delivery": "deliveries"}.get(name, name + "s")
        assert ask(data, f"select count(*) from netra_{name}") == [(summary[plural],)]
    assert dict(ask(data, "select state, count(*) from netra_delivery group by state")) == summary["states"]
    assert sum(summary["states"].values()) == 4001


def test_every_state_is_there_and_the_tenants_share_evenly(filled):
    data, summary = filled
    assert set(summary["states"]) == set(DELIVERY.states)
    shares = [count for _, count in ask(data, "select tenant, count(*) from netra_delivery group by tenant order by tenant")]
    assert shares == [1334, 1334, 1333]


def test_the_rows_agree_with_each_other(filled):
    data, _ = filled
    assert ask(data, "pragma integrity_check") == [("ok",)]
    assert ask(data, "pragma foreign_key_check") == []
    attempts = defaultdict(list)
    for *key, number, outcome in ask(data, "select tenant, message_id, endpoint_id, number, outcome from netra_attempt order by id"):
        attempts[tuple(key)].append((number, outcome))
    for *key, state, number in ask(data, "select tenant, message_id, endpoint_id, state, number from netra_delivery"):
        made = attempts.pop(tuple(key), [])
        assert [burned for burned, _ in made] == list(range(1, number + 1))
        assert [outcome for _, outcome in made] == ["failed"] * (number - 1) + ["delivered" if state == "delivered" else "failed"] * bool(
            number
        )
    assert not attempts
    assert ask(data, "select count(*) from netra_delivery where state = 'due' and due_us > deadline_us") == [(0,)]


def test_the_command_line_reads_it(filled, capsys):
    data, _ = filled
    assert netra(["webhooks", "dead", "--tenant", "tenant-7-00000", "--data", str(data), "--json", "--limit", "10000"]) == 0
    found = json.loads(capsys.readouterr().out)["dead"]
    assert (len(found),) == ask(data, "select count(*) from netra_delivery where state = 'dead' and tenant = 'tenant-7-00000'")[0]


def test_one_seed_is_one_plan():
    def plan(seed):
        return [vars_of(rows) for rows in Plan(seed, "acme", ENDPOINTS, NOW_US).rows(500, 200)]

    def vars_of(rows):
        return rows.messages, rows.deliveries, rows.attempts

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)
    assert sum(len(deliveries) for _, deliveries, _ in plan(1)) == 500


def test_a_database_that_cannot_be_opened_is_4(capsys):
    assert main(["--deliveries", "1", "--tenants", "1", "--database-url", "postgresql://db.invalid/x"]) == 4
    assert json.loads(capsys.readouterr().err)["code"] == "database_unreachable"
