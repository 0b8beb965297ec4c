"""One partition under its lease, from its cursor to its end: read, process, commit, and again.

Whatever ends it early leaves the partition as its last commit left it: a lost lease or a stopped run drop the chunk, a stop of this
process finishes the chunk that is being committed and gives the partition back, a kill loses what was not committed. The next
owner goes on behind the cursor, so at most one chunk is done again (B5).
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import replace
from typing import Final

from ..errors import OutcomeUnknown, Unavailable
from ..kernel.backoff import Exponential
from ..kernel.failpoints import declare
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from ..storage.database import Database
from . import chunks
from .model import Chunk, Committed, Lease
from .prepare import prepare
from .readers import Read, Reader, Source
from .registry import Job

PROCESSED: Final = declare("batch.processed_before_write", "a chunk is read and processed, its transaction has not begun")
PAUSES: Final = Exponential(base_s=0.1, cap_s=5.0)


class Partition:
    """See the module's docstring. `keep_going` is asked before each chunk."""

    def __init__(
        self, database: Database, runtime: Runtime, lease: Lease, job: Job, reader: Reader, source: Source, target_s: float
    ) -> None:
        self.lease = lease
        self._database = database
        self._runtime = runtime
        self._job = job
        self._reader = reader
        self._source = source
        self._target_s = target_s

    @property
    def scope(self) -> Scope:
        """The run's tenant and trace."""
        return self._source.scope

    async def work(self, keep_going: Callable[[], bool], committed: Callable[[Committed], Awaitable[None]]) -> bool:
        """Chunk after chunk; True once the partition is done, False where it was told not to keep going."""
        items: Iterator[Read] | AsyncIterator[Read] = self._reader.read(self._source, self.lease.spec, self.lease.cursor)
        try:
            return await self._work(items, keep_going, committed)
        finally:
            await _close(items)

    async def _work(
        self,
        items: Iterator[Read] | AsyncIterator[Read],
        keep_going: Callable[[], bool],
        committed: Callable[[Committed], Awaitable[None]],
    ) -> bool:
        left: Chunk | None = None
        while keep_going():
            lease = self.lease
            chunk = left or await prepare(items, self._job, self._runtime, lease.position, lease.cursor, lease.chunk_size)
            if not keep_going():
                return False
            done = await self._commit(chunk, keep_going)
            await committed(done)
            if done.finished:
                return True
            self.lease = replace(
                lease,
                cursor=chunk.place(done.end),
                position=chunk.start + done.end,
                chunk_size=done.chunk_size,
                failure_ppm=done.failure_ppm,
            )
            left = chunk.rest(done.end) if done.end < len(chunk) or (chunk.last and not done.finished) else None
        return False

    async def _commit(self, chunk: Chunk, keep_going: Callable[[], bool]) -> Committed:
        """In the bulk lane, and again while the database refuses: nothing of it is stored then, and the lease is asked each time.

        `Unavailable` once this process is not to keep going: it stops, or its last beat is too old.
        """
        self._runtime.failpoints.hit(PROCESSED)
        tries = 0
        while True:
            try:
                done: Committed = await self._database.write(
                    chunks.commit, self.lease, self._job, chunk, self._target_s, scope=self.scope, lane="bulk"
                )
            except OutcomeUnknown:
                raise  # it may be there: whoever claims the partition next finds out by the cursor
            except Unavailable as error:
                tries += 1
                self._runtime.log.warning("%s waits for the database: %s", self.lease.words, error)
                if not keep_going():
                    raise
                await self._runtime.clock.sleep(PAUSES.delay_s(tries, self._runtime.chance))
            else:
                return done


async def _close(items: Iterator[Read] | AsyncIterator[Read]) -> None:
    """Let a reader that is a generator close its file now; one that still runs in its thread does so when it is collected."""
    with contextlib.suppress(ValueError, RuntimeError):
        if isinstance(items, AsyncGenerator):
            await items.aclose()
        elif isinstance(items, Generator):
            items.close()
