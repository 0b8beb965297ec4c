"""The demo's verdict finds every way in which a run can have gone wrong, and believes no run without faults."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from ...cli.demo import verdict

KILL_US = 1_800_000_000_000_000
S = 1_000_000
RECEIVERS = ("healthy", "flaky", "hanging")
EVENTS = 20


class Run:
    """A demo's ledgers in which everything held, to be spoilt by a test."""

    def __init__(self, folder):
        self.folder = folder
        self.input = [{"event_id": f"e{n}", "sha256": f"digest-{n}"} for n in range(EVENTS)]
        self.producer = [self.acknowledged(n) for n in range(EVENTS)]
        self.receivers = {name: [self.got(n) for n in range(EVENTS)] for name in RECEIVERS}
        self.receivers["flaky"][:0] = [self.got(0, status=503, late_s=-0.4), self.got(1, status=500, late_s=-0.4)]
        self.receivers["hanging"][:0] = [self.got(0, status=None, late_s=-0.4)]
        self.run = [
            {"event": "serving", "at_us": KILL_US - 11 * S},
            {"event": "killed", "at_us": KILL_US},
            {"event": "serving", "at_us": KILL_US + S},
            {"event": "stopped", "at_us": KILL_US + 12 * S, "exit_code": 0},
        ]

    def at_us(self, n):
        """Every event has a second of its own; the kill comes between the tenth and the eleventh."""
        return KILL_US + int((n - EVENTS // 2 + 0.5) * S)

    def acknowledged(self, n):
        return {"event_id": f"e{n}", "message_id": f"m{n}", "first_sent_us": self.at_us(n), "at_us": self.at_us(n) + 1000}

    def got(self, n, *, status=200, late_s=0.002, **other):
        line = {
            "at_us": self.at_us(n) + int(late_s * S),
            "webhook_id": f"m{n}",
            "sha256": f"digest-{n}",
            "signature_ok": True,
            "status": status,
        }
        return line | other

    def judged(self):
        for name, lines in {"input": self.input, "producer": self.producer, "run": self.run}.items():
            self._write(name, lines)
        for name, lines in self.receivers.items():
            self._write(f"receiver-{name}", lines)
        return verdict.judge(self.folder)

    def broken(self):
        """The names of the checks that do not hold."""
        report = self.judged()
        broken = [check["name"] for check in report["checks"] if not check["ok"]]
        assert report["ok"] == (not broken)
        return broken

    def _write(self, name, lines):
        (self.folder / f"{name}.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_a_good_run_holds_in_every_check_and_its_figures_are_right(run):
    assert run.broken() == []
    report = run.judged()
    wanted = {"acknowledged": EVENTS, "delivered": 3 * EVENTS, "retried": 3, "duplicates": 0, "lost": 0, "outage_s": 1.0, "p50_ms": 2.0}
    assert wanted.items() <= report.items()
    assert report["messages_per_s"] == round(EVENTS / 19.001, 1)


@pytest.mark.parametrize("receiver", RECEIVERS)
def test_a_lost_message_is_found(run, receiver):
    del run.receivers[receiver][-3]
    assert run.broken() == ["nothing acknowledged was lost"]
    assert run.judged()["lost"] == 1


def test_a_message_that_was_only_refused_is_lost(run):
    run.receivers["healthy"][4]["status"] = 503
    assert run.broken() == ["nothing acknowledged was lost"]


def test_an_event_that_was_never_acknowledged_is_found(run):
    del run.producer[5]
    for lines in run.receivers.values():
        lines[:] = [line for line in lines if line["webhook_id"] != "m5"]
    assert run.broken() == ["every event was acknowledged"]


def test_an_event_that_became_two_messages_is_found(run):
    run.producer.append(run.producer[3] | {"message_id": "other"})
    for lines in run.receivers.values():
        lines.append(run.got(3, webhook_id="other"))
    assert run.broken() == ["one event is one message"]


def test_two_events_that_became_one_message_are_found(run):
    run.producer[3]["message_id"] = "m4"
    assert "one event is one message" in run.broken()


def test_a_duplicate_far_from_the_kill_is_found(run):
    run.receivers["healthy"].append(run.got(2, late_s=0.5))
    assert run.broken() == ["duplicates only among attempts in flight at a kill"]
    assert run.judged()["duplicates"] == 1


def test_a_duplicate_of_what_was_acknowledged_well_before_the_kill_is_found(run):
    run.receivers["healthy"].append(run.got(7, late_s=4.0))  # accepted 2.5 s before the kill, and again after it
    assert run.broken() == ["duplicates only among attempts in flight at a kill"]


def test_a_duplicate_before_the_kill_is_found_however_near(run):
    run.receivers["healthy"].append(run.got(9, late_s=0.3))
    assert run.broken() == ["duplicates only among attempts in flight at a kill"]


def test_a_second_duplicate_of_the_same_message_is_found(run):
    run.receivers["healthy"] += [run.got(9, late_s=2.0), run.got(9, late_s=6.0)]
    assert run.broken() == ["duplicates only among attempts in flight at a kill"]


def test_a_duplicate_of_an_attempt_in_flight_at_the_kill_is_allowed_and_counted(run):
    run.receivers["healthy"].append(run.got(9, late_s=2.0))  # first accepted 0.5 s before the kill
    assert run.broken() == []
    assert run.judged()["duplicates"] == 1


@pytest.mark.parametrize("signed", [False, None])
def test_a_forged_or_unchecked_signature_is_found_also_on_a_refused_request(run, signed):
    run.receivers["flaky"][0]["signature_ok"] = signed
    assert run.broken() == ["every request was signed by its endpoint's secret"]


def test_an_altered_body_is_found(run):
    run.receivers["healthy"][6]["sha256"] = "other"
    assert run.broken() == ["every body arrived as it was sent"]


@pytest.mark.parametrize("stranger", ["m99", None])
def test_a_message_that_nobody_acknowledged_is_found(run, stranger):
    run.receivers["healthy"].append(run.got(3, webhook_id=stranger))
    assert run.broken() == ["nothing arrived that was not acknowledged"]


@pytest.mark.parametrize("kills", [[], [KILL_US - 100 * S], [KILL_US + 100 * S]])
def test_a_run_without_a_kill_in_its_middle_proves_nothing(run, kills):
    run.run = [line for line in run.run if line["event"] != "killed"] + [{"event": "killed", "at_us": at_us} for at_us in kills]
    assert "the server was killed with SIGKILL in the middle" in run.broken()


def test_receivers_that_never_misbehaved_prove_nothing(run):
    del run.receivers["flaky"][:2], run.receivers["hanging"][0]
    assert run.broken() == ["the flaky receiver refused with 500 and 503", "the hanging receiver left requests unanswered"]


def test_a_missing_receiver_is_found(run):
    del run.receivers["hanging"]
    assert "three receivers wrote ledgers" in run.broken()


@pytest.mark.parametrize("code", [-15, 1, None])
def test_a_server_that_does_not_end_cleanly_is_found(run, code):
    run.run[-1:] = [] if code is None else [run.run[-1] | {"exit_code": code}]
    assert run.broken() == ["SIGTERM ended the server cleanly"]


def with_two_workers(run):
    """The same run as on PostgreSQL, where two workers deliver while the server is away for 0.4 s."""
    run.run[2]["at_us"] = KILL_US + int(0.4 * S)
    run.run += [{"event": "working", "at_us": KILL_US - 11 * S}] * 2 + [run.run[-1]] * 2
    run.receivers["flaky"].insert(0, run.got(0, status=500) | {"at_us": KILL_US + int(0.3 * S)})
    return run


def test_workers_that_went_on_while_the_server_was_away_hold(run):
    assert with_two_workers(run).broken() == []


@pytest.mark.parametrize("after_s", [0.1, 0.45])
def test_workers_that_delivered_nothing_while_the_server_was_away_are_found(run, after_s):
    with_two_workers(run).receivers["flaky"][0]["at_us"] = KILL_US + int(after_s * S)
    assert run.broken() == ["the other processes went on while the server was away"]


def test_a_worker_that_does_not_end_cleanly_is_found(run):
    with_two_workers(run).run.pop()
    assert run.broken() == ["SIGTERM ended the server cleanly"]


def test_a_run_of_three_minutes_is_too_long(run):
    run.run[-1]["at_us"] += 180 * S
    assert run.broken() == ["in under three minutes"]


def test_an_empty_run_holds_in_nothing(run):
    run.input, run.producer, run.run, run.receivers = [], [], [], {name: [] for name in RECEIVERS}
    assert {"every event was acknowledged", "nothing acknowledged was lost", "in under three minutes"} <= set(run.broken())


def judge_alone(folder, *options):
    return subprocess.run([sys.executable, "-I", verdict.__file__, str(folder), *options], capture_output=True, text=True)


def test_the_script_runs_alone_writes_its_report_and_prints_the_table(run):
    run.judged()
    done = judge_alone(run.folder)
    assert (done.returncode, done.stderr) == (0, "")
    for name in ("acknowledged", "delivered", "retried", "duplicates", "lost", "messages/s", "p99"):
        assert f"\n  {name} " in "\n" + done.stdout
    assert json.loads((run.folder / "report.json").read_text())["ok"] is True


def test_the_script_ends_with_1_when_a_check_fails_or_a_ledger_is_cut_short(run):
    run.receivers["healthy"].pop()
    run.judged()
    assert (judge_alone(run.folder).returncode, json.loads(judge_alone(run.folder, "--json").stdout)["ok"]) == (1, False)
    with (run.folder / "producer.ndjson").open("a") as file:
        file.write('{"event_id": "e')
    assert judge_alone(run.folder).returncode == 1


def test_the_script_imports_nothing_of_netra_and_nothing_that_was_installed():
    tree = ast.parse(Path(verdict.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in imports if isinstance(node, ast.ImportFrom) and not node.level}
    assert not any(node.level for node in imports if isinstance(node, ast.ImportFrom))
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names
