"""Where a job's `process` runs, if not in a thread of the worker: any `concurrent.futures.Executor`.

What crosses over is `work` below with the job's function and a few items, so both must be importable there: a lambda or a function
inside a function is not. An item's own error is told as words, because the exception itself may not be picklable; so whatever a
future raises is the executor's trouble and no item's.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Literal

from ..errors import InvalidInput
from ..kernel.clock import SystemClock
from .daemons import DaemonThreads
from .model import words

CONNECT_S: Final = 10.0
_PR_SET_PDEATHSIG: Final = 1
_FIRST_TO_GO: Final = "1000"
"""oom_score_adj: where memory ends, the kernel shall take a child and not the worker that writes."""

Outcome = tuple[Literal["ok"], Any] | tuple[Literal["error"], str, bool] | tuple[Literal["memory"], str]
"""What became of one item: a value; an error's words, and whether it may pass; or that there was not memory enough for it."""


Answer = tuple[list[Outcome], float]
"""What became of a piece's items, and how many seconds that took over there."""


@dataclass(frozen=True)
class Elsewhere:
    """An executor that is made where it is needed. `workers` bounds how much is submitted at once; `alone` makes one for suspects.

    `ends_it` says that Netra has made it and shuts it down. `connection` names what an executor's answers come through: where it is another
    than when a piece was sent, that piece may have been forgotten over there without a word.
    """

    name: str
    make: Callable[[], Executor]
    workers: int
    alone: Callable[[], Executor] | None = None
    ends_it: bool = True
    connection: Callable[[Executor], object] = type


def processes(workers: int | None = None) -> Elsewhere:
    """A pool of processes of this machine, one per core unless told otherwise. An item that kills its process costs one dead letter."""
    count = workers or len(os.sched_getaffinity(0))
    return Elsewhere(f"processes({_counted(count)})", lambda: _pool(count), count, lambda: _pool(1))


def threads(workers: int) -> Elsewhere:
    """That many threads for one job, where `process` waits for something else than the interpreter."""
    return Elsewhere(f"threads({_counted(workers)})", lambda: DaemonThreads(workers, "netra-job"), workers)


def dask(client: Any, *, window: int = 16) -> Elsewhere:
    """A Dask cluster: the address of its scheduler, or a connected `distributed.Client`. Needs the extra `distributed`.

    Its workers must be able to import what `process` is made of. `window` is how many pieces are submitted at once.
    """
    _counted(window)
    if not isinstance(client, str):
        return Elsewhere(
            f"dask({client.scheduler.address})", lambda: client.get_executor(pure=False), window, None, False, _dask_connection
        )

    def connect() -> Executor:
        try:
            distributed = import_module("distributed")
        except ImportError as error:
            raise InvalidInput("a Dask cluster needs distributed", fix="pip install netra-backend[distributed]") from error
        return _OwnClient(distributed.Client(client, timeout=CONNECT_S, set_as_default=False))

    return Elsewhere(f"dask({client})", connect, window, connection=_dask_connection)


def _dask_connection(executor: Any) -> object:
    client = executor._client  # noqa: SLF001  (neither executor offers it otherwise)
    return client.status, id(client.scheduler_comm)


class _OwnClient(Executor):
    """The executor of a client that was connected for it, and is closed with it."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._executor = client.get_executor(pure=False)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """See `Executor.submit`."""
        return self._executor.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  (the base's)
        """Close the client; the cluster stays."""
        del wait, cancel_futures
        with contextlib.suppress(Exception):  # its scheduler may be gone
            self._client.close(timeout=1)


def elsewhere(given: Elsewhere | Executor | Callable[[], Executor] | None) -> Elsewhere | None:
    """What `batch.job(executor=...)` was given, in one form."""
    if given is None or isinstance(given, Elsewhere):
        return given
    if isinstance(given, Executor):
        kept: Executor = given
        return Elsewhere(type(kept).__name__, lambda: kept, getattr(kept, "_max_workers", 4), ends_it=False)
    if callable(given):
        return Elsewhere(getattr(given, "__name__", "executor"), given, len(os.sched_getaffinity(0)))
    raise InvalidInput(f"{given!r} is no executor", fix="Give batch.processes(), batch.dask(address), or a concurrent.futures.Executor.")


def _counted(workers: int) -> int:
    if workers < 1:
        raise InvalidInput(f"an executor of {workers} workers", fix="Give at least 1.")
    return workers


def _pool(workers: int) -> Executor:
    context = multiprocessing.get_context("spawn")  # a fork would copy this process's threads' locks, and its database connection
    return ProcessPoolExecutor(workers, mp_context=context, initializer=begin_child, initargs=(os.getpid(),))


def begin_child(parent: int) -> None:
    """A child does not outlive its parent, goes first where memory ends, and leaves Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it has died while this one was still importing, and nobody will tell
        os._exit(1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO, encoding="ascii")


def work(call: Callable[[Any], Any], whole: bool, items: Sequence[Any], passing: tuple[type[Exception], ...]) -> Answer:  # noqa: FBT001  (positional over the wire)
    """Process a few items: what runs over there. `passing` are the errors that may pass."""
    clock = SystemClock()
    begun = clock.monotonic()
    outcomes = _whole(call, items, passing) if whole else [_one(call, item, passing) for item in items]
    return outcomes, clock.monotonic() - begun


def _one(call: Callable[[Any], Any], item: Any, passing: tuple[type[Exception], ...]) -> Outcome:
    try:
        return ("ok", call(item))
    except MemoryError as error:
        return ("memory", words(error))
    except BaseException as error:  # noqa: BLE001  (whatever it is, it is this item's; see `raised`)
        return ("error", words(error), isinstance(error, passing))


def _whole(call: Callable[[Any], Any], items: Sequence[Any], passing: tuple[type[Exception], ...]) -> list[Outcome]:
    """All at once; where that fails, each half, down to the guilty item."""
    outcome = _one(call, list(items), passing)
    if outcome[0] == "ok" and len(outcome[1]) == len(items):
        return [("ok", value) for value in outcome[1]]
    if outcome[0] == "ok":
        outcome = ("error", f"ValueError: process_chunk returned {len(outcome[1])} values for {len(items)} items", False)
    if len(items) == 1:
        return [outcome]
    middle = len(items) // 2
    return _whole(call, items[:middle], passing) + _whole(call, items[middle:], passing)
