"""KPIs counted from the log: whatever the order, whatever is repeated, late, killed or mistimed, the figures are those of a recount."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from netra_backend.errors import NotFound
from netra_backend.kernel.failpoints import FailpointError
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.observability.events.service import Events
from netra_backend.observability.kpi import alerts, model, store
from netra_backend.observability.kpi.evaluation import COUNTERS, Object, figures_of, judge, merge, minute_of
from netra_backend.observability.kpi.joining import at_path
from netra_backend.observability.kpi.model import Event
from netra_backend.observability.kpi.worker import Follower
from netra_backend.storage import log, nodes
from netra_backend.storage.statements import statement
from netra_backend.testing.clock import FakeClock
from netra_backend.webhooks.causes import Witness

from ..support.members import member
from ..support.storage import ACME, SYSTEM, opened, query
from .test_log import drain

EVER_US = 2**61
BUCKETS = statement(f"select minute_us, {', '.join(COUNTERS)} from netra_kpi_bucket where tenant = :tenant and kpi = :kpi")
OUTCOMES = statement("select rule, firing from netra_kpi_alert where tenant = :tenant and kpi = :kpi order by rule")
EVENTS = Events()


def shipped(name, placed="order.placed", done="order.shipped", within="60s"):
    return model.define(
        name, unit="orders", value="amount", total=Event(placed), good=Event(done).within(within).by("order"), lost_after="10m"
    )


class Counting:
    """A database whose log one follower counts, on a clock that is turned by hand."""

    def __init__(self, database, clock, node):
        self.database = database
        self.clock = clock
        self.node = node
        self.follower = Follower(database, Runtime(clock=clock), node, Witness(), Witness())

    async def define(self, *wanted):
        await self.database.write(store.define, wanted, scope=SYSTEM)
        return {each.name: each for each in await self.database.read(store.definitions, scope=SYSTEM)}[wanted[-1].name]

    async def record(self, kind, data, tenant="acme", key=None):
        await self.database.write(EVENTS.record, kind, data, key, scope=Scope(tenant, "tester"))
        return self.clock.wall_us()

    async def count(self):
        await self.database.write(log.take_lead, "log", self.node.id, scope=SYSTEM)
        await drain(self.database, self.node.id)
        await self.follower.count()
        await self.follower.pass_time()
        await self.follower.look_at_alerts()

    async def figures(self, definition, scope=ACME):
        return await self.database.read(store.figures, [definition.id], 0, EVER_US, scope=scope)

    async def causes(self, definition, scope=SYSTEM):
        return await self.database.read(store.causes, definition.id, 0, EVER_US, scope=scope)


@asynccontextmanager
async def counting(engine, folder):
    clock = FakeClock()
    async with opened(engine, folder, Runtime(clock=clock)) as database, member(database, clock, ttl_s=1e9) as node:
        yield Counting(database, clock, node)


@pytest.fixture
async def kpis(engine, prepared):
    async with counting(engine, prepared) as found:
        yield found


# What a promise comes to


async def test_a_promise_is_kept_late_or_lost_and_moves_without_vanishing(kpis):
    shipping = await kpis.define(shipped("shipping"))
    await kpis.record("order.placed", {"order": 1, "amount": 10})
    await kpis.record("order.placed", {"order": 2, "amount": "2.50"})
    await kpis.clock.advance(30)
    await kpis.record("order.shipped", {"order": 1})
    await kpis.count()
    found = await kpis.figures(shipping)
    assert (found["total"], found["good"], found["late"], found["lost"]) == (2, 1, 0, 0)
    await kpis.clock.advance(31)
    await kpis.count()
    found = await kpis.figures(shipping)
    assert (found["good"], found["late"], found["lost"], found["value_late"]) == (1, 1, 0, 2_500_000)
    (cause,) = await kpis.causes(shipping)
    assert (cause["cause"], cause["objects"]) == ("no order.shipped came", ["2"])
    await kpis.clock.advance(600)
    await kpis.count()
    found = await kpis.figures(shipping)
    assert (found["late"], found["lost"], found["value_lost"]) == (0, 1, 2_500_000)
    await kpis.record("order.shipped", {"order": 2})
    await kpis.count()
    found = await kpis.figures(shipping)
    assert (found["total"], found["good"], found["late"], found["lost"], found["value_lost"]) == (2, 1, 1, 0, 0)


async def test_an_event_recorded_twice_with_one_key_is_one(kpis):
    shipping = await kpis.define(replace(shipped("shipping"), total=Event("order.placed"), good=Event("order.placed")))
    await kpis.record("order.placed", {"order": 1}, key="same")
    await kpis.record("order.placed", {"order": 1}, key="same")
    await kpis.record("order.placed", {"order": 1})
    await kpis.count()
    assert (await kpis.figures(shipping))["total"] == 2


async def test_each_tenant_has_its_own_figures_and_the_installation_their_sum(kpis):
    shipping = await kpis.define(shipped("shipping"))
    for tenant in ("acme", "globex"):
        await kpis.record("order.placed", {"order": 1, "amount": 1}, tenant=tenant)
    await kpis.record("order.shipped", {"order": 1}, tenant="globex")
    await kpis.clock.advance(61)
    await kpis.count()
    assert [(await kpis.figures(shipping, scope))["late"] for scope in (ACME, Scope("globex"), SYSTEM)] == [1, 0, 1]
    assert await kpis.database.read(store.tenants_concerned, shipping.id, 0, EVER_US, scope=SYSTEM) == 1
    assert await kpis.causes(shipping, Scope("globex")) == []


async def test_only_events_for_which_the_condition_holds_count(kpis):
    large = await kpis.define(replace(shipped("large"), total=Event("order.placed", key="order").where("amount >= 100")))
    for order, amount in ((1, 99), (2, 100)):
        await kpis.record("order.placed", {"order": order, "amount": amount})
    await kpis.count()
    assert (await kpis.figures(large))["total"] == 1


@pytest.mark.parametrize("amount", ["1e9999999", "-1e9999999", "1e-9999999", "sNaN", "9" * 5000, 10**18, [], True])
async def test_an_amount_that_is_none_is_worth_nothing_and_everybody_is_counted_on(kpis, amount):
    shipping = await kpis.define(shipped("shipping"))
    await kpis.record("order.placed", {"order": 1, "amount": amount}, tenant="globex")
    await kpis.record("order.placed", {"order": 1, "amount": 3})
    await kpis.count()
    assert [(await kpis.figures(shipping, scope))["value"] for scope in (ACME, Scope("globex"))] == [3_000_000, 0]


async def test_amounts_that_no_figure_can_hold_stop_no_counting(kpis):
    shipping = await kpis.define(shipped("shipping"))
    for minute in range(2):
        for number in range(12):
            await kpis.record("order.placed", {"order": 12 * minute + number, "amount": 10**12}, tenant="globex")
            if number % 4 == 3:
                await kpis.count()
        await kpis.clock.advance(60)
    await kpis.record("order.placed", {"order": 1, "amount": 3})
    await kpis.count()
    assert (await kpis.figures(shipping))["value"] == 3_000_000
    found = [await kpis.figures(shipping, scope) for scope in (Scope("globex"), SYSTEM)]
    assert [each["total"] for each in found] == [24, 25]
    assert all(each["value"] >= 2 * 4 * 10**18 for each in found)


def test_a_path_of_what_only_looks_like_a_number_leads_nowhere():
    assert [at_path({"lines": [1, 2]}, f"lines.{name}") for name in ("1", "2", "\u00b2", "\u0661", "9" * 5000)] == [2, None, None, 2, None]


async def test_what_changes_how_events_are_judged_counts_anew_and_the_rest_goes_on(kpis):
    first = await kpis.define(shipped("shipping"))
    await kpis.record("order.placed", {"order": 1})
    await kpis.count()
    same = await kpis.define(replace(shipped("shipping"), unit="parcels"))
    assert (same.id, same.unit) == (first.id, "parcels")
    other = await kpis.define(shipped("shipping", within="1s"))
    assert other.id != first.id
    await kpis.clock.advance(3600)
    await kpis.count()
    assert [(await kpis.figures(each))["total"] for each in (first, other)] == [1, 0]
    ids = await kpis.database.read(store.versions, "shipping", scope=SYSTEM)
    assert ids == [first.id, other.id]
    with pytest.raises(NotFound):
        await kpis.database.read(store.named, "nothing", scope=SYSTEM)


async def test_nothing_is_counted_by_a_process_that_another_has_the_lease_of(kpis):
    shipping = await kpis.define(shipped("shipping"))
    await kpis.record("order.placed", {"order": 1})
    async with member(kpis.database, kpis.clock, ttl_s=1e9) as other:
        await kpis.database.write(log.take_lead, "kpi", other.id, scope=SYSTEM)
        await kpis.count()
        assert (await kpis.figures(shipping))["total"] == 0
        await kpis.database.write(nodes.remove, other.id, scope=SYSTEM)
    await kpis.count()
    assert (await kpis.figures(shipping))["total"] == 1


async def test_a_count_that_is_cut_off_before_its_commit_leaves_nothing_and_is_repeated_whole(kpis):
    shipping = await kpis.define(shipped("shipping"))
    await kpis.record("order.placed", {"order": 1})
    kpis.database._runtime.failpoints.arm(store.COUNTED, "raise")
    with pytest.raises(FailpointError):
        await kpis.count()
    kpis.database._runtime.failpoints.disarm()
    assert (await kpis.figures(shipping))["total"] == 0
    await kpis.count()
    assert (await kpis.figures(shipping))["total"] == 1


async def test_two_processes_that_declare_the_same_at_once_write_it_once(pair):
    wanted = [shipped("shipping"), shipped("other")]
    await asyncio.gather(*(door.write(store.define, wanted, scope=SYSTEM) for door in pair))
    assert [each.name for each in await pair[0].read(store.definitions, scope=SYSTEM)] == ["other", "shipping"]


async def test_a_process_that_declares_the_same_at_its_start_passes_over_nothing(kpis):
    shipping = await kpis.define(shipped("shipping"))
    await kpis.record("order.placed", {"order": 1})
    await kpis.database.write(log.take_lead, "log", kpis.node.id, scope=SYSTEM)
    await drain(kpis.database, kpis.node.id)
    assert (await kpis.define(shipped("shipping"))).id == shipping.id
    await kpis.count()
    assert (await kpis.figures(shipping))["total"] == 1


async def test_what_is_settled_is_forgotten_in_time_and_what_was_missed_is_kept_a_year(kpis):
    await kpis.define(shipped("shipping"))
    for order in (1, 2):
        await kpis.record("order.placed", {"order": order})
    await kpis.record("order.shipped", {"order": 1})
    await kpis.clock.advance(61)
    await kpis.count()
    await kpis.clock.advance(8 * 86_400)
    assert await kpis.database.write(store.forget, 100, scope=SYSTEM) == 1
    await kpis.clock.advance(400 * 86_400)
    assert await kpis.database.write(store.forget, 100, scope=SYSTEM) > 0
    assert await kpis.database.read(partial(query, statement=BUCKETS, kpi=b"." * 16), scope=ACME) == []


# Alerts


@pytest.mark.parametrize(("window", "rule"), [(3600, "burn_1h"), (6 * 3600, "burn_6h"), (86_400, "burn_1d"), (3 * 86_400, "burn_3d")])
async def test_an_alert_fires_and_clears_once_at_each_window(kpis, window, rule):
    shipping = await kpis.define(replace(shipped("shipping"), slo=model.slo(0.99, min_events=10)))
    await _judged(kpis, 5, 15)
    assert await _firing(kpis, shipping, rule)
    await kpis.count()
    assert await _told(kpis, rule) == ["firing"]
    await kpis.clock.advance(window + 120)
    await _judged(kpis, 20, 0)
    await kpis.count()
    assert not await _firing(kpis, shipping, rule)
    assert await _told(kpis, rule) == ["firing", "cleared"]


@pytest.mark.parametrize(("window", "rule"), [(3600, "burn_1h"), (6 * 3600, "burn_6h"), (86_400, "burn_1d")])
async def test_an_alert_looks_at_its_own_two_windows(kpis, window, rule):
    """What went well before the long one is no excuse, and what went badly before the short one no reason any more."""
    shipping = await kpis.define(replace(shipped("shipping"), slo=model.slo(0.99, min_events=10)))
    await _judged(kpis, 1000, 0)
    await kpis.clock.advance(window + 120)
    await _judged(kpis, 10, 10)
    assert await _firing(kpis, shipping, rule)
    await kpis.clock.advance(window // 12 + 120)
    await kpis.count()
    burned = await kpis.database.read(alerts.burns, shipping, scope=SYSTEM)
    assert (burned[window * 1_000_000], burned[window // 12 * 1_000_000]) == ((10, 10), (0, 0))
    assert not await _firing(kpis, shipping, rule)


@pytest.mark.parametrize("change", ["another promise", "no target any more"])
async def test_an_alert_is_cleared_where_nobody_looks_at_it_any_more(kpis, change):
    shipping = replace(shipped("shipping"), slo=model.slo(0.999, min_events=50, page_if_bad=2))
    await kpis.define(shipping)
    await _judged(kpis, 0, 3)
    assert await _told(kpis, "bad_1h") == ["firing"]
    await kpis.define(
        replace(shipping, slo=None) if change == "no target any more" else replace(shipped("shipping", within="90s"), slo=shipping.slo)
    )
    await kpis.count()
    assert await _told(kpis, "bad_1h") == ["firing", "cleared"]


async def _judged(kpis, good, bad):
    """So many orders are placed now, and judged when their minute is over."""
    now_us = kpis.clock.wall_us()
    placed = [now_us + number for number in range(good + bad)]

    async def record(tx):
        for order in placed:
            await EVENTS.record(tx, "order.placed", {"order": order})
        for order in placed[:good]:
            await EVENTS.record(tx, "order.shipped", {"order": order})

    await kpis.database.write(record, scope=ACME)
    await kpis.clock.advance(61)
    await kpis.count()


async def _firing(kpis, definition, rule):
    return bool(dict(await kpis.database.read(partial(query, statement=OUTCOMES, kpi=definition.id), scope=SYSTEM)).get(rule, 0))


async def _told(kpis, rule):
    await drain(kpis.database, kpis.node.id)
    entries = await kpis.database.read(log.read_after, alerts.STREAM, 0, 1000, scope=SYSTEM)
    return [item["state"] for entry in entries for _, item in entry.items if item["type"] == "kpi.alert" and item["rule"] == rule]


async def test_where_little_is_judged_a_number_of_missed_ones_alerts(kpis):
    shipping = await kpis.define(replace(shipped("shipping"), slo=model.slo(0.999, min_events=50, page_if_bad=2)))
    for order in (1, 2):
        await kpis.record("order.placed", {"order": order})
    await kpis.clock.advance(61)
    await kpis.count()
    assert await kpis.database.read(partial(query, statement=OUTCOMES, kpi=shipping.id), scope=SYSTEM) == [("bad_1h", 1)]
    await kpis.clock.advance(3700)
    await kpis.count()
    assert await kpis.database.read(partial(query, statement=OUTCOMES, kpi=shipping.id), scope=SYSTEM) == [("bad_1h", 0)]


# Incremental equals recounted (K2, K3)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("placed"), st.sampled_from(["acme", "globex"]), st.integers(0, 3), st.integers(0, 9)),
        st.tuples(st.just("placed"), st.sampled_from(["acme", "globex"]), st.integers(0, 3), st.integers(0, 9)),
        st.tuples(st.just("shipped"), st.sampled_from(["acme", "globex"]), st.integers(0, 3)),
        st.tuples(st.just("shipped"), st.sampled_from(["acme", "globex"]), st.integers(0, 3)),
        st.tuples(st.just("advance"), st.sampled_from([1, 30, 61, 400, 700])),
        st.tuples(st.just("step"), st.sampled_from([-800, -100, -20, 20, 100, 800])),
        st.tuples(st.just("count")),
        st.tuples(st.just("cut off")),
    ),
    min_size=5,
    max_size=30,
)

PLACED = ("placed", "acme", 0, 5)


class Recount:
    """One example: its own KPI, its own kinds of events, and all that was recorded."""

    def __init__(self, kpis, number):
        self.kpis = kpis
        self.kinds = f"placed.{number}", f"shipped.{number}"
        self.wanted = shipped(f"kpi_{number}", *self.kinds)
        self.events = []

    async def run(self, steps):
        self.definition = await self.kpis.define(self.wanted)
        for kind, *arguments in steps:
            await getattr(self, kind.replace(" ", "_"))(*arguments)
        await self.kpis.count()
        await self.compare()

    async def placed(self, tenant, order, amount):
        at_us = await self.kpis.record(self.kinds[0], {"order": order, "amount": amount}, tenant, key=f"{len(self.events)}")
        self.events.append((tenant, order, Object(at_us, f"{len(self.events)}", amount * 1_000_000)))

    async def shipped(self, tenant, order):
        at_us = await self.kpis.record(self.kinds[1], {"order": order}, tenant)
        self.events.append((tenant, order, Object(good_us=at_us, good_same_us=at_us)))

    async def advance(self, seconds):
        await self.kpis.clock.advance(seconds)

    async def step(self, seconds):
        self.kpis.clock.step_wall(seconds)

    async def count(self):
        await self.kpis.count()

    async def cut_off(self):
        failpoints = self.kpis.database._runtime.failpoints
        failpoints.arm(store.COUNTED, "raise")
        try:
            await self.kpis.count()
        except FailpointError:
            pass
        finally:
            failpoints.disarm()

    async def compare(self):
        now_us = self.kpis.clock.wall_us()
        for tenant in ("acme", "globex"):
            expected = Counter()
            for order in range(4):
                own = [found for owner, which, found in self.events if (owner, which) == (tenant, order)]
                times = sorted((f.total_us, f.total_ref, f.value) for f in own if f.total_us is not None)
                kept = min((f.good_us for f in own if f.good_us is not None), default=None)
                if times:
                    expected += self.recounted(*times[0], kept, now_us)
            rows = await self.kpis.database.read(partial(query, statement=BUCKETS, kpi=self.definition.id), scope=Scope(tenant))
            found = {(row[0], name): amount for row in rows for name, amount in zip(COUNTERS, row[1:], strict=True) if amount}
            assert found == dict(+expected)

    @staticmethod
    def recounted(total_us, _, value, kept_us, now_us):
        """By the words of the documentation, and by nothing of the code."""
        minute, deadline = total_us // 60_000_000 * 60_000_000, total_us + 60_000_000
        found = Counter({(minute, "total"): 1, (minute, "value"): value})
        if kept_us is not None and kept_us <= deadline:
            result, judged_us = "good", max(kept_us, total_us)
        elif kept_us is None and now_us <= deadline:
            return found
        else:
            result, judged_us = "late" if kept_us is not None or now_us <= deadline + 600_000_000 else "lost", deadline
        found[minute, result] += 1
        found[minute, f"value_{result}"] += value
        found[judged_us // 60_000_000 * 60_000_000, "met" if result == "good" else "missed"] += 1
        return found


def test_the_figures_are_those_of_a_recount_whatever_comes_late_twice_or_in_another_order(engine, prepared):
    numbers = itertools.count()
    with asyncio.Runner() as runner:
        world = counting(engine, prepared)
        kpis = runner.run(world.__aenter__())

        @example(steps=[PLACED, ("advance", 61), ("count",), ("step", -20)])  # late, and then there is time left again
        @example(steps=[PLACED, ("advance", 700), ("count",), ("step", -100)])  # lost, and then only late
        @given(steps=STEPS)
        @settings(
            max_examples=25 if engine == "postgres" else 60,
            deadline=None,
            derandomize=True,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(steps):
            runner.run(Recount(kpis, next(numbers)).run(steps))

        check()
        runner.run(world.__aexit__(None, None, None))


OBJECTS = st.builds(
    Object,
    total_us=st.none() | st.integers(0, 300),
    total_ref=st.none() | st.sampled_from("ab"),
    value=st.integers(0, 3),
    message=st.just(None),
    good_us=st.none() | st.integers(0, 300),
    good_same_us=st.none() | st.integers(0, 300),
    dead_us=st.none() | st.integers(0, 300),
    dead_same_us=st.none() | st.integers(0, 300),
)
"""Events carry the same promise under the same reference."""


@given(found=st.lists(OBJECTS, min_size=1, max_size=6), order=st.randoms(use_true_random=False), now_us=st.integers(0, 2000))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_the_order_and_the_number_of_what_is_said_make_no_difference(found, order, now_us):
    said = [replace(each, total_ref=f"{each.total_us}", value=each.total_us or 0) if each.total_us is not None else each for each in found]
    said = [each if each.total_us is not None else replace(each, total_ref=None, value=0) for each in said]
    shuffled = said + said[:2]
    order.shuffle(shuffled)
    definition = replace(shipped("kpi"), good=Event("done", within_us=100, key="order"), lost_after_us=500)
    results = []
    for sequence in (said, shuffled):
        merged = Object()
        for each in sequence:
            merged = merge(merged, each)
        judgement = judge(definition, merged, now_us)
        results.append((merged, judgement.result, judgement.judged_us, figures_of(merged, judgement)))
        assert judgement.next_us is None or judgement.next_us > now_us
        assert judgement.turned_us is None or judgement.turned_us <= now_us
        sums = figures_of(merged, judgement)
        if merged.total_us is not None:
            assert sum(sums.get((minute_of(merged.total_us), each), 0) for each in ("good", "late", "lost")) <= 1
    assert results[0] == results[1]
