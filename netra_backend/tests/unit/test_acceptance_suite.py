"""The ten files of the original report are as it counts them, and docs/report.md refers to nothing that is not there."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path

import pytest

from netra_backend.cli.catalogue import COMMANDS
from netra_backend.cli.run import parser

ROOT = Path(__file__).parents[3]
TESTS = ROOT / "netra_backend/tests"
CORE = sorted((TESTS / "unit/core").glob("test_*.py"))
NAMES = (
    "test_batch_error_recovery_iteration_85.py",
    "test_batch_progress_tracking_iteration_86.py",
    "test_cache_invalidation_iteration_87.py",
    "test_cache_performance_iteration_88.py",
    "test_oauth_token_exchange_iteration_81.py",
    "test_production_debugging_iteration_90.py",
    "test_sso_refresh_flow_iteration_82.py",
    "test_system_observability_iteration_89.py",
    "test_webhook_reliability_iteration_83.py",
    "test_webhook_retry_logic_iteration_84.py",
)
REPORT = (ROOT / "docs/report.md").read_text(encoding="utf-8")
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in REPORT.splitlines() if re.match(r"\| \d\d, ", line)]


def methods_of(path):
    """(method, its lines) of the one class of a file."""
    (found,) = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]
    return [node for node in found.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")]


def test_the_acceptance_suite_is_as_the_report_counts_it():
    assert tuple(path.name for path in CORE) == NAMES
    methods = [method for path in CORE for method in methods_of(path)]
    assert [len(methods_of(path)) for path in CORE] == [2] * 10
    assert sum(isinstance(method, ast.AsyncFunctionDef) for method in methods) == 18
    assert max(method.end_lineno - method.lineno + 1 for method in methods) < 25


def test_pytest_collects_twenty_two_tests_of_it():
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *map(str, CORE)]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120).stdout
    collected = [Path(line.partition("::")[0]).name for line in found.splitlines() if "::" in line]
    assert Counter(collected) == {name: 4 if "_89" in name else 2 for name in NAMES}
    assert len(collected) == 22


def test_each_of_them_has_a_control_that_breaks_what_it_guards():
    """`make controls` shows that it fails then."""
    controls = tomllib.loads((TESTS / "controls.toml").read_text(encoding="utf-8"))["control"]
    guarded = {each["test"].rpartition("::")[2].partition("[")[0] for each in controls if "/unit/core/" in each["test"]}
    assert guarded == {method.name for path in CORE for method in methods_of(path)}


def test_every_line_of_the_report_is_referred_to():
    assert len(ROWS) == 20
    assert sorted(int(row[0][:2]) for row in ROWS) == sorted([*range(81, 91)] * 2)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_the_page_refers_to_is_there(row):
    _, module, tests, command = row
    for place in re.findall(r"`([^`]+)`", module):
        assert (ROOT / place).is_file(), place
    for place in re.findall(r"`([^`]+)`", tests):
        assert (TESTS / place).is_file(), place
    _, name, *rest = shlex.split(command.strip("`"))
    at = parser(next(each for each in COMMANDS if each.name == name))
    for part in rest:
        at = at.commands[part]
