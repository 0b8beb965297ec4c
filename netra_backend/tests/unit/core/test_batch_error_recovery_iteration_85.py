"""Iteration 85: batch error recovery."""

from __future__ import annotations

from unittest.mock import AsyncMock, MagicMock

from netra_backend.batch import chunks
from netra_backend.batch.ladder import Ladder
from netra_backend.batch.model import Chunk, Committed, Lease
from netra_backend.batch.partition import Means, Partition
from netra_backend.batch.readers import Source, sequence
from netra_backend.batch.registry import Job
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.resilience.memory_pressure import Pressure

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

        one, execute = AsyncMock(return_value=("", "")), AsyncMock(return_value=1)
        tx = MagicMock(runtime=Runtime(), now_us=1, attempt=attempt, one=one, execute=execute)
        chunk = Chunk(0, None, list(range(8)), list(range(1, 9)), list(range(8)), {}, last=True)
        done = await chunks.commit(tx, LEASE, Job("job", read=MagicMock(), write=write), chunk, 60.0)
        assert (done.end, done.failed, done.finished) == (8, 1, True)
        assert written == [0, 1, 2, 3, 4, 6, 7]
        letters, moved = (call.kwargs for call in tx.execute.await_args_list)
        assert [(row[0], row[6]) for row in letters["rows"]] == [(5, "ValueError: poison")]
        assert (moved["done"], moved["failed"], moved["cursor"], moved["fence"]) == (7, 1, "8", 1)

    async def test_memory_pressure_handling(self):
        """Near the limit chunks shrink to one item and the run goes on; the one item that there is no memory for is a dead letter."""
        committed: list[Chunk] = []

        def process(item):
            if item == 5:
                raise MemoryError("500 MB")
            return item

        async def write(fn, lease, job, chunk, *_, **__):
            committed.append(chunk)
            return Committed(len(chunk), len(chunk.failures), chunk.last, 0.0, lease.chunk_size, 0)

        database, probe = MagicMock(write=write), MagicMock()
        readings = [0.5, 0.96, 0.96, *[0.85] * 40]
        probe.read.side_effect = [Pressure(share, 1, 2**40, 0.0, 0.0, "test") for share in readings]
        ladder = Ladder(MagicMock(clock=MagicMock(monotonic=MagicMock(side_effect=range(1000)))), probe, MagicMock())
        job = Job("job", read=sequence(range(8)), process=process, write=write)
        lease = Lease("acme", b"r" * 16, 0, b"n" * 16, 1, [0, 8], None, 0, 4, 0)
        partition = Partition(database, Runtime(), lease, job, job.read, Source({}, database, Scope("acme")), 1.0, Means(ladder))
        assert await partition.work(lambda: True, AsyncMock())
        assert [chunk.items for chunk in committed if len(chunk)] == [[0], [1], [2], [3], [4], [5], [6], [7]]
        assert [(failure.cause, failure.attempts) for chunk in committed for failure in chunk.failures.values()] == [("oom", 1)]
