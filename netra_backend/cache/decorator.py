"""`@netra.cache.cached`: a function whose results are kept. What a hit pays stands here, written out rather than shared.

A hit reads the entered scope, the tenant's known name, the clock and one dictionary, and compares the lease and the TTL. Whatever is
unusual (keywords, defaults, a name not known yet, anything pending) goes the long way through `obtain`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .keys import Template
from .loads import Plan, current

if TYPE_CHECKING:
    from .service import Cache

P = ParamSpec("P")
T = TypeVar("T")


class Names:
    """The key and the dependencies of a function's calls."""

    def __init__(self, function: Callable[..., Any], key: str, depends_on: Sequence[str]) -> None:
        self.signature = inspect.signature(function)
        self.key = Template(key, self.signature)
        self.depends_on = [Template(dep, self.signature) for dep in depends_on]
        kinds = {parameter.kind for parameter in self.signature.parameters.values()}
        plain = kinds <= {inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY}
        self.count = len(self.signature.parameters) if plain else -1
        self.quick = self.key.of_positions()

    def of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, list[str]]:
        """Key and dependencies of one call."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return self.key.of(bound.arguments), [dep.of(bound.arguments) for dep in self.depends_on]


def wrapped(cache: Cache, function: Callable[P, T], names: Names, plan: Plan) -> Callable[P, T]:
    """The function, cached, as asynchronous as it is."""
    maker = _wrapped_async if inspect.iscoroutinefunction(function) else _wrapped_sync
    return functools.update_wrapper(maker(cache, function, names, plan), function)


def _wrapped_async(cache: Cache, function: Callable[..., Any], names: Names, plan: Plan) -> Callable[..., Any]:
    node, stats, monotonic, scope_of, known = cache.node, cache.stats.l1, cache.monotonic, cache.scope_of, cache.known
    find, pending, quick, count, load_of = node.tier.find, node.pending, names.quick, names.count, current.get

    async def cached(*args: Any, **kwargs: Any) -> Any:
        scope = scope_of()
        if scope is not None and not kwargs and len(args) == count and not pending:
            place = known.get(scope.tenant)
            now = monotonic()
            if place is not None and now < place.until:
                entry = find(place.prefix + quick(args))
                if entry is not None and now < node.lease_until and now < entry.expires and load_of() is None:
                    stats.hits += 1
                    if entry.hits < 3:
                        entry.hits += 1
                    return entry.value
        key, deps = names.of(args, kwargs)
        return (await cache.obtain(key, functools.partial(function, *args, **kwargs), plan, deps)).value

    return cached


def _wrapped_sync(cache: Cache, function: Callable[..., Any], names: Names, plan: Plan) -> Callable[..., Any]:
    node, stats, monotonic, scope_of, known = cache.node, cache.stats.l1, cache.monotonic, cache.scope_of, cache.known
    find, pending, quick, count, load_of = node.tier.find, node.pending, names.quick, names.count, current.get

    def cached(*args: Any, **kwargs: Any) -> Any:
        scope = scope_of()
        if scope is not None and not kwargs and len(args) == count and not pending:
            place = known.get(scope.tenant)
            now = monotonic()
            if place is not None and now < place.until:
                entry = find(place.prefix + quick(args))
                if entry is not None and now < node.lease_until and now < entry.expires and load_of() is None:
                    stats.hits += 1
                    if entry.hits < 3:
                        entry.hits += 1
                    return entry.value
        key, deps = names.of(args, kwargs)
        return cache.obtain_blocking(key, functools.partial(function, *args, **kwargs), plan, deps)

    return cached
