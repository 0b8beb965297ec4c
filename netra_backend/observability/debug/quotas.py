"""What one session may cost one process: hits, bytes and processor time (D7).

Each is a bucket (a token bucket may go below zero once: what is spent is known only afterwards). Where one is empty the session is paused
by itself, what it misses is counted under that bucket's name, and it goes on when the bucket holds something again: over any stretch
of time the session costs no more than its rate and one burst. No lock: two threads at once may let one more through, and never wait.
"""

from __future__ import annotations

from collections import Counter

from .settings import DebugSettings


class Bucket:
    """So much per second, `burst` at once."""

    __slots__ = ("_at", "_burst", "_rate", "level")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._at = now
        self.level = burst

    def has(self, now: float) -> bool:
        """Whether anything is left."""
        if now > self._at:
            self.level = min(self._burst, self.level + (now - self._at) * self._rate)
            self._at = now
        return self.level > 0

    def spend(self, amount: float) -> None:
        """Take what was used."""
        self.level -= amount


class Quotas:
    """The buckets of one session in one process, and what was lost to each."""

    __slots__ = ("_buckets", "lost")

    def __init__(self, settings: DebugSettings, now: float) -> None:
        rates = {"hits": settings.hits, "bytes": settings.bytes, "cpu": settings.cpu}
        self._buckets = {name: Bucket(rate, rate * settings.burst_s, now) for name, rate in rates.items()}
        self.lost: Counter[str] = Counter()

    def paused_by(self, now: float) -> str | None:
        """Which quota is used up, if one is."""
        for name, bucket in self._buckets.items():
            if not bucket.has(now):
                return name
        return None

    def admits(self, now: float) -> bool:
        """Whether one more record may be made; where not, it is counted as lost."""
        by = self.paused_by(now)
        if by is None:
            return True
        self.lost[by] += 1
        return False

    def spend(self, hits: int = 0, size: int = 0, cpu_s: float = 0.0) -> None:
        """Take what a record has cost."""
        self._buckets["hits"].spend(hits)
        self._buckets["bytes"].spend(size)
        self._buckets["cpu"].spend(cpu_s)
