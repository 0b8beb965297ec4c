"""Operational events: what the operator is told of, written in the transaction that made it so.

They go through the log's stream `operational`, to which any part may emit. `operational.py` turns them into messages to the
operator's own endpoints. What happens to those endpoints themselves is told to nobody: an event about the delivery of an event would
never end.
"""

from __future__ import annotations

from typing import Any, Final

from ..kernel.scope import SYSTEM_TENANT
from ..storage.transaction import Tx
from .model import Attempt

STREAM: Final = "operational"


def report(tx: Tx, kind: str, tenant: str, endpoint_id: bytes, **facts: Any) -> None:
    """Tell the operator, if this is committed. `facts` are JSON-able; `operational.py` says which a kind has."""
    if tenant != SYSTEM_TENANT:
        tx.emit(STREAM, {"type": kind, "at_us": tx.now_us, "endpoint": endpoint_id.hex(), **facts}, tenant)


def report_attempt(tx: Tx, kind: str, tenant: str, endpoint_id: bytes, message_id: bytes, last: Attempt | None, **facts: Any) -> None:
    """An event about a message on its way; `last` is its last attempt, if one was made."""
    made = {"id": last.id.hex(), "at_us": last.started_us, "status": last.status} if last is not None else None
    report(tx, kind, tenant, endpoint_id, message=message_id.hex(), attempt=made, **facts)
