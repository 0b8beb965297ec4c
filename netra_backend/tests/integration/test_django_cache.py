"""Django's cache framework over Netra's: what Django's documentation promises, and what Netra adds on either engine."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import UUID

import pytest
from django.contrib.sessions.backends.cache import SessionStore
from django.core.cache import caches
from django.http import HttpResponse
from django.template import Context, Engine
from django.test import RequestFactory, override_settings

from netra_backend import Netra
from netra_backend.cache.errors import NotCacheable
from netra_backend.errors import MissingTenant
from netra_backend.integrations.django import NetraMiddleware
from netra_backend.integrations.django_cache import NetraCache

from ..support.adopting import settings_of
from ..support.django_caches import cache_of, look, opened
from ..support.places import File
from ..support.shops import set_django_up
from ..support.zygote import until

set_django_up()
YEAR_S = 365 * 86_400


@pytest.fixture
def netra(tmp_path):
    with opened(File(tmp_path / "netra.db"), tmp_path) as netra, netra.scope(tenant="acme"):
        yield netra


@pytest.fixture
def cache(netra):
    return cache_of(netra)


def entry_of(cache, netra, key):
    return netra.cache.node.tier.entries[f"acme|{cache.name_of(key)}"]


# What Django's documentation of the low-level API says


def test_a_value_is_found_and_a_key_without_one_gives_the_default(cache):
    assert (cache.get("k"), cache.get("k", "expired"), "k" in cache) == (None, "expired", False)
    cache.set("k", {"a": [1, 2.5, None, True, "ä"]}, 30)
    assert (cache.get("k"), cache.has_key("k"), "k" in cache) == ({"a": [1, 2.5, None, True, "ä"]}, True, True)


def test_none_is_a_value(cache):
    absent = object()
    assert cache.get("k", absent) is absent
    cache.set("k", None)
    assert cache.get("k", absent) is None
    assert cache.get_or_set("k", 7) is None


def test_add_keeps_what_is_there_and_says_so(cache):
    assert cache.add("k", "first")
    assert not cache.add("k", "second")
    assert cache.get("k") == "first"


def test_get_or_set_takes_a_value_or_a_function_which_is_called_where_nothing_is_kept(cache):
    assert [cache.get_or_set("k", "new", 100), cache.get_or_set("k", "other", 100)] == ["new", "new"]
    calls = []
    made = [cache.get_or_set("f", lambda: calls.append(1) or len(calls), 100) for _ in range(3)]
    assert (made, calls) == ([1, 1, 1], [1])


def test_many_are_set_got_and_deleted_at_once(cache, netra):
    assert cache.set_many({"a": 1, "b": 2, "c": 3}) == []
    assert cache.get_many(["a", "b", "c", "d"]) == {"a": 1, "b": 2, "c": 3}
    cache.delete_many(["a", "b", "d"])
    assert cache.get_many(["a", "b", "c"]) == {"c": 3}
    until(lambda: look(netra), "numbered")
    assert netra.cache.node.applied == 2  # one event for all of them


def test_delete_says_whether_there_was_a_value(cache):
    cache.set("a", 1)
    assert [cache.delete("a"), cache.delete("a"), cache.get("a")] == [True, False, None]


@pytest.mark.parametrize(("timeout", "least", "most"), [(100, 90, 100), (None, 8 * YEAR_S, 10 * YEAR_S), (0.5, 0.4, 0.5)])
def test_a_value_is_kept_until_its_timeout_and_none_is_for_ever(cache, netra, timeout, least, most):
    before = netra.cache.monotonic()
    cache.set("k", 1, timeout)
    entry = entry_of(cache, netra, "k")
    assert before + least <= entry.expires <= netra.cache.monotonic() + most
    entry.expires = netra.cache.monotonic()
    assert cache.get("k") is None


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_timeout_of_nothing_keeps_nothing_and_drops_what_was_kept(cache, timeout):
    cache.set("k", 1)
    cache.set("k", 2, timeout)
    assert cache.get("k") is None
    assert cache.add("k", 3, timeout)
    assert cache.get_or_set("k", lambda: 4, timeout) == 4
    assert cache.get("k") is None


def test_the_default_timeout_is_the_settings(netra):
    cache = NetraCache("", {"TIMEOUT": 1000, "OPTIONS": {"NETRA": netra, "DATABASE": None}})
    cache.set("k", 1)
    assert 900 - 60 < entry_of(cache, netra, "k").expires - netra.cache.monotonic() <= 1000


def test_touch_gives_another_timeout_and_says_whether_there_was_a_value(cache, netra):
    assert not cache.touch("k", 10)
    cache.set("k", {"a": 1}, 10, depends_on=["org:7"])
    assert cache.touch("k", 10_000)
    assert entry_of(cache, netra, "k").expires > netra.cache.monotonic() + 8_000
    assert cache.get("k") == {"a": 1}
    with netra.sync.transaction() as tx:
        netra.sync.cache.invalidate(tx, "org:7")
    assert cache.get("k") is None  # it has kept what it is made from
    cache.set("k", 1)
    assert cache.touch("k", 0)
    assert cache.get("k") is None


def test_numbers_are_counted_up_and_down_and_keep_their_timeout_and_what_they_depend_on(cache, netra):
    with pytest.raises(ValueError, match="'n' not found"):
        cache.incr("n")
    cache.set("n", 1, 50, depends_on=["org:7"])
    expires = entry_of(cache, netra, "n").expires
    assert [cache.incr("n"), cache.incr("n", 10), cache.decr("n"), cache.decr("n", 5)] == [2, 12, 11, 6]
    assert cache.get("n") == 6
    assert entry_of(cache, netra, "n").expires <= expires
    with netra.sync.transaction() as tx:
        netra.sync.cache.invalidate(tx, "org:7")
    assert cache.get("n") is None


def test_versions_and_prefixes_keep_values_apart(cache, netra):
    cache.set("k", "one", version=1)
    cache.set("k", "two", version=2, depends_on=["org:7"])
    assert [cache.get("k"), cache.get("k", version=2), cache.get("k", version=3)] == ["one", "two", None]
    assert cache.incr_version("k", version=2) == 3
    assert [cache.get("k", version=2), cache.get("k", version=3)] == [None, "two"]
    with netra.sync.transaction() as tx:
        netra.sync.cache.invalidate(tx, "org:7")
    assert cache.get("k", version=3) is None
    assert cache_of(netra, "other").get("k") is None
    with pytest.raises(ValueError, match="not found"):
        cache.decr_version("nothing", version=5)


def test_clear_drops_everything_of_this_prefix_and_tenant_and_nothing_else(cache, netra):
    other = cache_of(netra, "other")
    for each in (cache, other):
        each.set_many({"a": 1, "b": 2})
        each.get_or_set("c", lambda: 3)
    with netra.scope(tenant="globex"):
        cache.set("a", "globex's")
    cache.clear()
    assert (cache.get_many("abc"), other.get_many("abc")) == ({}, {"a": 1, "b": 2, "c": 3})
    with netra.scope(tenant="globex"):
        assert cache.get("a") == "globex's"
    cache.set("a", 4)
    assert cache.get("a") == 4  # a value that is set after it is kept


def test_fragments_of_templates_are_cached(netra):
    options = {"BACKEND": "netra_backend.integrations.django_cache.NetraCache", "OPTIONS": {"NETRA": netra, "DATABASE": None}}
    source = "{% load cache %}{% cache 100 card user %}{{ next }}{% endcache %}"
    with override_settings(CACHES={"default": options}, USE_I18N=False):
        template = Engine(libraries={"cache": "django.templatetags.cache"}).from_string(source)
        counter = iter(["<b>", "again"])
        shown = [template.render(Context({"user": 1, "next": lambda: next(counter)})) for _ in range(2)]
    assert shown == ["&lt;b&gt;", "&lt;b&gt;"]


def test_sessions_live_in_it(netra):
    options = {"BACKEND": "netra_backend.integrations.django_cache.NetraCache", "OPTIONS": {"NETRA": netra, "DATABASE": None}}
    with override_settings(CACHES={"default": options}, SESSION_CACHE_ALIAS="default"):
        session = SessionStore()
        session["cart"] = {"kettle": 2}
        session.save()
        again = SessionStore(session.session_key)
        again["cart"]["kettle"] = 9  # not saved
        assert SessionStore(session.session_key)["cart"] == {"kettle": 2}
        again.save()
        assert SessionStore(session.session_key)["cart"] == {"kettle": 9}
        again.flush()
        assert not again.exists(session.session_key)


# Values


def test_a_value_is_its_callers_own(cache):
    given = {"cart": [1]}
    cache.set("k", given)
    given["cart"].append(2)
    cache.get("k")["cart"].append(3)
    assert cache.get("k") == {"cart": [1]}


@pytest.mark.parametrize(
    "value",
    [
        (1, 2),
        {1: "a"},
        {1, 2},
        b"bytes",
        float("nan"),
        Decimal("1.5"),
        UUID(int=1),
        dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
        HttpResponse("a page"),
        1 << 70,
        {"deep": [(1,)]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_not_come_back_equal_is_refused_and_changes_nothing(cache, value):
    cache.set("k", "old")
    for refused in (cache.set, cache.add, lambda key, value: cache.get_or_set("other", lambda: value)):
        with pytest.raises(NotCacheable) as caught:
            refused("k", value)
        assert "Keep text, numbers, lists and dicts" in caught.value.fix
    assert (cache.get("k"), cache.get("other")) == ("old", None)


# Tenants


def test_no_tenant_is_shown_what_another_one_keeps(cache, netra):
    cache.set("k", "acme's")
    cache.set("n", 1)
    cache.get_or_set("f", lambda: "acme's")
    with netra.scope(tenant="globex"):
        assert (cache.get("k"), cache.get_many(["k", "n"]), cache.has_key("k"), cache.touch("k"), cache.delete("k")) == (
            None,
            {},
            False,
            False,
            False,
        )
        with pytest.raises(ValueError, match="not found"):
            cache.incr("n")
        assert cache.get_or_set("f", lambda: "globex's") == "globex's"
        assert cache.add("k", "globex's")
        assert asyncio.run(cache.aget("k")) == "globex's"
        cache.clear()
    assert (cache.get("k"), cache.get("n"), cache.get("f")) == ("acme's", 1, "acme's")
    assert asyncio.run(cache.aget("k")) == "acme's"


def test_outside_of_any_tenant_each_call_is_refused_unless_the_cache_names_one(tmp_path):
    with opened(File(tmp_path / "netra.db"), tmp_path) as netra:
        cache, named = cache_of(netra), cache_of(netra, TENANT="shop")
        calls: list[Callable[[], object]] = [lambda: cache.get("k"), lambda: cache.set("k", 1), cache.clear, lambda: cache.delete("k")]
        for call in (*calls, lambda: cache.get_or_set("k", lambda: 1), lambda: asyncio.run(cache.aset("k", 1))):
            with pytest.raises(MissingTenant) as caught:
                call()
            assert "NETRA_TENANT" in caught.value.fix
            assert "TENANT" in caught.value.fix
        named.set("k", 1)
        assert named.get_or_set("f", lambda: 2) == 2
        with netra.scope(tenant="acme"):
            assert (named.get("k"), named.get("f"), cache.get("k")) == (1, 2, None)


def test_django_finds_it_by_its_settings_and_the_middleware_names_the_tenant(netra):
    options = {"BACKEND": "netra_backend.integrations.django_cache.NetraCache", "OPTIONS": {"DATABASE": None}}

    def view(request):
        return HttpResponse(str(caches["default"].get_or_set("whose", lambda: request.headers["x-tenant"])))

    with override_settings(CACHES={"default": options}, NETRA=netra, NETRA_TENANT=lambda request: request.headers["x-tenant"]):
        handle = NetraMiddleware(view)
        ask = RequestFactory().get
        answers = [handle(ask("/", headers={"x-tenant": name})).content for name in ("acme", "globex", "acme")]
    assert answers == [b"acme", b"globex", b"acme"]


# Threads and event loops


def test_of_many_threads_one_adds_and_each_counts(cache, netra):
    start = threading.Barrier(8)

    def work(number):
        with netra.scope(tenant="acme"):
            start.wait(30)
            added = cache.add("k", number)
            start.wait(30)
            cache.add("n", 0)
            return added, cache.incr("n")

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(work, range(8)))
    assert [added for added, _ in done].count(True) == 1
    assert sorted(count for _, count in done) == list(range(1, 9))


def test_many_threads_that_want_a_cold_value_call_its_function_once(cache, netra):
    started, go_on, calls = threading.Event(), threading.Event(), []

    def slow():
        calls.append(1)
        started.set()
        assert go_on.wait(30)
        return "made"

    def work(_):
        with netra.scope(tenant="acme"):
            return cache.get_or_set("k", slow)

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(work, number) for number in range(4)]
        assert started.wait(30)
        until(lambda: netra.cache.tiers()["l1"]["misses"] >= 8, "all of them have looked twice")
        go_on.set()
        assert [each.result() for each in asking] == ["made"] * 4
    assert len(calls) == 1


async def every_asynchronous_call(cache):
    absent = object()
    assert await cache.aget("k", absent) is absent
    await cache.aset("k", 1, 100, depends_on=["org:7"])
    assert [await cache.aget("k"), await cache.ahas_key("k"), await cache.aadd("k", 2), await cache.aadd("new", 3)] == [
        1,
        True,
        False,
        True,
    ]
    assert [await cache.aincr("k"), await cache.adecr("k", 5)] == [2, -3]
    assert [await cache.atouch("k", 50), await cache.atouch("none"), await cache.atouch("new", 0)] == [True, False, True]
    assert await cache.aset_many({"a": 1, "b": 2}) == []
    assert await cache.aget_many(["a", "b", "new"]) == {"a": 1, "b": 2}
    assert await cache.aincr_version("a") == 2
    assert [await cache.aget("a"), await cache.aget("a", version=2)] == [None, 1]
    assert [await cache.aget_or_set("f", lambda: 9), await cache.aget_or_set("f", lambda: 10)] == [9, 9]
    assert [await cache.adelete("b"), await cache.adelete("b")] == [True, False]
    await cache.adelete_many(["k", "none"])
    assert await cache.aget("k", absent) is absent
    await cache.aclear()
    assert await cache.aget_many(["f", "k"]) == {}


def test_the_asynchronous_calls_do_the_same_from_another_loop(cache):
    asyncio.run(every_asynchronous_call(cache))


async def test_the_asynchronous_calls_do_the_same_on_netras_own_loop(tmp_path):
    options = {**settings_of(tmp_path), "disk_reserve_bytes": 0, "cache_lease": "60s"}
    async with Netra(f"sqlite:///{tmp_path / 'netra.db'}", workers=False, environ={}, **options) as netra:
        with netra.scope(tenant="acme"):
            await every_asynchronous_call(cache_of(netra))


@pytest.mark.parametrize(("missing", "what"), [("django.core.cache.backends.base", NetraCache), ("django.conf", NetraMiddleware)])
def test_without_django_each_way_to_it_says_what_to_install(monkeypatch, missing, what):
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.delitem(sys.modules, what.__module__)
    with pytest.raises(ModuleNotFoundError, match="needs Django itself: pip install django"):
        getattr(importlib.import_module(what.__module__), what.__name__)(HttpResponse)
