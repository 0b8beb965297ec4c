"""`@netra.cache.cached`: a function whose results are kept. What a hit pays stands in `SOURCE`, written out rather than shared.

A hit reads the entered scope, the tenant's known name, the clock and one dictionary, and compares the lease and the TTL. Whatever is
unusual (a name not known yet, anything pending, a load that it is part of) goes the long way through `obtain`.

The wrapper is generated for each function, with that one's own parameters: so its key is one f-string, and keywords and defaults cost
nothing. Into the source go the parameters' names, which are identifiers, and the template's literal text through `repr`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar

from .keys import Template
from .loads import Plan, current

if TYPE_CHECKING:
    from .service import Cache

P = ParamSpec("P")
T = TypeVar("T")

SOURCE: Final = """\
{word}def cached({parameters}):
    _netra_scope = _netra_scope_of()
    if _netra_scope is not None and not _netra_pending:
        _netra_place = _netra_known(_netra_scope.tenant)
        if _netra_place is not None:
            _netra_now = _netra_monotonic()
            _netra_entry = _netra_find({key})
            if (
                _netra_entry is not None
                and _netra_now < _netra_entry.expires
                and _netra_now < _netra_node.lease_until
                and _netra_now < _netra_place.until
                and _netra_load_of() is None
            ):
                _netra_stats.hits += 1
                if _netra_entry.hits < 3:
                    _netra_entry.hits += 1
                return _netra_entry.value
    return {waits}_netra_miss(({positional}), {{{keywords}}})
"""


class Names:
    """The key and the dependencies of a function's calls."""

    def __init__(self, function: Callable[..., Any], key: str, depends_on: Sequence[str]) -> None:
        self.signature = inspect.signature(function)
        self.key = Template(key, self.signature)
        self.depends_on = [Template(dep, self.signature) for dep in depends_on]

    def of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, list[str]]:
        """Key and dependencies of one call."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return self.key.of(bound.arguments), [dep.of(bound.arguments) for dep in self.depends_on]


def wrapped(cache: Cache, function: Callable[P, T], names: Names, plan: Plan) -> Callable[P, T]:
    """The function, cached, as asynchronous as it is."""

    async def miss(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        key, deps = names.of(args, kwargs)
        return (await cache.obtain(key, functools.partial(function, *args, **kwargs), plan, deps)).value

    def miss_here(args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        key, deps = names.of(args, kwargs)
        return cache.obtain_blocking(key, functools.partial(function, *args, **kwargs), plan, deps)

    is_async = inspect.iscoroutinefunction(function)
    given = {
        "_netra_node": cache.node,
        "_netra_stats": cache.stats.l1,
        "_netra_monotonic": cache.monotonic,
        "_netra_scope_of": cache.scope_of,
        "_netra_known": cache.known.get,
        "_netra_find": cache.node.tier.find,
        "_netra_pending": cache.node.pending,
        "_netra_load_of": current.get,
        "_netra_miss": miss if is_async else miss_here,
    }
    return functools.update_wrapper(_generated(names, given, is_async=is_async), function)


def _generated(names: Names, given: dict[str, Any], *, is_async: bool) -> Callable[..., Any]:
    parameters, defaults = _parameters(names.signature)
    kinds, every = inspect.Parameter, names.signature.parameters.values()
    positional = [f"{_stars(each)}{each.name}" for each in every if each.kind not in {kinds.KEYWORD_ONLY, kinds.VAR_KEYWORD}]
    keywords = [f"{each.name!r}: {each.name}" for each in every if each.kind is kinds.KEYWORD_ONLY]
    keywords += [f"**{each.name}" for each in every if each.kind is kinds.VAR_KEYWORD]
    source = SOURCE.format(
        word="async " if is_async else "",
        waits="await " if is_async else "",
        parameters=", ".join(parameters),
        positional="".join(f"{each}, " for each in positional),
        keywords=", ".join(keywords),
        key=f"f{'{_netra_place.prefix}' + names.key.as_format()!r}",
    )
    space = {**given, **defaults}
    exec(compile(source, "<netra.cache.cached>", "exec"), space)  # noqa: S102  (see the docstring)  # nosec B102
    generated: Callable[..., Any] = space["cached"]
    return generated


def _stars(parameter: inspect.Parameter) -> str:
    if parameter.kind is parameter.VAR_POSITIONAL:
        return "*"
    return "**" if parameter.kind is parameter.VAR_KEYWORD else ""


def _parameters(signature: inspect.Signature) -> tuple[list[str], dict[str, Any]]:
    """As they stand between the parentheses of a `def`, and the values of their defaults."""
    words: list[str] = []
    defaults: dict[str, Any] = {}
    kinds = inspect.Parameter
    last = None
    for at, each in enumerate(signature.parameters.values()):
        if last is kinds.POSITIONAL_ONLY and each.kind is not last:
            words.append("/")
        if each.kind is kinds.KEYWORD_ONLY and last not in {kinds.KEYWORD_ONLY, kinds.VAR_POSITIONAL}:
            words.append("*")
        if each.default is not kinds.empty:
            defaults[f"_netra_default_{at}"] = each.default
        words.append(f"{_stars(each)}{each.name}" + (f"=_netra_default_{at}" if each.default is not kinds.empty else ""))
        last = each.kind
    if last is kinds.POSITIONAL_ONLY:
        words.append("/")
    return words, defaults
