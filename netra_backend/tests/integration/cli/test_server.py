"""`netra serve`, `worker` and `listen` as processes, and the other commands as their clients."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest

from ....cli import audit_map
from ....cli.reference import leaves
from .driving import audited, environment, netra, run
from .test_operate import is_elsewhere


@pytest.fixture(scope="module")
def installation(tmp_path_factory):
    """A server on an empty folder: (process, its lines, the folder)."""
    data = tmp_path_factory.mktemp("served") / "data"
    with netra("serve", "--data", data, "--dev", "--port", "0") as process:
        ready, before = process.until(event="ready")
        yield process, ready, before, data


@pytest.fixture
def ask(installation, capsys):
    """A command over REST with the operator's key, as JSON."""
    _, ready, before, _ = installation
    return lambda *words: run(capsys, *words, "--server", ready["url"], "--key", before[0]["key"], "--json")


@pytest.fixture
def listener(request):
    """`netra webhooks listen --json` with this test's options: (process, its ready line)."""
    with netra("webhooks", "listen", "--json", *getattr(request, "param", ())) as process:
        yield process, process.line()


def test_the_first_start_prints_the_operators_key_and_that_it_is_ready(installation):
    process, ready, before, data = installation
    assert [set(line) for line in before] == [{"event", "key"}]
    assert before[0]["key"].startswith("netra_op_")
    assert {"event", "url", "pid", "engine", "version"} <= ready.keys()
    assert (ready["pid"], ready["engine"]) == (process.child.pid, "sqlite")
    assert (data / "root.keys").stat().st_mode & 0o777 == 0o600


def test_the_commands_work_through_a_server_as_they_do_on_the_database(ask, installation, listener, capsys, tmp_path):
    _, _, _, data = installation
    receiver, at = listener
    payload = tmp_path / "payload.json"
    payload.write_text('{"amount": 1.50}')
    assert ask("tenant", "create", "acme").document["uid"] == "acme"
    assert [each["uid"] for each in ask("tenant", "list").document["tenants"]] == ["acme"]
    endpoint = ask("webhooks", "endpoint", "add", at["url"], "--tenant", "acme").document
    assert endpoint["secret"].startswith("whsec_")
    sent = ask("webhooks", "send", "--tenant", "acme", "--type", "a.b", "--wait", "10s", payload)
    assert (sent.code, [each["state"] for each in sent.document["deliveries"]]) == (0, ["delivered"])
    arrived = receiver.line()
    assert (arrived["webhookId"], arrived["body"], arrived["signatureOk"]) == (sent.document["id"], '{"amount": 1.50}', None)
    assert ask("webhooks", "resend", sent.document["id"], endpoint["id"], "--tenant", "acme").code == 0
    assert receiver.line()["webhookId"] == sent.document["id"]
    tail = ("webhooks", "tail", "--tenant", "acme", "--after", "0", "--count", "3", "--json")
    followed = ask(*tail).out
    assert [json.loads(line)["type"] for line in followed.splitlines()] == ["a.b", "webhook.delivered", "webhook.delivered"]
    assert run(capsys, *tail, "--data", data).out == followed
    public = ask("webhooks", "endpoint", "rotate", endpoint["id"], "--key-kind", "ed25519", "--tenant", "acme").document["key"]
    assert public.startswith("whpk_")
    assert ask("webhooks", "endpoint", "secret", endpoint["id"], "--tenant", "acme").document == {"key": public}
    link = ask("webhooks", "portal", "--read-only", "--expiry", "3600", "--tenant", "acme").document
    assert link["url"].endswith(f"/ui/login#key={link['token']}")
    key = ask("key", "create", "--tenant", "acme").document
    assert key["key"].startswith("netra_tk_")
    assert key["id"] in {each["id"] for each in ask("key", "list", "--tenant", "acme").document["keys"]}
    assert ask("key", "revoke", key["id"], "--tenant", "acme").code == 0
    assert ask("cache", "invalidate", "--tenant", "acme", "org:7").document == {"seq": 1}
    assert ask("cache", "probe", "--tenant", "acme").document == {"sampled": 0, "stale": []}
    for words in (
        ["cache", "stats"],
        ["cache", "graph"],
        ["webhooks", "list"],
        ["webhooks", "show", sent.document["id"]],
        ["webhooks", "endpoint", "list"],
    ):
        there = ask(*words, "--tenant", "acme").document
        here = run(capsys, *words, "--tenant", "acme", "--data", data, "--json").document
        assert _members(there) == _members(here), words
    entries = audited(data, "acme")
    here = {command: actions for command, actions in audit_map.AUDITED.items() if not is_elsewhere(command)}
    assert {action for actions in here.values() for action in actions} <= {action for action, _ in entries}
    assert all(actor.startswith("key:") for _, actor in entries)


def _members(value):
    """The names in an answer, however deep, without the values."""
    if isinstance(value, dict):
        return {name: _members(each) for name, each in sorted(value.items()) if name not in {"payload", "metadata"}}
    return _members(value[0]) if isinstance(value, list) and value else None


def test_a_key_that_is_not_one_is_4_and_an_unknown_tenant_is_1(installation, ask, capsys):
    _, ready, _, _ = installation
    done = run(capsys, "tenant", "list", "--server", ready["url"], "--key", "x" * 32, "--json")
    assert (done.code, done.error["code"]) == (4, "authentication_failed")
    missing = ask("webhooks", "list", "--tenant", "nobody")
    assert (missing.code, missing.error["code"], "netra tenant create" in missing.error["fix"]) == (1, "not_found", True)


def test_every_command_that_can_ask_a_server_was_asked_here():
    remote = {path for path, command in leaves() if any(each.name == "server" for each in command.params)}
    asked = {"tenant create", "tenant list", "key create", "key list", "key revoke"}
    asked |= {f"webhooks {name}" for name in ("send", "list", "show", "resend", "portal", "tail")}
    asked |= {f"webhooks endpoint {name}" for name in ("add", "list", "secret", "rotate")}
    asked |= {f"cache {name}" for name in ("stats", "graph", "probe", "invalidate")}
    assert {each for each in remote if not is_elsewhere(each)} == asked


@pytest.mark.parametrize("listener", [("--fail", "503:1")], indirect=True)
def test_a_message_that_failed_is_delivered_by_its_retry(tmp_path, listener, capsys):
    receiver, at = listener
    data = tmp_path / "data"
    with netra("worker", "--data", data, "--dev", NETRA_WEBHOOKS_SCHEDULE="100ms,100ms") as worker:
        assert worker.line()["event"] == "ready"
        run(capsys, "tenant", "create", "acme", "--data", data)
        run(capsys, "webhooks", "endpoint", "add", at["url"], "--tenant", "acme", "--data", data)
        (tmp_path / "payload").write_text("{}")
        sent = run(
            capsys, "webhooks", "send", tmp_path / "payload", "--type", "a.b", "--tenant", "acme", "--data", data, "--wait", "10s", "--json"
        )
        assert (sent.code, [each["state"] for each in sent.document["deliveries"]]) == (0, ["delivered"])
        assert [each["responseStatusCode"] for each in sent.document["attempts"]] == [200, 503]
        assert [receiver.line()["status"] for _ in range(2)] == [503, 200]
        assert worker.ends() == 0


@pytest.mark.parametrize("listener", [("--fail", "500")], indirect=True)
def test_waiting_for_a_delivery_that_dies_is_3(tmp_path, listener, capsys):
    data = tmp_path / "data"
    with netra("worker", "--data", data, "--dev", NETRA_WEBHOOKS_SCHEDULE="50ms") as worker:
        worker.line()
        run(capsys, "tenant", "create", "acme", "--data", data)
        run(capsys, "webhooks", "endpoint", "add", listener[1]["url"], "--tenant", "acme", "--data", data)
        (tmp_path / "payload").write_text("{}")
        sent = run(
            capsys, "webhooks", "send", tmp_path / "payload", "--type", "a.b", "--tenant", "acme", "--data", data, "--wait", "10s", "--json"
        )
        assert (sent.code, [each["state"] for each in sent.document["deliveries"]]) == (3, ["dead"])
    dead = run(capsys, "webhooks", "dead", "--tenant", "acme", "--data", data, "--json").document["dead"]
    assert [(each["message"], each["attempts"], each["last_status"]) for each in dead] == [(sent.document["id"], 2, 500)]


def test_listen_verifies_writes_its_ledger_and_ends_at_sigterm(tmp_path, installation, ask):
    ledger = tmp_path / "got.ndjson"
    secret = "whsec_" + "QUJD" * 10
    with ExitStack() as stack:
        right = stack.enter_context(netra("webhooks", "listen", "--json", "--secret", secret, "--ledger", ledger))
        wrong = stack.enter_context(netra("webhooks", "listen", "--json", "--secret", "whsec_" + "WFla" * 10))
        pair = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
        public = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
        paired = stack.enter_context(netra("webhooks", "listen", "--json", "--secret", public))
        ask("tenant", "create", "verified")
        made = ask("webhooks", "endpoint", "add", paired.line()["url"], "--secret", pair, "--tenant", "verified").document
        assert made["secret"] == public
        for process in (right, wrong):
            ask("webhooks", "endpoint", "add", process.line()["url"], "--secret", secret, "--tenant", "verified")
        (tmp_path / "payload").write_text('{"a": 1}')
        ask("webhooks", "send", tmp_path / "payload", "--type", "a.b", "--tenant", "verified")
        assert (right.line()["signatureOk"], wrong.line()["signatureOk"], paired.line()["signatureOk"]) == (True, False, True)
        assert (right.ends(), wrong.ends(signal.SIGINT), paired.ends()) == (0, 0, 0)
    assert [json.loads(line)["signature_ok"] for line in ledger.read_text().splitlines()] == [True]


@pytest.mark.parametrize("words", [("--fail", "503", "--hang"), ("--fail", "often"), ("--secret", "whsec_!")])
def test_listen_refuses_what_it_cannot_do(words, capsys):
    assert run(capsys, "webhooks", "listen", *words).code == 2


def test_a_worker_finds_its_jobs_in_the_folder_that_it_is_started_in(tmp_path):
    """As an installed command, whose first place to look is its own folder and not the caller's."""
    (tmp_path / "jobs_beside_the_caller.py").write_text("")
    starts = (
        "import os, sys; sys.path = [each for each in sys.path if each not in {'', os.getcwd()}]; "
        "from netra_backend.cli.main import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", starts, "worker", "--data", str(tmp_path / "data")]
    settings = environment(NETRA_BATCH_JOBS="jobs_beside_the_caller")
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=settings, cwd=tmp_path) as worker:
        try:
            assert json.loads(worker.stdout.readline())["event"] == "ready"
        finally:
            worker.terminate()
    assert worker.returncode == 0


def test_two_servers_cannot_have_one_port(installation, tmp_path):
    _, ready, _, _ = installation
    with netra("serve", "--data", tmp_path / "other", "--port", ready["url"].rpartition(":")[2]) as second:
        assert second.child.wait(30) == 4
        assert json.loads(second.errors().splitlines()[-1])["code"] == "cannot_start"


def test_a_bad_setting_is_4_and_named(tmp_path):
    with netra("serve", "--data", tmp_path, NETRA_LEASE_TTL="soon") as process:
        assert process.child.wait(30) == 4
        assert "NETRA_LEASE_TTL" in json.loads(process.errors().splitlines()[-1])["detail"]


def test_a_stopped_server_comes_back_with_its_key_and_its_tenants(tmp_path, capsys):
    data = tmp_path / "data"
    with netra("serve", "--data", data, "--port", "0") as first:
        ready, (key,) = first.until(event="ready")
        run(capsys, "tenant", "create", "acme", "--server", ready["url"], "--key", key["key"])
        assert first.ends() == 0
    with netra("serve", "--data", data, "--port", "0") as second:
        ready, before = second.until(event="ready")
        assert before == []
        listed = run(capsys, "tenant", "list", "--server", ready["url"], "--key", key["key"], "--json").document["tenants"]
        assert [each["uid"] for each in listed] == ["acme"]
        assert second.ends() == 0
