"""The wrapper that is generated for a cached function: the function's own parameters, and the same key on the short way and on the long one."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import pytest

from netra_backend.cache.decorator import Names, wrapped
from netra_backend.cache.node import Node, Value
from netra_backend.cache.stats import Stats
from netra_backend.errors import InvalidInput


def every_kind(a, /, b, c=3, *args, d, e=5, **more):
    raise AssertionError


def nothing():
    raise AssertionError


def only_words(*, d="x"):
    raise AssertionError


def only_places(a, b="it's", /):
    raise AssertionError


CASES = [
    (every_kind, "k{{%s}}'\"\\{a}:{b}:{c}:{args}%%s{d}:{e}:{more}", (1, 2), {"d": 4}),
    (every_kind, "{a}{b}{c}{args}{d}{e}{more}", (1, 2, 3, 7, 8), {"d": 4, "e": 6, "f": 9}),
    (every_kind, "{b}", (1,), {"b": "{c}", "d": None}),
    (nothing, "fixed {{}} %s", (), {}),
    (only_words, "{d}", (), {}),
    (only_words, "{d}", (), {"d": "w"}),
    (only_places, "{a}{b}", (1,), {}),
]


class Cache:
    """What a wrapper sees of the cache, with every question to it in `asked`."""

    def __init__(self):
        self.node = Node(1.0, 1 << 20)
        self.node.flush(0)
        self.node.lease_until = 10.0
        self.stats = Stats()
        self.known = {"acme": SimpleNamespace(prefix="acme|", until=10.0)}
        self.monotonic = lambda: 5.0
        self.scope_of = lambda: SimpleNamespace(tenant="acme")
        self.asked = []

    def obtain_blocking(self, key, make, plan, deps):
        self.asked.append((key, make.args, make.keywords))
        return key


@pytest.mark.parametrize(("function", "template", "args", "kwargs"), CASES)
def test_the_key_is_the_same_on_either_way_and_the_loader_gets_what_was_given(function, template, args, kwargs):
    cache = Cache()
    names = Names(function, template, [])
    cached = wrapped(cache, function, names, None)
    assert inspect.signature(cached) == inspect.signature(function)
    key = cached(*args, **kwargs)
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    assert key == template.format(**bound.arguments)
    ((_, given, words),) = cache.asked
    assert (
        inspect.signature(function).bind(*given, **words).arguments.items()
        >= inspect.signature(function).bind(*args, **kwargs).arguments.items()
    )
    cache.node.fill(f"acme|{key}", Value("kept", frozenset(), 9.0, 9.0), cache.node.begin(0.0))
    assert cached(*args, **kwargs) == "kept"
    assert (len(cache.asked), cache.stats.l1.hits) == (1, 1)


def test_a_hit_needs_the_lease_the_ttl_the_known_name_and_nothing_pending():
    cache = Cache()
    cached = wrapped(cache, only_places, Names(only_places, "{a}", []), None)
    cache.node.fill("acme|1", Value("kept", frozenset(), 9.0, 9.0), cache.node.begin(0.0))

    def is_hit():
        return cached(1) == "kept"

    assert is_hit()
    for now in (9.5, 10.5):  # behind the TTL; behind lease and name
        cache.monotonic = lambda now=now: now
        assert wrapped(cache, only_places, Names(only_places, "{a}", []), None)(1) == "1"
    cache.node.mark("t", ["acme|other"], 5.0)
    assert not is_hit()
    cache.node.unmark("t")
    assert is_hit()


def test_wrong_arguments_are_refused_as_the_function_would_and_unknown_names_of_a_template_at_once():
    cached = wrapped(Cache(), only_places, Names(only_places, "{a}", []), None)
    with pytest.raises(TypeError):
        cached()
    with pytest.raises(InvalidInput):
        Names(only_places, "{nobody}", [])
