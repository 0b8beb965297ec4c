"""Reading controls.toml. An unknown or missing key is an error: a misspelt `replace` must not become a deletion."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEFAULT = Path("netra_backend/tests/controls.toml")
TIMEOUT_S = 180.0
REQUIRED = {"id", "promise", "test", "edit"}
OPTIONAL = {"timeout_s", "because"}


class BadControl(Exception):
    """A control cannot be carried out as it is written; the text says why."""


@dataclass(frozen=True)
class Edit:
    """In `target`, the one occurrence of `find` becomes `replace`."""

    target: str
    find: str
    replace: str


@dataclass(frozen=True)
class Control:
    """One broken build and the test (a pytest node id) that must fail on it, within `timeout_s` for each run.

    `because`, where given, is a regular expression that the failure's text must match, so that a test which fails for
    another reason does not count.
    """

    id: str
    promise: str
    test: str
    edits: tuple[Edit, ...]
    timeout_s: float = TIMEOUT_S
    because: str = ""


def load(path: Path) -> list[Control]:
    """Every control of the file, in its order."""
    tables = tomllib.loads(path.read_text(encoding="utf-8")).get("control", [])
    controls = [_control(table) for table in tables]
    ids = [control.id for control in controls]
    if len(set(ids)) != len(ids):
        raise BadControl(f"ids stand twice: {sorted({name for name in ids if ids.count(name) > 1})}")
    return controls


def _control(table: dict[str, Any]) -> Control:
    name = table.get("id", "(without an id)")
    if table.keys() - REQUIRED - OPTIONAL or REQUIRED - table.keys():
        raise BadControl(f"{name}: needs {sorted(REQUIRED)}, may have {sorted(OPTIONAL)}, has {sorted(table)}")
    edits = table.pop("edit")
    if not edits or any(set(edit) != {"target", "find", "replace"} for edit in edits):
        raise BadControl(f"{name}: each [[control.edit]] has target, find and replace")
    return Control(**table, edits=tuple(Edit(**edit) for edit in edits))
