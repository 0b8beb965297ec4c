"""Who holds a lease, and whether that one is gone.

A vault has a name of its own for each life and holds an OS lock on a file of that name for as long as its process exists. On its host
whoever gets that lock knows at once that the process is gone. Elsewhere the lease itself is watched: whoever has seen it unchanged
for its whole TTL, on his own monotonic clock, may take it. No wall clock takes part. The node's beat does not either: a lease must
outlast a request, and a process that is merely slow must not lose it after a beat's time.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Final

from ..kernel.clock import Clock

_SUFFIX: Final = ".lock"


class Holders:
    """This process's name, and its view of the others."""

    def __init__(self, folder: Path, clock: Clock, me: bytes, ttl_s: float) -> None:
        self.me = me
        self._folder = folder / "oauth"
        self._clock = clock
        self._ttl_s = ttl_s
        self._lock: int | None = None
        self._seen: dict[tuple[str, bytes], tuple[bytes, int, float]] = {}

    def open(self) -> None:
        """Hold this life's lock."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock = os.open(self._path(self.me), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def close(self, *, leaves: bool = False) -> None:
        """End this life. Where it `leaves` something in a spool its file stays: without it nobody could tell that it has ended."""
        if self._lock is not None:
            if not leaves:
                self._path(self.me).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def has_lapsed(self, tenant: str, connection: bytes, holder: bytes, fence: int) -> bool:
        """Whether the lease that was just seen in the row may be taken from its holder."""
        if holder == self.me:  # one flight per connection: what we hold and do not fly is left over from an error of ours
            return True
        if self.is_gone(holder):
            return True
        now = self._clock.monotonic()
        held, number, since = self._seen.get((tenant, connection), (b"", -1, now))
        if (held, number) != (holder, fence):
            self._seen[tenant, connection] = (holder, fence, now)
            return False
        return now - since >= self._ttl_s

    def forget(self, tenant: str, connection: bytes) -> None:
        """The lease was seen free or was taken."""
        self._seen.pop((tenant, connection), None)

    def is_gone(self, holder: bytes) -> bool:
        """Whether the holder was a process of this host that has ended: its file is there, and its lock is free."""
        if holder == self.me:
            return False
        try:
            descriptor = os.open(self._path(holder), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _path(self, holder: bytes) -> Path:
        return self._folder / (holder.hex() + _SUFFIX)
