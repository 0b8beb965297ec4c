"""`netra debug` as a person uses it, over the database and over a server: why do one tenant's deliveries fail?"""

from __future__ import annotations

import json

import pytest

from .driving import audited, inside, netra, run


@pytest.fixture
def data(tmp_path):
    inside(tmp_path, lambda opened: opened.tenant("acme"))
    return tmp_path


def words(data, *more):
    return ["debug", *more, "--data", data, "--tenant", "acme", "--json"]


def test_a_session_is_started_listed_extended_watched_exported_and_ended(data, capsys, tmp_path):
    made = run(
        capsys, *words(data, "start", "--reason", "look", "--ttl", "10m", "--logpoint", "a:b", "--logpoint", "c.py:7", "--where", "n == 1")
    ).document
    assert made["logpoints"] == [{"at": at, "where": "n == 1", "state": "its module is not imported"} for at in ("a:b", "c.py:7")]
    assert [each["session"] for each in run(capsys, *words(data, "list")).document["sessions"]] == [made["session"]]
    assert run(capsys, *words(data, "extend", made["session"], "--ttl", "1h")).document["expires_at"] > made["expires_at"]
    out = tmp_path / "case.json"
    assert run(capsys, *words(data, "export", made["session"], "--out", out)).document["records"] == 0
    assert json.loads(out.read_text())["session"]["session"] == made["session"]
    assert out.stat().st_mode & 0o077 == 0
    assert run(capsys, *words(data, "export", made["session"], "--out", out)).code == 2
    assert run(capsys, *words(data, "end", made["session"])).document["state"] == "ended"
    watched = run(capsys, *words(data, "watch", made["session"]))
    assert (watched.code, watched.out) == (0, "")
    assert run(capsys, *words(data, "list")).document["sessions"] == []
    assert len(run(capsys, *words(data, "list", "--all")).document["sessions"]) == 1
    told = audited(data, "acme")
    seen = [action for action, _ in told if action.startswith("debug.")]
    assert seen == ["debug.start", "debug.list", "debug.extend", "debug.export", "debug.end", "debug.view", "debug.list", "debug.list"]
    assert all(actor.startswith("cli") for action, actor in told if action.startswith("debug."))


@pytest.mark.parametrize(
    "wrong",
    [["start"], ["start", "--reason", ""], ["start", "--reason", "x", "--ttl", "9h"], ["start", "--reason", "x", "--logpoint", "nowhere"],
     ["start", "--reason", "x", "--logpoint", "a:b", "--where", "x", "--where", "y"], ["watch", "nobody"]],
)  # fmt: skip
def test_what_is_asked_badly_is_a_usage_error(data, capsys, wrong):
    assert run(capsys, *words(data, *wrong)).code == 2


def test_with_nothing_but_netra_debug_one_finds_out_why_a_tenants_deliveries_fail(tmp_path, capsys):
    with netra("serve", "--data", tmp_path, "--port", "0", "--dev") as server:
        key = server.line()["key"]
        url = server.line()["url"]
        there = ["--server", url, "--key", key, "--json"]
        assert run(capsys, "tenant", "create", "acme", *there).code == 0
        assert run(capsys, "webhooks", "endpoint", "add", "http://127.0.0.1:9/hook", "--tenant", "acme", *there).code == 0
        made = run(capsys, "debug", "start", "--tenant", "acme", "--reason", "deliveries fail", *there).document
        payload = tmp_path / "payload.json"
        payload.write_text('{"order": 42, "token": "hunter2"}')
        assert run(capsys, "webhooks", "send", "--tenant", "acme", "--type", "order.paid", payload, *there).code == 0
        watched = run(capsys, "debug", "watch", made["session"], "--tenant", "acme", "--count", "2", *there)
        records = [json.loads(line) for line in watched.out.splitlines()]
        attempt = next(each["data"] for each in records if each["data"].get("direction") == "out")
        assert attempt["url"] == "http://127.0.0.1:9/hook"
        assert attempt["answer"]["error"] == "connect"
        assert '"order": 42' in attempt["request"]["body"] or '"order":42' in attempt["request"]["body"]
        assert "hunter2" not in watched.out
        ended = run(capsys, "debug", "end", made["session"], "--tenant", "acme", *there).document
        assert ended["state"] == "ended"
        assert server.ends() == 0
