"""One partition under its lease, from its cursor to its end: read, process, commit, and again; the next items are read meanwhile.

Whatever ends it early leaves the partition as its last commit left it: a lost lease or a stopped run drop the chunk, a stop of this
process finishes the chunk that is being committed and gives the partition back, a kill loses what was not committed. The next
owner goes on behind the cursor, so at most one chunk is done again (B5): what is read ahead is not processed.

Memory. The ladder says how long a chunk may be and when it may begin. Where memory ends all the same (`MemoryError`, or the level
ABORT), nothing of the chunk is kept: it is read again from the cursor at half its length, down to one item. One item for which there
is not memory enough is a dead letter of the cause `oom`. A chunk whose owners have died is worked on in quarantine (`quarantine.py`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Final

from ..errors import OutcomeUnknown, Unavailable
from ..kernel.backoff import Exponential
from ..kernel.debugging import Watch, any_session, watching
from ..kernel.failpoints import declare
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from ..resilience.memory_pressure import Level
from ..storage.database import Database
from . import chunks, store
from .chunks import Learned
from .errors import WriterKills
from .feed import Feed
from .ladder import Ladder
from .model import Chunk, Committed, Failure, Lease, words
from .prepare import chunk_of, process
from .quarantine import CRASHES, HOPELESS, Quarantine, letter_of
from .readers import Reader, Source
from .registry import Job
from .seam import Seam

PROCESSED: Final = declare("batch.processed_before_write", "a chunk is read and processed, its transaction has not begun")
PAUSES: Final = Exponential(base_s=0.1, cap_s=5.0)

KeepGoing = Callable[[], bool]


@dataclass(frozen=True)
class Means:
    """What the partitions of a process work with."""

    ladder: Ladder = field(default_factory=lambda: Ladder(Runtime()))
    threads: Executor | None = None
    modules: tuple[str, ...] = ()
    seam: Seam | None = None
    pace: Callable[[int, KeepGoing], Awaitable[None]] | None = None


class Partition:
    """See the module's docstring. `keep_going` is asked before each chunk."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        lease: Lease,
        job: Job,
        reader: Reader,
        source: Source,
        target_s: float,
        means: Means | None = None,
    ) -> None:
        self.lease = lease
        self._database = database
        self._runtime = runtime
        self._job = job
        self._reader = reader
        self._source = source
        self._target_s = target_s
        self._means = means or Means()
        self._ladder = self._means.ladder
        self._feed: Feed | None = None
        self._left: Chunk | None = None
        self._quarantine = self._new_quarantine() if lease.crashes >= CRASHES else None

    @property
    def scope(self) -> Scope:
        """The run's tenant and trace."""
        return self._source.scope

    def _new_quarantine(self) -> Quarantine:
        return Quarantine(self._job, self._means.modules, self._reader, self._source, self.lease, self._ladder)

    async def work(self, keep_going: KeepGoing, committed: Callable[[Committed], Awaitable[None]]) -> bool:
        """Chunk after chunk; True once the partition is done, False where it was told not to keep going."""
        try:
            while keep_going():
                done = await self._one(keep_going)
                if done is None:
                    return False
                await committed(done)
                if done.finished:
                    return True
            return False
        finally:
            await self._begin_again()
            if self._quarantine is not None:
                await self._quarantine.close()

    async def _one(self, keep_going: KeepGoing) -> Committed | None:
        """Read, process and commit one chunk; None where that is not to happen any more."""
        with watching(await self._listener()):
            return await self._one_heard(keep_going)

    async def _listener(self) -> Watch | None:
        """Who debugs this run now; asked for each chunk, since a run is longer than a session."""
        if not any_session:
            return None
        return await self._runtime.debug.pick_up(self.scope, self.lease.run_id, {"job": self._job.name})

    async def _one_heard(self, keep_going: KeepGoing) -> Committed | None:
        async with self._ladder.admitted(self.lease.chunk_size, keep_going) as size:
            chunk = self._left or (await self._next(size) if size else None)
            if chunk is None or not keep_going():
                return None
            if self._means.pace is not None:
                await self._means.pace(len(chunk), keep_going)
                if not keep_going():
                    return None
            self._read_ahead(chunk)
            done = await self._commit(chunk, keep_going)
        self._learn(chunk, done)
        return done

    async def _next(self, size: int) -> Chunk:
        if self._quarantine is not None:
            return await self._quarantine.next(self.lease)
        if self._job.rate is not None:
            size = max(1, min(size, int(self._job.rate)))
        while True:
            try:
                chunk = await self._prepared(size)
                if len(chunk) <= 1 or self._ladder.look() < Level.ABORT:
                    return chunk
                del chunk
                said = ""
            except MemoryError as error:
                said = words(error)
            await self._begin_again()
            self._ladder.give_back()  # also what only refers to itself, as an error and the frames that it came through do
            if size == 1:
                return await letter_of(self._reader, self._source, self.lease, Failure(said, 1, "oom"), readable=True)
            size = max(1, size // 2)
            self.lease = replace(self.lease, chunk_size=size)
            self._runtime.log.warning("%s: memory ends, chunks have %d items now", self.lease.words, size)

    async def _prepared(self, size: int) -> Chunk:
        lease = self.lease
        if self._feed is None:
            self._feed = Feed(self._reader.read(self._source, lease.spec, lease.cursor), self._means.threads)
        portion = await self._feed.take(size, self._ladder.budget())
        chunk = chunk_of(portion, lease.position, lease.cursor)
        await process(chunk, self._job, self._runtime, self._means.seam, self._means.threads)
        return chunk

    def _read_ahead(self, chunk: Chunk) -> None:
        if self._feed is not None and self._left is None and not chunk.last and self._ladder.may_read_ahead:
            self._feed.read_ahead(self.lease.chunk_size, self._ladder.budget())

    async def _begin_again(self) -> None:
        """Forget what was read: the next chunk is read from the cursor."""
        feed, self._feed = self._feed, None
        if feed is not None:
            await feed.close()

    def _learn(self, chunk: Chunk, done: Committed) -> None:
        self.lease = replace(
            self.lease,
            cursor=chunk.place(done.end),
            position=chunk.start + done.end,
            chunk_size=done.chunk_size,
            failure_ppm=done.failure_ppm,
            item_bytes=done.item_bytes,
            crashes=0,
        )
        self._left = chunk.rest(done.end) if done.end < len(chunk) or (chunk.last and not done.finished) else None
        if self._quarantine is not None and self.lease.position >= self._quarantine.until:
            self._quarantine = None

    async def _commit(self, chunk: Chunk, keep_going: KeepGoing) -> Committed:
        """In the bulk lane, and again while the database refuses: nothing of it is stored then, and the lease is asked each time.

        `Unavailable` once this process is not to keep going: it stops, or its last beat is too old.
        """
        self._runtime.failpoints.hit(PROCESSED)
        tries, noted = 0, self._quarantine is None
        seam = self._means.seam
        learned = Learned(self._ladder.look(), "quarantine" if self._quarantine else seam.state if seam else "")
        while True:
            try:
                if not noted:
                    await self._note_writing()
                    noted = True
                done: Committed = await self._database.write(
                    chunks.commit, self.lease, self._job, chunk, self._target_s, learned, scope=self.scope, lane="bulk"
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

    async def _note_writing(self) -> None:
        begun: int = await self._database.write(store.begin_to_write, self.lease, scope=self.scope)
        if begun > HOPELESS:
            where = f"behind offset {self.lease.position} of {self.lease.words}"
            raise WriterKills(f"{HOPELESS} processes have died while they wrote what is {where}")
