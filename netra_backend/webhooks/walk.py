"""The walk over lanes with due deliveries: round and round, of each tenant at most a share at a time.

A lane is found by one index seek, whether or not what is due in it is due by now: a tenant of very many endpoints, each with a retry
that waits, has as many seeks to be made. Walked in the order of the index it would keep everybody behind it waiting until
its last lane has been looked at. So a round takes `SHARE` of its lanes and goes on with the next tenant; the next round goes on
where this one left it.

A walk is over when a round has left no tenant's lanes unfinished. It is a value, so that a look that failed is repeated from where
it began.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from ..storage.statements import Statements
from ..storage.transaction import Tx
from .store import Lane

Q = Statements(__package__)

SHARE: Final = 64
_BEHIND_ALL: Final = b"\xff" * 16


@dataclass(frozen=True, slots=True)
class Walk:
    """Where it stands: behind which tenant in this round, and at which endpoint of those that the last and this round left unfinished."""

    tenant: str = ""
    last_round: Mapping[str, bytes] = field(default_factory=dict)
    this_round: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        """Whether every lane was looked at since it began."""
        return not self.tenant and not self.last_round


async def go_on(tx: Tx, walk: Walk, limit: int) -> tuple[list[tuple[Lane, int]], Walk]:
    """The next lanes with due deliveries, about `limit`, each with its earliest due time; and where the walk then stands."""
    found: list[tuple[Lane, int]] = []
    while True:
        more, walk = await _round(tx, walk, limit - len(found))
        found += more
        if walk.is_over or len(found) >= limit:
            return found, walk


async def _round(tx: Tx, walk: Walk, limit: int) -> tuple[list[tuple[Lane, int]], Walk]:
    """As much of the round as the limit allows."""
    found: list[tuple[Lane, int]] = []
    left, tenant = dict(walk.this_round), walk.tenant
    row = await tx.one(Q.next_due_lane, after_tenant=tenant, after_endpoint=_BEHIND_ALL)
    while row is not None and len(found) < limit:
        tenant, taken = row[0], 0
        if tenant in walk.last_round:
            row = await tx.one(Q.next_due_lane, after_tenant=tenant, after_endpoint=walk.last_round[tenant])
        while row is not None and row[0] == tenant and taken < SHARE:
            found.append(((tenant, row[1]), row[2]))
            taken += 1
            row = await tx.one(Q.next_due_lane, after_tenant=tenant, after_endpoint=row[1])
        if row is not None and row[0] == tenant:
            left[tenant] = found[-1][0][1]
            row = await tx.one(Q.next_due_lane, after_tenant=tenant, after_endpoint=_BEHIND_ALL)
    return found, Walk("", left) if row is None else Walk(tenant, walk.last_round, left)
