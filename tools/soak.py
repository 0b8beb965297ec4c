"""Long fault runs: `python -m tools.soak [PART]... [--minutes M]`, the evidence under docs/evidence/.

A part is a list of rounds; a round is a test that takes its count from the environment, run in portions of a few
minutes until its total is reached. What is done stands in the report itself after each portion, so a run that ends by its
time (exit code 130) or by a power cut goes on where it was, on any machine: the same command again. `--fresh` begins anew.

A portion that fails ends the part with exit code 1 and is not counted; its words stay in build/soak/<part>-failed.log.
Danger: portions done under different revisions count together; the report names every revision.

The part `postgres` runs on the server of the tests, or on another release's programs: NETRA_TEST_POSTGRES_BIN names their
folder (Debian's: /usr/lib/postgresql/15/bin). Each cell of its report names the release.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .report import revision

STATE = Path("build/soak")
EVIDENCE = Path("docs/evidence")
PORTION_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Round:
    """One test, `total` times by `portion`s. `variable` carries a portion's size, divided by `cells` that each take it.

    `only` is pytest's `-k`: which of the test's cells belong to this part.
    """

    name: str
    test: str
    variable: str
    total: int
    portion: int
    cells: int = 1
    seed: str = ""
    only: str = ""


RESTORE = "netra_backend/tests/faults/test_restore.py::test_a_restore_killed_before_any_of_its_lines_leaves_the_old_database_or_the_new_one"
KILLS = "netra_backend/tests/faults/test_kills.py::test_random_kills_lose_nothing"
CACHE = "netra_backend/tests/faults/test_cache_faults.py"
EXPLORER = "netra_backend/tests/unit/test_cache_explorer.py"
RESTARTS = "netra_backend/tests/faults/test_postgres_server.py::test_a_server_that_comes_and_goes_loses_nothing"
TASK_KILLS = "netra_backend/tests/faults/test_task_kills.py::test_random_kills_during_a_recovery_lose_nothing"
BATCH_KILLS = "netra_backend/tests/faults/test_batch_kills.py::test_random_kills_lose_and_double_nothing"
FLIGHTS = "netra_backend/tests/faults/test_batch_flights.py::test_a_year_of_flights_survives_kills_row_by_row"
AUDIT_KILLS = "netra_backend/tests/faults/test_audit_kills.py::test_random_kills_leave_each_change_its_entry_and_one_history"
DEBUG = (
    "netra_backend/tests/integration/test_debug.py::test_a_thousand_tenants_interleaved_over_tasks_threads_and_retries_hear_only_their_own"
)
FAT = "netra_backend/tests/faults/test_batch_poison.py"
OAUTH = "netra_backend/tests/faults/test_oauth_kills.py"
PARTS = {
    "audit": [Round("random kills while entries are sequenced and signed", AUDIT_KILLS, "NETRA_KILLS", 1000, 40, 2, "NETRA_KILL_SEED")],
    "debug": [
        Round(
            "work of a thousand tenants, eight of which are looked at", DEBUG, "NETRA_DEBUG_WORKS", 200_000, 20_000, 2, "NETRA_DEBUG_SEED"
        )
    ],
    "storage": [
        Round("crash images", "netra_backend/tests/faults/test_crash_images.py", "NETRA_CRASH_IMAGES", 2000, 500),
        Round("a restore killed before each of its lines", RESTORE, "NETRA_RESTORE_EVERY", 1, 1),
        Round("two libraries, commits", "netra_backend/tests/faults/test_two_libraries.py", "NETRA_TWO_LIB_COMMITS", 10_000, 10_000),
    ],
    "webhooks": [
        Round("random kills", KILLS, "NETRA_KILLS", 1000, 200, cells=4, seed="NETRA_KILL_SEED", only="sqlite"),
        Round("random kills during a recovery", TASK_KILLS, "NETRA_KILLS", 100, 20, cells=2, seed="NETRA_KILL_SEED"),
    ],
    "oauth": [
        Round(
            "random kills at any moment, providers that take a token again",
            f"{OAUTH}::test_random_kills_lose_no_grant",
            "NETRA_KILLS",
            1200,
            120,
            cells=12,
            seed="NETRA_KILL_SEED",
        ),
        Round(
            "random kills at failpoints, providers that do not",
            f"{OAUTH}::test_random_kills_at_failpoints_lose_no_grant_of_a_provider_that_takes_no_token_twice",
            "NETRA_KILLS",
            800,
            160,
            cells=4,
            seed="NETRA_KILL_SEED",
        ),
    ],
    "cache": [
        Round("reads under faults", CACHE, "NETRA_CACHE_READS", 10_000_000, 2_000_000, cells=2, seed="NETRA_CACHE_SEED", only="no_read"),
        Round("larger scopes of the explorer", EXPLORER, "NETRA_EXPLORE", 1, 1),
    ],
    "batch": [
        Round("random kills", BATCH_KILLS, "NETRA_KILLS", 1000, 120, cells=4, seed="NETRA_KILL_SEED"),
        Round("one item of 500 MB where there are 160", FAT, "NETRA_FAT_BYTES", 500 << 20, 500 << 20, only="memory_is_not_enough"),
        Round("kills while a year of flights is loaded", FLIGHTS, "NETRA_FLIGHT_ROWS", 2 * 336_776, 336_776, cells=2),
    ],
    "postgres": [
        Round("random kills", KILLS, "NETRA_KILLS", 1000, 200, cells=4, seed="NETRA_KILL_SEED", only="postgres"),
        Round(
            "restarts, crashes and ended connections of the server", RESTARTS, "NETRA_RESTARTS", 600, 120, cells=6, seed="NETRA_KILL_SEED"
        ),
    ],
}


def main(argv: list[str]) -> int:
    """Run the parts named, or all; the exit code of the first that does not end well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no portion after this time")
    parser.add_argument("--fresh", action="store_true", help="forget what is done")
    options = parser.parse_args(argv)
    ends = time.monotonic() + options.minutes * 60
    STATE.mkdir(parents=True, exist_ok=True)
    for part in options.parts or PARTS:
        code = soak(part, ends, [] if options.fresh else _read(part))
        if code:
            return code
    return 0


def soak(part: str, ends: float, done: list[dict[str, Any]]) -> int:
    """Run what is left of one part until `ends` (monotonic seconds), and write its report after each portion."""
    for one in PARTS[part]:
        while (so_far := sum(portion["count"] for portion in done if portion["round"] == one.name)) < one.total:
            if time.monotonic() > ends:
                print(f"{part}: {one.name}: {so_far} of {one.total}; the time is up, the same command goes on from here")
                return 130
            portion = run_portion(part, one, so_far)
            if portion is None:
                return 1
            done.append(portion)
            write_report(part, done)
            print(f"{part}: {one.name}: {so_far + portion['count']} of {one.total} in {portion['seconds']} s", flush=True)
    write_report(part, done)
    return 0


def run_portion(part: str, one: Round, so_far: int) -> dict[str, Any] | None:
    """One run of the test; what it did, or None if it failed."""
    count = min(one.portion, one.total - so_far)
    lines = STATE / f"{part}.ndjson"
    lines.unlink(missing_ok=True)
    environment = {**os.environ, one.variable: str(-(-count // one.cells)), "NETRA_EVIDENCE": str(lines.absolute())}
    if one.seed:
        environment[one.seed] = str(1000 + so_far)
    started, date = time.monotonic(), datetime.now(UTC).isoformat(timespec="seconds")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-o", "faulthandler_timeout=1700", one.test]
    command += ["-k", one.only] if one.only else []
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PORTION_LIMIT_S, check=False)
    if run.returncode:
        log = STATE / f"{part}-failed.log"
        log.write_text(run.stdout + run.stderr, encoding="utf-8")
        print(f"{part}: {one.name}: a portion failed ({one.variable}={environment[one.variable]}), see {log}", file=sys.stderr)
        return None
    cells = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()] if lines.exists() else []
    seconds = round(time.monotonic() - started, 1)
    facts = {"count": count, "seconds": seconds, "date": date, "revision": revision(), "seed": environment.get(one.seed, "")}
    return {"round": one.name, **facts, "cells": cells, "words": run.stdout.strip().splitlines()[-1]}


def write_report(part: str, done: list[dict[str, Any]]) -> None:
    """docs/evidence/soak-<part>.json and .md."""
    EVIDENCE.mkdir(parents=True, exist_ok=True)
    rounds = [_summary(one, [portion for portion in done if portion["round"] == one.name]) for one in PARTS[part]]
    report = {
        "part": part,
        "command": f"make soak PART={part}",
        "revisions": sorted({portion["revision"] or "unknown" for portion in done}),
        "date": max((portion["date"] for portion in done), default=""),
        "complete": all(each["done"] >= each["total"] for each in rounds),
        "rounds": rounds,
        "portions": done,
    }
    _report_file(part).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    (EVIDENCE / f"soak-{part}.md").write_text(_page(report), encoding="utf-8")


def _summary(one: Round, portions: list[dict[str, Any]]) -> dict[str, Any]:
    cells: dict[str, Counter[str]] = {}
    for line in (line for portion in portions for line in portion["cells"]):
        counted = {name: value for name, value in line.items() if isinstance(value, int)}
        cells.setdefault(line.get("cell", "all"), Counter()).update(counted)
    return {
        "round": one.name,
        "test": one.test,
        "total": one.total,
        "done": sum(portion["count"] for portion in portions),
        "seconds": round(sum(portion["seconds"] for portion in portions), 1),
        "seeds": [portion["seed"] for portion in portions if portion["seed"]],
        "cells": {cell: dict(counts) for cell, counts in sorted(cells.items())},
    }


def _page(report: dict[str, Any]) -> str:
    state = "complete" if report["complete"] else "not complete yet"
    lines = [
        f"# Soak: {report['part']}",
        "",
        f"`{report['command']}`, {report['date']}, {state}. Revisions: {', '.join(report['revisions'])}.",
        "",
        "A portion that fails ends the run and is not counted, so every figure below is of runs in which each check held.",
    ]
    for each in report["rounds"]:
        lines += ["", f"## {each['round']}", "", f"{each['done']} of {each['total']} in {each['seconds']} s, by `{each['test']}`."]
        if each["seeds"]:
            lines += ["", f"Seeds: {', '.join(each['seeds'])}."]
        if each["cells"]:
            names = list(dict.fromkeys(name for counts in each["cells"].values() for name in counts))
            lines += ["", "| cell | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
            lines += [
                f"| {cell} | " + " | ".join(str(counts.get(name, 0)) for name in names) + " |" for cell, counts in each["cells"].items()
            ]
    return "\n".join(lines) + "\n"


def _report_file(part: str) -> Path:
    return EVIDENCE / f"soak-{part}.json"


def _read(part: str) -> list[dict[str, Any]]:
    """The portions that are done; none of a report from before they were kept in it."""
    try:
        done: list[dict[str, Any]] = json.loads(_report_file(part).read_text(encoding="utf-8")).get("portions", [])
    except FileNotFoundError:
        return []
    return done


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
