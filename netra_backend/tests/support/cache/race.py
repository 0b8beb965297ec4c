"""Writers, readers and faults at once on the real cache over a real database, and a judge that knows every commit.

Each version of a key is a number in a table of the tests, raised in the transaction that invalidates. A read is stale if it shows less than what
had been committed one bound before it was asked, or, in the writing process, less than that process had committed itself. Time is the
machine's monotonic clock, read by the one process in which nodes, writers and readers live, so nobody's clocks are compared.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from ....errors import NetraError
from ....storage.statements import parse
from .. import storage

S = parse("""-- name: value_of
select value from tally where name = :name;
""")
KEYS = [f"k{number}" for number in range(8)]


async def raised(tx: Any, netra: Any, key: str) -> int:
    """A new version, and its invalidation, in one transaction."""
    row = await tx.one(storage.Q.raise_tally, name=key)
    await netra.cache.invalidate(tx, key)
    return int(row[0])


async def version_of(tx: Any, key: str) -> int:
    """The committed version."""
    row = await tx.one(S["value_of"], name=key)
    return int(row[0]) if row else 0


@dataclass
class Ledger:
    """What was committed when, per key, and by which node."""

    at: dict[str, list[float]] = field(default_factory=lambda: {key: [] for key in KEYS})
    versions: dict[str, list[int]] = field(default_factory=lambda: {key: [] for key in KEYS})
    own: dict[tuple[int, str], int] = field(default_factory=dict)

    def committed(self, node: int, key: str, version: int, now: float) -> None:
        best = max([version, *self.versions[key][-1:]])
        self.at[key].append(now)
        self.versions[key].append(best)
        self.own[node, key] = max(version, self.own.get((node, key), 0))

    def least(self, node: int, key: str, asked: float, bound_s: float) -> int:
        place = bisect_right(self.at[key], asked - bound_s)
        return max(self.versions[key][place - 1] if place else 0, self.own.get((node, key), 0))


@dataclass
class Race:
    """Runs until its reads are done and its time is over, so that the faults come too. `stale` lists what the judge found."""

    nodes: list[Any]
    bound_s: float
    reads: int
    seed: int = 1
    seconds: float = 1.6
    started: float = 0.0
    done: int = 0
    commits: int = 0
    stale: list[str] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)

    async def run(self, *, readers: int = 8, writers: int = 2, faults: Any = None) -> None:
        """Readers in every node, writers in the first ones, and `faults(race)` beside them."""
        self.started = self.nodes[0].cache.monotonic()
        cached = [self._cached(netra) for netra in self.nodes]
        work = [self._write(number) for number in range(writers)]
        work += [self._read(node, cached[node], reader) for node in range(len(self.nodes)) for reader in range(readers)]
        if faults is not None:
            work.append(faults(self))
        with self.nodes[0].scope(tenant="acme"):
            await asyncio.gather(*work)

    @property
    def over(self) -> bool:
        return self.done >= self.reads and self.nodes[0].cache.monotonic() - self.started >= self.seconds

    def _cached(self, netra: Any) -> Any:
        @netra.cache.cached("{key}", ttl="1h")
        async def version(key: str) -> int:
            return await netra.database.read(version_of, key, scope=storage.SYSTEM)

        return version

    async def _write(self, number: int) -> None:
        chance = random.Random(f"{self.seed}/{number}")
        node = number % len(self.nodes)
        netra = self.nodes[node]
        while not self.over:
            key = chance.choice(KEYS)
            try:
                version = await netra.write(raised, netra, key, tenant="acme")
            except NetraError:
                continue
            self.ledger.committed(node, key, version, netra.cache.monotonic())
            self.commits += 1
            await asyncio.sleep(chance.uniform(0.0, 0.03))

    async def _read(self, node: int, version: Any, reader: int) -> None:
        chance = random.Random(f"{self.seed}/{node}/{reader}")
        monotonic = self.nodes[node].cache.monotonic
        while not self.over:
            for _ in range(50):
                key = chance.choice(KEYS)
                asked = monotonic()
                least = self.ledger.least(node, key, asked, self.bound_s)
                try:
                    shown = await version(key)
                except NetraError:
                    continue
                self.done += 1
                if shown < least:
                    self.stale.append(f"node {node} was shown {key} {shown}, {least} was due")
            await asyncio.sleep(0)
