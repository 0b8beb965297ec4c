"""Whether the running code is inside a held transaction, so that a second write is refused instead of waiting for itself.

On SQLite it would wait for the very lock that its own transaction holds. PostgreSQL has other connections, and the second
write would be committed whether or not the first is: a surprise as well, so the rule is one for both.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Final, Protocol

from ..errors import NestedTransaction


class Held(Protocol):
    """A transaction that its owner keeps open across awaits."""

    @property
    def is_open(self) -> bool:
        """Whether it is still open; a task keeps the context that it was started in."""
        ...


open_transaction: Final[ContextVar[Held | None]] = ContextVar("netra_open_transaction", default=None)
"""The held transaction that the running code is inside of."""


def refuse_nested() -> None:
    """Raise `NestedTransaction` where a write is asked for inside a held transaction."""
    held = open_transaction.get()
    if held is not None and held.is_open:
        raise NestedTransaction
