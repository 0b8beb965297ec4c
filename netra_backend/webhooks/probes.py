"""The one probe of a breaker that is half open, in the whole fleet.

Every process sees the opening's time pass. One of them swaps `open` for `half_open` with itself as the prober, and in the
same transaction leases the oldest due delivery, the only one that it may send; the others find the swap lost. So whoever
is killed at whatever step leaves either an open breaker, or a probe with a delivery, both of which fall to the others:

* the prober's node is dead: the sweep gives its probe up, as it makes its deliveries due again;
* the prober lives and says nothing (it is stopped, or its delivery waits): when the probe's time is over, the next process
  swaps it for a probe of its own. What the former one finds out afterwards no longer counts: the swap from its state fails.

While an endpoint was parked nobody looked at its rows, so those past their deadline are buried here, in one statement.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from ..kernel.failpoints import declare
from ..resilience.circuit_breaker import Breaker
from ..storage.statements import Row, Statements
from ..storage.transaction import Tx
from . import lines, store
from .model import Delivery, EndpointHealth
from .store import Lane

Q = Statements(__package__)

BURIED_AT_ONCE: Final = 1000
PAST_DEADLINE: Final = "its deadline passed while its endpoint was parked"

PROBE_TAKEN: Final = declare("webhooks.probe_taken_before_commit", "the probe and its delivery are this node's, nothing is committed")


class Probes(NamedTuple):
    """The lanes whose probe this node has, their deliveries, and how many were found past their deadline on the way."""

    lanes: set[Lane]
    deliveries: list[Delivery]
    expired: int


async def take(tx: Tx, node: bytes, wanted: Sequence[tuple[Lane, EndpointHealth, EndpointHealth]]) -> Probes:
    """Become the prober of those endpoints, each as it was seen and as it is to be, whose oldest due delivery is then ours."""
    asked = sorted(lane for lane, _, _ in wanted)
    expired = await tx.all(Q.bury_expired, lanes=asked, now_us=tx.now_us, most=BURIED_AT_ONCE, reason=PAST_DEADLINE)
    for tenant, message, endpoint, number, _ in expired:
        store.announce(tx, tenant, message, endpoint, "dead", number)
    if behind := {(tenant, endpoint, line) for tenant, _, endpoint, _, line in expired if line is not None}:
        await lines.free_next(tx, behind)
    rows = sorted(_probe_row(lane, before.breaker, after.breaker) for lane, before, after in wanted)
    taken = {(row[0], row[1]) for row in await tx.all(Q.take_probes, rows=rows, node=node, now_us=tx.now_us)}
    deliveries = await store.claim(tx, node, [(lane, 1) for lane in taken]) if taken else []
    empty = taken - {(each.message.tenant, each.endpoint_id) for each in deliveries}
    if empty:  # somebody else holds the row that was due: there is nothing to probe with
        await give_up(tx, empty, node)
    if deliveries:
        tx.runtime.failpoints.hit(PROBE_TAKEN)
    return Probes(taken - empty, deliveries, len(expired))


def _probe_row(lane: Lane, before: Breaker, after: Breaker) -> Row:
    return (*lane, before.phase, before.since_us, before.until_us, after.since_us, after.until_us)


async def give_up(tx: Tx, lanes: Collection[Lane], node: bytes = b"") -> list[Lane]:
    """Give up the probes that `node` holds, or a node that is dead: the next one may be taken at once."""
    return [(row[0], row[1]) for row in await tx.all(Q.give_up_probes, rows=sorted(lanes), node=node, now_us=tx.now_us)]
