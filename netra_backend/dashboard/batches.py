"""Pages of batches: runs, and one of them as it goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter

from ..batch import store
from ..batch.model import DeadLetter, Run, Totals
from ..batch.service import status_of
from ..batch.states import RUN
from ..kernel.ids import from_text
from ..storage.transaction import Tx
from . import charts, places
from .routing import page
from .visits import Visit

router: Final = APIRouter()
DECISIONS: Final = ("pause", "resume", "cancel")


@page(router, "batches", "batches.html")
async def batches(visit: Visit) -> dict[str, Any]:
    """A tenant's runs, the newest first."""

    async def fetch(at: Any, limit: int, back: bool) -> Sequence[tuple[Run, Totals]]:  # noqa: ARG001, FBT001  (this list goes one way)
        listed: Sequence[tuple[Run, Totals]] = await visit.read(store.runs, at, limit)
        return listed

    listed = await places.page(visit, "ib", fetch, lambda each: (each[0].created_us, each[0].id))
    now_us = visit.now_us
    shown = [_shown(status_of(run, totals, now_us)) for run, totals in listed.rows]
    return {"listed": places.Listed(shown, listed.older, listed.newer)}


@page(router, "batches/{run}", "run.html")
async def run(visit: Visit) -> dict[str, Any]:
    """One run: how far it is, what may be decided about it, its dead letters."""
    run_id = from_text("run", visit.named("run"))
    found, totals = await visit.read(store.run_and_totals, run_id)

    async def fetch(at: Any, limit: int, back: bool) -> Sequence[DeadLetter]:  # noqa: ARG001, FBT001  (this list goes one way)
        listed: Sequence[DeadLetter] = await visit.read(_failures, run_id, at, limit)
        return listed

    listed = await places.page(visit, "ii", fetch, lambda each: (each.partition, each.offset))
    possible = [event for event in DECISIONS if found.state in RUN.sources(event)]
    return {
        "run": _shown(status_of(found, totals, visit.now_us)),
        "listed": listed,
        "possible": possible,
        "ended": found.state in RUN.terminal,
    }


def _shown(status: dict[str, Any]) -> dict[str, Any]:
    """A run's status with its bar drawn."""
    done, failed, total = status["done"], status["failed"], status["total"]
    words = f"{done:,} done, {failed:,} failed" + (f" of {total:,}" if total is not None else "")
    return {**status, "bar": charts.progress(words, [(done, "good"), (failed, "bad")], total), "words": words}


async def _failures(tx: Tx, run_id: bytes, at: tuple[int, int] | None, limit: int) -> list[DeadLetter]:
    return await store.failures(tx, run_id, at or (-1, -1), limit)
