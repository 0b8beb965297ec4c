"""`netra audit` on the database and through a server: the same answers, exact exit codes."""

from __future__ import annotations

import json
import shutil

import pytest

from netra_backend.observability.audit.verifying import verify

from ...support import audit_forger, audit_verifier
from .driving import inside, netra, run


@pytest.fixture
def data(tmp_path, capsys):
    folder = tmp_path / "data"
    assert run(capsys, "tenant", "create", "acme", "--data", folder).code == 0
    return folder


@pytest.fixture
def ask(capsys, data):
    return lambda *words: run(capsys, "audit", *words, "--tenant", "acme", "--data", data, "--json")


def record(data, count, **facts):
    async def go(opened):
        async def store(tx):
            for number in range(count):
                await opened.audit.record(tx, "thing.done", f"thing-{number}", **facts)

        await opened.write(store, tenant="acme")

    inside(data, go)


def test_an_export_verifies_with_exact_exit_codes_and_shapes(ask, capsys, data, tmp_path):
    record(data, 300)
    out = tmp_path / "out"
    done = ask("export", "--out", out)
    assert (done.code, done.document["size"]) == (0, 301)
    good = run(capsys, "audit", "verify", out, "--json")
    assert good.code == 0
    assert {name: good.document[name] for name in ("ok", "tenant", "size", "root", "first_bad")} == {
        "ok": True, "tenant": "acme", "size": 301, "root": done.document["root"], "first_bad": None,
    }  # fmt: skip
    assert audit_verifier.judge(out) is None
    bad = audit_forger.copy(out, tmp_path / "bad")
    lines = (bad / "entries.ndjson").read_bytes()
    (bad / "entries.ndjson").write_bytes(lines.replace(b"thing-41", b"thing-14", 1))
    found = run(capsys, "audit", "verify", bad, "--json")
    assert (found.code, found.document["ok"], found.document["first_bad"]) == (1, False, 42)
    assert run(capsys, "audit", "verify", out, "--vkey", out / "vkey").code == 0
    (tmp_path / "other").write_text(audit_forger.vkey_of() + "\n")
    assert run(capsys, "audit", "verify", out, "--vkey", tmp_path / "other").code == 1
    assert run(capsys, "audit", "verify", tmp_path / "absent").code == 2
    assert run(capsys, "audit", "verify", out, "--vkey", tmp_path / "absent").code == 2
    assert run(capsys, "audit", "verify").code == 2
    assert ask("export", "--out", out).code == 1  # it is there already


def test_a_checkpoint_that_was_kept_finds_a_log_that_was_written_anew(ask, capsys, data, tmp_path):
    ask("export", "--out", tmp_path / "one")
    record(data, 2)
    ask("export", "--out", tmp_path / "two")
    kept = ("--checkpoint", tmp_path / "one" / "checkpoint")
    assert run(capsys, "audit", "verify", tmp_path / "two", *kept).code == 0
    (data / "netra.db").unlink()
    shutil.rmtree(data / "audit-memory")
    assert run(capsys, "tenant", "create", "acme", "--data", data).code == 0
    record(data, 2)
    ask("export", "--out", tmp_path / "three")
    assert run(capsys, "audit", "verify", tmp_path / "three", *kept).code == 1


def test_a_receipt_is_written_and_judged_offline(ask, capsys, data, tmp_path):
    record(data, 5)
    out = tmp_path / "out"
    ask("export", "--out", out)
    file = tmp_path / "three.tlog-proof"
    made = ask("prove", 3, "--out", file)
    assert (made.code, made.document["index"], made.document["size"]) == (0, 3, 6)
    assert made.document["entry"]["action"] == "thing.done"
    assert made.document["receipt"] == file.read_text()
    assert ask("prove", made.document["entry"]["id"]).document == made.document
    assert run(capsys, "audit", "verify", file, "--vkey", out / "vkey").code == 0
    file.write_text(file.read_text().replace("index 3", "index 2"))
    assert run(capsys, "audit", "verify", file, "--vkey", out / "vkey").code == 1
    assert run(capsys, "audit", "verify", file).code == 2
    assert ask("prove", 99).code == 1
    assert [ask("prove", which).code for which in ("junk", "\u00b2", "9" * 26)] == [2, 2, 2]
    assert ask("erase", "9" * 26, "--reason", "none has so many").code == 1


def test_entries_are_shown_by_index_and_found_by_what_they_say(ask, data):
    record(data, 30)
    tailed = ask("tail", "--lines", 3)
    assert [json.loads(line)["index"] for line in tailed.out.splitlines()] == [28, 29, 30]
    assert [json.loads(line)["index"] for line in ask("tail", "--after", 29).out.splitlines()] == [30]
    found = ask("search", "--action", "tenant.create").document["entries"]
    assert [(each["index"], each["target"], each["actor"].partition(":")[0]) for each in found] == [(0, "acme", "cli")]
    assert len(ask("search", "--action", "thing.done", "--since", "1h", "--limit", 7).document["entries"]) == 7
    assert ask("search", "--until", "1h").document["entries"] == []
    assert ask("search", "--since", "junk").code == 2


def test_personal_data_is_erased_with_a_reason_and_no_root_changes(ask, capsys, data, tmp_path):
    record(data, 1, personal={"email": "a@b.example"})
    ask("export", "--out", tmp_path / "before")
    assert ask("erase", 1).code == 2  # no reason
    done = ask("erase", 1, "--reason", "the user asked for it")
    assert (done.code, done.document["index"]) == (0, 1)
    assert ask("erase", 1, "--reason", "again").error["code"] == "nothing_to_erase"
    ask("export", "--out", tmp_path / "after")
    kept = ("--checkpoint", tmp_path / "before" / "checkpoint")
    assert run(capsys, "audit", "verify", tmp_path / "after", *kept).code == 0
    assert b"a@b.example" not in b"".join(path.read_bytes() for path in tmp_path.glob("*/entries.ndjson"))
    actions = [each["action"] for each in ask("search").document["entries"]]
    assert sorted(actions) == ["audit.erased", "tenant.create", "thing.done"]


def test_after_a_restore_the_log_goes_on_under_another_origin_and_never_gives_a_size_two_roots(ask, capsys, data, tmp_path):
    record(data, 3)
    ask("export", "--out", tmp_path / "one")
    assert run(capsys, "backup", tmp_path / "backup.db", "--data", data).code == 0
    record(data, 2)
    published = ask("export", "--out", tmp_path / "two").document
    assert run(capsys, "restore", tmp_path / "backup.db", "--data", data).code == 0
    told = run(capsys, "doctor", "--data", data, "--json").document["checks"]
    (words,) = [each["detail"] for each in told if each["name"] == "audit trail"]
    assert "4 entries and is remembered with 6" in words
    record(data, 2)
    restored = ask("export", "--out", tmp_path / "three").document
    assert (published["origin"].rpartition("/")[2][:2], restored["origin"].rpartition("/")[2][:2]) == ("1-", "2-")
    assert run(capsys, "audit", "verify", tmp_path / "three", "--checkpoint", tmp_path / "one/checkpoint").code == 0
    assert run(capsys, "audit", "verify", tmp_path / "three", "--checkpoint", tmp_path / "two/checkpoint").code == 1
    (epoch,) = ask("search", "--action", "log.epoch").document["entries"]
    assert (epoch["before"]["size"], epoch["before"]["origin"]) == (published["size"], published["origin"])


def test_through_a_server_the_answers_are_the_same(tmp_path, capsys):
    data = tmp_path / "served"
    with netra("serve", "--data", data, "--dev", "--port", "0") as process:
        ready, before = process.until(event="ready")
        key = before[0]["key"]

        def ask(*words):
            return run(capsys, *words, "--server", ready["url"], "--key", key, "--json")

        assert ask("tenant", "create", "acme").code == 0
        told = {}
        while "entries" not in told or told["entries"][0]["index"] is None:  # sequenced within some tenths of a second
            told = ask("audit", "search", "--tenant", "acme").document
        assert [each["action"] for each in told["entries"]] == ["tenant.create"]
        while ask("audit", "prove", 0, "--tenant", "acme").code:  # and signed
            pass
        out = tmp_path / "out"
        assert ask("audit", "export", "--tenant", "acme", "--out", out).document["size"] == 1
        assert verify(out).ok
        assert [json.loads(line)["action"] for line in ask("audit", "tail", "--tenant", "acme").out.splitlines()] == ["tenant.create"]
        assert ask("audit", "erase", 0, "--reason", "r", "--tenant", "acme").code == 1
        assert ask("audit", "export", "--tenant", "*", "--out", tmp_path / "own").code == 0
        assert verify(tmp_path / "own").ok
