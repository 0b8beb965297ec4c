"""What this process knows of its endpoints' health: who may be sent to, how much, and when to look again.

Two kinds of knowledge, kept apart. The *rows* (breaker, gate) are the fleet's: read here at most a second after anybody
changed them, changed here at once and in the table with the outcome that caused it. The *measures* are this process's own
and never stored: a healthy endpoint writes nothing, and a restart forgets at most nine failures. (How long an endpoint has been
failing is not a measure: the table counts it, see `failing.py`; here is only known since when, so that a success is told.)

Only endpoints that are not well are in memory; one that is not here is well, which costs its attempts one look into a dict.

What is fixed about the order of events:

* A change is known here before the attempt's slot is free, so no further attempt starts by the state before it.
* While a change is on its way to the table, and while a read that began before it is under way, the row read is older and
  is not taken over. Afterwards the row is read again, so that a swap which was lost to another process is seen at once.
* An attempt that began before the breaker came to its present phase says nothing about it (15 s of a hung request may
  outlive an opening).

The limit per endpoint is the fleet's: the senders share it, each slot belongs to one of them, and which of them has the
odd ones differs from endpoint to endpoint. Who has none gives what is waiting back to those that have some.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Final

from ..kernel.runtime import Runtime
from ..kernel.scope import system_scope
from ..resilience.circuit_breaker import SKEW_US, Health, Outcome, Policy, admit, record
from ..storage.database import Database
from ..storage.membership import Membership
from . import health
from .model import WELL, EndpointHealth, News
from .replies import RETRY_AFTER_CAP_S, Said
from .settings import WebhookSettings
from .store import Lane

LOOK_EVERY_S: Final = 0.5
"""With the time that a look takes, no row known here is older than a second."""

MOST_MEASURED: Final = 20_000
"""Endpoints whose outcomes are remembered; the longest silent are forgotten first."""

_LONGEST_GATE_US: Final = int(RETRY_AFTER_CAP_S) * 1_000_000 + SKEW_US
_SCOPE: Final = system_scope("webhooks")


class Breakers:
    """See the module's docstring. `changed` is told of every lane that may be sent more, or nothing, from now on."""

    def __init__(self, database: Database, runtime: Runtime, settings: WebhookSettings, membership: Membership) -> None:
        self.changed: Callable[[Lane], None] = _ignore
        self.policy = Policy(
            failures=settings.breaker_failures,
            open_s=settings.breaker_open_s,
            probe_s=2 * settings.timeout_s,
            ceiling=settings.in_flight,
        )
        self._database = database
        self._runtime = runtime
        self._membership = membership
        self._in_flight = settings.in_flight
        self._rules = settings.rules
        self._rows: dict[Lane, EndpointHealth] = {}
        self._measures: dict[Lane, tuple[int, Health]] = {}
        self._pending: Counter[Lane] = Counter()
        self._withheld: Counter[Lane] = Counter()
        self._touched: set[Lane] = set()
        self._reading = asyncio.Lock()
        self._version = -1

    # what lanes and the dispatcher ask

    def allowance(self, lane: Lane) -> int:
        """How many attempts this process may have on their way to the endpoint; from any thread."""
        row = self._rows.get(lane)
        if self._withheld and lane in self._withheld:
            return 0
        if row is None:
            return self._share(self._in_flight, lane)
        now_us = self._runtime.clock.wall_us()
        breaker = row.breaker
        if _gate_us(row, now_us):
            return 0
        if breaker.phase == "closed":
            return self._share(min(breaker.limit or self._in_flight, self._in_flight), lane)
        is_ours = breaker.phase == "half_open" and row.prober == self._membership.id
        return int(is_ours and breaker.is_waiting(now_us))

    def opens_us(self, lane: Lane, now_us: int) -> int:
        """From when on the endpoint is looked at again; 0 where nothing is in the way."""
        row = self._rows.get(lane, WELL)
        parked_us = row.breaker.until_us if row.breaker.phase != "closed" and row.breaker.is_waiting(now_us) else 0
        return max(parked_us, _gate_us(row, now_us))

    def is_closed(self, lane: Lane) -> bool:
        """Whether the endpoint may be claimed for as usual: else only its probe may be taken."""
        return self._rows.get(lane, WELL).breaker.phase == "closed"

    def next_probe(self, lane: Lane, now_us: int) -> tuple[Lane, EndpointHealth, EndpointHealth] | None:
        """The swap that makes this process the prober, if it is time for one."""
        row = self._rows.get(lane, WELL)
        probing, allowed = admit(row.breaker, self.policy, now_us, 0, 1)
        if not allowed or probing.phase == "closed":
            return None
        return lane, row, replace(row, breaker=probing, prober=self._membership.id)

    def took(self, lane: Lane, row: EndpointHealth) -> None:
        """The swap is committed: the probe is ours."""
        self._change(lane, row)

    def abandoned(self, alive: Collection[bytes]) -> list[Lane]:
        """Endpoints whose prober is none of the living."""
        return [lane for lane, row in self._rows.items() if row.prober is not None and row.prober not in alive]

    # what the sender tells

    def note(self, lane: Lane, said: Said, started_us: int) -> News | None:
        """Take an outcome over; what must be written of it, which `settled` must follow."""
        now_us = self._runtime.clock.wall_us()
        before = self._rows.get(lane, WELL)
        breaker = before.breaker
        if self._counts(before, started_us):
            measure = self._measured(lane, breaker.since_us, said.health)
            breaker = record(breaker, measure, self.policy, said.health, now_us, self._runtime.chance)
        gate_us = max(_gate_us(before, now_us), now_us + round(said.floor_s * 1_000_000) if said.gates else 0)
        failed = said.health in {Outcome.FAILURE, Outcome.ANSWERED}
        since_us = 0 if said.health is Outcome.SUCCESS else before.failing_since_us or (now_us if failed else 0)
        after = EndpointHealth(breaker, before.prober if breaker.phase == "half_open" else None, gate_us, since_us)
        if after == before and not said.disable and not failed:
            return None
        self._pending[lane] += 1
        if said.disable:
            self._withheld[lane] += 1
        self._change(lane, after)
        return News(*lane, before, after, said.disable, self._rules if failed and not said.disable else None)

    async def settled(self, news: News) -> None:
        """The write is over, whichever way: from now on the table says how the endpoint stands."""
        _decrease(self._pending, news.lane)
        if news.disable:
            _decrease(self._withheld, news.lane)
            self.changed(news.lane)
        if not news.only_counts:
            await self.reread([news.lane])

    # what is read

    async def look(self) -> None:
        """Read what others have changed."""
        version = self._database.version()
        if version == self._version:
            return
        async with self._reading:
            self._touched.clear()
            found = await self._read_all()
            self._version = version
            self._take_over(found, found.keys() | self._rows.keys())
            if self._pending or self._touched:  # what was not taken over is looked at again, whether or not anybody commits
                self._version = -1

    async def reread(self, lanes: Collection[Lane]) -> None:
        """Read these endpoints' rows again."""
        if not lanes:
            return
        async with self._reading:
            self._touched.clear()
            self._take_over(await self._database.read(health.health_of, lanes, scope=_SCOPE), lanes)

    async def _read_all(self) -> dict[Lane, EndpointHealth]:
        found: dict[Lane, EndpointHealth] = {}
        after: Lane = ("", b"")
        while page := await self._database.read(health.unwell, after, scope=_SCOPE):
            found.update(page)
            after = page[-1][0]
            if len(page) < health.PAGE:
                break
        return found

    def _take_over(self, found: dict[Lane, EndpointHealth], lanes: Iterable[Lane]) -> None:
        for lane in lanes:
            if lane not in self._pending and lane not in self._touched:
                self._set(lane, found.get(lane, WELL))

    def _change(self, lane: Lane, row: EndpointHealth) -> None:
        """A change of ours, which a read that is under way does not know of."""
        self._touched.add(lane)
        self._set(lane, row)

    def _set(self, lane: Lane, row: EndpointHealth) -> None:
        if row == self._rows.get(lane, WELL):
            return
        if row.is_well:
            del self._rows[lane]
        else:
            self._rows[lane] = row
        self.changed(lane)

    # what is measured

    def _counts(self, row: EndpointHealth, started_us: int) -> bool:
        breaker = row.breaker
        if breaker.phase == "half_open" and row.prober != self._membership.id:
            return False
        return breaker.phase != "open" and started_us >= breaker.since_us

    def _measured(self, lane: Lane, since_us: int, outcome: Outcome) -> Health:
        """This process's measure with one more outcome; a new one where the breaker has closed since the last."""
        began_us, measure = self._measures.pop(lane, (since_us, _NOTHING_SEEN))
        if began_us != since_us:
            measure = _NOTHING_SEEN
        measure = measure.after(self.policy, outcome, self._runtime.clock.monotonic())
        if measure != _NOTHING_SEEN:
            self._measures[lane] = (since_us, measure)
            if len(self._measures) > MOST_MEASURED:
                del self._measures[next(iter(self._measures))]
        return measure

    def _share(self, limit: int, lane: Lane) -> int:
        """This process's slots of the fleet's `limit`."""
        senders = self._membership.senders
        count = len(senders)
        if count <= 1:
            return limit
        me = senders.get(self._membership.id)
        if me is None:  # a life that just began: the next look at the nodes, within a second, shows it
            return limit // count
        return limit // count + ((me + lane[1][-1]) % count < limit % count)


_NOTHING_SEEN: Final = Health()


def _gate_us(row: EndpointHealth, now_us: int) -> int:
    """When the gate opens, 0 if it is open. One further off than any Retry-After is a clock that stepped, and counts as open."""
    return row.gate_us if 0 < row.gate_us - now_us <= _LONGEST_GATE_US else 0


def _decrease(counter: Counter[Lane], lane: Lane) -> None:
    counter[lane] -= 1
    if counter[lane] <= 0:
        del counter[lane]


def _ignore(*_: object) -> None:
    return
