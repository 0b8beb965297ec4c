"""One entry as it is hashed, proven and exported: canonical JSON of at most 65,535 bytes.

Version 1: the members below in the order of their names, UTF-8, no white space. `before` and `after` are what changed, without secrets;
`personal` is the commitment to personal data, SHA-256(salt || data) in hex, where there was any. Times are microseconds since the
epoch. The very same bytes stand in the bundles of tiles and, one entry a line, in `entries.ndjson`.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from ...kernel.ids import to_text

VERSION: Final = 1
MEMBERS: Final = (
    "action", "actor", "after", "at_us", "before", "id", "outcome", "personal", "span_id", "table", "target", "tenant", "trace_id", "v",
)  # fmt: skip


def encode(tenant: str, row: tuple[Any, ...]) -> bytes:
    """The entry of a row as the statement `entries_by_id` reads it."""
    id_, at_us, actor, action, table, target, outcome, trace_id, span_id, before, after, personal = row
    return orjson.dumps({
        "action": action,
        "actor": actor,
        "after": None if after is None else orjson.Fragment(after),
        "at_us": at_us,
        "before": None if before is None else orjson.Fragment(before),
        "id": to_text("aud", id_),
        "outcome": outcome,
        "personal": personal,
        "span_id": span_id,
        "table": table,
        "target": target,
        "tenant": tenant,
        "trace_id": trace_id,
        "v": VERSION,
    })  # fmt: skip


def decode(entry: bytes) -> dict[str, Any] | None:
    """The entry's members, or None where it is no entry of version 1."""
    try:
        found = orjson.loads(entry)
    except orjson.JSONDecodeError:
        return None
    is_one = isinstance(found, dict) and tuple(found) == MEMBERS and found["v"] == VERSION
    return found if is_one else None
