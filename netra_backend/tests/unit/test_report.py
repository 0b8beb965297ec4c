"""tools/report.py: the frame around every target's evidence."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tools.report import main

JUNIT = '<testsuites><testsuite tests="5" failures="1" errors="1" skipped="1"/></testsuites>'


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(target, code, *options):
    exit_code = main([target, *options, "--", sys.executable, "-c", code])
    return exit_code, json.loads(Path(f"build/report/{target}.json").read_text())


def test_the_exit_code_passes_through_and_is_written(folder):
    exit_code, report = run("demo", "raise SystemExit(3)")
    assert exit_code == report["exit_code"] == 3
    assert report["target"] == "demo"
    assert report["seconds"] > 0
    assert {"command", "revision", "date"} <= report.keys()


def test_a_killed_command_counts_as_its_signal(folder):
    assert run("soak", "import os; os.kill(os.getpid(), 9)")[0] == 137


def test_what_the_tool_wrote_itself_is_kept_and_framed(folder):
    code = "import json; json.dump({'caught': 2, 'exit_code': 'mine'}, open('build/report/controls.json', 'w'))"
    report = run("controls", code)[1]
    assert (report["caught"], report["exit_code"]) == (2, 0)
    assert run("bench", "open('build/report/bench.json', 'w').write('[1]')")[1]["rows"] == [1]


def test_an_earlier_runs_members_never_survive(folder):
    run("controls", "open('build/report/controls.json', 'w').write('{\"caught\": 2}')")
    assert "caught" not in run("controls", "pass")[1]


def test_counts_come_from_the_test_runners_own_file(folder):
    report = run("test", f"open('j.xml', 'w').write({JUNIT!r})", "--junit", "j.xml")[1]
    assert report["tests"] == {"passed": 2, "failed": 1, "errors": 1, "skipped": 1}


def test_a_runner_that_wrote_nothing_has_no_counts(folder):
    run("test", f"open('j.xml', 'w').write({JUNIT!r})", "--junit", "j.xml")
    assert run("test", "pass", "--junit", "j.xml")[1]["tests"] is None
