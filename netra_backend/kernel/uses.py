"""Where the use of a secret by the platform itself is noted: signing a message, sending with a token.

Reading one for somebody is a disclosure, which has an entry of its own in the transaction that reads it; a use is only counted, so that
noting one costs next to nothing.
"""

from __future__ import annotations

import itertools
from typing import Final, Protocol

_EVER_US: Final = 2**63


class Meter:
    """Counts one actor's use of one secret in one minute, without a lock: `hit()` on any thread, until `until_us` on the wall clock."""

    __slots__ = ("hit", "until_us")

    def __init__(self, until_us: int) -> None:
        self.until_us = until_us
        self.hit = itertools.count().__next__  # one step of the interpreter, so that no two threads count for one

    def read(self) -> int:
        """How often it was hit. Once, and after that nobody hits it."""
        return self.hit()


class Uses(Protocol):
    """Counts who used which secret for what."""

    def note(self, tenant: str, actor: str, action: str, target: str) -> None:
        """One use. `action` is `noun.use`, `target` the object that has the secret. Any thread."""
        ...

    def meter(self, tenant: str, actor: str, action: str, target: str) -> Meter:
        """What counts such uses for now, for whoever notes so many that a look for it each time is too much. Any thread."""
        ...


class NoUses:
    """Uses that nobody counts."""

    def note(self, tenant: str, actor: str, action: str, target: str) -> None:
        """Nothing."""

    def meter(self, tenant: str, actor: str, action: str, target: str) -> Meter:  # noqa: ARG002
        """One that nobody reads."""
        return Meter(_EVER_US)
