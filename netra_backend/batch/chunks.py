"""One transaction per chunk: the writer's rows, the dead letters, the cursor and the counters, or nothing of them.

Protocol. A chunk was read and processed before; here nothing is computed but what the writer does.
0. Is this node still alive, and does the partition bear its name and this fence? The row is locked, so nobody claims it before
   this transaction ends. Asked first, because whoever lost it would run into the rows of whoever has it.
1. The items are written in parts, each in a savepoint. A part that fails is undone and halved, down to the one item that is
   guilty, which becomes a dead letter; where the first half stands, the second is halved unseen. A chunk in which nothing
   fails is one part.
2. The dead letters are written.
3. Is the run still running? Then the cursor moves, under name and fence once more. A no rolls everything back.

So output, dead letters, cursor and counters cannot disagree (B1, B2), and whoever lost the partition while he slept commits
nothing (B3). The run is asked for at the end because that locks it: a pause waits for it, and for no more.

A chunk may end before its last item: where so many parts stand that PostgreSQL would have to look for them on disk, or where
the transaction takes twice its time. Then what was written is committed with a cursor behind it, and the rest is the next
chunk. Rejected: to write what is good a second time, in one piece, once the guilty are known, which costs as much again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import orjson

from ..kernel.failpoints import declare
from ..kernel.ids import to_text
from ..kernel.scope import TraceContext
from ..kernel.spans import OK, Span, continued
from ..resilience.memory_pressure import Level
from ..storage import spans
from ..storage.statements import Row
from ..storage.transaction import Tx
from . import store
from .errors import LeaseLost, RunStopped
from .model import Chunk, Committed, Failure, Lease, Rows, words
from .picture import picture_of
from .raised import contained
from .registry import Job, Write
from .sizing import MOST_SAVEPOINTS, first_parts, learned_bytes, learned_ppm, next_size

Q = store.Q

BISECTING: Final = declare("batch.part_undone_mid_bisection", "a part of a chunk has failed and is undone, its halves are not tried")
WRITTEN: Final = declare("batch.rows_written_before_cursor", "the writer's rows are written, dead letters and cursor are not")
LETTERED: Final = declare("batch.dead_letters_before_cursor", "rows and dead letters are written, the cursor stands where it stood")
ADVANCED: Final = declare("batch.cursor_moved_before_commit", "rows, dead letters and cursor are written, nothing is committed")


@dataclass(frozen=True, slots=True)
class Learned:
    """What is stored beside the cursor for whoever looks and whoever goes on: the memory level, and where items are processed."""

    level: Level = Level.GROW
    executor: str = ""


@dataclass(slots=True)
class _Written:
    """How far the writer came, and which items it refused."""

    end: int = 0
    failures: dict[int, Failure] = field(default_factory=dict)


class _Part(NamedTuple):
    """A half-open range of a chunk's items that is to be written. `guilty_if`: so many failures when its turn comes mean that it fails."""

    start: int
    end: int
    guilty_if: int = -1


async def commit(tx: Tx, lease: Lease, job: Job, chunk: Chunk, target_s: float, learned: Learned | None = None) -> Committed:
    """Write a chunk, or the beginning of one; `LeaseLost` or `RunStopped` where nothing may be committed."""
    if not await store.holds(tx, lease):
        raise LeaseLost(f"{lease.words} is another process's by now")
    clock = tx.runtime.clock
    begun = clock.monotonic()
    written = await _write(tx, lease, job.write, chunk, begun + 2 * target_s)
    end = written.end
    tx.runtime.failpoints.hit(WRITTEN)
    failures = {index: failure for index, failure in (chunk.failures | written.failures).items() if index < end}
    if failures:
        await _bury(tx, lease, chunk, failures)
    tx.runtime.failpoints.hit(LETTERED)
    held_s = clock.monotonic() - begun
    learned = learned or Learned()
    size = next_size(lease.chunk_size, end, held_s, target_s, job.chunk, learned.level)
    ppm = learned_ppm(lease.failure_ppm, end, len(written.failures))
    finished = chunk.last and end == len(chunk)
    done = Committed(end, len(failures), finished, held_s, size, ppm, learned_bytes(lease.item_bytes, chunk.item_bytes))
    await _advance(tx, lease, chunk, failures, done, learned)
    tx.runtime.failpoints.hit(ADVANCED)
    return done


async def _write(tx: Tx, lease: Lease, write: Write, chunk: Chunk, deadline: float) -> _Written:
    written, standing = _Written(), 0
    waiting = [_Part(start, end) for start, end in first_parts(len(chunk), lease.failure_ppm)][::-1]
    while waiting:
        part = waiting.pop()
        if part.start and (standing >= MOST_SAVEPOINTS or tx.runtime.clock.monotonic() > deadline):
            break
        chosen = _good(chunk, part.start, part.end)
        if len(chosen) > 1 and part.guilty_if == len(written.failures):
            waiting += _halves(part, chosen, written)
            continue
        error = await tx.attempt(_call, write, _rows(lease, chunk, chosen)) if chosen else None
        if error is None:
            standing += bool(chosen)
        elif len(chosen) == 1:
            written.failures[chosen[0]] = Failure(words(error), 1)
        else:
            tx.runtime.failpoints.hit(BISECTING)
            waiting += _halves(part, chosen, written)
            continue
        written.end = part.end
    return written


async def _call(tx: Tx, write: Write, rows: Rows) -> None:
    with contained():
        await write(tx, rows)


def _halves(part: _Part, chosen: list[int], written: _Written) -> list[_Part]:
    """The second, then the first. If nothing of the first fails it is the second that does: a look at it as a whole would tell nothing."""
    middle = chosen[len(chosen) // 2]
    return [_Part(middle, part.end, len(written.failures)), _Part(part.start, middle)]


def _good(chunk: Chunk, start: int, end: int) -> list[int]:
    """The items of a range that are to be written."""
    values = chunk.values
    return [index for index in range(start, end) if values[index] is not None]


def _rows(lease: Lease, chunk: Chunk, chosen: Sequence[int]) -> Rows:
    values = chunk.values
    return Rows([values[index] for index in chosen], _Keys(lease, chunk, chosen))


class _Keys(Sequence[str]):
    """The stable keys of a part's items, made when they are asked for."""

    def __init__(self, lease: Lease, chunk: Chunk, chosen: Sequence[int]) -> None:
        self._lease = lease
        self._chunk = chunk
        self._chosen = chosen

    def __len__(self) -> int:
        return len(self._chosen)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [key_of(self._lease, self._chunk, place) for place in self._chosen[index]]
        return key_of(self._lease, self._chunk, self._chosen[index])


def key_of(lease: Lease, chunk: Chunk, index: int) -> str:
    """`run:partition:offset` of an item; in a rerun, of the item as the first run knew it."""
    return chunk.keys[index] if chunk.keys else f"{to_text('run', lease.run_id)}:{lease.number}:{chunk.start + index}"


async def _bury(tx: Tx, lease: Lease, chunk: Chunk, failures: dict[int, Failure]) -> None:
    rows = [_letter(lease, chunk, index, failure) for index, failure in sorted(failures.items())]
    await tx.execute(Q.insert_failures, run_id=lease.run_id, number=lease.number, now_us=tx.now_us, rows=rows)
    for index, failure in sorted(failures.items()):
        key = key_of(lease, chunk, index)
        store.announce(tx, "item.failed", lease.run_id, partition=lease.number, key=key, cause=failure.cause)


def _letter(lease: Lease, chunk: Chunk, index: int, failure: Failure) -> Row:
    payload, exact = picture_of(chunk.items[index])
    place = orjson.dumps(chunk.place(index)).decode()
    key = key_of(lease, chunk, index)
    return (chunk.start + index, key, place, payload, int(exact), failure.cause, failure.error, failure.attempts)


async def _advance(tx: Tx, lease: Lease, chunk: Chunk, failures: dict[int, Failure], done: Committed, learned: Learned) -> None:
    end = done.end
    run = await tx.one(Q.run_that_runs, id=lease.run_id)
    if run is None:
        raise RunStopped(f"{lease.words} does not run any more")
    skipped = sum(1 for index in range(end) if chunk.values[index] is None and index not in failures)
    moved = await tx.execute(
        Q.advance_partition,
        run_id=lease.run_id,
        number=lease.number,
        node=lease.node,
        fence=lease.fence,
        state="done" if done.finished else "open",
        cursor=orjson.dumps(chunk.place(end)).decode(),
        position=chunk.start + end,
        done=end - len(failures),
        failed=len(failures),
        skipped=skipped,
        chunk_size=done.chunk_size,
        failure_ppm=done.failure_ppm,
        item_bytes=done.item_bytes,
        memory_level=int(learned.level),
        executor=learned.executor,
    )
    if not moved:
        raise LeaseLost(f"{lease.words} is another process's by now")
    if end:
        counts = {"done": end - len(failures), "failed": len(failures), "skipped": skipped}
        await _trace(tx, lease, chunk.start, end, TraceContext(*run))
        store.announce(tx, "chunk.committed", lease.run_id, partition=lease.number, position=chunk.start + end, **counts)


async def _trace(tx: Tx, lease: Lease, start: int, end: int, of_run: TraceContext) -> None:
    """A chunk is many items: it begins a trace of its own, with a link to its run's."""
    if not of_run.trace_id:
        return
    chunk_id = tx.new_id()
    trace, link = continued(of_run, 0, chunk_id, single=False)
    name, ref = f"chunk {lease.number}:{start}+{end}", to_text("run", lease.run_id)
    await spans.put(tx, [Span(tx.tenant, trace.trace_id, trace.span_id, "", "batch", name, tx.now_us, tx.now_us, OK, ref, link)])
