"""The shared tier on a real Valkey: one load for a fleet, and nothing stale or lost when it dies, stalls, forgets or goes back in time."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing
from contextvars import copy_context
from functools import partial

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from netra_backend import Netra
from netra_backend.cache import valkey
from netra_backend.errors import CannotStart

from ..support.adopting import settings_of
from ..support.cache.network import SimulatedServer
from ..support.cache.server import Server
from ..support.places import File, Shared
from ..support.storage import eventually


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with closing(Server(tmp_path_factory.mktemp("valkey"))) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres"])
def place(request, tmp_path):
    if request.param == "sqlite":
        yield File(tmp_path / "netra.db")
        return
    postgres = request.getfixturevalue("postgres_server")
    with postgres.database() as name:
        yield Shared(postgres, name)


@pytest.fixture(autouse=True)
def _patient(request, monkeypatch):
    """A slow machine must not look like a dead server, save where the server is dead or slow."""
    if "stalls_or_is_dead" not in request.node.name:
        monkeypatch.setattr(valkey, "ANSWER_S", 20.0)


@asynccontextmanager
async def opened(place, tmp_path, server, count):
    options = {**settings_of(tmp_path), "disk_reserve_bytes": 0, "cache_url": server.url, "cache_lease": "60s"}
    async with AsyncExitStack() as stack:
        nodes = [await stack.enter_async_context(Netra(place.url, workers=False, environ={}, **options)) for _ in range(count)]
        stack.enter_context(nodes[0].scope(tenant="acme"))
        yield nodes


@pytest.fixture
async def nodes(place, tmp_path, server):
    async with opened(place, tmp_path, server, 2) as nodes:
        yield nodes


class Source:
    def __init__(self):
        self.value = 1
        self.reads = 0

    async def read(self):
        self.reads += 1
        await asyncio.sleep(0)
        return {"v": self.value}

    async def get(self, netra, key="card"):
        return (await netra.cache.get_or_load(key, self.read, ttl="10m", depends_on=["org:7"]))["v"]


async def invalidate(tx, netra):
    await netra.cache.invalidate(tx, "org:7")


async def change(source, netra):
    """Commit a change, and wait until it has its number."""
    source.value += 1
    await netra.write(invalidate, netra, tenant="acme")
    await eventually(lambda: numbered(netra))


async def numbered(netra):
    await netra.cache.follower.look()
    return not netra.cache.node.pending


def forget(netra):
    """What this process keeps itself is gone: the shared tier is asked."""
    netra.cache.node.drop_everything()


async def answering(netra):
    """The tier is asked again, and has been handed what it missed."""
    await netra.cache.follower.look()
    return netra.cache.shared._breaker.state.phase == "closed" and await netra.cache.shared._client.ping()


async def test_what_one_process_loaded_another_is_given_until_it_is_invalidated(nodes):
    one, two = nodes
    source = Source()
    assert [await source.get(one), await source.get(two)] == [1, 1]
    assert (source.reads, two.cache.tiers()["l2"]["hits"]) == (1, 1)
    await change(source, one)
    await two.cache.follower.look()
    assert [await source.get(two), await source.get(one)] == [2, 2]
    assert source.reads == 2


async def test_a_value_filled_late_is_refused_by_the_tier_itself(nodes):
    one, two = nodes
    source = Source()
    await source.get(one)
    found = await one.cache.shared.read("acme|card", one.cache.node.begin(0))
    await two.cache.follower.look()
    late = two.cache.node.begin(0)
    assert await two.cache.shared.fill("acme|card", found, late)
    await change(source, one)
    assert not await two.cache.shared.fill("acme|card", found, late)
    assert await one.cache.shared.read("acme|card", one.cache.node.begin(0)) is None


async def test_a_hundred_callers_of_four_processes_cause_one_load(place, tmp_path, server):
    async with opened(place, tmp_path, server, 4) as nodes:
        for node in nodes:
            await node.cache.position()
        source = Source()
        got = await asyncio.gather(*(source.get(node) for node in nodes for _ in range(25)))
        assert (set(got), source.reads) == ({1}, 1)


async def test_a_plain_function_in_the_threads_of_several_processes_is_called_once(place, tmp_path, server):
    calls = []

    def load():
        calls.append(1)
        assert goes_on.wait(20)
        return {"v": 7}

    async with opened(place, tmp_path, server, 3) as nodes:
        goes_on, plain = threading.Event(), [netra.cache.cached("plain", ttl="10m", depends_on=["org:7"])(load) for netra in nodes]
        with ThreadPoolExecutor(9) as pool:
            in_thread = partial(asyncio.get_running_loop().run_in_executor, pool)
            asking = [in_thread(copy_context().run, each) for each in plain for _ in range(3)]
            await eventually(lambda: calls and sum(len(netra.cache.loader.flights) for netra in nodes) == 3)
            goes_on.set()
            assert await asyncio.gather(*asking) == [{"v": 7}] * 9
    assert calls == [1]


async def test_a_tier_that_forgot_everything_or_went_back_in_time_serves_nothing_old(nodes, server):
    one, two = nodes
    source = Source()
    await source.get(one)
    server.remember()
    await change(source, one)
    assert await source.get(one) == 2
    server.roll_back()
    forget(one)
    forget(two)
    assert await source.get(two) == 2
    await eventually(lambda: answering(one))
    await eventually(lambda: answering(two))
    forget(two)
    assert await source.get(two) == 2
    assert int(server.client().hget(one.cache.shared._keys("")[0], "pos")) == one.cache.node.applied
    server.client().flushall()
    forget(one)
    assert await source.get(one) == 2
    await one.cache.follower.look()
    await two.cache.follower.look()
    reads = source.reads
    forget(one)
    assert [await source.get(one), await source.get(two)] == [2, 2]
    assert source.reads <= reads + 1


async def test_a_tier_that_stalls_or_is_dead_is_passed_by_and_found_again(nodes, server):
    one, two = nodes
    source = Source()
    server.stall()
    try:
        assert await source.get(one) == 1
        await change(source, one)
        forget(two)
        await two.cache.follower.look()
        assert await source.get(two) == 2
    finally:
        server.go_on()
    await eventually(lambda: answering(one))
    await eventually(lambda: answering(two))
    server.kill()
    try:
        await change(source, one)
        await two.cache.follower.look()
        assert [await source.get(one), await source.get(two)] == [3, 3]
        assert one.cache.tiers()["l2"]["errors"] > 0
    finally:
        server.start()
    await eventually(lambda: answering(one))
    forget(one)
    assert await source.get(one) == 3


async def test_each_tenants_names_are_its_own_in_the_tier_too(nodes):
    one, two = nodes
    source = Source()
    await source.get(one)
    with two.scope(tenant="globex"):
        assert await two.cache.get("card") is None
    assert await two.cache.get("card") == {"v": 1}


async def test_a_server_that_evicts_keys_without_a_ttl_is_refused(tmp_path):
    with closing(Server(tmp_path, **{"maxmemory-policy": "allkeys-lru"})) as server:
        with pytest.raises(CannotStart, match="allkeys-lru"):
            async with opened(File(tmp_path / "netra.db"), tmp_path, server, 1):
                pass


async def test_a_tier_that_answers_more_slowly_than_loading_is_passed_by_until_a_probe_is_quick(nodes):
    shared = nodes[0].cache.shared
    slow, quick = [0.02] * valkey.JUDGED, [0.001] * valkey.JUDGED
    nodes[0].cache.stats.load_p50_s = 1.0  # to load takes longer still: nothing is wrong
    give(shared, slow)
    assert shared._breaker.state.phase == "closed"
    shared._times_s.clear()
    nodes[0].cache.stats.load_p50_s = 0.01
    give(shared, quick)
    assert shared._breaker.state.phase == "closed"
    give(shared, [*quick[3:], *slow[:3]])
    assert shared._breaker.state.phase == "open"
    assert await shared.read("acme|card", nodes[0].cache.node.begin(0)) is None
    await eventually(lambda: answering(nodes[0]))


def give(shared, times_s):
    """As if answers had taken so long."""
    for took_s in times_s:
        if shared._breaker.try_begin():
            shared._finish(shared._judged(took_s))


CALLS = st.lists(
    st.one_of(
        st.tuples(
            st.just("apply"), st.sampled_from(["h1", "h1", "h2"]), st.integers(1, 6), st.integers(0, 3), st.sampled_from([0, 0, 0, 1])
        ),
        st.tuples(st.just("fill"), st.sampled_from("abc"), st.integers(0, 8), st.sampled_from(["current", "current", "another"])),
        st.tuples(st.just("read"), st.sampled_from("abc")),
        st.tuples(st.sampled_from(["lead", "lead", "keep", "yield"]), st.sampled_from("ab"), st.sampled_from(["one", "two"])),
    ),
    max_size=40,
)


SHORT_MS, LONG_MS = 500_000, 1_000_000


@given(calls=CALLS)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_model_of_the_tier_answers_as_its_scripts_do(server, calls):
    client = server.client()
    client.flushall()
    real = {name: client.register_script(getattr(valkey, name)) for name in ("READ", "FILL", "APPLY", "KEEP", "YIELD")}
    model = SimulatedServer(lambda: 0.0)
    keys = {name: [f"t:{{n}}:{end}" for end in ("m", "i", f"e:{name}")] for name in "abc"}
    epoch = "none"
    for number, (what, *more) in enumerate(calls):
        if what == "apply":
            history, first, count, anew = more
            events = orjson.dumps([["abc"[(first + at) % 3]] for at in range(count)])
            args = [history, f"life {number}", first, events, first + count - 1, anew, 2]
            answer = real["APPLY"](keys=keys["a"][:2], args=args)
            assert answer == model.apply(keys["a"], args)
            epoch = answer[0].decode()
        elif what == "fill":
            name, p, whose = more
            args = [
                epoch if whose == "current" else whose,
                p,
                b"v%d" % number,
                "json",
                orjson.dumps(sorted({name, "abc"[p % 3]})),
                0,
                60_000,
            ]
            assert bool(real["FILL"](keys=keys[name], args=args)) == bool(model.fill(keys[name], args))
        elif what == "lead":
            name, token = f"l:{more[0]}", more[1]
            assert client.set(name, token, nx=True, px=SHORT_MS) == model.take(name, token, SHORT_MS)
        elif what == "keep":
            kept = [f"l:{name}" for name in "ab"]
            real["KEEP"](keys=kept, args=[LONG_MS, more[1], more[1]])
            model.keep(kept, [LONG_MS, more[1], more[1]])
            left_ms = {name: client.pttl(name) for name in kept}
            assert {name: left > SHORT_MS for name, left in left_ms.items() if left > 0} == {
                name: until_s > SHORT_MS / 1000 for name, (_, until_s) in model.leads.items()
            }
        elif what == "yield":
            keys_and_args = [f"l:{more[0]}"], [more[1]]
            assert real["YIELD"](*keys_and_args) == model.give_back(*keys_and_args)
        else:
            (name,) = more
            assert real["READ"](keys=keys[name])[:8] == model.read(keys[name], [])[:8]
