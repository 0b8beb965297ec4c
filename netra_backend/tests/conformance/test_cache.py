"""The cache's promises on real databases: two processes' views of one database, with a bound that a slow machine keeps."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest

from netra_backend import Netra
from netra_backend.cache import store
from netra_backend.cache.errors import CycleRefused, LoadTimeout, NoLoad, NotCacheable
from netra_backend.cache.node import Value
from netra_backend.errors import InvalidInput, MissingTenant, NestedTransaction
from netra_backend.resilience.single_flight import FlightOfItself
from netra_backend.storage import log

from ..support.adopting import settings_of
from ..support.cache.race import raised, version_of
from ..support.storage import SYSTEM, database_url, eventually, let_run


@asynccontextmanager
async def opened(engine, folder, count, **settings):
    """So many processes' views."""
    driver = {} if engine == "postgres" else {"sqlite_driver": engine}
    options = {**settings_of(folder), **driver, "disk_reserve_bytes": 0, **settings}
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(Netra(database_url(folder), workers=False, environ={}, **options)) for _ in range(count)]


@pytest.fixture
async def netra(engine, prepared):
    async with opened(engine, prepared, 1) as (netra,):
        with netra.scope(tenant="acme"):
            yield netra


@pytest.fixture
async def both(engine, prepared):
    async with opened(engine, prepared, 2, cache_lease="60s") as nodes:
        with nodes[0].scope(tenant="acme"):
            yield nodes


class Source:
    """A value that changes, and how often it was read."""

    def __init__(self):
        self.value = 1
        self.reads = 0

    async def read(self):
        self.reads += 1
        return {"v": self.value}

    async def get(self, netra, key="card", **options):
        return (await netra.cache.get_or_load(key, self.read, **{"ttl": "10m", "depends_on": ["org:7"], **options}))["v"]


async def settled(netra):
    """Wait until nothing is pending: the leader has numbered all, and this process has applied it."""
    await eventually(lambda: look_and_see(netra))


async def look_and_see(netra):
    await netra.cache.follower.look()
    return not netra.cache.node.pending


async def test_a_value_is_loaded_once_and_kept(netra):
    source = Source()
    assert [await source.get(netra) for _ in range(3)] == [1, 1, 1]
    assert source.reads == 1
    tiers = netra.cache.tiers()["l1"]
    assert (tiers["hits"], tiers["misses"], tiers["fills"]) == (2, 1, 1)
    assert tiers["bytes"] > 0


async def test_the_writing_process_never_reads_what_is_older_than_its_own_commit(netra):
    source = Source()
    await source.get(netra)
    async with netra.transaction() as tx:
        source.value = 2
        await netra.cache.invalidate(tx, "org:7")
    assert await source.get(netra) == 2
    await settled(netra)
    assert [await source.get(netra) for _ in range(2)] == [2, 2]
    assert source.reads == 3  # one while the event was not numbered, which nobody may keep


async def test_another_process_serves_no_older_value_once_it_has_looked_although_nobody_numbers_the_event(both):
    one, two = both
    await both[0].leader.stop()
    await both[1].leader.stop()
    source = Source()
    assert await source.get(two) == 1
    source.value = 2
    await one.write(invalidate, one, tenant="acme")
    await two.cache.follower.look()
    assert two.cache.node.pending == {"acme|org:7": 1}
    assert await source.get(two) == 2
    assert await two.cache.position() | {"lease_left_ms": 0} == {"epoch": "local-1", "applied": 0, "pending": 1, "lease_left_ms": 0}


async def invalidate(tx, netra, *deps):
    await netra.cache.invalidate(tx, *(deps or ("org:7",)))


async def fail(tx, netra):
    await netra.cache.invalidate(tx, "org:7")
    raise KeyError


async def test_a_rollback_leaves_no_event_and_nothing_pending(netra):
    source = Source()
    await source.get(netra)
    with pytest.raises(KeyError):
        await netra.write(fail, netra)
    with pytest.raises(KeyError):
        async with netra.transaction() as tx:
            await netra.cache.invalidate(tx, "org:7")
            assert netra.cache.node.pending == {"acme|org:7": 1}
            raise KeyError
    assert netra.cache.node.pending == {}
    await netra.leader.drain()
    assert await netra.database.read(store.last_seq, scope=SYSTEM) == 0
    await source.get(netra)
    assert source.reads == 1


async def test_a_load_that_began_before_the_commit_is_given_to_its_caller_and_kept_by_nobody(netra):
    reading, go_on = asyncio.Event(), asyncio.Event()
    source = Source()

    async def slow():
        value = await source.read()
        reading.set()
        await go_on.wait()
        return value

    caller = asyncio.create_task(netra.cache.get_or_load("card", slow, ttl=60, depends_on=["org:7"]))
    await reading.wait()
    source.value = 2
    await netra.write(invalidate, netra)
    await settled(netra)
    joiner = asyncio.create_task(source.get(netra))
    go_on.set()
    assert (await caller)["v"] == 1
    assert await joiner == 2
    assert await source.get(netra) == 2
    assert netra.cache.tiers()["l1"]["fills_refused"] >= 1


async def test_a_cascade_reaches_what_was_made_from_what_was_made_from_it(netra):
    org, card = Source(), []

    async def page():
        card.append(await org.get(netra, "card"))
        return {"page": card[-1]}

    async def get():
        return (await netra.cache.get_or_load("page", page, ttl=60))["page"]

    assert [await get(), await get()] == [1, 1]
    org.value = 2
    await netra.write(invalidate, netra)
    assert await get() == 2
    await settled(netra)
    assert [await get(), await get()] == [2, 2]
    assert {"from": "card", "to": "page"} in (await netra.cache.graph())["edges"]


async def test_what_asked_for_it_is_made_anew_and_an_equal_value_ends_the_cascade(netra):
    made = []

    async def make(name, value):
        made.append(name)
        return value

    await netra.cache.get_or_load("count", lambda: make("count", 3), ttl=60, depends_on=["org:7"], refresh=True)
    await netra.cache.get_or_load("page", lambda: make("page", "three"), ttl=60, depends_on=["count"], refresh=True)
    await netra.write(invalidate, netra)
    await settled(netra)
    await netra.cache.follower.refreshed()
    assert made == ["count", "page", "count"]
    assert await netra.cache.get_many(["count", "page"]) == {"count": 3, "page": "three"}
    assert netra.cache.tiers()["cut_off"] == 1


async def test_many_callers_of_a_cold_key_cause_one_load(netra):
    source = Source()
    await netra.cache.position()
    assert set(await asyncio.gather(*(source.get(netra) for _ in range(50)))) == {1}
    assert source.reads == 1


async def test_no_more_loads_than_were_allowed_are_in_progress(engine, prepared):
    async with opened(engine, prepared, 1, cache_loads=3) as (netra,):
        inside, most, go_on = [], [], asyncio.Event()

        async def load():
            inside.append(1)
            most.append(len(inside))
            await go_on.wait()
            inside.pop()
            return 1

        with netra.scope(tenant="acme"):
            asking = [asyncio.create_task(netra.cache.get_or_load(f"k{number}", load, ttl=60)) for number in range(10)]
            await eventually(lambda: len(inside) == 3)
            await let_run(50)
            go_on.set()
            assert await asyncio.gather(*asking) == [1] * 10
        assert max(most) == 3


async def test_a_key_is_its_tenants_own_and_without_a_tenant_there_is_none(netra):
    source = Source()
    await source.get(netra)
    with netra.scope(tenant="globex"):
        assert await netra.cache.get("card") is None
        source.value = 9
        assert await source.get(netra) == 9
        await netra.write(invalidate, netra, tenant="globex")
        await settled(netra)
        assert await netra.cache.graph() == {"nodes": [], "edges": []}
    assert await source.get(netra) == 1


async def test_without_a_scope_every_call_is_refused(engine, prepared):
    async with opened(engine, prepared, 1) as (netra,):
        with pytest.raises(MissingTenant):
            await netra.cache.get("card")


async def test_a_value_that_is_set_replaces_the_one_of_every_process_and_a_deleted_one_is_gone(both):
    one, two = both
    await two.cache.set("k", "old", ttl=60)
    await one.cache.set("k", "new", ttl=60, depends_on=["org:7"])
    await two.cache.follower.look()
    assert (await one.cache.get("k"), await two.cache.get("k")) == ("new", None)
    await two.cache.delete("k")
    await one.cache.follower.look()
    assert await one.cache.get("k", "nothing") == "nothing"


async def test_of_two_processes_that_set_a_key_at_once_the_last_in_the_log_keeps_its_value_and_the_other_none(both):
    one, two = both
    for each in both:
        await each.cache.position()  # follows the log from now on
    for first, second in ((one, two), (two, one)):
        tokens = [await each.write(begin_set, each, tenant="acme") for each in (first, second)]
        for each, token, value in ((first, tokens[0], "first"), (second, tokens[1], "second")):
            await each.cache.end_set(token, {"k": value, "other": value}, ttl=60)
        for each in (
            first,
            first,
            second,
            second,
        ):  # a look that is under way is not repeated, and may have begun before the other's commit
            await each.cache.follower.look()
        assert [await each.cache.get("k") for each in (first, second)] == [None, "second"]


async def begin_set(tx, netra):
    return await netra.cache.begin_set(tx, "k", "other")


async def test_many_are_set_by_one_event_and_a_touched_one_has_another_ttl_and_its_dependencies(netra):
    await netra.cache.set_many({"a": 1, "b": 2}, ttl=5, depends_on=["org:7"])
    assert netra.cache.node.applied == 1
    assert not await netra.cache.touch("none", ttl=60)
    assert await netra.cache.touch("a", ttl=1000)
    kept = await netra.cache.kept("a")
    assert (kept.value, kept.deps, 800 < kept.left_s <= 1000) == (1, ("org:7",), True)
    await netra.write(invalidate, netra)
    assert await netra.cache.get_many(["a", "b"]) == {}
    assert await netra.cache.kept("a") is None


async def test_inside_a_held_transaction_what_is_kept_is_served_and_nothing_is_loaded(netra):
    source = Source()
    await source.get(netra)
    async with netra.transaction() as tx:
        assert await source.get(netra) == 1
        with pytest.raises(NestedTransaction):
            await source.get(netra, "another")
        await netra.cache.invalidate(tx, "org:9")


async def test_a_process_that_cannot_look_serves_nothing_once_its_lease_has_ended(engine, prepared):
    async with opened(engine, prepared, 1, cache_lease="60s") as (netra,):
        with netra.scope(tenant="acme"):
            source = Source()
            await source.get(netra)
            netra.cache.node.lease_until = 0.0
            netra.database.read = refused
            assert await source.get(netra) == 1
            assert (source.reads, netra.cache.tiers()["bypassed"]) == (2, 1)
            del netra.database.read
            await netra.cache.follower.look()
            assert (await source.get(netra), source.reads) == (1, 2)


async def refused(*_, **__):
    raise InvalidInput("cut off")


async def test_a_database_whose_history_is_another_one_empties_the_tier(netra):
    source = Source()
    await source.get(netra)
    await netra.cache.follower.look()
    netra.cache.node.epoch = "before the restore"
    await netra.cache.follower.look()
    assert len(netra.cache.node.tier) == 0
    assert (await netra.cache.position())["epoch"] == "local-2"


async def test_more_events_than_one_look_takes_are_applied_one_by_one(both):
    one, two = both
    await two.cache.position()
    for number in range(12):
        await one.write(invalidate, one, f"n:{number}", tenant="acme")
    await eventually(lambda: drained(both))
    two.cache.node.applied = 0
    two.cache.node.flush(0, two.cache.node.epoch)
    await two.cache.follower.look()
    assert two.cache.node.applied == await two.database.read(store.last_seq, scope=SYSTEM) > 0
    assert two.cache.node.inv.keys() == {f"acme|n:{number}" for number in range(12)}


async def drained(nodes):
    await nodes[0].cache.follower.look()
    return not nodes[0].cache.node.pending


async def test_the_log_holds_an_invalidation_if_and_only_if_its_transaction_committed(netra):
    for _ in range(2):
        await netra.write(invalidate, netra, "a", "b")
        with pytest.raises(KeyError):
            await netra.write(fail, netra)
    await settled(netra)
    entries = await netra.database.read(log.read_after, store.STREAM, 0, 100, scope=SYSTEM)
    items = [item["d"] for entry in entries for _, item in entry.items]
    assert items == [["a", "b"], ["a", "b"]]


async def test_a_cycle_and_a_load_of_itself_are_refused(netra):
    source = Source()
    await source.get(netra, "a", depends_on=["b"])
    with pytest.raises(CycleRefused):
        await source.get(netra, "b", depends_on=["a"])

    async def itself():
        return await netra.cache.get_or_load("self", itself, ttl=60)

    with pytest.raises(FlightOfItself):
        await itself()


async def test_a_loader_says_what_it_depends_on_and_how_long_it_holds(netra):
    async def load():
        netra.cache.depends("row:1")
        netra.cache.expires("1h")
        return 5

    assert await netra.cache.get_or_load("k", load, ttl=60, jitter=0.0) == 5
    entry = netra.cache.node.tier.entries["acme|k"]
    assert entry.deps == {"acme|row:1"}
    assert 3500 < entry.expires - entry.made < 3601
    with pytest.raises(NoLoad):
        netra.cache.depends("row:2")


async def test_past_its_ttl_a_value_is_served_only_as_its_plan_allows(netra):
    source = Source()
    options = {"stale_for": 60, "fail_safe": 600, "info": True, "depends_on": ["org:7"], "ttl": 60}
    await netra.cache.get_or_load("card", source.read, **options)
    age(netra, "card", 90)
    loaded = await netra.cache.get_or_load("card", source.read, **options)
    assert (loaded.value, loaded.stale) == ({"v": 1}, True)
    await eventually(lambda: source.reads == 2 and not len(netra.cache.loader.flights))
    age(netra, "card", 200)

    async def broken():
        raise ConnectionError

    assert (await netra.cache.get_or_load("card", broken, **options)).stale
    with pytest.raises(ConnectionError):
        await netra.cache.get_or_load("card", broken, ttl=60)


def age(netra, key, seconds):
    """As if it had been made earlier."""
    entry = netra.cache.node.tier.entries[f"acme|{key}"]
    entry.made -= seconds
    entry.expires -= seconds
    entry.stale_until -= seconds


async def test_an_invalidated_value_is_not_served_although_its_load_fails(netra):
    source = Source()
    await netra.cache.get_or_load("card", source.read, ttl=60, fail_safe=600, depends_on=["org:7"])
    await netra.write(invalidate, netra)

    async def broken():
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await netra.cache.get_or_load("card", broken, ttl=60, fail_safe=600, depends_on=["org:7"])


async def test_a_load_without_end_is_given_up_at_its_hard_limit(netra):
    never = asyncio.Event()
    with pytest.raises(LoadTimeout):
        await netra.cache.get_or_load("k", never.wait, ttl=60, hard_timeout=0.05)


async def test_what_showed_a_former_value_is_reached_by_what_that_was_made_from(netra):
    """The home page shows the product of the hour; the hour ends, the page is kept, and the price of the former product changes."""
    prices, hour = {"1": 10, "2": 20}, ["1"]

    async def featured():
        netra.cache.depends(f"product:{hour[0]}")
        return prices[hour[0]]

    async def home():
        return {"price": await netra.cache.get_or_load("featured", featured, ttl=60)}

    assert await netra.cache.get_or_load("home", home, ttl=3600) == {"price": 10}
    hour[0] = "2"
    age(netra, "featured", 90)
    assert await netra.cache.get_or_load("featured", featured, ttl=60) == 20
    assert await netra.cache.get_or_load("home", home, ttl=3600) == {"price": 10}

    async def change(tx):
        prices["1"] = 11
        await netra.cache.invalidate(tx, "product:1")

    await netra.write(change, tenant="acme")
    assert await netra.cache.get_or_load("home", home, ttl=3600) == {"price": 20}


async def test_none_is_kept_as_an_answer_for_a_shorter_time(netra):
    calls = []

    async def nothing():
        calls.append(1)

    for _ in range(2):
        assert await netra.cache.get_or_load("k", nothing, ttl="10m", jitter=0.0) is None
    entry = netra.cache.node.tier.entries["acme|k"]
    assert (len(calls), round(entry.expires - entry.made)) == (1, 30)


async def test_a_callers_changes_reach_nobody_and_what_has_no_json_is_refused(netra):
    shared = {"list": [1]}
    first = await netra.cache.get_or_load("k", lambda: shared, ttl=60)
    shared["list"].append(2)
    assert first == await netra.cache.get("k") == {"list": [1]}
    with pytest.raises(NotCacheable):
        await netra.cache.get_or_load("no", object, ttl=60)
    assert await netra.cache.get_or_load("raw", lambda: b"\x00", ttl=60, serializer="raw") == b"\x00"
    assert await netra.cache.get_or_load("pack", lambda: [1, 2], ttl=60, serializer="msgpack", type=list[int]) == [1, 2]


async def test_decorated_functions_are_cached_in_any_thread(netra):
    calls = []

    @netra.cache.cached("user:{user}", ttl="10m", depends_on=["org:{org}"])
    async def card(user, org=7):
        calls.append(user)
        return f"{user}@{org}"

    @netra.cache.cached("double:{n}", ttl=60, depends_on=["org:7"])
    def double(n):
        calls.append(n)
        return 2 * n

    assert [await card("ann"), await card("ann", org=7), await card(user="ann")] == ["ann@7"] * 3
    assert [await asyncio.to_thread(double, 2), double(2), await asyncio.to_thread(double, 2)] == [4, 4, 4]
    assert calls == ["ann", 2]
    await netra.write(invalidate, netra)
    assert (await card("ann"), double(2), calls) == ("ann@7", 4, ["ann", 2, "ann", 2])
    with pytest.raises(InvalidInput):
        netra.cache.cached("user:{nobody}", ttl=60)(double)


async def test_a_mark_whose_end_is_not_heard_of_is_forgotten_after_a_minute(netra):
    await netra.cache.position()
    node, now = netra.cache.node, netra.cache.monotonic()
    node.mark("t", ["acme|x"], now - 1)
    await netra.cache.follower.look()
    assert node.pending
    node.mark("t2", ["acme|y"], now - 61)
    await netra.cache.follower.look()
    assert node.pending == {"acme|x": 1}


async def test_what_a_long_transaction_changes_is_pending_until_its_end(engine, prepared):
    async with opened(engine, prepared, 1, transaction_timeout="300s") as (netra,):
        node, monotonic = netra.cache.node, netra.cache.monotonic
        async with netra.transaction(tenant="acme") as tx:
            await netra.cache.invalidate(tx, "x")
            node._forget_marks(monotonic() + 299)
            assert node.pending == {"acme|x": 1}
            node._forget_marks(monotonic() + 361)
            assert node.pending == {}


async def test_the_tier_keeps_to_its_limit_and_nothing_heavier_than_a_tenth(engine, prepared):
    async with opened(engine, prepared, 1, cache_max_bytes="1MiB") as (netra,):
        await netra.cache.follower.look()
        node = netra.cache.node
        for number in range(2000):
            node.fill(f"acme|{number}", Value("x" * 2000, frozenset(), 1e12, 1e12), node.begin(0))
            assert node.tier.used_bytes <= 1 << 20
        assert node.tier.evictions > 1000
        assert node.fill("acme|heavy", Value("x" * 200_000, frozenset(), 1e12, 1e12), node.begin(0)) is None


async def test_what_is_kept_reflects_every_transaction_up_to_its_position(both):
    """C2: what was read before an event is never kept under the position behind it, however long the load took."""
    one, two = both
    source, reading, go_on = Source(), asyncio.Event(), asyncio.Event()

    async def slow():
        value = await source.read()
        reading.set()
        await go_on.wait()
        return value

    await two.cache.position()
    loading = asyncio.create_task(two.cache.get_or_load("card", slow, ttl=60, depends_on=["org:7"]))
    await reading.wait()
    await one.write(invalidate, one, "org:8", tenant="acme")
    await eventually(lambda: has_applied(two, 1))
    before = two.cache.node.begin(two.cache.monotonic())
    go_on.set()
    await loading
    entry = two.cache.node.tier.entries["acme|card"]
    assert entry.p == 0 < before.p  # as of when its load began, and not as of when it was kept
    source.value = 2
    await one.write(invalidate, one, tenant="acme")
    await eventually(lambda: has_applied(two, 2))
    assert await source.get(two) == 2
    assert two.cache.node.tier.entries["acme|card"].p == 2


async def has_applied(netra, count):
    await netra.cache.follower.look()
    return netra.cache.node.applied >= count


async def test_at_rest_each_hit_in_each_process_is_what_the_database_says(both):
    """C11, with events of several writers at once, rolled back ones among them, while both processes load."""
    keys = [f"k{number}" for number in range(6)]

    async def read(netra, key):
        return await netra.cache.get_or_load(key, lambda: netra.database.read(version_of, key, scope=SYSTEM), ttl="1h")

    async def write(netra, number):
        for at in range(8):
            with suppress(KeyError):
                await netra.write(raised_or_not, netra, keys[(number + at) % len(keys)], at % 4 == 3, tenant="acme")
            await read(both[at % 2], keys[at % len(keys)])

    await asyncio.gather(*(write(netra, number) for number, netra in enumerate([*both, *both])))
    await eventually(lambda: drained(both))
    for netra in both:
        await netra.cache.follower.look()
        for key in keys:
            await read(netra, key)
        truth = {key: await netra.database.read(version_of, key, scope=SYSTEM) for key in keys}
        assert await netra.cache.get_many(keys) == truth
        assert sum(truth.values()) == 4 * 6


async def raised_or_not(tx, netra, key, fails):
    await raised(tx, netra, key)
    if fails:
        raise KeyError
