"""The seam to an executor: pieces of a chunk go out in a bounded window, and what comes back is told apart.

    an outcome          the item's value or its own error
    the pool is broken  a process died (BrokenExecutor; Dask's KilledWorker): nobody's failure. Every piece that was out is suspect; the
                        pool is made anew, and each suspect runs alone, halved until one item kills its process by itself, twice: that is
                        the guilty one, a `crash`, or an `oom` where memory was the reason
    the executor is     its scheduler cannot be reached: made anew a few times with pauses, then `ExecutorLost`, on which the run is
    lost                paused with the reason
    anything else       what was sent cannot be sent (pickle): the run fails with the words

Only the holder of the lease writes and commits; over there is nothing but `process`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from pickle import PicklingError  # nosec B403  (the error alone)
from typing import Any, Final

from ..errors import InvalidInput
from ..kernel.backoff import Exponential
from ..kernel.runtime import Runtime
from ..resilience.memory_pressure import Level
from . import elsewhere
from .elsewhere import Answer, Elsewhere, Outcome, work
from .errors import ExecutorLost
from .ladder import LOOK_AGAIN_S, Ladder
from .model import Failure
from .registry import Job

PIECES_PER_WORKER: Final = 4
"""Into how many pieces for each worker a chunk is cut: few, for each is sent; more than one, for some take longer."""
PIECE_S: Final = 0.02
"""A piece is worth sending if it takes so long."""
WINDOW_PER_WORKER: Final = 2
DEATHS: Final = 2
"""How often an item must kill a process in which nothing else was, before it is guilty: the first may have been somebody's SIGKILL."""
TRIES: Final = 4
UP: Final = "netra_batch_executor_up"
PAUSES: Final = Exponential(base_s=0.2, cap_s=5.0)

_Piece = tuple[int, int]


class _Broken(Exception):
    """A process died under a piece."""


class Seam:
    """See the module's docstring. One per job and worker; partitions share it and its window."""

    def __init__(self, job: Job, spec: Elsewhere, runtime: Runtime, ladder: Ladder) -> None:
        self._job = job
        self._spec = spec
        self._runtime = runtime
        self._ladder = ladder
        self._executor: Executor | None = None
        self._window = asyncio.Semaphore(spec.workers * WINDOW_PER_WORKER)
        self._alone = asyncio.Lock()
        self._making = asyncio.Lock()
        self._made = 0
        self._wants_new = False
        self._item_s = 0.0

    @property
    def state(self) -> str:
        """For people: which executor, and how often it had to be made anew."""
        return self._spec.name + (f", made {self._made} times" if self._made > 1 else "")

    async def run(self, items: Sequence[Any]) -> list[Outcome | Failure]:
        """What became of each item, in order."""
        length = self._length(len(items))
        pieces = [(start, min(start + length, len(items))) for start in range(0, len(items), length)]
        outcomes: list[Outcome | Failure | None] = [None] * len(items)
        suspects = await self._through_the_window(items, pieces, outcomes)
        starved = [(i, i + 1) for i, outcome in enumerate(outcomes) if isinstance(outcome, tuple) and outcome[0] == "memory"]
        for piece in (*suspects, *starved):
            async with self._alone:
                await self._suspect(items, piece, outcomes)
        return [outcome for outcome in outcomes if outcome is not None]

    def _length(self, items: int) -> int:
        """How many items a piece has: so many that every worker has several, and not so few that sending costs more than processing."""
        even = -(-items // (self._spec.workers * PIECES_PER_WORKER))
        worth = int(PIECE_S / self._item_s) if self._item_s else 1
        return max(1, even, min(items, worth))

    async def _through_the_window(
        self, items: Sequence[Any], pieces: Sequence[_Piece], outcomes: list[Outcome | Failure | None]
    ) -> list[_Piece]:
        suspects: list[_Piece] = []

        async def send(piece: _Piece) -> None:
            async with self._window:
                try:
                    outcomes[slice(*piece)] = await self._ask(items[slice(*piece)])
                except _Broken:
                    suspects.append(piece)

        try:
            async with asyncio.TaskGroup() as group:
                for piece in pieces:
                    group.create_task(send(piece))
        except ExceptionGroup as errors:  # the others were cancelled for the first one's sake
            raise errors.exceptions[0] from errors
        return sorted(suspects)

    async def _suspect(self, items: Sequence[Any], piece: _Piece, outcomes: list[Outcome | Failure | None]) -> None:
        """One piece alone, halved where its process dies; an item by itself is tried `DEATHS` times."""
        waiting, deaths = deque([piece]), 0
        while waiting:
            start, end = waiting.popleft()
            await self._ladder.calmed()
            starved = self._ladder.oom_kills()
            alone = self._spec.alone() if self._spec.alone is not None else None
            try:
                outcomes[start:end] = await self._ask(items[start:end], alone)
                deaths = 0
            except _Broken as broken:
                if end - start > 1:
                    middle = (start + end) // 2
                    waiting.extendleft([(middle, end), (start, middle)])
                    continue
                deaths += 1
                if deaths < DEATHS:
                    waiting.appendleft((start, end))
                    continue
                cause = "oom" if self._ladder.oom_kills() > starved or self._ladder.look() >= Level.ABORT else "crash"
                outcomes[start], deaths = Failure(f"{broken} in each of {DEATHS} tries", DEATHS, cause), 0
            except asyncio.CancelledError:
                if alone is not None:
                    kill_children(alone)
                raise
            finally:
                if alone is not None:
                    alone.shutdown(wait=False, cancel_futures=True)
        if isinstance(last := outcomes[piece[0]], tuple) and last[0] == "memory" and piece[1] - piece[0] == 1:
            outcomes[piece[0]] = Failure(last[1], DEATHS, "oom")

    async def _ask(self, items: Sequence[Any], alone: Executor | None = None) -> list[Outcome]:
        call = self._job.process_chunk or self._job.process
        assert call is not None  # nothing is sent away to be left as it is
        tries = 0
        while True:
            executor = alone
            try:
                executor = alone or await self._ready()
                return await self._answer(executor, call, items)
            except ExecutorLost as lost:
                tries += 1
                if tries >= TRIES or alone is not None:
                    raise
                self._runtime.log.warning("it is made anew: %s", lost)
                if executor is not None:
                    await self._drop(executor)
                await self._runtime.clock.sleep(PAUSES.delay_s(tries, self._runtime.chance))

    async def _answer(self, executor: Executor, call: Callable[[Any], Any], items: Sequence[Any]) -> list[Outcome]:
        whole = self._job.process_chunk is not None
        try:
            future = executor.submit(work, call, whole, list(items), self._job.retry_on)
            answer, took_s = await self._result(executor, future)
        except BrokenExecutor as error:
            await self._drop(executor)
            raise _Broken("its process died") from error
        except (PicklingError, AttributeError, TypeError) as error:
            raise InvalidInput(
                f"{self._spec.name} cannot be sent {getattr(call, '__qualname__', call)} and its items, or their values back: {error}",
                fix="Give `process` a function at the top of a module, and items and values that can be pickled.",
            ) from error
        except asyncio.CancelledError:
            raise
        except Exception as error:
            if type(error).__name__ == "KilledWorker":  # Dask's: several of its workers died under this piece
                raise _Broken("its worker died") from error
            raise ExecutorLost(f"{self._spec.name}: {type(error).__name__}: {error}") from error
        item_s = max(took_s / len(items), 1e-9)
        self._item_s = (self._item_s + item_s) / 2 if self._item_s else item_s
        return answer

    async def _result(self, executor: Executor, future: Future[Answer]) -> Answer:
        """The future's result; one that was cancelled by its executor is a lost one's. Children are killed before memory ends.

        A future that is silent although its executor has lost its connection, or has another by now, gets a little longer and is lost.
        """
        waited, clock = asyncio.wrap_future(future), self._runtime.clock
        sent_through, heard = self._spec.connection(executor), clock.monotonic()
        try:
            while not waited.done():
                await asyncio.wait([waited], timeout=LOOK_AGAIN_S)
                if self._spec.connection(executor) == sent_through:
                    heard = clock.monotonic()
                elif not waited.done() and clock.monotonic() - heard > elsewhere.CONNECT_S:
                    raise ExecutorLost(f"{self._spec.name} has lost what it was given with its connection")
                if not waited.done() and self._ladder.look() >= Level.ABORT:
                    kill_children(executor)
                if self._ladder.level >= Level.RECYCLE:
                    self._wants_new = True
        finally:
            future.cancel()
        if waited.cancelled():
            raise ExecutorLost(f"{self._spec.name} has dropped what it was given")
        return waited.result()

    async def _ready(self) -> Executor:
        """The executor, made where there is none, or where a fresh one is wanted because the old one's processes hold much."""
        async with self._making:
            if self._wants_new and self._spec.ends_it and self._executor is not None:
                self._executor.shutdown(wait=False)
                self._executor = None
            self._wants_new = False
            if self._executor is None:
                try:
                    self._executor = await asyncio.to_thread(self._spec.make)
                except InvalidInput:
                    raise
                except Exception as error:
                    raise ExecutorLost(f"{self._spec.name} cannot be reached: {type(error).__name__}: {error}") from error
                self._made += 1
                self._runtime.metrics.gauge(UP, 1, executor=self._spec.name)
            return self._executor

    async def _drop(self, executor: Executor) -> None:
        """Forget an executor that is broken or lost."""
        if executor is self._executor:
            self._executor = None
            self._runtime.metrics.gauge(UP, 0, executor=self._spec.name)
            if self._spec.ends_it:
                with suppress(Exception):
                    await asyncio.to_thread(executor.shutdown, wait=False)

    async def close(self) -> None:
        """Shut it down, if it is ours. What is still out is given up: a child that never ends would keep this process from its end."""
        if self._executor is not None:
            if self._spec.ends_it:
                kill_children(self._executor)
            await self._drop(self._executor)


def kill_children(executor: Executor) -> None:
    """SIGKILL to a process pool's processes; its futures then say that it is broken."""
    for child in [*(getattr(executor, "_processes", None) or {}).values()]:
        with suppress(OSError, AttributeError):
            child.kill()
