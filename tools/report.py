"""Run one target's command and write what happened to build/report/<target>.json.

Usage: `report.py TARGET [--junit FILE] -- COMMAND...`. The command's output goes straight through, its exit code is the
exit code. Counts come from pytest's own XML. A tool that knows more (bench, controls) writes its members to
build/report/<target>.json itself; they are kept and framed, never retyped.

Danger: this file also runs before the environment exists, so it uses the standard library only.
"""

from __future__ import annotations

import argparse
import json
import platform
import shlex
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

REPORTS = Path("build/report")


def main(argv: list[str]) -> int:
    """Parse, run, write; the command's exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target")
    parser.add_argument("--junit", type=Path, default=None)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args(argv)
    path = REPORTS / f"{options.target}.json"
    REPORTS.mkdir(parents=True, exist_ok=True)
    for stale in filter(None, [path, options.junit]):
        stale.unlink(missing_ok=True)
    date, start = datetime.now(timezone.utc), time.monotonic()  # noqa: UP017  (readable on any Python 3)
    exit_code = run(options.command)
    report = details(path) | {
        "target": options.target,
        "command": shlex.join(options.command),
        "revision": revision(),
        "date": date.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - start, 2),
        "exit_code": exit_code,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    if options.junit:
        report["tests"] = counts(options.junit)
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return exit_code


def run(command: list[str]) -> int:
    """Run to the end; Ctrl-C is the child's to answer, so that it can clean up before this process reports."""
    process = subprocess.Popen(command)
    former = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = process.wait()
    finally:
        signal.signal(signal.SIGINT, former)
    return code if code >= 0 else 128 - code


def details(path: Path) -> dict[str, Any]:
    """What the command itself wrote; a bare list becomes `rows`."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {"rows": found}


def revision() -> str | None:
    """The commit, with `+changes` when the tree differs from it; None outside a repository."""
    try:
        head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        changes = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head.stdout.strip() + ("+changes" if changes.stdout.strip() else "")


def counts(junit: Path) -> dict[str, int] | None:
    """Tests by outcome; None when pytest ended before writing any."""
    try:
        suites = ET.parse(junit).getroot().iter("testsuite")  # noqa: S314  (our own file)
    except (FileNotFoundError, ET.ParseError):
        return None
    total = dict.fromkeys(("tests", "failures", "errors", "skipped"), 0)
    for suite in suites:
        for name in total:
            total[name] += int(suite.get(name, "0"))
    passed = total["tests"] - total["failures"] - total["errors"] - total["skipped"]
    return {"passed": passed, "failed": total["failures"], "errors": total["errors"], "skipped": total["skipped"]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
