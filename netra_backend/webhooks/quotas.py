"""What one tenant may put in: messages per second, and deliveries that wait. Both are off unless set.

The rate is a token bucket per tenant in each process that takes messages, with a second's worth as its burst. What waits is counted in the
table, at most once a second for each tenant and never beyond the quota, so that a backlog is not read to find that it is one; within
that second a tenant may go over it by what it sends. The operator's own messages (`operational.py`) pass by both.

Nothing that was accepted is ever dropped for a quota: a refusal comes before anything is stored.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Final

from ..errors import InvalidInput
from ..kernel.clock import Clock
from ..resilience.rate_limit import Rate, RateLimiter
from ..storage.statements import Statements
from ..storage.transaction import Tx
from .errors import QuotaExceeded
from .settings import WebhookSettings

Q = Statements(__package__)

LOOK_EVERY_S: Final = 1.0
MOST_TENANTS: Final = 10_000


async def queued(tx: Tx, most: int) -> int:
    """How many deliveries of the tenant are due, now or later; `most` where there are more."""
    return (await waiting(tx, most))[0]


async def waiting(tx: Tx, most: int) -> tuple[int, int | None]:
    """The same, and when the earliest of those that were counted is or was due."""
    row = await tx.one(Q.queued_deliveries, limit=most)
    return (int(row[0]), row[1]) if row else (0, None)


class Quotas:
    """See the module's docstring. May be asked from any thread."""

    def __init__(self, clock: Clock, settings: WebhookSettings) -> None:
        self._clock = clock
        self._queue = settings.quota_queue
        self._rate = settings.quota_rate
        self._rates = RateLimiter[str](clock, Rate(self._rate)) if self._rate is not None else None
        self._full: OrderedDict[str, tuple[float, bool]] = OrderedDict()

    async def check_queue(self, tenant: str, count: Callable[[int], Awaitable[int]]) -> None:
        """Raise where too much of the tenant's waits; `count` is asked for how much, up to a number."""
        if self._queue is None:
            return
        looked_at, is_full = self._full.get(tenant, (-LOOK_EVERY_S, False))
        now = self._clock.monotonic()
        if now - looked_at >= LOOK_EVERY_S:
            self._full[tenant] = now, is_full  # whoever asks meanwhile is answered by the last look
            is_full = await count(self._queue) >= self._queue
            self._full[tenant] = now, is_full
            self._full.move_to_end(tenant)
            while len(self._full) > MOST_TENANTS:
                self._full.popitem(last=False)
        if is_full:
            raise QuotaExceeded(f"{self._queue} deliveries of this tenant wait already", retry_after_s=LOOK_EVERY_S)

    def take_up_to(self, tenant: str, count: int) -> tuple[int, QuotaExceeded | None]:
        """How many of so many messages may come in now, and what the others are told."""
        if self._rates is None:
            return count, None
        allowed, retry_after_s = self._rates.take_up_to(tenant, count)
        return allowed, None if allowed == count else _too_fast(retry_after_s)

    def take_all(self, tenant: str, count: int) -> None:
        """Let all of them in or raise."""
        if self._rates is None or self._rate is None:
            return
        if count > self._rate:  # to wait would not help
            raise InvalidInput(
                f"{count} messages at once are more than this tenant's quota ever lets in together, {self._rate}",
                fix=f"Send them in lists of at most {self._rate}.",
            )
        decision = self._rates.take_all(tenant, count)
        if not decision.allowed:
            raise _too_fast(decision.retry_after_s)


def _too_fast(retry_after_s: float) -> QuotaExceeded:
    return QuotaExceeded("this tenant sends more messages per second than its quota allows", retry_after_s=retry_after_s)
