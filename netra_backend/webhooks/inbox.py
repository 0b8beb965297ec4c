"""The receiver's side: a message that arrives several times has its effect once.

At-least-once on the wire means that a receiver gets a message again whenever its answer was lost. The id of each message is
taken by a unique key in the transaction of what the receiver does with it: both are there afterwards, or neither. Of two
copies that arrive at once the second waits for the first one's transaction, and is new only if that was rolled back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..errors import InvalidInput
from ..storage import idempotency
from ..storage.idempotency import Claim
from ..storage.transaction import Tx
from .signing import verified

ROUTE: Final = "webhooks.receive"
LONGEST_SOURCE: Final = 64


@dataclass(frozen=True, slots=True)
class Received:
    """A verified message. `new` is False where its effect is there already: answer 2xx and do nothing."""

    new: bool
    id: str
    payload: Any


async def receive(tx: Tx, headers: Mapping[str, str], body: bytes | str, secret: str | Sequence[str], *, source: str = "") -> Received:
    """Verify a request (see `signing.verify`) and take its id, once per tenant and `source`, in this transaction."""
    if len(source) > LONGEST_SOURCE or (source and not source.isprintable()):
        raise InvalidInput(f"a source is at most {LONGEST_SOURCE} printable characters", fix="Name the sender shortly, such as 'stripe'.")
    message_id, payload = verified(headers, body, secret, tx.runtime.clock.wall_us() / 1_000_000)
    taken = await idempotency.claim(tx, Claim(f"{ROUTE} {source}".rstrip(), message_id, ""), tx.new_id(), 200)
    return Received(taken is None, message_id, payload)
