"""A small run of the demo, from end to end, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

from ....cli.demo import verdict
from ....cli.demo.flights import delayed_flights
from ....kernel.scope import system_scope
from ....storage import nodes
from .driving import DEADLINE_S, environment, finished, inside, netra, run

ROOT = Path(__file__).parents[4]


def test_a_small_demo_holds_in_every_check_and_leaves_its_evidence(tmp_path):
    out = tmp_path / "demo"
    command = [sys.executable, "-m", "netra_backend.cli.main", "demo", "--flights", "200", "--rows", "3000", "--out", str(out), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=170)
    assert done.returncode == 0, done.stderr + done.stdout
    report = json.loads(done.stdout)
    assert report == json.loads((out / "report.json").read_text()) == verdict.judge(out)
    assert (report["ok"], report["acknowledged"], report["lost"]) == (True, 200, 0)
    assert report["delivered"] == 600
    assert report["retried"] > 0
    assert report["company"]["flights_loaded"] + report["company"]["dead_letters"] == 3000
    for words in (
        "retries after 500ms, 1s",
        "KILL -9",
        "healed",
        "acknowledged 200 of 200",
        "the company's program is gone",
        "trail holds",
    ):
        assert words in done.stderr
    assert (out / "operator.key").stat().st_mode & 0o777 == 0o600
    assert inside(out / "data", _living) == ["cli"]  # the killed server's row is gone too: nobody is left of the run
    again = subprocess.run([*command[:-3], str(tmp_path / "demo" / "data")], capture_output=True, text=True, env=environment(), cwd=ROOT)
    assert again.returncode == 2  # what is not a former demo is not replaced


def test_a_small_demo_with_the_certified_provider_holds_in_every_check(tmp_path):
    out = tmp_path / "demo"
    done = finished("demo", "--certified", "--flights", "200", "--rows", "8000", "--out", out, "--json", timeout_s=170)
    assert done.code == 0, done.err + done.out
    assert "connected to the certified oidc-provider" in done.err
    notes = [json.loads(line) for line in (out / "run.ndjson").read_text().splitlines()]
    (stats,) = [note["stats"] for note in notes if note["event"] == "provider"]
    assert {line["grant"] for line in stats["requests"]} == {"authorization_code", "refresh_token"}
    assert stats["superseded"] == []


def test_without_node_it_says_what_installs_it_and_touches_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    done = run(capsys, "demo", "--certified", "--out", tmp_path / "demo")
    assert (done.code, done.error["code"]) == (4, "cannot_start")
    assert "make demo ARGS=--certified" in done.error["fix"]
    assert not (tmp_path / "demo").exists()


async def _living(netra):
    return [node.role for node in await netra.database.read(nodes.living, scope=system_scope())]


def test_the_input_is_some_thousand_different_events_of_the_real_table():
    events = delayed_flights(10_000)
    assert len(events) == len({event.id for event in events}) == 3945
    assert json.loads(events[0].payload)["late_min"] >= 180
    assert len({event.sha256 for event in events}) == 3945


def test_a_folder_with_anything_else_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "precious").write_text("x")
    done = run(capsys, "demo", "--out", tmp_path)
    assert (done.code, [file.name for file in tmp_path.iterdir()]) == (2, ["precious"])


def test_an_interrupted_demo_ends_its_children_and_says_130(tmp_path):
    with netra("demo", "--flights", "2000", "--out", tmp_path / "demo") as demo:
        ends = time.monotonic() + DEADLINE_S
        while "netra serve is ready" not in demo.errors():
            assert time.monotonic() < ends, demo.errors()
            time.sleep(0.02)
        children = [int(pid) for pid in Path(f"/proc/{demo.child.pid}/task/{demo.child.pid}/children").read_text().split()]
        assert len(children) == 4
        assert demo.ends() == 130
        assert not [pid for pid in children if Path(f"/proc/{pid}").exists()]
