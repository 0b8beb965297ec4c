"""The outbox: what others must notice, written in the transaction that made it so.

A group of writes adds one row per stream, carrying a list, whatever the number of functions in it. The row's `tenant`
is the items' tenant where they share one, else the system's; each item names its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from ..kernel.scope import SYSTEM_TENANT
from .statements import Statements
from .transaction import Emission, Tx

Q = Statements(__package__)


async def write(tx: Tx, emissions: Sequence[Emission]) -> None:
    """Add one outbox row per stream."""
    by_stream: dict[str, list[Emission]] = {}
    for emission in emissions:
        by_stream.setdefault(emission.stream, []).append(emission)
    rows = [(stream, _owner(items), _items(items), tx.now_us) for stream, items in sorted(by_stream.items())]
    await tx.execute(Q.insert_outbox, rows=rows)


def _owner(items: Sequence[Emission]) -> str:
    tenants = {item.tenant for item in items}
    return tenants.pop() if len(tenants) == 1 else SYSTEM_TENANT


def _items(items: Sequence[Emission]) -> str:
    pairs: list[tuple[str, Any]] = [(item.tenant, item.item) for item in items]
    return orjson.dumps(pairs).decode()
