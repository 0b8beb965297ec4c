"""The life of a run, as a table; and which columns are decisions."""

from __future__ import annotations

from typing import Final

from ..kernel.states import StateTable

RUN: Final = StateTable(
    "run",
    ("queued", "running", "completed", "completed_with_failures", "failed", "paused", "cancelled"),
    {
        "begin": (("queued",), "running"),
        "complete": (("running",), "completed"),
        "complete_with_failures": (("running",), "completed_with_failures"),
        "fail": (("queued", "running"), "failed"),
        "pause": (("queued", "running"), "paused"),
        "resume": (("paused", "failed"), "queued"),
        "cancel": (("queued", "running", "paused", "failed"), "cancelled"),
    },
)
"""A run is planned again at each `begin` only if it never was: partitions keep their cursors through pause and failure."""

ACTIVE: Final = ("queued", "running")
"""States in which there may be something to do."""

FINISHED: Final = ("completed", "completed_with_failures", "failed", "cancelled")
"""States in which no worker has anything to do, and whose run has an end. A failed one may be resumed all the same."""

COMPLETED: Final = ("completed", "completed_with_failures")
"""States in which every item has come to its end; runs that come after it begin."""

PARTITION: Final = StateTable("partition", ("open", "done"), {"finish": (("open",), "done")})

DECISIONS: Final = {
    "netra_job_run": ("state", "audit_id"),
    "netra_job_schedule": ("state", "job", "cron", "zone", "params", "partitions", "priority", "audit_id"),
}
"""Audited tables and the columns whose change may need an entry: starting, pausing, resuming and cancelling are somebody's; the
rest is the run's own ledger."""
