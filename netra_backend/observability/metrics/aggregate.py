"""The figures of all processes, through the store: each writes what it has added, any of them reads the sum.

A row is what one life of a process has added to one series, so it is written again as a whole and nothing is added twice. What a life that
is over had written is folded by whoever has the lease; what it had not written by then is counted under the next life, or lost with a kill:
the few seconds since its last write. A node that was declared dead writes nothing any more (its rows are folded already).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final

import orjson

from ...errors import NetraError
from ...kernel.rounds import Rounds
from ...kernel.runtime import Runtime
from ...kernel.scope import system_scope
from ...storage import log
from ...storage.database import Database
from ...storage.membership import Membership
from ...storage.statements import Statements
from ...storage.transaction import Tx
from .registry import Key, Registry

Q = Statements(__package__)

WRITE_EVERY_S: Final = 5.0
FRESH_S: Final = 2.0
LEASE: Final = "metrics"
FOLDED: Final = bytes(16)
"""The node that stands for all lives that are over."""

_SCOPE: Final = system_scope("metrics")


class Aggregate:
    """See the module's docstring. For the loop of its Netra."""

    def __init__(self, database: Database, runtime: Runtime, membership: Membership, registry: Registry) -> None:
        self._database = database
        self._runtime = runtime
        self._membership = membership
        self._registry = registry
        self._node = b""
        self._base: dict[Key, float] = {}
        self._written: dict[Key, float] = {}
        self._others: dict[Key, float] = {}
        self._read_at = float("-inf")
        self._rounds = Rounds(runtime, self._keep, "metrics could not be written yet", WRITE_EVERY_S, at_once=False)

    def start(self) -> None:
        """Begin, in the background."""
        self._node = self._membership.id
        self._rounds.start()

    async def stop(self) -> None:
        """End, with what was counted until now written."""
        await self._rounds.stop()
        with contextlib.suppress(NetraError):
            await self.write()

    async def _keep(self) -> None:
        await self.write()
        await self._database.write(self._fold, scope=_SCOPE, lane="bulk")

    async def write(self) -> None:
        """Write what has changed since the last time; nothing where nothing has."""
        if self._node != self._membership.id:  # another life: what the former one has written is no part of this one's rows
            self._node = self._membership.id
            for key, amount in self._written.items():
                self._base[key] = self._base.get(key, 0.0) + amount
            self._written = {}
        own = self._own()
        changed = {key: amount for key, amount in own.items() if amount and self._written.get(key) != amount}
        if changed and await self._database.write(_put, self._node, changed, scope=_SCOPE, lane="bulk"):
            self._written |= changed

    def _own(self) -> dict[Key, float]:
        return {key: amount - self._base.get(key, 0.0) for key, amount in self._registry.totals().items()}

    async def others(self) -> Mapping[Key, float]:
        """What must be added to this process's own totals to have the installation's; read anew every two seconds."""
        now = self._runtime.clock.monotonic()
        if now - self._read_at >= FRESH_S:
            self._read_at = now
            found: dict[Key, float] = await self._database.read(_others, self._node or self._membership.id, scope=_SCOPE)
            self._others = {key: found.get(key, 0.0) - self._base.get(key, 0.0) for key in found.keys() | self._base.keys()}
        return self._others

    async def _fold(self, tx: Tx) -> None:
        if not await log.has_lead(tx, LEASE, self._membership.id):
            return
        sums: dict[tuple[str, str], float] = {}
        for name, labels, value in await tx.all(Q.take_gone_metrics, folded=FOLDED):
            sums[name, labels] = sums.get((name, labels), 0.0) + value
        if sums:
            rows = sorted((name, labels, value) for (name, labels), value in sums.items())
            await tx.execute(Q.fold_metrics, folded=FOLDED, rows=rows)


async def _put(tx: Tx, node: bytes, changed: Mapping[Key, float]) -> int:
    rows = sorted((name, orjson.dumps(labels).decode(), amount) for (name, labels), amount in changed.items())
    return await tx.execute(Q.put_metrics, node=node, rows=rows)


async def _others(tx: Tx, node: bytes) -> dict[Key, float]:
    rows = await tx.all(Q.others_metrics, node=node)
    return {(name, tuple((label, text) for label, text in orjson.loads(labels))): float(value) for name, labels, value in rows}
