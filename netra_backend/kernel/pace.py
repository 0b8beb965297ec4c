"""How soon the next turn may come, for work that is done the sooner the better and that costs something each time.

A pause behind every turn bounds what they cost, and makes whoever comes within it wait although there was nothing before. Here the first
few follow each other at once, and only in the long run there is no more than one every `gap_s` (the generic cell rate algorithm, as in
`resilience/rate_limit.py`, which judges requests and not its own doing).
"""

from __future__ import annotations


class Pace:
    """`at_once` turns without a pause, one every `gap_s` in the long run. Times are monotonic seconds, handed in."""

    def __init__(self, gap_s: float, at_once: int) -> None:
        self._gap_s = gap_s
        self._ahead_s = gap_s * (at_once - 1)
        self._full_at = float("-inf")

    def took(self, now: float) -> None:
        """A turn was taken."""
        self._full_at = max(self._full_at, now) + self._gap_s

    def wait_s(self, now: float) -> float:
        """How long the next turn has to wait."""
        return max(0.0, self._full_at - self._ahead_s - now)
