"""What the last hour's drawings count: every event of the log once, by tenant and minute, whenever somebody begins to look."""

from __future__ import annotations

import orjson
import pytest

from netra_backend.dashboard import activity as module
from netra_backend.dashboard.activity import ALL, MINUTE_US, MINUTES, Activity
from netra_backend.kernel.scope import system_scope
from netra_backend.storage import log

from ..support.server import every_server_engine, new_netra

__all__ = ["every_server_engine"]
ONE, TWO = "one", "two"
DELIVERED = {"type": "webhook.delivered", "message": "aa", "endpoint": "ee"}


async def _append(tx, rows):
    """Rows as the log's leader writes them: [(minutes ago, [(tenant, item), ...])]."""
    (last,) = await tx.one(log.Q.advance_stream, stream=module.STREAM, count=len(rows))
    numbered = [
        (module.STREAM, last - len(rows) + 1 + at, "*", orjson.dumps(items).decode(), tx.now_us - minutes * MINUTE_US)
        for at, (minutes, items) in enumerate(rows)
    ]
    await tx.execute(log.Q.insert_log, rows=numbered)


async def append(netra, *rows) -> None:
    await netra.database.write(_append, rows, scope=system_scope("tester"))


async def look(seen: Activity) -> Activity:
    """Up to the log's end."""
    await seen.look()
    await seen._task
    return seen


@pytest.mark.usefixtures("every_server_engine")
async def test_each_event_counts_once_for_its_tenant_and_for_all_also_for_who_comes_late(tmp_path):
    async with new_netra(tmp_path) as netra:
        await append(
            netra,
            (70, [(ONE, DELIVERED)]),
            (5, [(ONE, DELIVERED), (TWO, DELIVERED)]),
            (0, [(ONE, {"type": "webhook.dead", "message": "aa"})]),
        )
        early = await look(Activity(netra))
        await append(netra, (0, [(ONE, DELIVERED)] * 3), (0, [(TWO, {"type": "order.paid", "message": "bb"})]))
        for seen in (await look(early), await look(Activity(netra))):
            assert [sum(seen.series(who, "delivered")) for who in (ONE, TWO, ALL)] == [4, 1, 5], "the one of 70 minutes ago is over"
            assert seen.series(ONE, "delivered")[-6] + seen.series(ONE, "delivered")[-7] == 1, "five minutes ago"
            assert [sum(seen.series(who, "message")) for who in (ONE, TWO, ALL)] == [0, 1, 1]
            assert sum(seen.series(ONE, "delivered", "ee")) == 4 and len(seen.steps()) == MINUTES


async def test_items_of_batches_and_refreshes_of_connections_are_told_apart(tmp_path):
    async with new_netra(tmp_path) as netra:
        chunk = {"type": "chunk.committed", "run": "run_1", "done": 40, "failed": 2}
        steps = [{"type": "connection.refreshed", "connection": "crm", "generation": n} for n in range(25)]
        await append(netra, (1, [(ONE, chunk)]), (0, [(ONE, step) for step in steps]), (0, [(TWO, steps[0])]))
        seen = await look(Activity(netra))
        assert (sum(seen.series(ONE, "item")), sum(seen.series(ONE, "item_failed")), sum(seen.series(TWO, "item"))) == (40, 2, 0)
        history = seen.history(ONE, "crm")
        assert [facts["generation"] for _, _, facts in history] == list(range(24, 4, -1))
        assert len(seen.history(TWO, "crm")) == 1 and seen.history(TWO, "erp") == []


async def test_a_log_longer_than_the_bound_is_read_from_there_and_says_since_when(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 10)
    async with new_netra(tmp_path) as netra:
        await append(netra, *((30 - at, [(ONE, DELIVERED)]) for at in range(30)))
        seen = await look(Activity(netra))
        assert sum(seen.series(ALL, "delivered")) == 10
        assert seen.since_us > netra.runtime.clock.wall_us() - 12 * MINUTE_US
