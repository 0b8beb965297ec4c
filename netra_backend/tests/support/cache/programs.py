"""Processes of the cache under test: one whose readers and writers race, one that leads the log, one that only writes, one that asks once."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path
from typing import Any

from ....cache.node import Node
from ....errors import NetraError, Unavailable
from ....netra import Netra
from .. import storage
from ..programs import _take_commands
from .commits import Commits, Due
from .race import raised, version_of

BATCH = 1000
KEPT_MOST = 20_000
HIT_MOST_S, REST_S = 0.002, 0.05
WRITER_RESTS, WRITER_RESTS_MOST_S = 4, 1.5
"""A reader rests after what was no hit, and a writer the longer the longer its commit took: what is invalidated faster than a busy machine
can load it is never hit, and only hits are tried here."""


class Undo(Exception):
    """The transaction shall not be."""


def racer(channel: socket.socket, spec: dict[str, Any]) -> None:
    """`spec`: `url`, `settings`, `commits` (the shared file), `keys`, `writes` (this process's keys), `readers`, `seed`, `bound_s`."""
    asyncio.run(_racer(channel, spec))


async def _racer(channel: socket.socket, spec: dict[str, Any]) -> None:
    async with Netra(spec["url"], workers=False, environ={}, **spec["settings"]) as netra:
        with netra.scope(tenant="acme"):
            await netra.cache.position()
            if spec.get("blind"):
                netra.cache.node.__class__ = Blind
            racing = Racer(netra, spec)
            await _take_commands(channel, racing)
            await racing.end()


class Blind(Node):
    """What nobody may be: it serves for ever, and applies nothing."""

    def is_leased(self, now: float) -> bool:
        return True

    def observe(self, look: Any, started: float) -> list[Any]:
        self.lease_until = float("inf")
        return []


class Racer:
    """Commands: `begin`, `counts`, `answer`, `cut`, `quiet`, `rest`."""

    def __init__(self, netra: Netra, spec: dict[str, Any]) -> None:
        self.netra = netra
        self.spec = spec
        self.commits = Commits(Path(spec["commits"]), spec["keys"])
        self.own = [0] * spec["keys"]
        self.reads = self.committed = self.refused = 0
        self.stale: list[str] = []
        self.kept: list[tuple[str, int, int]] = []
        self.writing = self.reading = True
        self.tasks: list[asyncio.Task[None]] = []
        self.monotonic = netra.cache.monotonic
        self._note_what_is_kept()

        @netra.cache.cached("{key}", ttl="1h")
        async def version(key: str) -> int:
            return await netra.database.read(version_of, key, scope=storage.ACME)

        @netra.cache.cached("page:{key}", ttl="1h")
        async def page(key: str) -> list[int]:
            return [await version(key)]

        self.version, self.page = version, page

    async def begin(self) -> None:
        """Readers and writers start."""
        work = [self._read(reader) for reader in range(self.spec["readers"])]
        work += [self._write(number) for number in range(2)]
        self.tasks = [asyncio.create_task(each) for each in work]

    async def counts(self) -> dict[str, Any]:
        """What was done so far."""
        broken = [repr(task.exception()) for task in self.tasks if task.done() and task.exception()]
        tiers = self.netra.cache.tiers()
        counted = {"reads": self.reads, "commits": self.committed, "refused": self.refused, "loads": tiers["loads"]}
        return {**counted, "l1": tiers["l1"]["hits"], "l2": tiers["l2"]["hits"], "stale": self.stale, "broken": broken}

    async def answer(self, reads: int) -> None:
        """Wait until so many more were answered."""
        due = self.reads + reads
        await storage.eventually(lambda: self.reads >= due or self.stale, 600.0)

    async def cut(self, seconds: float) -> None:
        """No way to the database for so long."""

        async def refused(*_: Any, **__: Any) -> Any:
            await asyncio.sleep(0.01)
            raise Unavailable("cut off")

        database: Any = self.netra.database
        database.read = refused
        await asyncio.sleep(seconds)
        del database.read

    async def quiet(self) -> None:
        """Nobody writes any more."""
        self.writing = False
        await asyncio.gather(*self.tasks[self.spec["readers"] :])

    async def rest(self) -> dict[str, Any]:
        """Once this process has looked: what is kept, beside what the database says; and a sample of all that was ever kept."""
        self.reading = False
        await asyncio.gather(*self.tasks)
        await storage.eventually(self.netra.cache.follower.look)
        names = [f"k{key}" for key in range(self.spec["keys"])]
        shown = {name: [await self.version(name), (await self.page(name))[0]] for name in names}
        hits = await self.netra.cache.get_many(names)
        truth = {name: await self.netra.database.read(version_of, name, scope=storage.ACME) for name in names}
        return {"shown": shown, "hits": hits, "truth": truth, "kept": self.kept}

    async def end(self) -> None:
        """Stop."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    def _note_what_is_kept(self) -> None:
        node: Any = self.netra.cache.node
        fill = node.fill

        def noted(name: str, new: Any, ticket: Any) -> Any:
            entry = fill(name, new, ticket)
            if entry is not None and len(self.kept) < KEPT_MOST and isinstance(new.value, int):
                self.kept.append((name, entry.p, new.value))
            return entry

        node.fill = noted

    async def _read(self, reader: int) -> None:
        chance = random.Random(f"{self.spec['seed']}/{self.spec['writes']}/{reader}")
        due, own, bound_s, keys, monotonic = Due(self.commits), self.own, self.spec["bound_s"], self.spec["keys"], self.monotonic
        names = [f"k{key}" for key in range(keys)]
        version, page, pick = self.version, self.page, chance.random
        while self.reading:
            for _ in range(BATCH):
                key = int(pick() * keys)
                asked = monotonic()
                least = max(due.least(key, asked - bound_s), own[key])
                try:
                    shown = await version(names[key]) if pick() < 0.8 else (await page(names[key]))[0]
                except NetraError:
                    self.refused += 1
                    await asyncio.sleep(0.005)
                    continue
                self.reads += 1
                if self.monotonic() - asked > HIT_MOST_S:
                    await asyncio.sleep(REST_S)
                if shown < least:
                    self.stale.append(f"{names[key]} showed {shown}, {least} was due")
            await asyncio.sleep(self.spec["pause_s"])

    async def _write(self, number: int) -> None:
        chance = random.Random(f"{self.spec['seed']}/{number}")
        mine = self.spec["writes"][number::2]
        while self.writing:
            key = chance.choice(mine)
            began = self.monotonic()
            try:
                version = await self._change(f"k{key}", chance)
            except (NetraError, Undo, OSError):
                await asyncio.sleep(0.005)
                continue
            self.own[key] = max(version, self.own[key])
            self.commits.committed(key, version, self.monotonic())
            self.committed += 1
            took_s = self.monotonic() - began
            await asyncio.sleep(min(WRITER_RESTS_MOST_S, WRITER_RESTS * took_s) + chance.uniform(0.0, 0.25))

    async def _change(self, name: str, chance: random.Random) -> int:
        """In a short transaction mostly; sometimes in one that is held open, and sometimes for nothing."""
        kind = chance.random()
        if kind < 0.8:
            return await self.netra.write(raised, self.netra, name)
        async with self.netra.transaction() as tx:
            version = await raised(tx, self.netra, name)
            await asyncio.sleep(chance.uniform(0.0, self.spec["held_s"]))
            if kind > 0.9:
                raise Undo
        return version


def leader(channel: socket.socket, spec: dict[str, Any]) -> None:
    """Leads the log; `leads` says whether it does."""
    asyncio.run(_serving(channel, spec, Leader))


async def _serving(channel: socket.socket, spec: dict[str, Any], serving: Any) -> None:
    async with Netra(spec["url"], workers=False, environ={}, **spec["settings"]) as netra:
        await _take_commands(channel, serving(netra))


class Leader:
    """Commands: `leads`."""

    def __init__(self, netra: Netra) -> None:
        self.netra = netra

    async def leads(self) -> None:
        """Wait until it does."""
        await storage.eventually(lambda: self.netra.leader.leads)


def writer(channel: socket.socket, spec: dict[str, Any]) -> None:
    """Changes and invalidates without end, each in one transaction, until it is killed; `written` counts what was acknowledged."""
    asyncio.run(_serving(channel, spec, Writer))


class Writer:
    """Commands: `begin`, `written`."""

    def __init__(self, netra: Netra) -> None:
        self.netra = netra
        self.count = 0

    async def begin(self) -> None:
        """Eight writers at once."""
        self.tasks = [asyncio.create_task(self._write(number)) for number in range(8)]

    async def written(self) -> int:
        """So many commits were acknowledged."""
        return self.count

    async def _write(self, number: int) -> None:
        while True:
            await self.netra.write(raised, self.netra, f"k{number}", tenant="acme")
            self.count += 1


def caller(channel: socket.socket, spec: dict[str, Any]) -> None:
    """A process whose callers all want one cold key; each load leaves a line in `spec["loads"]`."""
    asyncio.run(_caller(channel, spec))


async def _caller(channel: socket.socket, spec: dict[str, Any]) -> None:
    async with Netra(spec["url"], workers=False, environ={}, **spec["settings"]) as netra:
        await _take_commands(channel, Caller(netra, Path(spec["loads"])))


class Caller:
    """Commands: `ready`, `ask`, `hang`."""

    def __init__(self, netra: Netra, loads: Path) -> None:
        self.netra = netra
        self.loads = loads

    async def ready(self) -> None:
        """Everything but the question is done."""
        await self.netra.cache.position()
        await self.netra.tenant("acme")

    async def ask(self, key: str, callers: int, most_s: float | None = None) -> list[Any]:
        """So many callers at once."""

        async def load() -> str:
            self._note(key)
            await asyncio.sleep(0.1)
            return "loaded"

        with self.netra.scope(tenant="acme"):
            asking = [self.netra.cache.get_or_load(key, load, ttl=60, hard_timeout=most_s) for _ in range(callers)]
            return list(await asyncio.gather(*asking))

    async def hang(self, key: str) -> None:
        """Begin a load that has no end."""
        has_begun = asyncio.Event()

        async def load() -> None:
            self._note(key)
            has_begun.set()
            await asyncio.Event().wait()

        with self.netra.scope(tenant="acme"):
            self.hanging = asyncio.create_task(self.netra.cache.get_or_load(key, load, ttl=60))
        await has_begun.wait()

    def _note(self, key: str) -> None:
        with self.loads.open("a") as file:
            file.write(f"{key}\n")
