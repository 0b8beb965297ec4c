"""One verb at a time on one connection.

A second one, begun by another task or thread before the first is over, would run in the first one's savepoint and under its
tenant, or after its end under no role at all: two tasks of one `gather` on one session are enough. It is refused.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from .errors import ConnectionBusy

_busy: Final[set[int]] = set()
"""`id` of each connection that is inside a verb; the verb holds the connection, so the number stays its own."""

_lock: Final = threading.Lock()


def me() -> object:
    """Who is running: the task, or where no event loop runs the thread."""
    try:
        return asyncio.current_task() or threading.get_ident()
    except RuntimeError:
        return threading.get_ident()


@contextmanager
def taken(connection: Any) -> Iterator[None]:
    """Have the connection for one verb, or raise `ConnectionBusy`."""
    with _lock:
        if id(connection) in _busy:
            raise ConnectionBusy
        _busy.add(id(connection))
    try:
        yield
    finally:
        with _lock:
            _busy.discard(id(connection))
