"""Commands over the database, in this process."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ....cli import audit_map
from ....cli.output import exit_code
from ....errors import NotFound, OutcomeUnknown, TransactionTimeout
from ....webhooks.errors import QuotaExceeded
from .driving import audited, environment, run
from .test_operate import is_elsewhere

ROOT = Path(__file__).parents[4]


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("NETRA_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def ask(capsys, data):
    """A command on the installation's data, as JSON."""
    return lambda *words: run(capsys, *words, "--data", data, "--json")


@pytest.fixture
def acme(ask):
    """A tenant with one endpoint."""
    assert ask("tenant", "create", "acme").code == 0
    return ask("webhooks", "endpoint", "add", "https://receiver.invalid/hook", "--uid", "hook", "--tenant", "acme").document


def stdin(monkeypatch, text):
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))


def test_a_tenant_is_made_once_and_listed(ask):
    made = ask("tenant", "create", "acme", "--name", "Acme Ltd")
    assert (made.code, made.document["uid"], made.document["name"]) == (0, "acme", "Acme Ltd")
    again = ask("tenant", "create", "acme")
    assert (again.code, again.out, again.error["code"]) == (1, "", "conflict")
    assert [each["id"] for each in ask("tenant", "list").document["tenants"]] == [made.document["id"]]


def test_the_cache_is_invalidated_and_looked_at(ask, acme):
    assert ask("cache", "invalidate", "--tenant", "acme", "org:7", "user:1").document == {"seq": 1}
    assert ask("cache", "stats", "--tenant", "acme").document["l1"]["hits"] == 0
    assert ask("cache", "graph", "--tenant", "acme").document == {"nodes": [], "edges": []}
    assert ask("cache", "probe", "--tenant", "acme").document == {"sampled": 0, "stale": []}
    assert ask("cache", "invalidate", "--tenant", "acme").code == 2


def test_a_key_is_shown_once_and_revoked(ask, acme):
    made = ask("key", "create", "--tenant", "acme", "--scope", "endpoint:secret").document
    assert made["key"].startswith("netra_tk_")
    listed = ask("key", "list", "--tenant", "acme")
    assert made["key"] not in listed.out
    assert [(each["id"], each["scopes"]) for each in listed.document["keys"]] == [(made["id"], ["endpoint:secret"])]
    assert ask("key", "revoke", made["id"], "--tenant", "acme").code == 0
    assert ask("key", "list", "--tenant", "acme").document["keys"][0]["revoked_at"] is not None
    assert ask("key", "revoke", made["id"], "--tenant", "acme").code == 1
    assert ask("key", "create", "--operator").document["key"].startswith("netra_op_")


@pytest.mark.parametrize(
    "words", [(), ("--tenant", "acme", "--operator"), ("--operator", "--scope", "tenant"), ("--tenant", "acme", "--scope", "all")]
)
def test_a_key_for_nobody_or_with_impossible_rights_is_refused(words, ask, acme):
    assert ask("key", "create", *words).code == 2


def test_a_message_is_sent_with_its_exact_text_and_a_repetition_is_harmless(ask, acme, monkeypatch, tmp_path):
    file = tmp_path / "payload.json"
    file.write_text('  {"amount": 1.50, "id":"inv_42"}\n')
    sent = ask("webhooks", "send", "--tenant", "acme", "--type", "invoice.paid", "--event-id", "e1", file)
    assert (sent.code, sent.document["eventType"], sent.document["eventId"]) == (0, "invoice.paid", "e1")
    assert '"payload":{"amount": 1.50, "id":"inv_42"}' in sent.out
    stdin(monkeypatch, file.read_text())
    assert (
        ask("webhooks", "send", "--tenant", "acme", "--type", "invoice.paid", "--event-id", "e1", "-").document["id"] == sent.document["id"]
    )
    stdin(monkeypatch, '{"amount": 2}')
    other = ask("webhooks", "send", "--tenant", "acme", "--type", "invoice.paid", "--event-id", "e1")
    assert (other.code, other.error["code"]) == (1, "key_reused")
    assert [each["id"] for each in ask("webhooks", "list", "--tenant", "acme").document["messages"]] == [sent.document["id"]]


@pytest.mark.parametrize("text", ["", "{", "nothing", '{"a":1} {"b":2}'])
def test_what_is_not_json_is_not_sent(text, ask, acme, monkeypatch):
    stdin(monkeypatch, text)
    refused = ask("webhooks", "send", "--tenant", "acme", "--type", "a.b")
    assert (refused.code, refused.error["code"]) == (2, "invalid_input")
    assert ask("webhooks", "list", "--tenant", "acme").document == {"messages": []}


def test_a_message_can_be_looked_at_and_sent_again(ask, acme, monkeypatch):
    stdin(monkeypatch, "{}")
    message = ask("webhooks", "send", "--tenant", "acme", "--type", "a.b").document["id"]
    shown = ask("webhooks", "show", message, "--tenant", "acme").document
    assert [(each["endpointId"], each["state"], each["attempts"]) for each in shown["deliveries"]] == [(acme["id"], "due", 0)]
    assert shown["attempts"] == []
    assert ask("webhooks", "resend", message, "hook", "--tenant", "acme").code == 0
    assert ask("webhooks", "show", message, "--tenant", "acme").document["deliveries"][0]["reason"] == "resent"
    assert ask("webhooks", "dead", "--tenant", "acme").document == {"dead": []}
    missing = ask("webhooks", "show", "msg_" + "0" * 26, "--tenant", "acme")
    assert (missing.code, missing.error["code"]) == (1, "not_found")


def test_waiting_for_a_delivery_that_nobody_makes_ends_in_time(ask, acme, monkeypatch):
    stdin(monkeypatch, "{}")
    waited = ask("webhooks", "send", "--tenant", "acme", "--type", "a.b", "--wait", "100ms")
    assert (waited.code, waited.document["deliveries"][0]["state"]) == (1, "due")


def test_an_endpoints_secret_is_told_when_it_is_made_and_not_later(ask, acme):
    assert acme["secret"].startswith("whsec_")
    listed = ask("webhooks", "endpoint", "list", "--tenant", "acme")
    assert [each["uid"] for each in listed.document["endpoints"]] == ["hook"]
    assert acme["secret"] not in listed.out
    refused = ask("webhooks", "endpoint", "add", "ftp://receiver.invalid", "--tenant", "acme")
    assert (refused.code, refused.error["code"]) == (2, "invalid_input")


def test_the_tail_goes_on_where_it_ended(capsys, ask, acme, data, monkeypatch):
    for _ in range(2):
        stdin(monkeypatch, "{}")
        ask("webhooks", "send", "--tenant", "acme", "--type", "a.b")
    done = run(capsys, "webhooks", "tail", "--tenant", "acme", "--data", data, "--json", "--after", "0", "--count", "2")
    first, second = map(json.loads, done.out.splitlines())
    assert (first["type"], first["message"][:4], done.code) == ("a.b", "msg_", 0)
    assert second["seq"] > first["seq"]
    rest = run(capsys, "webhooks", "tail", "--tenant", "acme", "--data", data, "--json", "--after", str(first["seq"]), "--count", "1")
    assert json.loads(rest.out) == second


def test_nobodys_data_is_touched_without_a_tenant(ask):
    done = ask("webhooks", "list")
    assert (done.code, done.error["code"]) == (2, "missing_tenant")


def test_a_slip_in_a_tenants_name_makes_no_tenant(ask, acme):
    done = ask("webhooks", "list", "--tenant", "acne")
    assert (done.code, done.error["code"]) == (1, "not_found")
    assert "netra tenant create acne" in done.error["fix"]
    assert len(ask("tenant", "list").document["tenants"]) == 1


def test_the_tenant_may_come_from_the_environment(ask, acme, monkeypatch):
    monkeypatch.setenv("NETRA_TENANT", "acme")
    assert ask("webhooks", "list").code == 0


def test_each_audited_command_leaves_its_entries_under_the_accounts_name(ask, acme, data, monkeypatch):
    stdin(monkeypatch, "{}")
    message = ask("webhooks", "send", "--tenant", "acme", "--type", "a.b").document["id"]
    key = ask("key", "create", "--tenant", "acme").document["id"]
    ask("key", "revoke", key, "--tenant", "acme")
    ask("webhooks", "resend", message, acme["id"], "--tenant", "acme")
    assert ask("webhooks", "portal", "--tenant", "acme").document["url"].startswith("http://127.0.0.1:8071/ui/login#key=netra_tk_")
    ask("cache", "invalidate", "--tenant", "acme", "org:7")
    ask("webhooks", "endpoint", "rotate", acme["id"], "--tenant", "acme")
    ask("webhooks", "endpoint", "secret", acme["id"], "--tenant", "acme")
    entries = audited(data, "acme")
    here = {command: actions for command, actions in audit_map.AUDITED.items() if not is_elsewhere(command)}
    assert {action for actions in here.values() for action in actions} == {action for action, _ in entries}
    assert {actor.partition(":")[0] for _, actor in entries} == {"cli"}


def test_people_get_tables_and_words(capsys, ask, acme, data):
    listed = run(capsys, "webhooks", "endpoint", "list", "--data", data, "--tenant", "acme")
    assert "receiver.invalid" in listed.out
    assert listed.document is None
    empty = run(capsys, "webhooks", "dead", "--data", data, "--tenant", "acme")
    assert (empty.out, "no dead letter" in empty.err) == ("", True)


def test_migrate_applies_what_is_missing_once(capsys, ask, data):
    first = ask("migrate").document
    assert first["applied"][0] == "0001_substrate"
    assert ask("migrate").document["applied"] == []


def test_migrate_prints_the_sql_and_touches_nothing(capsys, data):
    done = run(capsys, "migrate", "--print", "--data", data)
    assert "create table netra_tenant" in done.out
    assert not data.exists()


def test_sqlite_has_no_roles_and_postgresql_is_not_there_yet(capsys, data):
    done = run(capsys, "migrate", "--create-roles", "--data", data)
    assert (done.code, "no roles" in done.error["detail"]) == (2, True)
    assert run(capsys, "tenant", "list", "--database-url", "postgresql://db.invalid/netra").code == 4


def test_every_failpoint_that_the_source_declares_is_listed():
    declared = set()
    for file in (ROOT / "netra_backend").rglob("*.py"):
        if "tests" not in file.parts:
            declared |= set(re.findall(r'\bdeclare\(\s*"([^"]+)"', file.read_text()))
    command = [sys.executable, "-m", "netra_backend.cli.main", "failpoints", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=ROOT)
    listed = {each["name"]: each["meaning"] for each in json.loads(done.stdout)["failpoints"]}
    assert listed.keys() == declared
    assert len(declared) >= 10
    assert all(listed.values())


def test_a_server_that_is_not_there_is_4(capsys):
    done = run(capsys, "tenant", "list", "--server", "http://127.0.0.1:9", "--key", "k" * 32)
    assert (done.code, done.error["code"]) == (4, "egress_failed")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--server", "http://127.0.0.1:9"), 4),
        (("--server", "nowhere", "--key", "k"), 2),
        (("--server", "http://127.0.0.1:9", "--key", "k", "--data", "x"), 2),
    ],
)
def test_a_server_needs_an_address_and_a_key_and_no_database(words, code, capsys):
    done = run(capsys, "tenant", "list", *words)
    assert (done.code, bool(done.error["fix"])) == (code, True)


def test_a_path_that_cannot_be_used_is_4_with_what_to_do(capsys, ask, acme, tmp_path):
    done = ask("audit", "prove", "--tenant", "acme", "0", "--out", tmp_path / "nowhere" / "receipt")
    assert (done.code, done.error["code"], str(tmp_path / "nowhere") in done.error["detail"]) == (4, "unusable_path", True)


def test_the_cache_of_the_command_itself_is_told_as_that_and_so_is_a_new_installation(capsys, ask, acme, tmp_path):
    shown = ask("cache", "stats", "--tenant", "acme")
    assert (shown.code, "--server" in shown.err, "new installation" in shown.err) == (0, True, False)
    elsewhere = run(capsys, "tenant", "list", "--data", tmp_path / "slip", "--json")
    assert (elsewhere.code, str(tmp_path / "slip" / "netra.db") in elsewhere.err) == (0, True)


def test_what_may_go_well_another_time_is_4():
    assert [exit_code(error) for error in (OutcomeUnknown(), TransactionTimeout(), QuotaExceeded(), NotFound())] == [4, 4, 4, 1]
