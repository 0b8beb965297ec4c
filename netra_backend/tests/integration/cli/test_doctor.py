"""`netra doctor` finds each thing that can be wrong, and changes nothing."""

from __future__ import annotations

import os
import platform
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from ...support.cache.server import Server
from .driving import environment, netra, run

HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("begin immediate")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("NETRA_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRA_LEASE_TTL", "2s")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def data(tmp_path, capsys):
    assert run(capsys, "tenant", "create", "acme", "--data", tmp_path / "data").code == 0
    return tmp_path / "data"


@pytest.fixture
def doctor(capsys):
    """The checks by name, and the exit code."""

    def ask(data):
        done = run(capsys, "doctor", "--data", data, "--json")
        assert done.document["ok"] == (done.code == 0)
        return {check["name"]: check for check in done.document["checks"]}, done

    return ask


def test_a_healthy_installation_passes_and_shows_its_settings_masked(doctor, data, monkeypatch):
    monkeypatch.setenv("NETRA_OPERATOR_KEY", "k" * 40)
    checks, done = doctor(data)
    assert (done.code, {check["state"] for check in checks.values()}) == (0, {"ok"})
    assert (done.document["settings"]["operator_key"], "k" * 40 in done.out) == ("****", False)
    assert {"SQLite library", "database", "write lock", "processes", "clock", "disk space", "root keys"} <= checks.keys()


def test_an_audit_log_that_is_not_remembered_or_behind_what_is_remembered_is_told(doctor, data, capsys, tmp_path):
    checks, _ = doctor(data)
    assert checks["audit trail"]["state"] == "ok"
    assert run(capsys, "audit", "export", "--tenant", "acme", "--data", data, "--out", tmp_path / "out").code == 0
    checks, _ = doctor(data)
    assert (checks["audit trail"]["state"], "1 logs, 1 of them" in checks["audit trail"]["detail"]) == ("ok", True)
    (file,) = (data / "audit-memory").glob("*/*.checkpoint")
    note = file.read_text()
    for text, words in (
        (note.replace("\n1\n", "\n7\n"), "1 entries and is remembered with 7"),
        ("junk", "damaged"),
        (None, "is not remembered"),
    ):
        file.unlink() if text is None else file.write_text(text)
        checks, done = doctor(data)
        assert (done.code, checks["audit trail"]["state"]) == (0, "warning")
        assert words in checks["audit trail"]["detail"]


def test_a_file_of_an_earlier_release_is_told_with_what_brings_it_up_to_date_here(doctor, data):
    with closing(sqlite3.connect(data / "netra.db")) as connection, connection:
        connection.execute("delete from netra_migration where number = (select max(number) from netra_migration)")
    checks, done = doctor(data)
    assert (done.code, checks["database"]["state"]) == (1, "failed")
    assert "has not been applied" in checks["database"]["detail"] and "on SQLite any start" in checks["database"]["fix"]


def test_a_folder_without_an_installation_stays_empty(doctor, tmp_path):
    checks, done = doctor(tmp_path / "nothing")
    assert (done.code, checks["database"]["state"], checks["root keys"]["state"]) == (0, "warning", "warning")
    assert not (tmp_path / "nothing").exists()


def test_root_keys_that_others_can_read_fail(doctor, data):
    (data / "root.keys").chmod(0o640)
    checks, done = doctor(data)
    assert (done.code, checks["root keys"]["state"]) == (1, "failed")
    assert "chmod 600" in checks["root keys"]["fix"]


def test_root_keys_that_are_none_fail(doctor, data):
    (data / "root.keys").write_text("not a key\n")
    checks, done = doctor(data)
    assert (done.code, checks["root keys"]["state"]) == (1, "failed")


def test_a_database_that_others_can_reach_is_a_warning(doctor, data):
    data.chmod(0o755)
    (data / "netra.db").chmod(0o644)
    checks, done = doctor(data)
    assert (done.code, checks["database file"]["state"]) == (0, "warning")


def test_a_variable_that_sets_nothing_is_a_warning_with_what_was_meant(doctor, data, monkeypatch):
    monkeypatch.setenv("NETRA_WEBHOOK_TIMEOUT", "3s")
    checks, _ = doctor(data)
    assert checks["environment"]["state"] == "warning"
    assert "NETRA_WEBHOOKS_TIMEOUT" in checks["environment"]["detail"]


def test_a_disk_below_the_reserve_fails(doctor, data, monkeypatch):
    monkeypatch.setenv("NETRA_DISK_RESERVE_BYTES", "1024GiB")
    checks, done = doctor(data)
    assert (done.code, checks["disk space"]["state"]) == (1, "failed")


def test_a_network_file_system_fails(doctor, data, monkeypatch, tmp_path):
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "mounts").write_text(f"/dev/vda / ext4 rw 0 0\nserver:/x {data} nfs4 rw 0 0\n")
    monkeypatch.setenv("NETRA_PROC_ROOT", str(tmp_path / "proc"))
    checks, done = doctor(data)
    assert (done.code, checks["file system"]["state"]) == (1, "failed")


def test_a_process_that_holds_the_write_lock_is_named(doctor, data):
    command = [sys.executable, "-c", HOLD, str(data / "netra.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment(), text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        checks, done = doctor(data)
        holder.stdin.close()
        assert holder.wait(30) == 0
    assert (done.code, checks["write lock"]["state"]) == (1, "failed")
    assert f"process {holder.pid}" in checks["write lock"]["detail"]


def test_a_living_process_is_listed_and_a_stopped_one_is_found_quiet(doctor, data):
    with netra("worker", "--data", data, NETRA_LEASE_TTL="2s") as worker:
        worker.line()
        checks, done = doctor(data)
        assert (done.code, checks["processes"]["state"]) == (0, "ok")
        assert f"(pid {worker.child.pid} on {platform.node()})" in checks["processes"]["detail"]
        worker.child.send_signal(signal.SIGSTOP)
        try:
            checks, done = doctor(data)
        finally:
            worker.child.send_signal(signal.SIGCONT)
        assert (done.code, checks["processes"]["state"]) == (1, "failed")
        assert worker.ends() == 0


def test_a_clock_behind_the_others_fails(doctor, data):
    with sqlite3.connect(data / "netra.db") as connection:
        row = (b"\x01" * 16, 1, "elsewhere", 1, "server", 4_000_000_000_000_000)
        connection.execute("insert into netra_node (id, beat, host, pid, role, started_us) values (?, ?, ?, ?, ?, ?)", row)
    connection.close()
    checks, done = doctor(data)
    assert (done.code, checks["clock"]["state"]) == (1, "failed")


def test_a_newer_schema_is_refused_and_not_touched(doctor, data):
    with sqlite3.connect(data / "netra.db") as connection:
        connection.execute("insert into netra_migration (number, name, checksum, applied_us) values (9999, 'later', 'x', 1)")
    connection.close()
    checks, done = doctor(data)
    assert (done.code, checks["database"]["state"]) == (1, "failed")
    assert "9999" in checks["database"]["detail"]


def test_a_library_with_the_wal_reset_bug_is_a_warning(doctor, data, monkeypatch):
    monkeypatch.setattr("netra_backend.cli.doctor.database.library_version", lambda driver: (3, 51, 2))
    checks, done = doctor(data)
    assert (done.code, checks["SQLite library"]["state"]) == (0, "warning")
    assert "3.51.2" in checks["SQLite library"]["detail"]


def test_people_read_words(capsys, data):
    done = run(capsys, "doctor", "--data", data)
    assert "Settings (secrets masked)" in done.out
    assert "ok   database" in done.out


def test_a_shared_cache_is_looked_at_and_one_that_may_forget_fails(doctor, data, monkeypatch, tmp_path):
    assert "shared cache" not in doctor(data)[0]
    (tmp_path / "valkey").mkdir()
    with closing(Server(tmp_path / "valkey", **{"maxmemory-policy": "allkeys-lru"})) as server:
        monkeypatch.setenv("NETRA_CACHE_URL", server.url)
        checks, done = doctor(data)
        assert (checks["shared cache"]["state"], checks["shared cache's eviction"]["state"], done.code) == ("ok", "failed", 1)
        assert "noeviction" in checks["shared cache's eviction"]["fix"]
        server.client().config_set("maxmemory-policy", "noeviction")
        assert doctor(data)[0]["shared cache's eviction"]["state"] == "ok"
    checks, done = doctor(data)
    assert (checks["shared cache"]["state"], done.code) == ("warning", 0)
