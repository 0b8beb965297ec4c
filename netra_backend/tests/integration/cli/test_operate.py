"""Operators' verbs on the command line: over the database and over a server, with the same answers."""

from __future__ import annotations

import pytest

from ....cli import audit_map
from ....cli.reference import leaves
from ....cli.times import parse_time
from ....errors import InvalidInput
from .driving import audited, netra, run

NAMES = ("recover", "replay", "dead", "cancel", "cancel-backlog", "expunge", "task list", "task show", "task cancel")
HERE = {f"webhooks {name}" for name in NAMES}


def is_elsewhere(command):
    """Whether a command is asked by tests of its own: here, in the file of its first word, or in `server/test_kpis` and `server/test_traces`."""
    return command.startswith(("audit ", "batch ", "debug ", "kpi ", "oauth ", "sso ")) or command in HERE | {"trace"}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server on an empty folder: how it is reached, and the folder."""
    data = tmp_path_factory.mktemp("served") / "data"
    with netra("serve", "--data", data, "--dev", "--port", "0") as process:
        ready, before = process.until(event="ready")
        yield ("--server", ready["url"], "--key", before[0]["key"]), data


@pytest.fixture(params=["server", "database"])
def ask(request, served, capsys):
    """A command over that way, as JSON; the server's workers do what it asks for in both cases."""
    remote, data = served
    way = remote if request.param == "server" else ("--data", data)
    return lambda *words: run(capsys, *words, *way, "--json")


@pytest.fixture
def acme(ask, request):
    """A tenant of the test's own with an endpoint where nobody listens, and how to ask about it."""
    tenant = f"acme-{abs(hash(request.node.name))}"
    assert ask("tenant", "create", tenant).code == 0
    assert ask("webhooks", "endpoint", "add", "http://127.0.0.1:9/", "--uid", "hook", "--tenant", tenant).code == 0
    ask.tenant = tenant
    return lambda *words: ask("webhooks", *words, "--tenant", tenant)


def sent(acme, tmp_path):
    payload = tmp_path / "payload.json"
    payload.write_text("{}")
    return acme("send", "--type", "a.b", payload).document["id"]


def test_an_operators_day(acme, ask, served, tmp_path):
    message = sent(acme, tmp_path)
    cancelled = acme("cancel-backlog", "hook", "--why", "a mistake", "--wait", "20s")
    assert (cancelled.code, cancelled.document["state"], cancelled.document["changed"]) == (0, "finished", 1)
    assert acme("show", message).document["deliveries"][0]["state"] == "cancelled"
    replayed = acme("replay", "hook", "--since", "1h", "--status", "canceled", "--type", "a.b", "--wait", "20s")
    assert (replayed.code, replayed.document["changed"]) == (0, 1)
    for words in (["recover", "hook", "--since", "1h"], ["replay", "hook", "--since", "1h", "--missing"], ["dead", "--redrive"]):
        task = acme(*words, "--wait", "20s")
        assert (task.code, task.document["state"], task.document["changed"]) == (0, "finished", 0), words
    listed = acme("dead", "--endpoint", "hook", "--type", "a.b", "--type", "b.c", "--since", "2026-01-01T00:00:00Z", "--until", "1s")
    assert listed.document == {"dead": []}
    kinds = [each["kind"] for each in acme("task", "list").document["tasks"]]
    assert kinds == ["redrive", "replay_missing", "recover", "bulk_replay", "cancel"]
    shown = acme("task", "show", task.document["task"])
    assert (shown.code, shown.document) == (0, task.document)
    late = acme("task", "cancel", task.document["task"], "--why", "too late")
    assert (late.code, late.error["code"]) == (1, "illegal_transition")
    assert acme("expunge", message).code == 0
    assert acme("show", message).document["payload"] == {"expired": True}
    nothing = acme("cancel", message, "--why", "no more")
    assert nothing.code in {0, 1}
    wrong = acme("expunge", message, "--attempt", "atmpt_" + "0" * 26)
    assert wrong.code == 1
    actions = {action for action, _ in audited(served[1], ask.tenant)}
    of_tasks = {each for command in HERE & audit_map.AUDITED.keys() for each in audit_map.AUDITED[command] if each.startswith("task.")}
    assert of_tasks - {"task.cancel"} <= actions
    assert "message.expunge" in actions


def test_what_cannot_be_meant_is_a_usage_error(acme):
    assert acme("recover", "hook", "--since", "yesterday").error["code"] == "invalid_input"
    assert acme("recover", "hook", "--since", "2999-01-01T00:00:00Z").code == 2
    assert acme("replay", "hook", "--since", "1h", "--missing", "--type", "a.b").error["code"] == "usage"
    assert acme("cancel", "msg_" + "0" * 26, "--why", " ").code == 2
    assert acme("recover", "nobody", "--since", "1h").code == 1


def test_a_time_is_how_long_ago_or_a_date():
    assert parse_time("2026-03-01T12:00:00Z").isoformat() == parse_time("2026-03-01T12:00:00").isoformat() == "2026-03-01T12:00:00+00:00"
    assert (parse_time("0s") - parse_time("2h")).total_seconds() == pytest.approx(7200, abs=5)
    with pytest.raises(InvalidInput):
        parse_time("soon")


def test_every_command_of_operators_is_asked_here():
    assert {path for path, _ in leaves()} >= HERE


def test_an_endpoint_is_added_with_a_connection_whose_token_goes_along(acme):
    made = acme("endpoint", "add", "https://receiver.invalid/hook", "--uid", "with-token", "--connection", "crm")
    assert (made.code, made.document["auth"]) == (0, {"connection": "crm"})
    refused = acme("endpoint", "add", "http://receiver.invalid/hook", "--connection", "crm")
    assert refused.code != 0
    assert "in the clear" in str(refused.error)
