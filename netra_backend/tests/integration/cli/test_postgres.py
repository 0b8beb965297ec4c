"""The commands over PostgreSQL: a server from end to end, the database directly, and what is told when it cannot be had."""

from __future__ import annotations

import json
import os
import socket
import time

import pytest

from ....netra import Netra
from ....storage import postgres_connections
from ....storage.postgres_schema import with_user
from .driving import finished, netra, run

PASSWORD = "run-1"
"""That of the tests' netra_run."""


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("NETRA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRA_LEASE_TTL", "2s")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def installation(postgres_server, tmp_path_factory):
    """A server over a database of its own: (process, URL of the server, operator's key, folder, URL of the database)."""
    data = tmp_path_factory.mktemp("served") / "data"
    with postgres_server.database() as name:
        url = postgres_server.url(name)
        with netra("serve", "--dev", "--port", "0", NETRA_DATA=str(data), NETRA_DATABASE_URL=url, NETRA_LEASE_TTL="2s") as process:
            ready, before = process.until(event="ready")
            assert ready["engine"] == "postgresql"
            yield process, ready["url"], before[0]["key"], data, url


@pytest.fixture
def ask(installation, capsys):
    """A command over REST with the operator's key."""
    _, url, key, _, _ = installation
    return lambda *words: run(capsys, *words, "--server", url, "--key", key, "--json")


@pytest.fixture
def direct(installation, capsys):
    """A command on the database itself, as its own node on the same folder."""
    _, _, _, data, url = installation
    return lambda *words: run(capsys, *words, "--data", data, "--database-url", url, "--json")


@pytest.fixture
def on(capsys, tmp_path):
    """A command on a database that somebody names, from a folder of its own; its password is in no answer."""

    def command(url, *words):
        done = run(capsys, *words, "--data", tmp_path / "data", "--database-url", url, "--json")
        assert PASSWORD not in done.out + done.err
        return done

    return command


def test_a_message_is_delivered_from_end_to_end(ask, direct, tmp_path):
    (tmp_path / "payload.json").write_text('{"amount": 1.50}')
    with netra("webhooks", "listen", "--json") as receiver:
        assert ask("tenant", "create", "acme").document["uid"] == "acme"
        endpoint = ask("webhooks", "endpoint", "add", receiver.line()["url"], "--tenant", "acme").document
        sent = ask("webhooks", "send", "--tenant", "acme", "--type", "a.b", "--wait", "10s", tmp_path / "payload.json")
        assert (sent.code, [each["state"] for each in sent.document["deliveries"]]) == (0, ["delivered"])
        assert receiver.line()["body"] == '{"amount": 1.50}'
        again = direct("webhooks", "send", "--tenant", "acme", "--type", "a.b", "--wait", "10s", tmp_path / "payload.json")
        assert (again.code, receiver.line()["webhookId"]) == (0, again.document["id"])  # stored here, delivered by the server
        assert direct("webhooks", "resend", sent.document["id"], endpoint["id"], "--tenant", "acme").code == 0
        assert receiver.line()["webhookId"] == sent.document["id"]


def test_the_commands_answer_alike_on_the_database_and_through_the_server(ask, direct, tmp_path, monkeypatch):
    (tmp_path / "payload.json").write_text("{}")
    assert direct("tenant", "create", "globex").document["uid"] == "globex"
    assert direct("tenant", "create", "globex").error["code"] == "conflict"
    endpoint = direct("webhooks", "endpoint", "add", "http://127.0.0.1:9/hook", "--uid", "hook", "--tenant", "globex").document
    assert endpoint["secret"].startswith("whsec_")
    sent = direct("webhooks", "send", "--tenant", "globex", "--type", "a.b", "--event-id", "e1", tmp_path / "payload.json").document
    for words in (["webhooks", "list"], ["webhooks", "show", sent["id"]], ["webhooks", "endpoint", "list"], ["webhooks", "dead"]):
        there, here = ask(*words, "--tenant", "globex").document, direct(*words, "--tenant", "globex").document
        assert there.keys() == here.keys(), words
    tail = direct("webhooks", "tail", "--tenant", "globex", "--after", "0", "--count", "1")
    assert json.loads(tail.out.splitlines()[0])["message"] == sent["id"]
    assert "globex" in {each["uid"] for each in direct("tenant", "list").document["tenants"]}


def test_a_key_made_and_revoked_here_opens_and_closes_the_server(installation, ask, direct, capsys):
    _, url, _, _, _ = installation
    ask("tenant", "create", "initech")
    made = direct("key", "create", "--tenant", "initech").document
    as_tenant = ("webhooks", "list", "--tenant", "initech", "--server", url, "--key", made["key"], "--json")
    assert run(capsys, *as_tenant).code == 0
    assert made["id"] in {each["id"] for each in direct("key", "list", "--tenant", "initech").document["keys"]}
    assert direct("key", "revoke", made["id"], "--tenant", "initech").code == 0
    ends = time.monotonic() + 5.0
    while (done := run(capsys, *as_tenant)).code == 0:
        assert time.monotonic() < ends, "a revoked key still opens another process long after a second"
    assert done.error["code"] == "authentication_failed"


def test_a_folder_beside_the_urls_variable_makes_no_second_installation(installation, capsys, monkeypatch):
    _, _, _, data, url = installation
    monkeypatch.setenv("NETRA_DATABASE_URL", url)
    assert run(capsys, "tenant", "list", "--data", data, "--json").code == 0
    assert not (data / "netra.db").exists()


def test_a_host_with_root_keys_of_its_own_does_not_start(installation, on, tmp_path):
    for command in (("worker",), ("serve", "--port", "0"), ("tenant", "list")):
        done = on(installation[-1], *command)
        assert (command, done.code, done.error["code"]) == (command, 4, "wrong_root_keys")
        assert "root.keys" in done.error["fix"]


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("insert into netra_migration (number, name, checksum, applied_us) values (9999, 'later', 'x', 1)", "schema_too_new"),
        ("delete from netra_migration where number = (select max(number) from netra_migration)", "schema_too_old"),
        ("drop table netra_migration", "schema_too_old"),
    ],
)
def test_a_schema_of_another_release_is_4(sql, code, on, postgres_server, postgres_database):
    postgres_server.query(postgres_database, sql)
    for command in (("serve", "--port", "0"), ("worker",), ("tenant", "list")):
        done = on(postgres_server.url(postgres_database), *command)
        assert (command, done.code, done.error["code"]) == (command, 4, code)
        assert done.error["fix"]


def test_a_server_that_is_not_there_is_4_at_once(on, tmp_path):
    url = f"postgresql://netra_run:{PASSWORD}@127.0.0.1:1/netra"
    served = finished("serve", "--port", "0", "--data", tmp_path / "data", NETRA_DATABASE_URL=url)
    for done in (served, on(url, "migrate"), on(url, "worker")):
        assert (done.code, done.out, done.error["code"]) == (4, "", "database_unreachable")
        assert "netra_run:****@127.0.0.1:1/netra" in done.error["detail"]
        assert PASSWORD not in done.err


def test_a_server_that_never_answers_is_4_in_bounded_time(on, monkeypatch):
    assert postgres_connections.CONNECT_S <= 5
    monkeypatch.setattr(postgres_connections, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = on(f"postgresql://netra_run:{PASSWORD}@127.0.0.1:{silent.getsockname()[1]}/netra", "tenant", "list")
    assert (done.code, done.error["code"]) == (4, "database_unreachable")
    assert "no answer in time" in done.error["detail"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda url: with_user(url, "netra_run", "wrong-1"), "password authentication failed"),
        (lambda url: with_user(url, "nobody_at_all", PASSWORD), "password authentication failed"),
        (lambda url: url.rpartition("/")[0] + "/no_such_database", "does not exist"),
        (lambda url: url.replace(PASSWORD, f"{PASSWORD}/x@"), "cannot be read"),
        (lambda url: url + "?sslmode=perhaps", "cannot be read"),
    ],
    ids=["password", "role", "database", "unescaped", "parameter"],
)
def test_a_database_that_lets_nobody_in_is_4_and_named_without_its_password(change, words, on, postgres_server, postgres_database):
    url = change(postgres_server.url(postgres_database))
    for command in (("tenant", "list"), ("migrate",)):
        done = on(url, *command)
        assert (command, done.code, done.error["code"]) == (command, 4, "database_refused")
        assert words in done.error["detail"]
        assert ":****@" in done.error["detail"]
        assert "wrong-1" not in done.err
        assert done.error["fix"]


async def test_no_representation_shows_the_password(postgres_server, postgres_database, tmp_path):
    async with Netra(postgres_server.url(postgres_database), data=str(tmp_path), workers=False, environ={}) as opened:
        shown = [repr(each) for each in (opened, opened.settings, opened.database, opened.database._connections, opened.membership)]
    assert not [text for text in shown if PASSWORD in text]


@pytest.fixture
def doctor(on):
    """The checks by name, and the answer."""

    def look(url):
        done = on(url, "doctor")
        assert done.document["ok"] == (done.code == 0)
        return {check["name"]: check for check in done.document["checks"]}, done

    return look


def test_the_doctor_passes_a_healthy_database_and_lists_the_living(doctor, installation):
    process, _, _, _, url = installation
    checks, done = doctor(url)
    assert (done.code, {check["state"] for check in checks.values()} - {"warning"}) == (0, {"ok"})
    assert {"database", "PostgreSQL", "connections", "processes", "clock", "operator key"} <= checks.keys()
    assert f"pid {process.child.pid}" in checks["processes"]["detail"]
    assert ":****@" in checks["database"]["detail"]
    assert "netra.db" not in done.out


@pytest.mark.parametrize(
    ("user", "words"), [("superuser", "every tenant's rows"), ("netra_owner", "every tenant's rows"), ("netra_test_shop", "act for Netra")]
)
def test_the_doctor_finds_a_role_that_may_too_much_or_too_little(user, words, doctor, postgres_server, postgres_database):
    checks, done = doctor(postgres_server.url(postgres_database, user=user))
    assert (done.code, checks["database"]["state"]) == (1, "failed")
    assert words in checks["database"]["detail"]
    assert "netra_run" in checks["database"]["fix"]


def test_the_doctor_finds_a_newer_schema_and_a_clock_behind_the_others(doctor, postgres_server, postgres_database):
    url = postgres_server.url(postgres_database)
    node = "insert into netra_node (id, beat, host, pid, role, started_us) values ('\\x01', 1, 'elsewhere', 1, 'server', 4000000000000000)"
    postgres_server.query(postgres_database, node)
    checks, done = doctor(url)
    assert (done.code, checks["clock"]["state"], checks["processes"]["state"]) == (1, "failed", "failed")
    postgres_server.query(
        postgres_database, "insert into netra_migration (number, name, checksum, applied_us) values (9999, 'later', 'x', 1)"
    )
    checks, done = doctor(url)
    assert (done.code, checks["database"]["state"], "9999" in checks["database"]["detail"]) == (1, "failed", True)


def test_the_doctor_judges_the_servers_age_and_its_connections(doctor, postgres_server, postgres_database, monkeypatch):
    async def of_an_old_and_busy_server(_):
        return 140_012, 100, 95

    monkeypatch.setattr("netra_backend.storage.postgres.Postgres.server_facts", of_an_old_and_busy_server)
    checks, done = doctor(postgres_server.url(postgres_database))
    assert (done.code, checks["PostgreSQL"]["state"], checks["connections"]["state"]) == (1, "failed", "warning")
    assert checks["PostgreSQL"]["detail"] == "version 14"


def test_the_doctor_says_that_a_server_is_not_there(doctor):
    checks, done = doctor(f"postgresql://netra_run:{PASSWORD}@127.0.0.1:1/netra")
    assert (done.code, checks["database"]["state"]) == (1, "failed")
    assert "Connect call failed" in checks["database"]["detail"]
