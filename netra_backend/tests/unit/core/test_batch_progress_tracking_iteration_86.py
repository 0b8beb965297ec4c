"""Iteration 86: batch progress tracking."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import AsyncMock, MagicMock

import pytest

from netra_backend.batch import chunks
from netra_backend.batch.errors import LeaseLost
from netra_backend.batch.model import Chunk, Committed, Lease
from netra_backend.batch.partition import Partition
from netra_backend.batch.readers import Source, sequence
from netra_backend.batch.registry import Job
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope

LEASE = Lease("acme", b"r" * 16, 0, b"n" * 16, 1, [0, 10], None, 0, 4, 0)
JOB = Job("job", read=sequence(range(10)), write=AsyncMock())


class TestBatchProgressTracking:
    async def test_progress_persistence_across_restarts(self):
        """A process that begins with the cursor of another one's last commit reads what comes behind it, and nothing else."""
        seen: list[list[int]] = []

        async def write(fn, lease, job, chunk, *_, **__):
            seen.append(chunk.items)
            return Committed(len(chunk), 0, chunk.last, 0.0, 4, 0)

        database = MagicMock(write=write)
        source = Source({}, database, Scope("acme"))
        first = Partition(database, Runtime(), LEASE, JOB, JOB.read, source, 1.0)
        assert not await first.work(lambda: len(seen) < 1, AsyncMock())
        left = replace(LEASE, cursor=first.lease.cursor, position=first.lease.position, fence=2)
        second = Partition(database, Runtime(), left, JOB, JOB.read, source, 1.0)
        assert await second.work(lambda: True, AsyncMock())
        assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]

    async def test_atomic_progress_update(self):
        """Cursor and counters are one statement behind the rows, under the fence; where it finds nothing, nothing may stand."""
        tx = MagicMock(runtime=Runtime(), now_us=1, attempt=AsyncMock(return_value=None), one=AsyncMock(return_value=("", "")))
        tx.execute = AsyncMock(side_effect=[1, 0])
        chunk = Chunk(0, None, [1, 2], [1, 2], [1, None], {}, last=False)
        await chunks.commit(tx, LEASE, JOB, chunk, 60.0)
        (moved,) = (call.kwargs for call in tx.execute.await_args_list)
        figures = {name: moved[name] for name in ("cursor", "position", "done", "failed", "skipped", "node", "fence", "state")}
        expected = {"cursor": "2", "position": 2, "done": 2, "failed": 0, "skipped": 1, "node": b"n" * 16, "fence": 1, "state": "open"}
        assert figures == expected
        with pytest.raises(LeaseLost):
            await chunks.commit(tx, LEASE, JOB, chunk, 60.0)
