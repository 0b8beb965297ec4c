"""Idempotency keys: one key, one effect, decided by a unique key in the effect's own transaction.

Only the body's hash and the result's id are kept; the answer is rendered again from them. In one transaction a second
caller with the same key waits for the first, then finds its row: the same body gets the same result, another body is
refused. Scope of a key: tenant, route (method and path template), key.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from ..errors import KeyReused
from .statements import Statements
from .transaction import Tx

Q = Statements(__package__)


@dataclass(frozen=True, slots=True)
class Claim:
    """A caller's key on a route, and the hash of what it sent."""

    route: str
    key: str
    body_hash: str


@dataclass(frozen=True, slots=True)
class Replay:
    """The first call's result."""

    ref: bytes
    status: int


def hash_body(body: bytes) -> str:
    """The hash that two calls with one key must share."""
    return hashlib.sha256(body).hexdigest()


async def claim(tx: Tx, wanted: Claim, ref: bytes, status: int) -> Replay | None:
    """Take the key for the result `ref`; None if it was free, else the first call's result or `KeyReused`."""
    taken = await tx.execute(
        Q.insert_idempotency,
        route=wanted.route,
        key=wanted.key,
        body_hash=wanted.body_hash,
        ref=ref,
        status=status,
        now_us=tx.now_us,
    )
    if taken:
        return None
    row = await tx.one(Q.get_idempotency, route=wanted.route, key=wanted.key)
    if row is None or row[0] != wanted.body_hash:
        raise KeyReused(f"the key {wanted.key[:80]!r} was used for another body")
    return Replay(row[1], row[2])


async def trim(tx: Tx, before_us: int, limit: int) -> int:
    """Forget up to `limit` keys that are older, whoever's; how many there were."""
    return await tx.execute(Q.trim_idempotency, before_us=before_us, limit=limit)
