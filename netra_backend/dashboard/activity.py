"""What happened in the last hour, minute by minute: a cursor of this process on the log's events, counted in memory.

The log has every event of every process, in order (docs/ARCHITECTURE.md), so that no page asks a large table how much there was, every
process shows the same, and a restart loses nothing: it reads the hour again. It is followed while somebody looks and not otherwise;
a look that comes after a pause shows what is known and goes on behind it. At most `MOST_ROWS` rows are read back, each of them the
events of one group of writes; `since_us` tells from when on the counts are whole.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from ..errors import NetraError
from ..kernel.scope import system_scope
from ..storage import log
from ..storage.log import LogEntry

if TYPE_CHECKING:
    from ..netra import Netra

STREAM: Final = "events"
MINUTES: Final = 60
MINUTE_US: Final = 60_000_000
ROWS_AT_ONCE: Final = 50
MOST_ROWS: Final = 20_000
MOST_KEYS: Final = 50_000
"""Counts of one minute, beyond which single endpoints are counted no more."""

MOST_HISTORIES: Final = 2_000
HISTORY: Final = 20
FIRST_LOOK_S: Final = 0.4
ALL: Final = ""
_SCOPE: Final = system_scope("dashboard")

OUTCOMES: Final = {
    "webhook.delivered": "delivered",
    "webhook.failed": "failed",
    "webhook.dead": "dead",
    "connection.refreshed": "refreshed",
    "connection.refresh_failed": "refresh_failed",
    "cache.invalidated": "invalidated",
}
"""What is counted under which name; messages as `message`, items of batches as `item` and `item_failed`."""

Refresh = tuple[int, str, Mapping[str, Any]]
"""(when, what, the event's facts): one step of a connection's history."""


class Activity:
    """See the module's docstring. For one event loop."""

    def __init__(self, netra: Netra) -> None:
        self.since_us = 0
        self._netra = netra
        self._seq: int | None = None
        self._minutes: dict[int, Counter[tuple[str, ...]]] = {}
        self._histories: OrderedDict[tuple[str, str], deque[Refresh]] = OrderedDict()
        self._cache_seen = (0, 0)
        self._task: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Go on behind what is known; only the first look waits for that, and not for long."""
        self._sample_cache()
        first = self._seq is None
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._follow())
        if first:
            await asyncio.wait({self._task}, timeout=FIRST_LOOK_S)

    def series(self, *key: str) -> list[int]:
        """A count for each of the last `MINUTES`, this one last. `ALL` in the place of the tenant is the installation."""
        now = self._minute()
        return [self._minutes[at][key] if at in self._minutes else 0 for at in range(now - MINUTES + 1, now + 1)]

    def steps(self) -> list[str]:
        """How the minutes are called, in UTC."""
        now = self._minute()
        return [f"{at // 60 % 24:02d}:{at % 60:02d}" for at in range(now - MINUTES + 1, now + 1)]

    def history(self, tenant: str, connection: str) -> list[Refresh]:
        """What the log still knows of a connection's refreshes, the newest first."""
        return list(reversed(self._histories.get((tenant, connection), ())))

    def _minute(self) -> int:
        return self._netra.runtime.clock.wall_us() // MINUTE_US

    async def _follow(self) -> None:
        try:
            if self._seq is None:
                self._seq = await self._begin()
            while rows := await self._read(log.read_after, STREAM, self._seq, ROWS_AT_ONCE):
                self._count(rows)
                self._seq = rows[-1].seq
        except NetraError as error:
            self._netra.runtime.log.warning("the dashboard could not follow the log, the next look tries again: %s", error)

    async def _begin(self) -> int:
        """The number in front of the last hour's first row: a search by halves, for rows ascend in time."""
        since_us = (self._minute() - MINUTES + 1) * MINUTE_US
        last: int = await self._read(log.last_seq, STREAM)
        low, high = max(0, last - MOST_ROWS), last
        while low < high:
            middle = (low + high) // 2
            found: list[LogEntry] = await self._read(log.read_after, STREAM, middle, 1)
            if not found or found[0].at_us >= since_us:
                high = middle
            else:
                low = found[0].seq
        first: list[LogEntry] = await self._read(log.read_after, STREAM, low, 1)
        self.since_us = max(since_us, first[0].at_us if first and low == last - MOST_ROWS else since_us)
        return low

    async def _read(self, fn: Any, *args: Any) -> Any:
        return await self._netra.database.read(fn, *args, scope=_SCOPE)

    def _count(self, rows: Sequence[LogEntry]) -> None:
        oldest = self._minute() - MINUTES
        for row in rows:
            minute = row.at_us // MINUTE_US
            if minute > oldest:
                counts = self._minutes.setdefault(minute, Counter())
                for tenant, item in row.items:
                    self._count_one(counts, tenant, item, row.at_us)
        for minute in [each for each in self._minutes if each <= oldest]:
            del self._minutes[minute]

    def _count_one(self, counts: Counter[tuple[str, ...]], tenant: str, item: Mapping[str, Any], at_us: int) -> None:
        kind = str(item.get("type", ""))
        if kind == "chunk.committed":
            for name, amount in (("item", item.get("done", 0)), ("item_failed", item.get("failed", 0))):
                counts[ALL, name] += amount
                counts[tenant, name] += amount
            return
        name = OUTCOMES.get(kind, "message" if "message" in item and not kind.startswith("webhook.") else "")
        if not name:
            return
        counts[ALL, name] += 1
        counts[tenant, name] += 1
        if "endpoint" in item and len(counts) < MOST_KEYS:
            counts[tenant, name, str(item["endpoint"])] += 1
        if kind.startswith("connection."):
            self._remember((tenant, str(item.get("connection", ""))), (at_us, name, item))

    def _remember(self, key: tuple[str, str], step: Refresh) -> None:
        self._histories.setdefault(key, deque(maxlen=HISTORY)).append(step)
        self._histories.move_to_end(key)
        if len(self._histories) > MOST_HISTORIES:
            self._histories.popitem(last=False)

    def _sample_cache(self) -> None:
        """What this process's cache was asked since the last look; nobody else counts it by the minute."""
        tier = self._netra.cache.tiers()["l1"]
        now = (int(tier["hits"]), int(tier["misses"]))
        counts = self._minutes.setdefault(self._minute(), Counter())
        for name, new, old in zip(("cache_hit", "cache_miss"), now, self._cache_seen, strict=True):
            counts[ALL, name] += max(0, new - old)
        self._cache_seen = now


_of: Final[WeakKeyDictionary[Any, Activity]] = WeakKeyDictionary()


async def activity(netra: Netra) -> Activity:
    """The one of this Netra, followed up to now or nearly."""
    found = _of.get(netra)
    if found is None:
        found = _of[netra] = Activity(netra)
    await found.look()
    return found
