"""One execution for all who ask for the same thing at the same time.

The work belongs to the flight, not to whoever came first: it runs in a task of its own, in an empty context, and a
caller that is cancelled or times out changes nothing for the others. All get the same result or the same error, and
the next call after that starts anew: nothing is cached here.

Invariants: at most one execution per key and object at any moment, over all threads and event loops; the key is free
before anybody sees the result; a flight whose event loop ends answers `Unavailable` rather than never.

A flight that asks for itself would wait for ever; it is refused (`FlightOfItself`), also through other flights. Two
flights that wait for each other from separate calls are not detected: use deadlines.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable, Hashable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

from ..errors import Unavailable, UsageError

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

_aboard: contextvars.ContextVar[frozenset[tuple[int, Any]]] = contextvars.ContextVar("netra_flights", default=frozenset())


class FlightOfItself(UsageError):
    """The work asks for its own result."""

    code = "flight_of_itself"
    fix = "Do not ask for a key inside the function that makes its value."


class SingleFlight(Generic[K, T]):
    """A map of what is under way. Usable from any thread and any event loop."""

    def __init__(self) -> None:
        self._flights: dict[K, Future[T]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._flights)

    def __contains__(self, key: object) -> bool:
        return key in self._flights

    async def run(self, key: K, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work()`, or of the same key's execution that is under way already."""
        flight, is_first = self._join(key)
        if is_first:
            self._start(key, work, flight)
        return await asyncio.wrap_future(flight)

    def run_blocking(self, key: K, work: Callable[[], T]) -> T:
        """The same for a thread without an event loop, which runs `work` itself if it is the first."""
        _refuse_on_a_loop()
        flight, is_first = self._join(key)
        if is_first:
            entered = _aboard.set(self._with(key))
            try:
                self._land(key, flight, result=work())
            except BaseException as error:
                self._land(key, flight, error=error)
                raise
            finally:
                _aboard.reset(entered)
        return flight.result()

    def _join(self, key: K) -> tuple[Future[T], bool]:
        if (id(self), key) in _aboard.get():
            raise FlightOfItself
        with self._lock:
            flight = self._flights.get(key)
            if flight is not None:
                return flight, False
            flight = self._flights[key] = Future()
            flight.set_running_or_notify_cancel()  # from here on a waiter's cancellation cannot reach it
            return flight, True

    def _start(self, key: K, work: Callable[[], Awaitable[T]], flight: Future[T]) -> None:
        context = contextvars.Context()
        context.run(_aboard.set, self._with(key))
        task = asyncio.get_running_loop().create_task(self._fly(key, work, flight), context=context)
        self._tasks.add(task)  # the loop itself keeps only a weak reference
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self._land(key, flight, error=asyncio.CancelledError()))

    async def _fly(self, key: K, work: Callable[[], Awaitable[T]], flight: Future[T]) -> None:
        try:
            result = await work()
        except BaseException as error:
            self._land(key, flight, error=error)
            if not isinstance(error, Exception):
                raise
        else:
            self._land(key, flight, result=result)

    def _land(self, key: K, flight: Future[T], *, result: T | None = None, error: BaseException | None = None) -> None:
        """Free the key, then answer; the second landing of a flight does nothing."""
        with self._lock:
            if flight.done():
                return
            self._flights.pop(key, None)
        if error is not None and not isinstance(error, Exception):
            # Cancelled from outside, or Ctrl-C: that is meant for the one who runs it, not for all who wait.
            error = Unavailable("the work was interrupted; its event loop or thread ended perhaps")
        if error is not None:
            flight.set_exception(error)
        else:
            flight.set_result(result)  # type: ignore[arg-type]  # None only where T allows it

    def _with(self, key: K) -> frozenset[tuple[int, Any]]:
        return _aboard.get() | {(id(self), key)}


def _refuse_on_a_loop() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise UsageError("this would block the event loop", fix="Await `run` here; `run_blocking` is for plain threads.")
