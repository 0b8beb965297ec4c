"""This process among the others: its node row, its beat, its lock file, and the watch over other nodes.

Protocol. A node writes its beat every TTL/5, ahead of whatever waits for the writer. An observer that has seen the
same beat for a whole TTL of its own monotonic clock deletes the row (only if the beat is still that one): no wall
clock takes part, so a clock step kills nobody. On one host a node also holds an OS lock on a file named by its id for
as long as the process exists; whoever gets that lock knows at once that the process is gone.

S2: an expired owner changes no state. A node whose last committed beat is older than TTL/2 is `quiet` and starts
nothing new; a node that finds its row gone begins a new life under a fresh id and drops what it held in memory. Every
commit under a lease is fenced by the owner's id in the row, so a late one finds nothing to change.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import platform
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from ..errors import NetraError, OutcomeUnknown
from ..kernel.failpoints import declare
from ..kernel.ids import to_text
from ..kernel.runtime import Runtime
from ..kernel.scope import system_scope
from . import nodes
from .database import Database
from .nodes import Node

OBSERVE_EVERY_S: Final = 1.0
AGAIN_S, AGAIN_MOST_S = 0.2, 1.0
"""How soon a new life is tried again that could not begin: ever more slowly, for each try leaves a line in the log."""

BEFORE_BEAT: Final = declare("storage.before_beat", "the node is about to write its beat")
_SCOPE: Final = system_scope()


class Membership:
    """See the module's docstring. `id` is this life's; read it again whenever it is needed.

    `senders` numbers the living nodes that make deliveries, in an order that every node finds the same.
    """

    def __init__(self, database: Database, runtime: Runtime, lock_dir: Path, *, ttl_s: float, role: str, sends: bool = True) -> None:
        self.id = b""
        self.on_new_life: list[Callable[[], None]] = []
        self.on_reaped: list[Callable[[], None]] = []
        self.live_nodes = 1
        self.senders: Mapping[bytes, int] = {}
        self._database = database
        self._runtime = runtime
        self._lock_dir = lock_dir / "nodes"
        self._ttl_s = ttl_s
        self._role = role
        self._sends = sends
        self._lock: int | None = None
        self._beaten_at = 0.0
        self._seen: dict[bytes, tuple[int, float]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._doubt = asyncio.Event()
        self._again_in_s = AGAIN_S
        self._has_begun = False
        self._former: list[bytes] = []

    async def start(self) -> None:
        """Begin the first life and keep it going in the background."""
        self._lock_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._loop = asyncio.get_running_loop()
        self._database.on_unknown_outcome.append(self._begin_to_doubt)
        await self._begin_life()
        await self._observe_once()  # a predecessor that was killed is reaped before anything else
        self._tasks = [asyncio.create_task(self._beat_forever()), asyncio.create_task(self._observe_forever())]

    async def stop(self) -> None:
        """End this life: whatever it still owns is due for others at once."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(NetraError):  # if it cannot be written, the others' observers will find out
            await self._database.write(nodes.remove, self.id, scope=_SCOPE, lane="urgent")
        self._unlock()

    @property
    def quiet(self) -> bool:
        """Whether the last committed beat is too old for this node to start anything."""
        return self._runtime.clock.monotonic() - self._beaten_at > self._ttl_s / 2

    def _begin_to_doubt(self) -> None:
        """An unknown commit outcome ends this life: rows may be leased to us that we do not know of. Any thread."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._doubt.set)

    async def _begin_life(self) -> None:
        self._unlock()
        self.id = self._runtime.ids.new()
        self._database.bear(self.id)
        self._hold_lock()
        started = self._runtime.clock.monotonic()
        register = partial(nodes.register, sends=self._sends)
        try:
            await self._database.write(register, self.id, platform.node(), os.getpid(), self._role, scope=_SCOPE, lane="urgent")
        except OutcomeUnknown:
            self._has_begun = True
            raise
        self._has_begun, self._beaten_at = True, started

    async def _beat_forever(self) -> None:
        while True:
            await self._wait_for_doubt(self._ttl_s / 5)
            try:
                await self._beat_once()
            except NetraError as error:
                self._runtime.log.warning("the node's beat could not be written: %s", error)
            except Exception:  # a full disk refuses the lock file, say; without a next beat this node would be quiet for ever
                self._runtime.log.exception("the node's beat could not be written")

    async def _beat_once(self) -> None:
        started = self._runtime.clock.monotonic()
        self._runtime.failpoints.hit(BEFORE_BEAT)
        if not self._doubt.is_set() and await self._database.write(nodes.beat, self.id, scope=_SCOPE, lane="urgent"):
            self._beaten_at = started
        else:
            await self._begin_again()
        while self._former:
            await self._database.write(nodes.forget, self._former[-1], scope=_SCOPE, lane="urgent")
            self._former.pop()

    async def _begin_again(self) -> None:
        """Each life is kept in mind until its row is gone: what it held is due for others then, and not a whole TTL later."""
        if self._has_begun:
            self._runtime.log.warning("node %s lost its life to the others, it starts another", to_text("node", self.id))
            self._former.append(self.id)
        self._has_begun = False
        self._doubt.clear()  # before the new life, whose own commits may come into doubt as well
        try:
            await self._begin_life()
        except BaseException:
            self._doubt.set()
            raise
        for callback in self.on_new_life:
            callback()

    async def _wait_for_doubt(self, seconds: float) -> None:
        if self._doubt.is_set():  # the last try to begin a new life failed: the writer is in trouble, do not spin
            await self._runtime.clock.sleep(min(self._again_in_s, seconds))
            self._again_in_s = min(2 * self._again_in_s, AGAIN_MOST_S)
            return
        self._again_in_s = AGAIN_S
        waits = [asyncio.ensure_future(self._runtime.clock.sleep(seconds)), asyncio.ensure_future(self._doubt.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _observe_forever(self) -> None:
        while True:
            await self._runtime.clock.sleep(min(OBSERVE_EVERY_S, self._ttl_s / 5))
            try:
                await self._observe_once()
            except NetraError as error:
                self._runtime.log.warning("the other nodes could not be observed: %s", error)
            except Exception:
                self._runtime.log.exception("the other nodes could not be observed")

    async def _observe_once(self) -> None:
        living: list[Node] = await self._database.read(nodes.living, scope=_SCOPE)
        self.live_nodes = max(1, len(living))
        self.senders = {node.id: number for number, node in enumerate(node for node in living if node.sends)}
        now = self._runtime.clock.monotonic()
        self._seen = {node.id: self._sight(node, now) for node in living if node.id != self.id}
        for node in living:
            if node.id != self.id and self._is_dead(node, now):
                await self._reap(node)

    async def _reap(self, node: Node) -> None:
        if not await self._database.write(nodes.reap, node.id, node.beat, scope=_SCOPE, lane="urgent"):
            return  # it has beaten since: it keeps its lock file, by which its real end will be seen at once
        self._lock_path(node.id).unlink(missing_ok=True)
        for callback in self.on_reaped:
            callback()

    def _sight(self, node: Node, now: float) -> tuple[int, float]:
        beat, since = self._seen.get(node.id, (node.beat, now))
        return (beat, since) if beat == node.beat else (node.beat, now)

    def _is_dead(self, node: Node, now: float) -> bool:
        return now - self._seen[node.id][1] >= self._ttl_s or self._process_is_gone(node)

    def _process_is_gone(self, node: Node) -> bool:
        """Whether the node's lock file is there and free: only the end of its process frees it."""
        try:
            descriptor = os.open(self._lock_path(node.id), os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        finally:
            os.close(descriptor)
        return True

    def _lock_path(self, node: bytes) -> Path:
        return self._lock_dir / f"{node.hex()}.lock"

    def _hold_lock(self) -> None:
        self._lock = os.open(self._lock_path(self.id), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock_path(self.id).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None
