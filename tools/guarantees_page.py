"""`docs/guarantees.md`, written from `docs/guarantees.toml`: each promise, the tests that hold it, and the broken build that they catch.

`python -m tools.guarantees_page` writes it; with `--check` it exits 1 if the page is not what would be written.
"""

from __future__ import annotations

import re
import sys
import tomllib
from itertools import groupby
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "docs" / "guarantees.toml"
PAGE = ROOT / "docs" / "guarantees.md"
CONTROLS = ROOT / "netra_backend" / "tests" / "controls.toml"

PARTS = {
    "U": "The server and its dashboard",
    "S": "Storage and transactions",
    "W": "Webhooks",
    "O": "The vault",
    "V": "Validation of tokens",
    "F": "Provider failover",
    "X": "Token exchange",
    "L": "Login",
    "B": "Batches",
    "C": "The cache",
    "A": "The audit trail",
    "K": "KPIs",
    "T": "Traces",
    "M": "Metrics and logs",
    "D": "Debug sessions",
}
HEAD = """\
# Guarantees

Each promise has a name, tests that fail when it is broken, and a control: a build that is broken on purpose, which one of those tests must
catch. `make test` runs the tests, `make controls` the controls. Of {count} promises {proven} are proven; where one is open, its part
does not stand whole yet, or its control was not seen to be caught.
"""


def render() -> str:
    """The page."""
    promises: dict[str, dict[str, Any]] = tomllib.loads(SOURCE.read_text(encoding="utf-8"))
    edits = {control["id"]: control["edit"] for control in tomllib.loads(CONTROLS.read_text(encoding="utf-8"))["control"]}
    proven = sum(entry["state"] == "proven" for entry in promises.values())
    text = [HEAD.format(count=len(promises), proven=proven)]
    for part, names in groupby(promises, key=lambda name: re.sub(r"\d+$", "", name)):
        text.append(f"## {PARTS[part]}\n")
        text.extend(_entry(name, promises[name], edits) for name in names)
    return "\n".join(text)


def _entry(name: str, entry: dict[str, Any], edits: dict[str, Any]) -> str:
    lines = [f"**{name}** ({entry['state']}). {entry['promise']}", ""]
    files = groupby((test.split("::", 1) for test in entry["tests"]), key=lambda pair: pair[0])
    for file, tests in files:
        lines.append(f"- [{file.removeprefix('netra_backend/tests/')}](../{file}): " + ", ".join(f"`{test}`" for _, test in tests))
    if entry["control"]:
        targets = sorted({edit["target"] for edit in edits[entry["control"]]})
        lines.append(f"- control `{entry['control']}` breaks " + ", ".join(f"[{Path(target).name}](../{target})" for target in targets))
    return "\n".join([*lines, ""])


def main() -> int:
    """Write it, or compare."""
    if "--check" in sys.argv[1:]:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == render():
            return 0
        print("docs/guarantees.md is not what docs/guarantees.toml says: python -m tools.guarantees_page")
        return 1
    PAGE.write_text(render(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
