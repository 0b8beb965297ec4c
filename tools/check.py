"""`make check`: every static promise of the repository, each step in one line, its words only when it fails.

All steps run even after a failure, so that one run shows everything; the exit code is 1 if any failed. The result of
each goes to build/report/check.json.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BIN = Path(sys.executable).parent
CODE = ["netra_backend", "tools", *(name for name in ("benchmarks", "examples") if Path(name).is_dir())]

STEPS: dict[str, list[str]] = {
    "lint": [str(BIN / "ruff"), "check", *CODE],
    "format": [str(BIN / "ruff"), "format", "--check", *CODE],
    "types": [str(BIN / "mypy")],
    "import law": [str(BIN / "lint-imports"), "--no-cache"],
    "security": [str(BIN / "bandit"), "-q", "-c", "pyproject.toml", "-r", "netra_backend"],
    "tidy": [sys.executable, "-m", "tools.tidy"],
    "settings page": [sys.executable, "-m", "tools.settings_page", "--check"],
    "guarantees page": [sys.executable, "-m", "tools.guarantees_page", "--check"],
    "site": [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"],
    "docs": [
        sys.executable, "-m", "pytest", "-q",
        "netra_backend/tests/unit/test_docs.py", "netra_backend/tests/unit/test_guarantees.py",
    ],
}  # fmt: skip


def main() -> int:
    """Run every step and tell."""
    results = [run(name, command) for name, command in STEPS.items()]
    failed = [result["name"] for result in results if result["exit_code"]]
    Path("build/report").mkdir(parents=True, exist_ok=True)
    Path("build/report/check.json").write_text(json.dumps({"steps": results}, indent=2), encoding="utf-8")
    print(f"check: {len(results) - len(failed)} of {len(results)} steps hold" + (f"; broken: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def run(name: str, command: list[str]) -> dict[str, Any]:
    """One step, quiet unless it fails."""
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    seconds = round(time.monotonic() - start, 2)
    print(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {name:<14} {seconds:7.2f} s", flush=True)
    if done.returncode:
        print(done.stdout, flush=True)
    return {"name": name, "seconds": seconds, "exit_code": done.returncode}


if __name__ == "__main__":
    sys.exit(main())
