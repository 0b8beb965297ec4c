"""Iteration 85: batch error recovery. The other half, memory pressure, comes with the memory ladder."""

from __future__ import annotations

from unittest.mock import AsyncMock, MagicMock

from netra_backend.batch import chunks
from netra_backend.batch.model import Chunk, Lease
from netra_backend.batch.registry import Job
from netra_backend.kernel.runtime import Runtime

LEASE = Lease("acme", b"r" * 16, 0, b"n" * 16, 1, None, None, 0, 100, 0)


class TestBatchErrorRecovery:
    async def test_partial_failure_handling(self):
        """One poison item of eight costs one dead letter: the other seven are written, and the cursor moves behind all."""
        written: list[int] = []

        async def write(tx, rows):
            if 5 in rows:
                raise ValueError("poison")
            written.extend(rows)

        async def attempt(fn, *args):
            try:
                await fn(None, *args)
            except ValueError as error:
                return error

        tx = MagicMock(runtime=Runtime(), now_us=1, attempt=attempt, one=AsyncMock(return_value=(1,)), execute=AsyncMock(return_value=1))
        chunk = Chunk(0, None, list(range(8)), list(range(1, 9)), list(range(8)), {}, last=True)
        done = await chunks.commit(tx, LEASE, Job("job", read=MagicMock(), write=write), chunk, 60.0)
        assert (done.end, done.failed, done.finished) == (8, 1, True)
        assert written == [0, 1, 2, 3, 4, 6, 7]
        letters, moved = (call.kwargs for call in tx.execute.await_args_list)
        assert [(row[0], row[6]) for row in letters["rows"]] == [(5, "ValueError: poison")]
        assert (moved["done"], moved["failed"], moved["cursor"], moved["fence"]) == (7, 1, "8", 1)
