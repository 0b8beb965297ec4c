"""Threads that do not keep a process from ending.

The interpreter waits at its end for every thread of `concurrent.futures`. What a program's function does in one may never end: a
request without a time-out, a disk that is silent. A process that was told to stop would then stay until somebody kills it, although
all that it held is long given back.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any


class DaemonThreads(Executor):
    """So many, all begun at once: where memory ends, no thread can be started any more."""

    def __init__(self, count: int, name: str) -> None:
        self._waiting: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._over = False
        self._threads = [threading.Thread(target=self._run, name=f"{name}_{number}", daemon=True) for number in range(count)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `Executor.submit`."""
        if self._over:
            raise RuntimeError("these threads were told to end")
        future: Future[Any] = Future()
        self._waiting.put((future, partial(fn, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: FBT001, FBT002  (the base's)
        """See `Executor.shutdown`."""
        self._over = True
        if cancel_futures:
            with suppress(Empty):
                while True:
                    if (work := self._waiting.get_nowait()) is not None:
                        work[0].cancel()
        for _ in self._threads:
            self._waiting.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def _run(self) -> None:
        while (work := self._waiting.get()) is not None:
            _do(*work)
            del work  # or it would be held until the next one comes


def _do(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        found = call()
    except BaseException as error:  # noqa: BLE001  (whatever it is, it is told where it is waited for)
        future.set_exception(error)
    else:
        future.set_result(found)
    finally:
        del future, call  # or an error would hold itself, by the frame that it came through, and all that this frame holds
