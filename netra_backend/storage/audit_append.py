"""One audit entry, in the transaction of what it records.

An audited table has `audit_id not null`, and a trigger on the columns that are decisions demands an entry of the same
tenant, table and row that has served no other change. So a change without its entry fails, whoever writes it; a
database owner who drops the trigger is found by the published checkpoints, not by this.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from .statements import Statements
from .transaction import Tx

Q = Statements(__package__)


async def audit_append(
    tx: Tx,
    action: str,
    target: bytes | str,
    *,
    table: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    outcome: str = "ok",
    tenant: str | None = None,
) -> bytes:
    """Write an entry and return its id, for the row's `audit_id`.

    `action` is `noun.verb` (`endpoint.create`); `target` the row's id as it stands in its key; `before` and `after`
    hold what changed, never a secret.
    """
    entry = tx.new_id()
    owner = tenant or tx.tenant
    name = target.hex() if isinstance(target, bytes) else target
    await tx.execute(
        Q.insert_audit_entry,
        tenant=owner,
        id=entry,
        at_us=tx.now_us,
        actor=tx.scope.actor,
        action=action,
        target_table=table,
        target=name,
        outcome=outcome,
        trace_id=tx.scope.trace.trace_id,
        span_id=tx.scope.trace.span_id,
        before=_json(before),
        after=_json(after),
    )
    tx.emit("audit", {"id": entry.hex(), "action": action, "target": name}, owner)
    return entry


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
