"""What happens to one tenant, in the order of the log: for whoever follows it, and goes on behind the number that he knows.

The stream `events` is dense over all tenants, so a reader that remembers the last `seq` misses nothing, and one whose tenant is quiet
comes forward all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from ...kernel.ids import to_text
from ...storage import log
from ...storage.log import LogEntry
from ...storage.transaction import Tx
from .service import STREAM

ROWS_AT_ONCE: Final = 100
"""Rows of the log in one look, each with the events of one group of writes."""

_IDS: Final = (("message", "msg"), ("endpoint", "ep"))


class Seen(NamedTuple):
    """The tenant's events, the number up to which the log was looked at, and whether that was its end."""

    events: list[dict[str, Any]]
    after: int
    done: bool


async def look(tx: Tx, tenant: str, after: int | None) -> Seen:
    """What happened to the tenant behind `after`; None is the log's end, from where one follows. In the installation's own scope."""
    if after is None:
        return Seen([], await log.last_seq(tx, STREAM), done=True)
    rows = await log.read_after(tx, STREAM, after, ROWS_AT_ONCE)
    events = [event for row in rows for event in _of_tenant(row, tenant)]
    return Seen(events, rows[-1].seq if rows else after, len(rows) < ROWS_AT_ONCE)


def _of_tenant(row: LogEntry, tenant: str) -> Iterator[dict[str, Any]]:
    for owner, item in row.items:
        if owner == tenant:
            ids = {name: to_text(prefix, bytes.fromhex(item[name])) for name, prefix in _IDS if name in item}
            yield {"seq": row.seq, "at_us": row.at_us, **item, **ids}
