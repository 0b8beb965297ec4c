"""docs/guarantees.toml and controls.toml say nothing that the tests do not have."""

from __future__ import annotations

import ast
import tomllib
from functools import cache
from pathlib import Path

import pytest

from tools.controls import edits
from tools.controls.plan import load

ROOT = Path(__file__).parents[3]
GUARANTEES = tomllib.loads((ROOT / "docs/guarantees.toml").read_text())
CONTROLS = {control.id: control for control in load(ROOT / "netra_backend/tests/controls.toml")}
EXPECTED = {"S": 8, "W": 16, "O": 18, "V": 6, "F": 4, "X": 4, "L": 5, "B": 8, "C": 14, "A": 8, "K": 7, "T": 6, "M": 4, "D": 10}
"""The invariants of the design, by part. A new one is added here and there; none is ever removed."""

EXPECTED = {"U": 8} | EXPECTED  # what a user of the server and its dashboard is promised


@cache
def names_in(path):
    """Names of the test functions of a file, as pytest writes them (`test_x`, `TestY::test_x`)."""
    tree = ast.parse((ROOT / path).read_text())
    names = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{member.name}" for member in node.body if isinstance(member, ast.FunctionDef | ast.AsyncFunctionDef)}
    return {name for name in names if name.rpartition("::")[2].startswith("test_")}


def exists(node_id):
    path, _, name = node_id.partition("::")
    return (ROOT / path).is_file() and name.partition("[")[0] in names_in(path)


def test_every_promise_of_the_design_is_listed_once():
    assert list(GUARANTEES) == [f"{part}{number}" for part, count in EXPECTED.items() for number in range(1, count + 1)]


@pytest.mark.parametrize("name", GUARANTEES)
def test_a_promise_that_is_not_open_names_existing_tests_and_a_control(name):
    entry = GUARANTEES[name]
    assert set(entry) == {"promise", "state", "tests", "control"}
    assert entry["promise"].endswith(".")
    assert entry["state"] in {"open", "proven"}
    assert [test for test in entry["tests"] if not exists(test)] == []
    if entry["control"]:
        assert CONTROLS[entry["control"]].promise == name
    if entry["state"] == "proven":
        assert entry["tests"]
        assert entry["control"]


def test_each_control_breaks_a_listed_promise_and_names_an_existing_test():
    for control in CONTROLS.values():
        assert control.promise in GUARANTEES, control.id
        assert exists(control.test), f"{control.id}: {control.test}"


def test_each_edit_of_a_control_matches_its_target_exactly_once_and_leaves_code_that_compiles(tmp_path):
    for control in CONTROLS.values():
        for target in {edit.target for edit in control.edits}:
            text = (ROOT / target).read_text()
            of_target = [edit for edit in control.edits if edit.target == target]
            assert edits.apply(text, of_target) != text
            if target.endswith(".py"):
                assert edits.plant_markers(text, [(edit, tmp_path / "m") for edit in of_target]) != text
