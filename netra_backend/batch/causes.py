"""What KPIs ask of batches: whether the last run of a job has brought what somebody waits for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from ..kernel.witnesses import LONGEST_WORDS, Dependency
from ..storage.statements import Statements
from ..storage.transaction import Tx

Q = Statements(__package__)

PREFIX: Final = "batch.job:"
WORDS: Final = {
    "queued": "waits for a run of {job}",
    "running": "waits for a run of {job}",
    "paused": "run of {job} is paused",
    "failed": "run of {job} failed",
    "cancelled": "run of {job} was cancelled",
    "completed_with_failures": "run of {job} left items out",
}
"""Of the states that leave somebody waiting, in words."""


class Witness:
    """`kernel.witnesses.Dependencies`, from the tables of batches."""

    async def troubles(self, tx: Tx, wanted: Collection[Dependency]) -> Mapping[Dependency, str]:
        """`batch.job:NAME` is the tenant's last run of that job."""
        asked = sorted((tenant, name.removeprefix(PREFIX)) for tenant, name in wanted if name.startswith(PREFIX))
        if not asked:
            return {}
        found = {}
        for tenant, job, state, reason in await tx.all(Q.last_runs, rows=asked):
            if state in WORDS:
                words = WORDS[state].format(job=job)
                found[tenant, PREFIX + job] = (f"{words}: {reason}" if reason else words)[:LONGEST_WORDS]
        return found
