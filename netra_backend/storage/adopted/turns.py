"""One verb at a time on one connection.

A second one, begun by another task or thread before the first is over, would run in the first one's savepoint and under its
tenant, or after its end under no role at all: two tasks of one `gather` on one session are enough. It is refused.
"""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Any, Final, Self

from .errors import ConnectionBusy

_busy: Final[set[int]] = set()
"""`id` of whatever is inside a verb; the verb holds it, so the number stays its own."""

_lock: Final = threading.Lock()


def me() -> object:
    """Who is running: the task, or where no event loop runs the thread."""
    try:
        return asyncio.current_task() or threading.get_ident()
    except RuntimeError:
        return threading.get_ident()


class Turn:
    """Has a session, and the connection below it, for one verb; `ConnectionBusy` where another verb has one of them."""

    def __init__(self) -> None:
        self._taken: list[Any] = []

    def take(self, thing: Any) -> None:
        """Have this too; taking twice what is had already changes nothing."""
        if any(thing is other for other in self._taken):
            return
        with _lock:
            if id(thing) in _busy:
                raise ConnectionBusy
            _busy.add(id(thing))
        self._taken.append(thing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with _lock:
            _busy.difference_update(id(thing) for thing in self._taken)
        self._taken = []
