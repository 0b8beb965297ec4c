"""The programs under examples/ do what they say, and end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
EXAMPLES = ["plain_sqlite", "fastapi_sqlalchemy", "django_shop"]
SAID = [
    "committed: 2 x kettle",
    "rolled back, and its message with it: 9 x teapot",
    "committed: 1 x teapot",
    "delivered: 2 x kettle",
    "delivered: 1 x teapot",
    "2 messages for 2 orders",
]
SAID_TOO = {"django_shop": ["in stock, as the cache had it: kettle 5, then 3; teapot 2, then 2; teapot 2, then 1"]}


@pytest.fixture(scope="module")
def running():
    """All of them at once: most of their time is their imports."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = {name: subprocess.Popen([sys.executable, "-m", f"examples.{name}"], cwd=ROOT, **pipes) for name in EXAMPLES}
    yield running
    for process in running.values():
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_delivers_what_was_committed_and_not_what_was_rolled_back(running, name):
    out, errors = running[name].communicate(timeout=120)
    assert running[name].returncode == 0, errors[-3000:]
    lines = out.splitlines()
    expected = [*SAID, *SAID_TOO.get(name, [])]
    assert [line[: len(said)] for line, said in zip(lines, expected, strict=True)] == expected
    if name == "fastapi_sqlalchemy":
        assert lines[-1].endswith("0af7651916cd43dd8448eb211c80319c")


def test_the_flights_are_loaded_and_their_dirt_is_told_and_the_same_command_again_changes_nothing(tmp_path):
    command = [sys.executable, "-m", "examples.flights", "--rows", "2000", "--folder", tmp_path]
    first, second = (subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120) for _ in range(2))
    assert first.returncode == second.returncode == 0, first.stderr[-3000:] + second.stderr[-3000:]
    assert first.stdout == second.stdout
    assert "flights: completed_with_failures, 1623 loaded, 377 dead letters, 0 restarts" in first.stdout
    assert "as a plain look at the files expects: 1623 good, 377 not" in first.stdout


def test_money_and_objects_at_risk_are_told_while_an_endpoint_is_down_and_what_recovery_saved():
    done = subprocess.run([sys.executable, "-m", "examples.money_at_risk"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines() == [
        "while the endpoint is down: 1 of 4 invoices delivered in time, 0 late, 3 lost, 510.75 EUR at risk, 1 tenants",
        "  because of dead letter: 3 (acme-1, acme-2, acme-3)",
        "after the recovery: 1 of 4 invoices delivered in time, 3 late, 0 lost, 510.75 EUR at risk, 1 tenants",
        "  because of dead letter: 3 (acme-1, acme-2, acme-3)",
        "recovery saved 3 invoices, 510.75 EUR",
    ]


def test_every_example_is_run_here():
    folder = ROOT / "examples"
    programs = {path.parent.name for path in folder.glob("*/__main__.py")} | {path.stem for path in folder.glob("*.py")}
    assert programs == {*EXAMPLES, "receiver", "flights", "money_at_risk", "worker_fleet"}


def test_a_fleet_of_workers_delivers_everything_although_one_is_killed():
    done = subprocess.run([sys.executable, "-m", "examples.worker_fleet"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second, last = done.stdout.splitlines()
    assert first == "3 workers on one database"
    assert second.startswith("SIGKILL for worker ")
    assert last.startswith("300 of 300 messages have arrived; ")
