"""Stale reads per 10^7 without any fault: ours, cashews and plain cache-aside on the same harness, over one Valkey and one database.

Two processes' worth of readers ask for 20 keys; writers change one and invalidate it as each library's documentation says. A load reads the
database and then takes up to 20 ms more, as loads do that make something of what they read. A read is stale if it shows less than what had
been committed one bound (1 s) before it was asked. The peers are not wrong by that: none of them promises it.

Peers lose the slow reader's race: who read before the commit, and fills after the invalidation, leaves a value that nobody will remove.
"""

from __future__ import annotations

import asyncio
import random
import sys
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from cache_hits import opened, valkey
from cashews.wrapper import Cache as Cashews
from measure import RUNS, Row, scratch, show, tell
from redis.asyncio import Redis

from netra_backend import Netra, batch
from netra_backend.kernel.scope import Scope

KEYS: Final = [f"k{number}" for number in range(20)]
BOUND_S: Final = 1.0
READERS: Final = 40
WRITERS: Final = 4
TTL_S: Final = 3600
PER: Final = 10_000_000
MAKE: Final = batch.sql("create table if not exists stock (name text primary key, version int not null)")
RAISE: Final = batch.sql(
    "insert into stock (name, version) values (:name, 1) on conflict (name) do update set version = stock.version + 1 returning version"
)
READ: Final = batch.sql("select version from stock where name = :name")
SCOPE: Final = Scope("acme", "bench")


async def raised(tx: Any, name: str) -> int:
    """A new version."""
    row = await tx.one(RAISE, name=name)
    return int(row[0])


async def version_of(tx: Any, name: str) -> int:
    """The committed version."""
    row = await tx.one(READ, name=name)
    return int(row[0]) if row else 0


class Subject:
    """One way to cache: `read` in either process, and `write` with its invalidation."""

    def __init__(self, nodes: list[Netra]) -> None:
        self.nodes = nodes
        self.reads: list[Callable[[str], Awaitable[int]]] = []

    async def load(self, at: int, name: str) -> int:
        """What every subject loads."""
        version: int = await self.nodes[at].database.read(version_of, name, scope=SCOPE)
        await asyncio.sleep(random.uniform(0, 0.02))
        return version

    async def write(self, name: str) -> int:
        """Change it, and invalidate."""
        raise NotImplementedError


class Ours(Subject):
    """The decorator, and the invalidation in the writer's transaction."""

    def __init__(self, nodes: list[Netra]) -> None:
        super().__init__(nodes)
        for at, netra in enumerate(nodes):

            @netra.cache.cached("{name}", ttl=TTL_S)
            async def read(name: str, at: int = at) -> int:
                return await self.load(at, name)

            self.reads.append(read)

    async def write(self, name: str) -> int:
        async def change(tx: Any) -> int:
            version = await raised(tx, name)
            await self.nodes[0].cache.invalidate(tx, name)
            return version

        return int(await self.nodes[0].write(change))


class WithCashews(Subject):
    """Its decorator with the Redis backend and its lock, and `delete` behind the commit."""

    def __init__(self, nodes: list[Netra], url: str) -> None:
        super().__init__(nodes)
        self.caches = []
        for at in range(len(nodes)):
            cache = Cashews()
            cache.setup(url, client_side=False)
            self.caches.append(cache)

            @cache(ttl=TTL_S, key="{name}", lock=True)
            async def read(name: str, at: int = at) -> int:
                return await self.load(at, name)

            self.reads.append(read)

    async def write(self, name: str) -> int:
        version = int(await self.nodes[0].write(raised, name))
        await self.caches[0].delete(name)
        return version


class Aside(Subject):
    """GET, load, SET; and DEL behind the commit."""

    def __init__(self, nodes: list[Netra], url: str) -> None:
        super().__init__(nodes)
        self.client = Redis.from_url(url)
        for at in range(len(nodes)):

            async def read(name: str, at: int = at) -> int:
                found = await self.client.get(f"aside:{name}")
                if found is not None:
                    return int(found)
                version = await self.load(at, name)
                await self.client.set(f"aside:{name}", version, ex=TTL_S)
                return version

            self.reads.append(read)

    async def write(self, name: str) -> int:
        version = int(await self.nodes[0].write(raised, name))
        await self.client.delete(f"aside:{name}")
        return version


class Trial:
    """One run of one subject."""

    def __init__(self, subject: Subject, seconds: float) -> None:
        self.subject = subject
        self.now = asyncio.get_running_loop().time
        self.ends = self.now() + seconds
        self.at: dict[str, list[float]] = {name: [] for name in KEYS}
        self.versions: dict[str, list[int]] = {name: [] for name in KEYS}
        self.reads = self.stale = 0

    async def run(self) -> tuple[int, int]:
        """Reads, and stale ones among them."""
        await asyncio.gather(*(self._write(n) for n in range(WRITERS)), *(self._read(n) for n in range(READERS)))
        return self.reads, self.stale

    async def _write(self, number: int) -> None:
        mine = KEYS[number::WRITERS]
        while self.now() < self.ends:
            name = random.choice(mine)
            version = await self.subject.write(name)
            self.at[name].append(self.now())
            self.versions[name].append(version)
            await asyncio.sleep(random.uniform(0, 0.3))

    async def _read(self, number: int) -> None:
        read = self.subject.reads[number % len(self.subject.reads)]
        while self.now() < self.ends:
            for _ in range(20):
                name = random.choice(KEYS)
                place = bisect_right(self.at[name], self.now() - BOUND_S)
                due = self.versions[name][place - 1] if place else 0
                shown = await read(name)
                self.reads += 1
                self.stale += shown < due
            await asyncio.sleep(0.001)


async def trials(folder: Path, url: str, seconds: float, runs: int) -> dict[str, list[tuple[int, int]]]:
    """Every subject in turn."""
    found: dict[str, list[tuple[int, int]]] = {}
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(opened(folder, f"n{at}", cache_url=url)) for at in range(2)]
        await nodes[0].database.write(lambda tx: tx.execute(MAKE), scope=Scope("acme", "bench"))
        subjects = {"ours": Ours(nodes), "cashews": WithCashews(nodes, url), "plain cache-aside": Aside(nodes, url)}
        for number in range(runs):
            for name, subject in subjects.items():
                reads, stale = await Trial(subject, seconds).run()
                tell(f"run {number + 1} of {runs}: {name}: {stale} stale of {reads:,} reads")
                found.setdefault(name, []).append((reads, stale))
        for cache in subjects["cashews"].caches:  # type: ignore[attr-defined]
            await cache.close()
        await subjects["plain cache-aside"].client.aclose()  # type: ignore[attr-defined]
    return found


def rows(*, quick: bool = False) -> list[Row]:
    """Stale reads, scaled to 10^7."""
    seconds, runs = (3.0, 1) if quick else (12.0, RUNS)
    with scratch() as folder:
        (folder / "valkey").mkdir()
        with valkey(folder / "valkey") as url:
            found = asyncio.run(trials(folder, url, seconds, runs))
    per = {name: [stale / reads * PER for reads, stale in each] for name, each in found.items()}
    total = {name: sum(reads for reads, _ in each) for name, each in found.items()}
    what = "stale reads per 10^7, no faults"
    return [
        Row(
            what,
            "valkey",
            f"of {total['ours']:,} and {total[peer]:,} reads",
            "a commit each",
            per["ours"],
            per[peer],
            peer,
            0.0,
            better="lower",
        )
        for peer in ("cashews", "plain cache-aside")
    ]


if __name__ == "__main__":
    show([{"table": "cache_stale", **row.as_json()} for row in rows(quick="--quick" in sys.argv)])
