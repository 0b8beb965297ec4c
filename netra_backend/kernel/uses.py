"""Where the use of a secret by the platform itself is noted: signing a message, sending with a token.

Reading one for somebody is a disclosure, which has an entry of its own in the transaction that reads it; a use is only counted, so that
noting one costs next to nothing.
"""

from __future__ import annotations

from typing import Protocol


class Uses(Protocol):
    """Counts who used which secret for what."""

    def note(self, tenant: str, actor: str, action: str, target: str) -> None:
        """One use. `action` is `noun.use`, `target` the object that has the secret. Any thread."""
        ...


class NoUses:
    """Uses that nobody counts."""

    def note(self, tenant: str, actor: str, action: str, target: str) -> None:
        """Nothing."""
