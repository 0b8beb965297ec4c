"""The dispatcher: finds what is due, claims it for free slots, and takes over from the dead.

The table is the truth; memory only saves looking. Its loops, each cheap when there is nothing to do:

* scan: when anything was committed, or a known retry comes due, one index seek per lane, going on next time where this
  time ended (`walk.py`), so that a backlog is never read to find another's work. Lanes with free slots are claimed for
  together. Before that lines are tried again that were locked when their first one ended (`lines.py`).
* sweep, each second: deliveries whose owner is no live node are due again (S3), by state and not by event; and the first of
  each line is due (`lines.py`), which it nearly always is already.
* release check, every half TTL: what the table says is ours and memory does not know is given back. A row counts only
  if two checks in a row saw it, for the hand-over of a commit is a moment later than the commit.
* retention, every ten minutes: `retention.py`.
* runner: operators' verbs over many messages, `runner.py`.
* operational events: `operational.py`.
* look: endpoints that others changed are read again, and the health of those that are not well.

An endpoint with a rate limit is claimed for as its attempts may start (`paces.py`), and looked at again when the next one may. An endpoint
whose breaker is open, or whose receiver wants nothing for a while, is parked: its rows stay due, the scan passes
it by until that time is over, and what waited in memory is given back. Then one probe is taken (`probes.py`), for many
endpoints in one transaction.

Only retries of the next few minutes are in memory, as times at which to look; the index holds the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from ..errors import NetraError
from ..kernel.rounds import Rounds, attempt
from ..kernel.runtime import Runtime
from ..kernel.scope import system_scope
from ..storage import nodes
from ..storage.database import Database
from ..storage.membership import Membership
from ..storage.nodes import Node
from . import lines, probes, store
from .breakers import LOOK_EVERY_S as HEALTH_EVERY_S
from .lines import Line
from .model import Delivery
from .operational import FOLLOW_EVERY_S, Operational
from .probes import Probes
from .retention import Retention
from .runner import Runner
from .sender import Sender
from .settings import WebhookSettings
from .snapshots import LOOK_EVERY_S, Snapshots
from .store import Key, Lane
from .walk import Walk, go_on

SCAN_EVERY_S: Final = 0.1
SWEEP_EVERY_S: Final = 1.0
RETAIN_EVERY_S: Final = 600.0
NEXT_PART_S: Final = 0.02
LANES_PER_SCAN: Final = 256
RELEASE_BATCH: Final = 1000
LINES_PER_SWEEP: Final = 256
LINE_TRIES: Final = 50
"""How often a line that somebody has locked is tried again, once a scan: for longer only a caller's own transaction holds it."""

FIRST_LINE: Final[Line] = ("", b"", "")
HORIZON_US: Final = 5 * 60 * 1_000_000
_SCOPE: Final = system_scope("webhooks")


class Dispatcher:
    """See the module's docstring."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        settings: WebhookSettings,
        membership: Membership,
        snapshots: Snapshots,
        sender: Sender,
    ) -> None:
        self.sender = sender
        self._database = database
        self._runtime = runtime
        self._settings = settings
        self._membership = membership
        self._snapshots = snapshots
        self._breakers = sender.breakers
        self.operational = Operational(database, runtime, settings, membership, snapshots)
        self.retention = Retention(database, runtime, membership, settings.keep_s)
        self.runner = Runner(database, runtime, settings, membership, snapshots)
        self._wanted: dict[Lane, None] = {}
        self._wheel: list[tuple[int, Lane]] = []
        self._hints: dict[Lane, int] = {}
        self._walk = Walk()
        self._version = -1
        self._suspects: set[Key] = set()
        self._line: Line = FIRST_LINE
        self._passed_over: dict[Line, int] = {}
        self._claiming = asyncio.Lock()
        self._wake = asyncio.Event()
        self._sweeps = self._rounds("sweep", self.sweep, SWEEP_EVERY_S)
        self._beside = (
            self._sweeps,
            self._rounds("check what it has leased", self.release_check, settings.release_check_s),
            self._rounds("read the endpoints anew", snapshots.look, LOOK_EVERY_S),
            self._rounds("look how the endpoints stand", self._breakers.look, HEALTH_EVERY_S),
            self._rounds("tell of what happened", self.operational.follow, FOLLOW_EVERY_S),
            self._rounds("delete what is old", self.retention.run, RETAIN_EVERY_S, at_once=False),  # at the start there is enough to do
        )
        self._scanning: asyncio.Task[None] | None = None
        sender.wants_claim = self._want
        sender.retry_at = self._retry_at
        sender.passed_over = self._try_again

    async def start(self) -> None:
        """Take over from the dead at once, then keep going in the background."""
        self._membership.on_new_life.append(self._begin_again)
        self._membership.on_reaped.append(self._sweeps.again)
        self._database.on_wake.append(self._wake.set)
        await self._attempt("look how the endpoints stand", self._breakers.look())
        self.sender.running = True
        self._scanning = asyncio.create_task(self._scan_forever())
        for rounds in self._beside:
            rounds.start()
        await self.runner.start()

    async def stop(self, grace_s: float = 30.0) -> None:
        """Claim nothing more, finish what is on its way, give the rest back."""
        await self.runner.stop()
        for rounds in self._beside:
            await rounds.stop()
        if self._scanning is not None:
            self._scanning.cancel()
            await asyncio.gather(self._scanning, return_exceptions=True)
        self.sender.running = False
        waiting = self.sender.lanes.waiting_deliveries()
        await self._release(waiting)
        await self.sender.finish(grace_s)

    async def sweep(self) -> None:
        """Make deliveries of dead nodes due again, and give up the probes that they held."""
        living: list[Node] = await self._database.read(nodes.living, scope=_SCOPE)
        alive = {node.id for node in living}
        abandoned = self._breakers.abandoned(alive)
        if abandoned:
            await self._database.write(probes.give_up, abandoned, scope=_SCOPE)
            await self._breakers.reread(abandoned)
        for owner in await self._database.read(store.owners, scope=_SCOPE):
            if owner in alive:
                continue
            while await self._database.write(store.release_dead, owner, RELEASE_BATCH, scope=_SCOPE, lane="bulk"):
                self._wake.set()
        await self._free_lines()

    async def _free_lines(self) -> None:
        """Look at the first of some lines, going on where the last sweep ended: one that waits for nobody is made due."""
        found: tuple[list[Line], Line | None] = await self._database.read(lines.waiting_heads, self._line, LINES_PER_SWEEP, scope=_SCOPE)
        stuck, after = found
        self._line = after or FIRST_LINE
        if stuck and await self._database.write(lines.free_next, stuck, scope=_SCOPE):
            self._wake.set()

    def _try_again(self, left: Iterable[Line]) -> None:
        for line in left:
            self._passed_over.setdefault(line, 0)

    async def _free_passed_over(self) -> dict[Lane, None]:
        """Free lines that were locked when their first one ended; the lanes that something may be due in now."""
        tried, self._passed_over = self._passed_over, {}
        if not tried:
            return {}
        await self._database.write(lines.free_next, tried, self._try_again, scope=_SCOPE)
        for line in self._passed_over.keys() & tried.keys():
            self._passed_over[line] = tried[line] + 1
        self._passed_over = {line: tries for line, tries in self._passed_over.items() if tries < LINE_TRIES}
        return {(tenant, endpoint): None for tenant, endpoint, _ in tried}

    async def release_check(self) -> None:
        """Give back what the table says is ours and nobody here knows of."""
        async with self._claiming:
            owned: list[Key] = await self._database.read(store.owned_by, self._membership.id, scope=_SCOPE)
            lanes = self.sender.lanes
            unknown = {key for key in owned if key not in lanes.held and key not in lanes.expected}
            lost, self._suspects = sorted(unknown & self._suspects), unknown
            # Most of them only looked so: acknowledged between the table's answer and the look at memory, at both checks.
            if lost and (released := await self._database.write(store.release, self._membership.id, lost, scope=_SCOPE)):
                self._runtime.log.warning("%d leased deliveries were not in memory, they are due again", released)

    async def scan(self) -> None:
        """One round: find lanes with due deliveries, claim for those with free slots."""
        await self._release(self.sender.lanes.take_blocked())
        unlocked = await self._free_passed_over()
        now_us = self._runtime.clock.wall_us()
        wanted = self._take_wanted(now_us) | unlocked
        version = self._database.version()
        if version != self._version or not self._walk.is_over:
            found, walk = await self._database.read(go_on, self._walk, LANES_PER_SCAN, scope=_SCOPE)
            if self._walk.is_over:  # it begins: what is committed from here on may be behind it, and is looked for by the next one
                self._version = version
            self._walk = walk
            for lane, due_us in found:
                if due_us <= now_us:
                    wanted[lane] = None
                else:
                    self._retry_at(lane, due_us)
        await self.sender.learn(wanted)
        free, probing = self._sorted(wanted, now_us)
        if free and not self._membership.quiet:
            await self._claim(free)
        if probing and not self._membership.quiet:
            await self._probe(probing, now_us)

    def _sorted(self, wanted: Iterable[Lane], now_us: int) -> tuple[list[tuple[Lane, int]], list[Lane]]:
        """Those to claim for, with their free slots, and those to be probed; parked ones are looked at when that is over."""
        free: list[tuple[Lane, int]] = []
        probing: list[Lane] = []
        for lane in wanted:
            opens_us = self._breakers.opens_us(lane, now_us)
            if opens_us > now_us:
                self._retry_at(lane, opens_us)
            elif not self._breakers.is_closed(lane):
                probing.append(lane)
            elif slots := min(self.sender.lanes.free(lane), store.CLAIM_AT_ONCE):
                free.append((lane, slots))
            elif wait_s := self.sender.paces.wait_s(lane):
                self._retry_at(lane, now_us + int(wait_s * 1_000_000))
        return free, probing

    async def _probe(self, lanes: list[Lane], now_us: int) -> None:
        wanted = [swap for lane in lanes if (swap := self._breakers.next_probe(lane, now_us)) is not None]
        if not wanted:
            return
        async with self._claiming:
            taken: Probes = await self._database.write(probes.take, self._membership.id, wanted, scope=_SCOPE)
            for lane, _, row in wanted:
                if lane in taken.lanes:
                    self._breakers.took(lane, row)
            self.sender.accept(taken.deliveries, claimed=True)
        if taken.expired:
            self._runtime.metrics.count("netra_webhook_deliveries_total", taken.expired, outcome="dead")
        await self._breakers.reread([lane for lane in lanes if lane not in taken.lanes])  # somebody else has that one

    async def _claim(self, free: list[tuple[Lane, int]]) -> None:
        async with self._claiming:
            claimed: list[Delivery] = await self._database.write(store.claim, self._membership.id, free, scope=_SCOPE)
            taken: dict[Lane, int] = {}
            for delivery in claimed:
                lane = (delivery.message.tenant, delivery.endpoint_id)
                taken[lane] = taken.get(lane, 0) + 1
            for lane, slots in free:
                self.sender.lanes.note_backlog(lane, more=taken.get(lane, 0) == slots)
            self.sender.accept(claimed, claimed=True)

    def _take_wanted(self, now_us: int) -> dict[Lane, None]:
        wanted, self._wanted = self._wanted, {}
        while self._wheel and self._wheel[0][0] <= now_us:
            due_us, lane = heapq.heappop(self._wheel)
            if self._hints.get(lane) == due_us:
                del self._hints[lane]
                wanted[lane] = None
        return wanted

    def _want(self, lane: Lane) -> None:
        self._wanted[lane] = None
        self._wake.set()

    def _retry_at(self, lane: Lane, due_us: int) -> None:
        """Look at this lane then; only its earliest time is kept, for a claim finds the next one."""
        if due_us - self._runtime.clock.wall_us() < HORIZON_US and due_us < self._hints.get(lane, due_us + 1):
            self._hints[lane] = due_us
            heapq.heappush(self._wheel, (due_us, lane))

    def _begin_again(self) -> None:
        self.sender.forget()
        self._suspects = set()
        self._version = -1
        self._wake.set()

    async def _release(self, waiting: list[Delivery]) -> None:
        keys = [delivery.key for delivery in waiting]
        if not keys:
            return
        try:
            await self._database.write(store.release, self._membership.id, keys, scope=_SCOPE)
        except NetraError as error:
            self._runtime.log.warning("%d deliveries were not given back, they lapse with this node: %s", len(keys), error)
        for delivery in waiting:
            self.sender.lanes.drop(delivery)

    async def _scan_forever(self) -> None:
        while True:
            self._wake.clear()
            await self._attempt("scan", self.scan())
            self.sender.pump()
            await self._wait_for_wake(SCAN_EVERY_S if self._walk.is_over else NEXT_PART_S)

    async def _wait_for_wake(self, seconds: float) -> None:
        """Not by `wait_for`: before Python 3.12 that swallows a cancellation which meets the wake-up, and `stop` never ends."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()

    def _rounds(self, what: str, work: Callable[[], Awaitable[None]], every_s: float, *, at_once: bool = True) -> Rounds:
        return Rounds(self._runtime, work, f"the dispatcher could not {what}", every_s, at_once=at_once)

    async def _attempt(self, what: str, work: Awaitable[None]) -> None:
        """No error ends the scan: a dispatcher that stands still would be found by nobody while its node beats on."""
        await attempt(self._runtime.log, f"the dispatcher could not {what}", work)
