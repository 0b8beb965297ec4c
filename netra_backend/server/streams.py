"""How many streams of events one server keeps open: each asks the database again and again, for as long as its client likes.

The bound of a tenant keeps one from taking all; the bound of all is what a process can serve beside its work. Pages of the dashboard, which
are streams too, have a bound of their own (`dashboard/routing.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from ..errors import Unavailable

MOST_OF_TENANT: Final = 32
MOST: Final = 256


class TooManyStreams(Unavailable):
    """This server has as many streams of events open as it keeps, for this tenant or in all."""

    code = "too_many_streams"
    fix = "Close a stream that nobody reads, come again after the time in `Retry-After`, or ask for the state without a stream."


class Streams:
    """Those that are open, by tenant. For the event loop of its server."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    def check(self, tenant: str) -> None:
        """Raise `TooManyStreams` where there is no room for one more."""
        if self._open[tenant] >= MOST_OF_TENANT:
            raise TooManyStreams(f"{MOST_OF_TENANT} streams of events of this tenant are open already")
        if self._open.total() >= MOST:
            raise TooManyStreams(f"{MOST} streams of events are open already")

    @contextmanager
    def one(self, tenant: str) -> Iterator[None]:
        """Around all that a stream does. `TooManyStreams` where others began meanwhile."""
        self.check(tenant)
        self._open[tenant] += 1
        try:
            yield
        finally:
            self._open[tenant] -= 1
            if not self._open[tenant]:
                del self._open[tenant]
