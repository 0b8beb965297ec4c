"""`make bench`: every table, its rows as one report and as text. Options: `--only NAME`, `--quick`.

A table is a module with `rows(quick=...)` and can be run by itself. The rows go to build/report/bench.json, where
tools/report.py adds command, revision and date. The exit code says that everything ran and every check of a benchmark
held; a missed aim is a fact in the report and no failure, because machines differ.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import audit_log
import batch_load
import batch_peers
import batch_shapes
import cache_hits
import cache_stale
import dashboard_pages
import debug_sessions
import group_commit
import group_commit_postgres
import hostile_endpoints
import oauth_tokens
import observability
import token_validation
import webhooks_end_to_end
import webhooks_shapes
import webhooks_statements
from measure import machine, show, write_report

REPORT = Path("build/report/bench.json")
TABLES = {
    "dashboard_pages": dashboard_pages,
    "group_commit": group_commit,
    "group_commit_postgres": group_commit_postgres,
    "webhooks_end_to_end": webhooks_end_to_end,
    "hostile_endpoints": hostile_endpoints,
    "webhooks_shapes": webhooks_shapes,
    "webhooks_statements": webhooks_statements,
    "batch_load": batch_load,
    "observability": observability,
    "cache_hits": cache_hits,
    "cache_stale": cache_stale,
    "debug_sessions": debug_sessions,
    "batch_peers": batch_peers,
    "batch_shapes": batch_shapes,
    "oauth_tokens": oauth_tokens,
    "audit_log": audit_log,
    "token_validation": token_validation,
}


def main() -> int:
    """Run the chosen tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(TABLES), action="append", help="one table; may be repeated")
    parser.add_argument("--quick", action="store_true", help="one short run of each: shows that it works, measures little")
    for table in (webhooks_end_to_end, dashboard_pages):
        table.options(parser)
    given = parser.parse_args()
    for table in (webhooks_end_to_end, dashboard_pages):
        table.configure(given)
    facts = {"quick": given.quick, **machine()}
    rows, seconds = [], {}
    for name in given.only or TABLES:
        started = time.monotonic()
        found = [{"table": name, **row.as_json()} for row in TABLES[name].rows(quick=given.quick)]
        seconds[name] = round(time.monotonic() - started, 1)
        show(found)
        rows += found
        write_report(REPORT, rows, {**facts, "at_the_end": machine(), "table_seconds": seconds})
    missed = [row["name"] for row in rows if row["met"] is False]
    print(f"{len(rows)} rows in {sum(seconds.values()):.0f} s; aims missed: {', '.join(missed) or 'none'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
