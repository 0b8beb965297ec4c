"""`netra backup` and `netra restore`: what they say, what they refuse, and with which exit code."""

from __future__ import annotations

import io
import os
import sqlite3
from contextlib import closing
from types import SimpleNamespace

import pytest

from ....storage.migrate import migrations
from .driving import netra, run


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("NETRA_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(params=["apsw", "sqlite3"])
def library(request, monkeypatch):
    monkeypatch.setenv("NETRA_SQLITE_DRIVER", request.param)
    return request.param


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "backup.db"


@pytest.fixture
def ask(capsys, data):
    return lambda *words: run(capsys, *words, "--data", data, "--json")


@pytest.fixture
def acme(ask):
    """A tenant with an endpoint; the endpoint's secret."""
    assert ask("tenant", "create", "acme").code == 0
    return ask("webhooks", "endpoint", "add", "https://receiver.invalid/hook", "--uid", "hook", "--tenant", "acme").document["secret"]


@pytest.fixture
def send(ask, monkeypatch):
    """Send a message under a key; its id."""

    def send_it(event_id):
        monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"{}")))
        return ask("webhooks", "send", "--tenant", "acme", "--type", "a.b", "--event-id", event_id).document["id"]

    return send_it


def messages(ask):
    return [each["eventId"] for each in ask("webhooks", "list", "--tenant", "acme").document["messages"]]


def test_what_was_backed_up_is_there_after_a_restore_and_what_came_later_is_not(library, ask, acme, send, file):
    first = send("first")
    made = ask("backup", file)
    assert (made.code, made.document["file"], made.document["bytes"]) == (0, str(file), file.stat().st_size)
    assert (made.document["schema"], made.document["root_keys"]) == (len(migrations("sqlite")), ["r1"])
    assert (made.document["rows"]["netra_message"], made.document["rows"]["netra_delivery"]) == (1, 1)
    send("later")
    done = ask("restore", file)
    assert done.code == 0
    assert (done.document["rows"], done.document["missing_root_keys"], done.document["has_checksum"]) == (made.document["rows"], [], True)
    assert messages(ask) == ["first"]
    assert send("first") == first, "a key that the backup knows means the same message"
    shown = ask("webhooks", "show", first, "--tenant", "acme").document["deliveries"]
    assert [(each["endpointId"][:3], each["state"]) for each in shown] == [("ep_", "due")]
    assert ask("restore", done.document["former"]).code == 0
    assert sorted(messages(ask)) == ["first", "later"]


def test_the_log_goes_on_after_the_number_that_the_backup_tells(ask, acme, send, file, capsys, data):
    send("first")
    tail = ("webhooks", "tail", "--tenant", "acme", "--data", data, "--json", "--after", "0", "--count", "1")
    assert run(capsys, *tail).document["seq"] == 1
    assert ask("backup", file).document["log"]["events"] >= 1
    assert ask("restore", file).code == 0
    assert run(capsys, *tail).document["seq"] == 1


def test_a_backup_holds_no_secret_that_can_be_read_and_says_that_the_root_keys_are_not_in_it(ask, acme, data, file):
    made = ask("backup", file)
    assert "root keys are not in it" in made.err and str(data / "root.keys") in made.err
    (root,) = (data / "root.keys").read_text().splitlines()
    content = file.read_bytes()
    assert acme.encode() not in content and root.partition(":")[2].encode() not in content


def test_a_restore_names_the_root_keys_that_are_missing_and_makes_none(ask, acme, data, file, tmp_path):
    ask("backup", file)
    (data / "root.keys").rename(tmp_path / "kept")
    done = ask("restore", file)
    assert (done.code, done.document["missing_root_keys"], "r1" in done.err) == (0, ["r1"], True)
    assert not (data / "root.keys").exists()
    (data / "root.keys").write_text("no key\n")
    refused = ask("restore", file)
    assert (refused.code, refused.error["code"]) == (4, "cannot_start")


def test_an_existing_file_is_replaced_only_if_asked(ask, acme, file):
    file.write_text("precious")
    refused = ask("backup", file)
    assert (refused.code, refused.out, refused.error["code"], file.read_text()) == (1, "", "conflict", "precious")
    assert "--force" in refused.error["fix"]
    assert ask("backup", file, "--force").code == 0
    assert file.read_bytes().startswith(b"SQLite format 3")


@pytest.mark.parametrize("name", ["data/netra.db", "data/netra.db-wal", "data/netra.db-locks", "nowhere/backup.db", "data", "link"])
def test_a_name_that_belongs_to_something_else_is_refused_even_with_force(name, ask, acme, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "data" / "netra.db").read_bytes()
    refused = ask("backup", tmp_path / name, "--force")
    assert (refused.code, refused.error["code"], bool(refused.error["fix"])) == (2, "usage", True)
    assert (tmp_path / "data" / "netra.db").read_bytes() == before
    assert not (tmp_path / "elsewhere").exists()


def test_without_a_database_there_is_nothing_to_back_up_and_none_is_made(ask, data, file):
    refused = ask("backup", file)
    assert (refused.code, refused.error["code"], file.exists(), data.exists()) == (4, "cannot_start", False, False)


def test_a_backup_that_would_take_the_disks_reserve_is_refused(ask, acme, file, monkeypatch):
    monkeypatch.setenv("NETRA_DISK_RESERVE_BYTES", "1024GiB")
    refused = ask("backup", file)
    assert (refused.code, refused.error["code"], "another disk" in refused.error["fix"]) == (4, "disk_full", True)


@pytest.mark.parametrize("name", ["nowhere.db", "data/netra.db", "data/netra.db.restoring", "data"])
def test_what_is_no_file_of_its_own_is_not_restored(name, ask, acme, tmp_path):
    (tmp_path / "data" / "netra.db.restoring").write_text("left by a killed restore")
    refused = ask("restore", tmp_path / name)
    assert (refused.code, refused.error["code"]) == (2, "usage")
    assert (tmp_path / "data" / "netra.db.restoring").exists()


def test_a_damaged_file_is_1_and_a_newer_one_4(ask, acme, file):
    ask("backup", file)
    whole = file.read_bytes()
    file.write_bytes(whole[:-5000])
    refused = ask("restore", file)
    assert (refused.code, refused.error["code"], str(file) in refused.error["detail"]) == (1, "corrupt", True)
    file.write_bytes(whole)
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(
            "delete from netra_meta where name = 'backup_sha256';"
            "insert into netra_migration (number, name, checksum, applied_us) values (9999, 'later', 'x', 1)"
        )
    refused = ask("restore", file)
    assert (refused.code, refused.error["code"], "9999" in refused.error["detail"]) == (4, "schema_too_new", True)
    assert ask("tenant", "list").document["tenants"][0]["uid"] == "acme"


@pytest.mark.parametrize("words", [("serve", "--port", "0"), ("worker",)])
def test_beside_a_running_process_a_backup_is_made_and_a_restore_refused_with_its_pid(words, library, ask, acme, data, file):
    with netra(*words, "--data", data, NETRA_SQLITE_DRIVER=library) as process:
        process.until(event="ready")
        assert ask("backup", file).code == 0
        refused = ask("restore", file)
        assert (refused.code, refused.error["code"]) == (4, "database_in_use")
        assert f"in process {process.child.pid}" in refused.error["detail"]
        assert process.ends() == 0
    assert ask("restore", file).code == 0


@pytest.mark.parametrize(("command", "tool"), [("backup", "pg_dump"), ("restore", "pg_restore")])
def test_for_postgresql_its_own_tool_and_the_page_are_named(command, tool, capsys, file):
    refused = run(capsys, command, file, "--database-url", "postgresql://db.invalid/netra", "--json")
    assert (refused.code, tool in refused.error["detail"], "docs/backup.md" in refused.error["fix"]) == (2, True, True)


def test_people_read_words(capsys, acme, data, file):
    made = run(capsys, "backup", file, "--data", data)
    assert made.out.startswith(f"{file}: ") and "1 tenant" in made.out
    done = run(capsys, "restore", file, "--data", data)
    assert f"is {file} now" in done.out and "way back" in done.err and "repeat that" in done.err


def test_a_long_backup_tells_how_far_it_is(ask, acme, file, monkeypatch):
    monkeypatch.setattr("netra_backend.cli.backup.TELL_EVERY_S", 0.0)
    assert "100 % are copied." in ask("backup", file).err
