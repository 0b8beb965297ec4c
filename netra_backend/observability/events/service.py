"""`netra.events`: a program's own events, in its own transaction, beside Netra's.

An event is an item on the log's stream `events`: there if and only if the transaction commits. With a `key` it is recorded once,
however often it is tried: the key is taken in the same transaction, as an idempotency key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import orjson

from ...errors import InvalidInput
from ...storage import idempotency
from ...storage.idempotency import Claim
from ...storage.transaction import Tx

STREAM: Final = "events"
ROUTE: Final = "events.record"
LARGEST_BYTES: Final = 64 * 1024
LONGEST_KEY: Final = 256
RESERVED: Final = ("webhook.", "connection.", "run.", "chunk.", "item.", "cache.", "endpoint.", "sso.", "kpi.", "message.attempt.")
"""What Netra's own events begin with: nobody else says that a webhook was delivered."""

_TYPE: Final = re.compile(r"[a-zA-Z0-9_.-]{1,256}\Z")


class Events:
    """`netra.events`."""

    async def record(self, tx: Tx, type: str, data: Mapping[str, Any], key: str | None = None) -> bool:
        """Record an event of the transaction's tenant; False where one of this type and `key` was recorded before.

        `type` is named as message types are (`order.shipped`), `data` is a JSON object of at most 64 KiB, by whose members a KPI
        joins events. Raises `InvalidInput`, and `KeyReused` where the key was used for other data.
        """
        body = checked(type, data, key)
        async with tx.verb():
            return await _record(tx, type, body, key)


def checked(kind: Any, data: Any, key: Any) -> bytes:
    """The data as JSON, if all of it may be recorded."""
    if not isinstance(kind, str) or not _TYPE.match(kind):
        raise InvalidInput(f"{str(kind)[:80]!r} cannot name an event", fix="Use 1 to 256 of a-z, A-Z, 0-9, '_', '-' and '.'.")
    if kind.startswith(RESERVED):
        raise InvalidInput(f"{kind!r} is a name of Netra's own events", fix="Begin it with a word of your own: order.shipped.")
    if key is not None and (not isinstance(key, str) or not 1 <= len(key) <= LONGEST_KEY or not key.isprintable()):
        raise InvalidInput(f"a key must be 1 to {LONGEST_KEY} printable characters", fix="Use an id of plain letters and digits.")
    if not isinstance(data, Mapping):
        raise InvalidInput("an event's data is an object", fix='Pass a dict: {"order_id": 7}.')
    try:
        body = orjson.dumps(dict(data), option=orjson.OPT_SORT_KEYS)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the data is not JSON: {error}", fix="Pass dicts, lists, strings, numbers, booleans and None.") from error
    if len(body) > LARGEST_BYTES:
        raise InvalidInput(f"the data has {len(body)} bytes", fix=f"Record at most {LARGEST_BYTES}: ids, amounts, and what KPIs join by.")
    return body


async def _record(tx: Tx, kind: str, body: bytes, key: str | None) -> bool:
    id_ = tx.new_id()
    if key is not None:
        wanted = Claim(ROUTE, f"{kind} {key}", idempotency.hash_body(body))
        if await idempotency.claim(tx, wanted, id_, 201) is not None:
            return False
    item = {"type": kind, "id": key if key is not None else id_.hex(), "data": orjson.loads(body)}
    if tx.scope.trace.trace_id:
        item["trace"] = tx.scope.trace.trace_id
    tx.emit(STREAM, item)
    tx.wake_others()
    return True
