"""How a value is come by: this process's tier, the shared tier, a flight under way, or a load of one's own.

A load belongs to its flight, not to whoever asked first: it runs in a task of its own, and a caller that is cancelled or will
wait no longer changes nothing for the others. A joiner is given the value only where nothing that it is made from was touched
since the flight began; else it asks again, and after some tries loads for itself: correctness never hangs on single flight.

Nothing is loaded inside a transaction that is held open: what it would read, and keep for others, may be rolled back.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Coroutine
from concurrent.futures import wait
from contextlib import nullcontext, suppress
from typing import Any, Final

from ..errors import Unavailable
from ..kernel.runtime import Runtime
from ..resilience.single_flight import FlightOfItself
from ..storage.nesting import refuse_nested
from .errors import LoadTimeout
from .follower import Follower
from .leads import Leads
from .loads import Flight, Flights, Landed, Load, Plan, current
from .model import Cascade, Loaded
from .node import Node, Ticket, Value
from .shared import Found, Shared
from .stats import Stats
from .tier import Entry

JOINS: Final = 3
PROBED: Final = 100
"""How many of the newest entries the consistency probe may load once more."""
WAIT_FOR_LEADER_S: Final = 10.0
LOOK_AT_LEADER_S: Final = 0.02
Make = Callable[[], Any | Awaitable[Any]]
Run = Callable[[Coroutine[Any, Any, Any]], Any]
Planned = tuple[Load, Make, Plan, Collection[str]]


class Loader:
    """See the module's docstring."""

    def __init__(self, runtime: Runtime, node: Node, follower: Follower, shared: Shared | None, stats: Stats, loads: int) -> None:
        self.node = node
        self.flights = Flights(node)
        self.stats = stats
        self._runtime = runtime
        self._clock = runtime.clock
        self._follower = follower
        self._shared = shared
        self._leads = Leads(runtime.clock, shared) if shared is not None else None
        self._places = asyncio.Semaphore(loads)
        self._thread_places = threading.BoundedSemaphore(loads)
        self._tasks: set[asyncio.Task[None]] = set()
        self._plans: dict[str, Planned] = {}
        self._probes: OrderedDict[str, Planned] = OrderedDict()
        self.after_fill: Callable[[], None] = _nothing
        follower.refresh = self._refresh

    async def close(self) -> None:
        """End what is under way."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._leads is not None:
            await self._leads.close()

    def hit(self, name: str) -> Entry | None:
        """What this process's tier may answer, if its TTL has not passed; counted, and noted as part of the load under way."""
        now = self._clock.monotonic()
        entry = self.node.find(name, now)
        if entry is None or now >= entry.expires:
            self.stats.bypassed += entry is None and name in self.node.tier.entries
            return None
        self.count_hit(entry)
        return entry

    def count_hit(self, entry: Entry) -> None:
        """One more hit."""
        self.stats.l1.hits += 1
        entry.hits = min(entry.hits + 1, 3)
        load = current.get()
        if load is not None:
            load.used(entry.name, self.node.sources_of(entry))

    async def obtain(self, tenant: str, name: str, make: Make, plan: Plan, deps: Collection[str]) -> Loaded:
        """The value for a name, from wherever it is to be had."""
        await self._follower.ready()
        entry = self.hit(name)
        if entry is not None:
            return self._answer(entry)
        self.stats.l1.misses += 1
        self._check(name, deps)
        load = Load(name, tenant, current.get(), frozenset(deps), set(deps))
        stale = self._stale(name, plan)
        if stale is not None and self._clock.monotonic() < stale.expires + plan.stale_for_s:
            self._go_on(load, make, plan)
            return self._served_stale(stale)
        return await self._with_time(load, make, plan, stale)

    def _check(self, name: str, deps: Collection[str]) -> None:
        refuse_nested()
        load = current.get()
        if load is not None and load.is_inside(name):
            raise FlightOfItself
        with self.node.lock:
            self.node.graph.refuse_cycle(name, deps)

    def _stale(self, name: str, plan: Plan) -> Entry | None:
        """What has passed its TTL and nothing worse, where the plan has a use for it."""
        if not plan.stale_for_s and not plan.fail_safe_s:
            return None
        now = self._clock.monotonic()
        entry = self.node.find(name, now)
        return entry if entry is not None and now < entry.stale_until else None

    def _served_stale(self, entry: Entry) -> Loaded:
        self.stats.stale_served += 1
        self.count_hit(entry)
        return self._answer(entry)

    def _answer(self, entry: Entry) -> Loaded:
        now = self._clock.monotonic()
        return Loaded(entry.value, "l1", max(0.0, now - entry.made), now >= entry.expires)

    def _go_on(self, load: Load, make: Make, plan: Plan) -> None:
        """Make it anew while an older value is served."""
        flight, is_new = self.flights.join(load.name, self._clock.monotonic())
        if is_new:
            self._start(flight, load, make, plan)

    async def _with_time(self, load: Load, make: Make, plan: Plan, stale: Entry | None) -> Loaded:
        """The flight's value, within the plan's limits; what is older where the load fails or is late and the plan allows it."""
        hard = asyncio.timeout(plan.hard_timeout_s)
        try:
            async with hard:
                if stale is None or plan.soft_timeout_s is None:
                    return await self._fly(load, make, plan)
                return await self._soon(load, make, plan, stale)
        except Exception as error:
            if stale is not None and plan.fail_safe_s and self._still(stale):
                self._runtime.log.warning("a value past its TTL is served, its load has failed: %s", error)
                return self._served_stale(stale)
            if hard.expired():
                raise _late(plan) from error
            raise

    async def _soon(self, load: Load, make: Make, plan: Plan, stale: Entry) -> Loaded:
        """Within the soft limit; then what is older, unless it was invalidated meanwhile. The load goes on."""
        soft = asyncio.timeout(plan.soft_timeout_s)
        try:
            async with soft:
                return await self._fly(load, make, plan)
        except TimeoutError:
            if not soft.expired():
                raise
        return self._served_stale(stale) if self._still(stale) else await self._fly(load.anew(), make, plan)

    def _still(self, entry: Entry) -> bool:
        """Whether it was not invalidated meanwhile."""
        return self.node.find(entry.name, self._clock.monotonic()) is entry

    async def _fly(self, load: Load, make: Make, plan: Plan) -> Loaded:
        for attempt in range(JOINS + 1):
            now = self._clock.monotonic()
            if attempt < JOINS:
                flight, is_new = self.flights.join(load.name, now)
            else:
                flight, is_new = Flight(self.node.begin(now)), True
            if is_new:
                self._start(flight, load, make, plan)
            landed = await asyncio.wrap_future(flight.future)
            if is_new or self.node.is_fresh(flight.ticket, landed.sources):
                self.stats.joined += not is_new
                self._note(load.name, landed)
                tier = landed.tier if is_new else "flight"
                return Loaded(landed.value, tier, max(0.0, self._clock.monotonic() - landed.made), landed.stale)
        raise AssertionError  # the last attempt is new

    def _note(self, name: str, landed: Landed) -> None:
        load = current.get()
        if load is not None:
            load.used(name, landed.sources)

    def _start(self, flight: Flight, load: Load, make: Make, plan: Plan) -> None:
        task = asyncio.get_running_loop().create_task(self._run(flight, load, make, plan), context=load.context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _: self.flights.land(load.name, flight, error=_cut_short()))

    async def _run(self, flight: Flight, load: Load, make: Make, plan: Plan) -> None:
        """It ends at its hard limit: whoever asks after that begins another, and does not join one that may hang for ever.

        Where it is cancelled, by its own loader too, those who wait are told so and are not cancelled themselves.
        """
        current.set(load)
        hard = asyncio.timeout(plan.hard_timeout_s)
        try:
            async with hard:
                landed = await self._come_by(flight.ticket, load, make, plan)
        except BaseException as error:
            self.flights.land(load.name, flight, error=_late(plan) if hard.expired() else _told(error))
            if not isinstance(error, Exception):
                raise
        else:
            self.flights.land(load.name, flight, landed=landed)

    async def _come_by(self, ticket: Ticket, load: Load, make: Make, plan: Plan) -> Landed:
        leads = self._asked()
        if leads is None:
            return await self._load(ticket, load, make, plan)
        found = await self._found_or_led(leads, load.name, plan)
        if isinstance(found, Landed):
            return found
        try:
            return await self._load(self.node.begin(self._clock.monotonic()), load, make, plan)
        finally:
            await leads.give_up(load.name, found)

    def _asked(self) -> Leads | None:
        """The leads of the shared tier, if there is one and this process may believe it."""
        return self._leads if self.node.is_leased(self._clock.monotonic()) else None

    async def _found_or_led(self, leads: Leads, name: str, plan: Plan) -> Landed | str:
        """What the shared tier has, by another process's load that is under way too; else a token with which to load and to yield.

        It is empty where nobody leads: the tier does not answer, or the other process takes too long.
        """
        ends = self._clock.monotonic() + WAIT_FOR_LEADER_S
        while True:
            landed = await self._from_shared(leads.shared, name, plan)
            if landed is not None:
                return landed
            token = await leads.take(name)
            if token is not None:
                break
            if self._clock.monotonic() >= ends:
                return ""
            await self._clock.sleep(LOOK_AT_LEADER_S)
        try:
            landed = await self._from_shared(leads.shared, name, plan)  # the former leader's, who has just ended
        except BaseException:
            await leads.give_up(name, token)
            raise
        if landed is None:
            return token
        await leads.give_up(name, token)
        return landed

    async def _from_shared(self, shared: Shared, name: str, plan: Plan) -> Landed | None:
        asked = self.node.begin(self._clock.monotonic())
        found = await shared.read(name, asked)
        now = self._clock.monotonic()
        if found is None or found.codec != plan.codec.tag or not self._may_serve(name, found, asked, now):
            self.stats.l2.misses += 1
            return None
        try:
            value = plan.codec.decode(found.data)
        except Exception as error:  # noqa: BLE001  (another release's type: as good as not there)
            self._runtime.log.warning("a value of the shared tier cannot be read, and is loaded: %s", error)
            return None
        self.stats.l2.hits += 1
        deps = found.deps - {name}
        kept = Value(value, deps, now + found.fresh_s, now + found.left_s, made=now)
        self._fill(name, kept, asked)  # the tier has seen every event up to there, and none has passed the value
        return Landed(value, frozenset({name, *deps}), deps, "l2", now)

    def _may_serve(self, name: str, found: Found, asked: Ticket, now: float) -> bool:
        """Whether a value of the shared tier may be served, by what this process knows: the tier may have lost its memory."""
        return found.fresh_s > 0 and self.node.accepts(found.p, self.node.sources_of_new(name, found.deps), asked, now)

    async def _load(self, ticket: Ticket, load: Load, make: Make, plan: Plan) -> Landed:
        if load.parent is not None:  # it holds a place already, or its outermost load does
            return await self._really_load(ticket, load, make, plan)
        async with self._places:
            return await self._really_load(ticket, load, make, plan)

    async def _really_load(self, ticket: Ticket, load: Load, make: Make, plan: Plan) -> Landed:
        self.stats.loads += 1
        began = self._clock.monotonic()
        try:
            made = await self._call(make)
        except Exception:
            self.stats.load_errors += 1
            raise
        finally:
            self.stats.load_times_s.append(self._clock.monotonic() - began)
        landed, found = self._keep(ticket, load, make, plan, made)
        if self._shared is not None:
            await self._fill_shared(self._shared, load.name, found, ticket)
        return landed

    async def _call(self, make: Make) -> Any:
        if inspect.iscoroutinefunction(make):
            return await make()
        made = await asyncio.to_thread(make)
        return await made if inspect.isawaitable(made) else made

    def _keep(self, ticket: Ticket, load: Load, make: Make, plan: Plan, made: Any) -> tuple[Landed, Found]:
        """Keep it here, and what is to be kept in the shared tier."""
        value, data = plan.codec.pass_through(made)
        now = self._clock.monotonic()
        new = self._value_of(load, plan, value, now)
        sources = frozenset(self.node.sources_of_new(load.name, new.deps, new.inner))
        if self._fill(load.name, new, ticket) is not None:
            self._remember(load.name, (load, make, plan, load.declared))
        found = Found(data, plan.codec.tag, ticket.p, sources, new.expires - now, new.stale_until - now)
        return Landed(value, sources, new.deps, "load", now), found

    async def _fill_shared(self, shared: Shared, name: str, found: Found, ticket: Ticket) -> None:
        if not self.node.is_fresh(ticket, found.deps):
            self.stats.l2.fills_refused += 1
        elif await shared.fill(name, found, ticket):
            self.stats.l2.fills += 1
        else:
            self.stats.l2.fills_refused += 1

    def _value_of(self, load: Load, plan: Plan, value: Any, now: float) -> Value:
        """A value with its times. The TTL is shortened by chance, so that what was loaded together does not end together."""
        ttl_s = load.ttl_s or (plan.negative_ttl_s if value is None else plan.ttl_s)
        expires = now + ttl_s * (1 - self._runtime.chance.uniform(0, plan.jitter))
        return Value(value, frozenset(load.deps), expires, expires + max(plan.stale_for_s, plan.fail_safe_s), dict(load.inner), now)

    def _fill(self, name: str, new: Value, ticket: Ticket) -> Entry | None:
        entry = self.node.fill(name, new, ticket)
        if entry is None:
            self.stats.l1.fills_refused += 1
        else:
            self.stats.l1.fills += 1
            self.after_fill()
        return entry

    def obtain_here(self, load: Load, make: Callable[[], Any], plan: Plan, run: Run | None) -> Any:
        """The same for a synchronous function, which is called in this thread.

        `run` waits for a coroutine on Netra's loop; it is None on that loop itself, where nobody is waited for.
        """
        entry = self.hit(load.name)
        if entry is not None:
            return entry.value
        self.stats.l1.misses += 1
        self._check(load.name, load.declared)
        stale = self._stale(load.name, plan)
        for attempt in range(JOINS + 1):
            now = self._clock.monotonic()
            flight, is_new = self.flights.join(load.name, now) if attempt < JOINS else (Flight(self.node.begin(now)), True)
            if not is_new and stale is not None and now < stale.expires + plan.stale_for_s:
                return self._served_stale(stale).value
            if not is_new and run is None:
                flight, is_new = Flight(self.node.begin(now)), True
            landed = self._fly_here(flight, load, make, plan, run, stale) if is_new else self._wait_here(flight, plan, stale)
            if isinstance(landed, Entry):
                return self._served_stale(landed).value
            if is_new or self.node.is_fresh(flight.ticket, landed.sources):
                self.stats.joined += not is_new
                self._note(load.name, landed)
                return landed.value
        raise AssertionError  # the last attempt is new

    def _wait_here(self, flight: Flight, plan: Plan, stale: Entry | None) -> Landed | Entry:
        """What another thread's flight brings; where it is late, what is older if that may be served, else `LoadTimeout`."""
        older = stale if plan.fail_safe_s else None
        if (
            older is not None
            and plan.soft_timeout_s is not None
            and not wait([flight.future], plan.soft_timeout_s).done
            and self._still(older)
        ):
            return older
        if wait([flight.future], plan.hard_timeout_s).done:
            return flight.future.result()
        if older is not None and self._still(older):
            return older
        raise _late(plan)

    def _fly_here(self, flight: Flight, load: Load, make: Make, plan: Plan, run: Run | None, stale: Entry | None) -> Landed:
        entered = current.set(load)
        try:
            landed = self._come_by_here(flight.ticket, load, make, plan, run)
        except BaseException as error:
            if isinstance(error, Exception) and stale is not None and plan.fail_safe_s and self._still(stale):
                served = self._served_stale(stale)
                landed = Landed(served.value, frozenset(self.node.sources_of(stale)), stale.deps, "l1", stale.made, stale=True)
                self.flights.land(load.name, flight, landed=landed)
                return landed
            self.flights.land(load.name, flight, error=_told(error))
            raise
        finally:
            current.reset(entered)
        self.flights.land(load.name, flight, landed=landed)
        return landed

    def _come_by_here(self, ticket: Ticket, load: Load, make: Make, plan: Plan, run: Run | None) -> Landed:
        leads = self._asked() if run is not None else None
        lead = ""
        if leads is not None and run is not None:
            found = run(self._found_or_led(leads, load.name, plan))
            if isinstance(found, Landed):
                return found
            lead, ticket = found, self.node.begin(self._clock.monotonic())
        waits = run is not None and load.parent is None  # on Netra's own loop nobody is waited for
        try:
            with self._thread_places if waits else nullcontext():
                made = self._made_here(make)
            landed, kept = self._keep(ticket, load, make, plan, made)
            if self._shared is not None and run is not None:
                run(self._fill_shared(self._shared, load.name, kept, ticket))
        finally:
            if leads is not None and run is not None:
                run(leads.give_up(load.name, lead))
        return landed

    def _made_here(self, make: Make) -> Any:
        self.stats.loads += 1
        began = self._clock.monotonic()
        try:
            return make()
        except Exception:
            self.stats.load_errors += 1
            raise
        finally:
            self.stats.load_times_s.append(self._clock.monotonic() - began)

    async def look_up(self, name: str, plan: Plan) -> Landed | None:
        """What the shared tier has, if there is one."""
        if self._shared is None:
            return None
        return await self._from_shared(self._shared, name, plan)

    async def keep(self, load: Load, made: Any, plan: Plan, ticket: Ticket) -> None:
        """Keep a value that was made elsewhere."""
        _, found = self._keep(ticket, load, lambda: made, plan, made)
        if self._shared is not None:
            await self._fill_shared(self._shared, load.name, found, ticket)

    async def probe(self, prefix: str) -> list[tuple[str, float | None]]:
        """Call the loaders of the newest entries of these names once more: each name, and the age of what is kept where it differs."""
        found: list[tuple[str, float | None]] = []
        for name, (load, make, plan, _) in list(self._probes.items()):
            now = self._clock.monotonic()
            entry = self.node.find(name, now) if name.startswith(prefix) else None
            if entry is None or now >= entry.expires:
                continue
            ticket = self.node.begin(now)
            again = Load(name, load.tenant, None)
            with suppress(Exception):  # a loader that fails proves nothing
                made = await asyncio.get_running_loop().create_task(self._call_in(again, make), context=load.context.copy())
                value, _ = plan.codec.pass_through(made)
                stands = self.node.find(name, self._clock.monotonic()) is entry and self.node.is_fresh(ticket, self.node.sources_of(entry))
                found.append((name, now - entry.made if stands and value != entry.value else None))
        return found

    async def _call_in(self, load: Load, make: Make) -> Any:
        current.set(load)
        return await self._call(make)

    async def _refresh(self, cascade: Cascade) -> None:
        """Make anew what asked for it, in topological order; what was made only from values that came out equal is kept as it was."""
        since = self.node.begin(self._clock.monotonic())
        equal: set[str] = set()
        for old in cascade.entries:
            planned = self._plans.pop(old.name, None)
            if planned is None:
                continue
            if old.name not in cascade.names and cascade.deps[old.name] & cascade.reached <= equal:
                if self._cut_off(old, planned, cascade, since):
                    equal.add(old.name)
                continue
            load, make, plan, deps = planned
            with suppress(Exception):  # the next reader loads it, and is told of the error
                again = Load(old.name, load.tenant, None, frozenset(deps), set(deps), context=load.context)
                loaded = await self._fly(again, make, plan)
                if loaded.value == old.value:
                    equal.add(old.name)

    def _cut_off(self, old: Entry, planned: Planned, cascade: Cascade, since: Ticket) -> bool:
        """Nothing that it was made from has another value: it stands, as of before these were loaded.

        They must still be kept, for an event that came meanwhile can have reached it only through them.
        """
        deps = cascade.deps[old.name]
        with self.node.lock:
            if not all(name in self.node.tier.entries for name in deps & cascade.reached):
                return False
            kept = Value(old.value, deps, old.expires, old.stale_until, made=old.made)
            if self.node.fill(old.name, kept, since) is None:
                return False
            self.stats.cut_off += 1
            self._remember(old.name, planned)
            return True

    def _remember(self, name: str, planned: Planned) -> None:
        """How it is made, for the probe and for whoever makes it anew. Any thread."""
        with self.node.lock:
            self._probes[name] = planned
            self._probes.move_to_end(name)
            if len(self._probes) > PROBED:
                self._probes.popitem(last=False)
            if planned[2].refresh:
                if len(self._plans) > 2 * len(self.node.tier) + 16:
                    self._plans = {kept: plan for kept, plan in self._plans.items() if kept in self.node.tier.entries}
                self._plans[name] = planned


def _late(plan: Plan) -> LoadTimeout:
    return LoadTimeout(f"the load took longer than {plan.hard_timeout_s} s")


def _cut_short() -> Unavailable:
    return Unavailable("the load was cancelled before it had a value")


def _told(error: BaseException) -> Exception:
    """What those who wait for a load are told of its end: what ends its own task or thread does not end theirs."""
    return error if isinstance(error, Exception) else _cut_short()


def _nothing() -> None:
    return
