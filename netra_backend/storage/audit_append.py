"""One audit entry, in the transaction of what it records.

An audited table has `audit_id not null`, and a trigger on the columns that are decisions demands an entry of the same
tenant, table and row that has served no other change. So a change without its entry fails, whoever writes it; a
database owner who drops the trigger is found by the published checkpoints, not by this.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from .statements import Statements
from .transaction import Tx

Q = Statements(__package__)

FACTS_BYTES: Final = 60_000
"""What `before` and `after` of an entry may take together: an entry is at most 65,535 bytes (C2SP tlog-tiles), and the rest is bounded."""

ACTOR_CHARACTERS: Final = 256
_VALUE_BYTES: Final = 200


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
    personal: str | None = None,
) -> bytes:
    """Write an entry and return its id, for the row's `audit_id`.

    `action` is `noun.verb` (`endpoint.create`); `target` the row's id as it stands in its key; `before` and `after`
    hold what changed, never a secret. Where they are too large for an entry, their largest values are told by length and
    SHA-256 only. `personal` is the commitment to personal data that stands elsewhere.
    """
    entry = tx.new_id()
    owner = tenant or tx.tenant
    name = target.hex() if isinstance(target, bytes) else target
    before_text, after_text = facts_that_fit(before, after)
    await tx.execute(
        Q.insert_audit_entry,
        tenant=owner,
        id=entry,
        at_us=tx.now_us,
        actor=tx.scope.actor[:ACTOR_CHARACTERS],
        action=action,
        target_table=table,
        target=name,
        outcome=outcome,
        trace_id=tx.scope.trace.trace_id,
        span_id=tx.scope.trace.span_id,
        before=before_text,
        after=after_text,
        personal=personal,
    )
    tx.emit("audit", {"id": entry.hex()}, owner)
    return entry


def facts_that_fit(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """Both as JSON, the members in order; values are left out by their digest until the two fit into an entry."""
    texts = [_json(before), _json(after)]
    if _size(texts) <= FACTS_BYTES:
        return _decoded(texts)
    facts = [None if value is None else dict(value) for value in (before, after)]
    by_size = sorted(
        ((len(_bytes(value)), which, name) for which, each in enumerate(facts) if each for name, value in each.items()), reverse=True
    )
    for size, which, name in by_size:
        chosen = facts[which]
        if chosen is not None and size > _VALUE_BYTES:
            chosen[name] = digest_of(chosen[name])
        texts = [_json(each) for each in facts]
        if _size(texts) <= FACTS_BYTES:
            break
    return _decoded(texts)


def fingerprint(stored: bytes | str) -> str:
    """What an entry says of a column that holds a secret: SHA-256 of what is stored there, which is sealed or a keyed hash."""
    return hashlib.sha256(stored.encode() if isinstance(stored, str) else stored).hexdigest()


def digest_of(value: Any) -> dict[str, Any]:
    """What stands for a value that is too large for an entry: its length and its SHA-256, over its canonical JSON."""
    data = _bytes(value)
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _size(texts: Sequence[bytes]) -> int:
    return len(texts[0]) + len(texts[1])


def _decoded(texts: Sequence[bytes]) -> tuple[str | None, str | None]:
    return texts[0].decode() or None, texts[1].decode() or None


def _json(value: Mapping[str, Any] | None) -> bytes:
    """Empty where there is none, which no JSON is."""
    return b"" if value is None else _bytes(value)


def _bytes(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
