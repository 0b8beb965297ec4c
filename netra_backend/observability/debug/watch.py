"""Who listens to one piece of work: made where it begins, closed where it ends, and only of that work's tenant (D1)."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ...kernel.debugging import Facts
from .live import Live

if TYPE_CHECKING:
    from .hub import Hub

_thread: Final = threading.local()
"""Whether this thread is making a record: what that itself logs or passes is nobody's."""


class Watched:
    """A `Watch` of this package. `facts` go on to what begins inside."""

    __slots__ = ("facts", "hub", "is_open", "lives", "marks", "tenant", "trace_id")

    def __init__(self, hub: Hub, tenant: str, trace_id: str, facts: Facts, lives: tuple[Live, ...], marks: tuple[bytes, ...]) -> None:
        self.hub = hub
        self.tenant = tenant
        self.trace_id = trace_id
        self.facts = facts
        self.lives = lives
        self.marks = marks
        self.is_open = True

    def wants(self, kind: str) -> bool:
        """See `kernel.debugging.Watch`."""
        if not self.is_open or getattr(_thread, "busy", False):
            return False
        now = self.hub.monotonic()
        return any(kind in live.captures and live.is_open(now) for live in self.lives)

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """See `kernel.debugging.Watch`."""
        self.record_for(self.lives, kind, data)

    def record_for(self, lives: tuple[Live, ...], kind: str, data: Mapping[str, Any]) -> None:
        """The same for some of the sessions."""
        if not self.is_open or getattr(_thread, "busy", False):
            return
        _thread.busy = True
        try:
            self.hub.record(lives, kind, data, self.trace_id)
        except Exception:  # noqa: BLE001  (debugging never is what fails; the loss is counted)
            for live in lives:
                live.quotas.lost["error"] += 1
        finally:
            _thread.busy = False

    def close(self) -> None:
        """See `kernel.debugging.Watch`."""
        self.is_open = False
