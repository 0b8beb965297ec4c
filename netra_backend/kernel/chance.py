"""Chance, as something that is handed in: jitter draws from here, secrets from `token`."""

from __future__ import annotations

import random
import secrets
from typing import Protocol


class Chance(Protocol):
    """The source of jitter and of secret bytes."""

    def uniform(self, low: float, high: float) -> float:
        """A number between `low` and `high`, for jitter; not secret."""
        ...

    def token(self, size: int) -> bytes:
        """`size` bytes that nobody can guess."""
        ...


class SystemChance:
    """The operating system's entropy for secrets, a Mersenne twister of this process for jitter."""

    def __init__(self, seed: int | None = None) -> None:
        self._jitter = random.Random(seed)

    def uniform(self, low: float, high: float) -> float:
        """See `Chance.uniform`."""
        return self._jitter.uniform(low, high)

    def token(self, size: int) -> bytes:
        """See `Chance.token`."""
        return secrets.token_bytes(size)
