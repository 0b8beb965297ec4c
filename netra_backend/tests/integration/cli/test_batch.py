"""`netra batch` as a person uses it: run, interrupt, run again, look, decide, rerun; over the database and over a server."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from ....cli import audit_map
from ....cli.reference import leaves
from .driving import DEADLINE_S, Process, audited, environment, finished, inside, netra, run

JOBS = """
import time
from pathlib import Path
from netra_backend import batch

INSERT = batch.sql("insert into loaded (n) select r.n from rows(:rows, n int) as r")


async def write(tx, rows):
    await tx.execute(INSERT, rows=[(n,) for n in rows])


def check(n):
    if n % 50 == 7:
        raise ValueError(f"{n} is refused")
    return n


def slowly(n):
    if not Path("hurry").exists():
        time.sleep(0.02)
    return check(n)


def leak(n):
    kept.append(bytearray(b"x" * 1_000_000))
    return n


kept = []
leaking = batch.job("leaking", read=batch.sequence(lambda params: range(params["n"])), process=leak, write=write, chunk=20)
quick = batch.job("quick", read=batch.sequence(lambda params: range(params["n"])), process=check, write=write, chunk=20)
slow = batch.job("slow", read=batch.sequence(lambda params: range(params["n"])), process=slowly, write=write, chunk=20)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with jobs and an installation with a tenant; commands run in it."""
    (tmp_path / "batch_jobs_of_the_test.py").write_text(JOBS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = tmp_path / "data"
    inside(data, lambda opened: opened.tenant("acme"))
    with closing(sqlite3.connect(data / "netra.db")) as connection:
        connection.execute("create table loaded (n integer not null)")  # no key: what is written twice is seen
    return data


def loaded(data):
    with closing(sqlite3.connect(data / "netra.db")) as connection:
        return [n for (n,) in connection.execute("select n from loaded order by n")]


def nodes(data):
    with closing(sqlite3.connect(data / "netra.db")) as connection:
        return connection.execute("select count(*) from netra_node").fetchone()[0]


def good(n):
    return [each for each in range(n) if each % 50 != 7]


def words(data, job, n, *more):
    return ("batch", "run", f"batch_jobs_of_the_test:{job}", "--param", f"n={n}", "--tenant", "acme", "--data", data, "--json", *more)


def test_a_job_runs_to_its_end_tells_its_dead_letters_and_is_not_run_twice(place, capsys):
    first = run(capsys, *words(place, "quick", 200, "--partitions", "3"))
    assert first.code == 3, first.err
    expected = {"state": "completed_with_failures", "done": 196, "failed": 4, "total": 200, "partitions": 3}
    assert expected.items() <= first.document.items()
    assert loaded(place) == good(200)
    again = run(capsys, *words(place, "quick", 200))
    assert (again.code, again.document["run"]) == (3, first.document["run"])
    assert loaded(place) == good(200)
    clean = run(capsys, *words(place, "quick", 7))
    assert (clean.code, clean.document["state"]) == (0, "completed")
    keyed = run(capsys, *words(place, "quick", 7, "--key", "once more"))
    assert (keyed.code, keyed.document["key"]) == (0, "once more")
    assert [each[0] for each in audited(place, "acme")].count("run.start") == 3


def test_ctrl_c_ends_it_with_130_and_the_same_command_goes_on(place, capsys):
    process = Process("netra_backend.cli.main", *words(place, "slow", 600, "--workers", "2"))
    try:
        _until(lambda: len(loaded(place)) > 40)
        assert process.ends(signal.SIGINT) == 130, process.errors()
        told = process.line()
    finally:
        process.close()
    assert (told["state"], told["working"]) == ("running", 0)
    before = loaded(place)
    assert 40 < len(before) == told["done"] < 600
    Path("hurry").touch()
    resumed = run(capsys, *words(place, "slow", 600, "--workers", "2"))
    assert (resumed.code, resumed.document["run"]) == (3, told["run"])
    assert loaded(place) == good(600)


@pytest.mark.parametrize("after", [0, 25])
def test_ctrl_c_at_any_moment_ends_it_with_130_and_loses_nothing(place, capsys, after):
    """While it still starts (`after` rows: none), between its first rows, and later; the same command always goes on."""
    process = Process("netra_backend.cli.main", *words(place, "slow", 200))
    try:
        if after:
            _until(lambda: len(loaded(place)) >= after or process.child.poll() is not None)
        else:
            _until(lambda: nodes(place))
        assert process.ends(signal.SIGINT) == 130, process.errors()
    finally:
        process.close()
    assert len(loaded(place)) < 196
    Path("hurry").touch()
    resumed = run(capsys, *words(place, "slow", 200))
    assert (resumed.code, resumed.document["done"], resumed.document["failed"]) == (3, 196, 4)
    assert loaded(place) == good(200)


def test_a_process_that_memory_is_ending_for_makes_way_for_a_fresh_one(place):
    """What its `process` keeps for ever is more than it may have, several times over: it begins anew, and the run ends."""
    done = finished(*words(place, "leaking", 250), NETRA_MEMORY_LIMIT="200MiB")
    assert done.code == 0, done.err
    assert "a fresh process goes on" in done.err
    assert (done.document["state"], done.document["done"]) == ("completed", 250)
    assert done.document["restarts"] >= 1
    assert loaded(place) == list(range(250))


def test_schedules_are_made_listed_and_ended(place, capsys):
    def ask(*given):
        return run(capsys, "batch", *given, "--tenant", "acme", "--data", place, "--json")

    reference = "batch_jobs_of_the_test:quick"
    made = ask("schedule", "nightly", reference, "--cron", "0 3 * * mon-fri", "--zone", "Europe/Zurich", "--param", "n=7")
    assert (made.code, made.document["job"], made.document["params"]) == (0, "quick", {"n": 7})
    assert ask("schedule", "hourly", reference, "--cron", "@hourly").code == 0
    assert [each["name"] for each in ask("schedules").document["schedules"]] == ["hourly", "nightly"]
    assert ask("unschedule", "hourly").code == 0
    gone = ask("unschedule", "hourly")
    assert (gone.code, gone.error["code"]) == (1, "not_found")
    wrong = ask("schedule", "wrong", reference, "--cron", "often")
    assert (wrong.code, wrong.error["code"]) == (2, "invalid_input")
    assert [action for action, _ in audited(place, "acme") if action.startswith("schedule.")] == ["schedule.put"] * 2 + ["schedule.remove"]


def test_runs_are_looked_at_decided_about_and_rerun(place, capsys):
    made = run(capsys, *words(place, "quick", 100)).document["run"]

    def ask(*given):
        return run(capsys, "batch", *given, "--tenant", "acme", "--data", place, "--json")

    assert [each["run"] for each in ask("list").document["runs"]] == [made]
    assert ask("show", made).document["failed"] == 2
    assert [each["payload"] for each in ask("failures", made).document["failures"]] == [7, 57]
    watched = ask("watch", made)
    assert (watched.code, json.loads(watched.out)["state"]) == (3, "completed_with_failures")
    assert ask("rerun", made).error["code"] == "invalid_input"
    child = ask("rerun", made, "--failed").document
    assert (child["parent"], child["state"]) == (made, "queued")
    for event, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        assert ask(event, child["run"]).document["state"] == state
    refused = ask("resume", child["run"])
    assert (refused.code, refused.error["code"]) == (1, "illegal_transition")
    assert ask("watch", child["run"]).code == 1
    entries = [entry for entry in audited(place, "acme") if entry[0].startswith("run.")]
    assert {actor.partition(":")[0] for _, actor in entries} == {"cli"}
    told = [action for action, _ in entries]
    assert {action for command, actions in audit_map.AUDITED.items() if command.startswith("batch ") for action in actions} == {
        *told,
        "schedule.put",
        "schedule.remove",
    }
    assert told == ["run.start", "run.rerun", "run.pause", "run.resume", "run.cancel"]


def test_what_is_no_job_is_a_usage_error(place, capsys):
    for reference in ("nothing", "no_such_module_at_all:x"):
        refused = run(capsys, "batch", "run", reference, "--tenant", "acme", "--data", place, "--json")
        assert (refused.code, refused.error["code"]) == (2, "invalid_input")
    unknown = run(capsys, "batch", "run", "json:x", "--tenant", "acme", "--data", place, "--json")
    assert unknown.error["code"] == "unknown_job"
    wrong = run(capsys, "batch", "run", "json:x", "--param", "x", "--data", place, "--tenant", "acme", "--json")
    assert wrong.code != 0


def test_a_server_with_the_jobs_works_on_runs_and_answers_the_same_commands(place, capsys):
    async def start_what_nobody_knows(opened):
        async with opened.transaction(tenant="acme") as tx:
            return await opened.batch.start(tx, "nobody's job")

    waiting = inside(place, start_what_nobody_knows)
    settings = {"NETRA_BATCH_JOBS": "batch_jobs_of_the_test", "PYTHONPATH": f"{place.parent}:{environment()['PYTHONPATH']}"}
    with netra("serve", "--data", place, "--dev", "--port", "0", **settings) as process:
        ready, before = process.until(event="ready")
        server = ("--server", ready["url"], "--key", before[0]["key"], "--tenant", "acme", "--json")
        made = run(capsys, *words(place, "quick", 100)).document["run"]
        child = run(capsys, "batch", "rerun", made, "--failed", *server).document["run"]
        watched = run(capsys, "batch", "watch", child, *server)
        assert (watched.code, json.loads(watched.out.splitlines()[-1])["failed"]) == (3, 2)
        for n, code in ((150, 3), (7, 0)):
            asked = ("batch", "run", "batch_jobs_of_the_test:quick", "--param", f"n={n}", "--partitions", "2", "--run-key", f"{n}", *server)
            first, again = run(capsys, *asked), run(capsys, *asked)
            assert (first.code, first.document["partitions"], again.document["run"]) == (code, 2, first.document["run"]), first.err
        made = run(capsys, "batch", "schedule", "nightly", "batch_jobs_of_the_test:quick", "--cron", "@daily", *server)
        assert (made.code, made.document["name"]) == (0, "nightly")
        assert [each["name"] for each in run(capsys, "batch", "schedules", *server).document["schedules"]] == ["nightly"]
        assert run(capsys, "batch", "unschedule", "nightly", *server).code == 0
        assert run(capsys, "batch", "schedules", *server).document["schedules"] == []
        refused = run(capsys, "batch", "watch", "run_00000000000000000000000000", *server)
        assert (refused.code, refused.error["code"]) == (1, "not_found")
        assert len(run(capsys, "batch", "failures", child, *server).document["failures"]) == 2
        assert len(run(capsys, "batch", "list", *server).document["runs"]) == 5
        assert run(capsys, "batch", "show", "run_00000000000000000000000000", *server).code == 1
        for event, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
            assert run(capsys, "batch", event, waiting, *server).document["state"] == state
    remote = {path for path, command in leaves() if path.startswith("batch ") and any(each.name == "server" for each in command.params)}
    assert remote == {f"batch {name}" for name in OVER_REST}


OVER_REST = (
    "run", "list", "show", "watch", "failures", "pause", "resume", "cancel", "rerun", "schedule", "schedules", "unschedule",
)  # fmt: skip


def _until(condition):
    ends = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)
