"""The audit trail: what an entry costs inside a transaction, how fast entries come into the log, and how long a proof takes.

Peers: a plain insert of the same twelve values into a table of the same shape, without a trail; and pymerkle, a Merkle tree of RFC 6962 in
Python, in memory and on SQLite. Every figure is taken on a file with `synchronous=FULL`. A tree that was built is verified before its
figure stands.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import pymerkle
from measure import RUNS, Row, scratch

from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope, system_scope
from netra_backend.observability.audit import merkle, store
from netra_backend.observability.audit.memory import Memory
from netra_backend.observability.audit.note import open_note
from netra_backend.observability.audit.sequencer import Sequencer
from netra_backend.storage import log, nodes
from netra_backend.storage.audit_append import audit_append
from netra_backend.storage.sealing import RootKeys, Sealer
from netra_backend.storage.sqlite import Sqlite
from netra_backend.storage.statements import statement

ACME = Scope("acme", "bench")
SYSTEM = system_scope("bench")
SEALER = Sealer(RootKeys({"r1": b"1" * 32}))
PER_TRANSACTION = 200
"""Entries of one transaction, so that its commit, which both sides pay, is spread thin."""

PLAIN = statement(
    """insert into plain values
    (:tenant, :id, :at_us, :actor, :action, :target_table, :target, :outcome, :trace_id, :span_id, :before, :after)"""
)
PLAIN_TABLE = statement(
    """create table plain (tenant text not null, id blob not null, at_us integer not null, actor text not null, action text not null,
    target_table text not null, target text not null, outcome text not null, trace_id text not null, span_id text not null, before text,
    after text, primary key (tenant, id)) strict"""
)
AFTER = {"url": "https://hooks.example.com/in", "description": "the first one", "disabled": 0}
FACTS = '{"description":"the first one","disabled":0,"url":"https://hooks.example.com/in"}'


def rows(*, quick: bool = False) -> list[Row]:
    """The table's rows."""
    return asyncio.run(_rows(quick=quick))


async def _rows(*, quick: bool) -> list[Row]:
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="pymerkle")
    runs = 1 if quick else RUNS
    entries, proven = (2_000, 20_000) if quick else (40_000, 1_000_000)
    cost: dict[str, list[float]] = {"ours": [], "plain": []}
    rates: dict[str, list[float]] = {"ours": [], "memory": [], "sqlite": []}
    for _ in range(runs):
        with scratch() as folder:
            async with _Bench(folder) as bench:
                for name, one in (("plain", _plain), ("ours", _audited)):
                    cost[name].append(await bench.cost_us(one, entries // 4))
                await bench.write(entries)
                rates["ours"].append(await bench.sequenced_per_s())
        rates["memory"].append(_pymerkle_per_s(pymerkle.InmemoryTree(algorithm="sha256"), entries // 4))
        with scratch() as folder:
            rates["sqlite"].append(
                _pymerkle_per_s(pymerkle.SqliteTree(str(folder / "tree.db"), algorithm="sha256"), min(entries // 4, 2_000))
            )
    added = [ours - plain for ours, plain in zip(cost["ours"], cost["plain"], strict=True)]
    return [
        Row("audit entry, in a transaction", "sqlite", "us", "full", cost["ours"], cost["plain"], "plain insert", better="lower"),
        Row("audit entry, added to a plain insert", "sqlite", "us", "full", added, budget=15.0, better="lower"),
        Row("entries sequenced", "sqlite", "entries/s", "full", rates["ours"], rates["memory"], "pymerkle in memory", budget=150_000),
        Row("entries sequenced", "sqlite", "entries/s", "full", rates["ours"], rates["sqlite"], "pymerkle on SQLite"),
        await _proofs(proven, runs),
    ]


class _Bench:
    """A database with one node that leads, and its sequencer."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def __aenter__(self) -> Self:
        runtime = Runtime()
        self.database = Sqlite(self._folder / "netra.db", runtime, driver="apsw", disk_reserve_bytes=0)
        await self.database.open()
        self.node = runtime.ids.new()
        await self.database.write(nodes.register, self.node, "host", 1, "bench", scope=SYSTEM)
        await self.database.write(log.take_lead, "log", self.node, scope=SYSTEM)
        await self.database.write(_make_plain, scope=SYSTEM)
        memory = Memory(self._folder / "memory")
        self.sequencer = Sequencer(self.database, runtime, _Alive(self.node), SEALER, memory, "netra.bench/here")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.database.close()

    async def cost_us(self, one, count: int) -> float:
        """Microseconds an entry, many in a transaction."""
        started = time.perf_counter()
        for _ in range(count // PER_TRANSACTION):
            await self.database.write(_many, one, PER_TRANSACTION, scope=ACME)
        return (time.perf_counter() - started) * 1e6 / (count // PER_TRANSACTION * PER_TRANSACTION)

    async def write(self, count: int) -> None:
        """So many entries, moved into the stream."""
        for _ in range(count // PER_TRANSACTION):
            await self.database.write(_many, _audited, PER_TRANSACTION, scope=ACME)
        while await self.database.write(log.sequence, self.node, 500, scope=SYSTEM):
            pass

    async def sequenced_per_s(self) -> float:
        """From the stream to tiles and signed checkpoints: everything that waits."""
        started = time.perf_counter()
        await self.sequencer.drain()
        seconds = time.perf_counter() - started
        found = await self.database.read(store.find, "acme", scope=ACME)
        assert found.signed_size == found.size
        assert open_note(found.checkpoint, found.vkey).root == found.root
        return found.size / seconds


class _Alive:
    quiet = False

    def __init__(self, node: bytes) -> None:
        self.id = node


async def _make_plain(tx):
    await tx.execute(PLAIN_TABLE)


async def _many(tx, one, count):
    for number in range(count):
        await one(tx, number)


async def _audited(tx, number):
    await audit_append(tx, "endpoint.update", f"{number:032x}", table="netra_endpoint", after=AFTER)


async def _plain(tx, number):
    values = {
        "at_us": tx.now_us,
        "actor": "bench",
        "action": "endpoint.update",
        "target_table": "netra_endpoint",
        "target": f"{number:032x}",
    }
    rest = {"outcome": "ok", "trace_id": "", "span_id": "", "before": None, "after": FACTS}
    await tx.execute(PLAIN, tenant="acme", id=tx.new_id(), **values, **rest)


def _pymerkle_per_s(tree, count: int) -> float:
    entries = [f'{{"action":"endpoint.update","after":{FACTS},"target":"{number:032x}"}}'.encode() for number in range(count)]
    started = time.perf_counter()
    for each in entries:
        tree.append(each)
    seconds = time.perf_counter() - started
    assert tree.get_size() == count
    return count / seconds


async def _proofs(size: int, runs: int) -> Row:
    """Time of one inclusion proof in a tree of that size: ours from tiles in the database, the peer's from memory."""
    ours, peers = [], []
    with scratch() as folder:
        async with _Bench(folder) as bench:
            hashes = [merkle.leaf_hash(b"%d" % number) for number in range(size)]
            root = await bench.database.write(_grown, hashes, scope=ACME)
            tree = pymerkle.InmemoryTree(algorithm="sha256")
            for number in range(min(size, 100_000)):
                tree.append(b"%d" % number)

            async def ours_us(_: str) -> float:
                started = time.perf_counter()
                for index in range(0, size, size // 200):
                    proof = await bench.database.read(_prove, index, size, scope=ACME)
                    assert merkle.root_by_inclusion(hashes[index], index, size, proof) == root
                return (time.perf_counter() - started) * 1e6 / 200

            for _ in range(runs):
                ours.append(await ours_us(""))
                started = time.perf_counter()
                for index in range(1, tree.get_size(), tree.get_size() // 200):
                    tree.prove_inclusion(index)
                peers.append((time.perf_counter() - started) * 1e6 / 200)
    name = f"inclusion proof among {size} entries"
    return Row(name, "sqlite", "us", "read", ours, peers, "pymerkle in memory, at most 10^5", better="lower")


async def _grown(tx, hashes: Sequence[bytes]) -> bytes:
    growth = merkle.Growth(0, {})
    growth.append(b"".join(hashes))
    for (level, number), tile in growth.changed.items():
        await tx.execute(store.Q.put_tile, tenant="acme", level=level, number=number, hashes=tile)
    return growth.root()


async def _prove(tx, index: int, size: int) -> list[bytes]:
    ranges = merkle.inclusion_ranges(index, size)
    tiles = await store.tiles(tx, "acme", sorted(merkle.tiles_of(ranges)))
    return [merkle.range_root(tiles, *each) for each in ranges]


if __name__ == "__main__":
    from measure import show

    show([{"table": "audit_log", **row.as_json()} for row in rows()])
