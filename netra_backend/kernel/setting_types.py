"""The types of settings: each reads what people write and refuses the rest in words that help.

pydantic turns a `ValueError` of a validator into its own error; `Rejected` carries `fix` through it. Nothing here
prints a value: the loader decides what may be shown.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, TypeVar

from pydantic import BeforeValidator

from ..errors import InvalidInput
from .backoff import Schedule
from .durations import parse_duration
from .sizes import parse_size

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")

IN_SECONDS: Final = "duration"
IN_BYTES: Final = "size"
IS_KEY: Final = "key"
IS_URL: Final = "url"
"""Marks in the annotations, by which `Settings.masked` and the reference know how to print a value."""

_OPERATOR_KEY = re.compile(r"[A-Za-z0-9_-]{32,128}\Z")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z", re.ASCII)
_PASSWORD = re.compile(r"(?<=://)([^:/?#@]*):.*@", re.DOTALL)
_PASSWORD_PARAMETER = re.compile(r"([?&][^=&#]*(?:password|secret|token)[^=&#]*=)[^&#]*", re.IGNORECASE)


class Rejected(ValueError):
    """A value is refused; `fix` says what would be taken."""

    def __init__(self, words: str, fix: str) -> None:
        super().__init__(words)
        self.fix = fix


def mask_url(url: str) -> str:
    """The URL with every password in it replaced, also where the password itself holds `/` or `@` unescaped."""
    return _PASSWORD_PARAMETER.sub(r"\1****", _PASSWORD.sub(r"\1:****@", url))


def _reading(read: Callable[[Any], T]) -> Callable[[Any], T]:
    """`read` as pydantic wants a validator: refusals as `ValueError`."""

    def validator(value: Any) -> T:
        try:
            return read(value)
        except InvalidInput as error:
            raise Rejected(error.detail, error.fix) from None

    return validator


def _items(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]


def _schedule(value: Any) -> tuple[float, ...]:
    return Schedule.parse(value).delays_s if isinstance(value, str) else tuple(parse_duration(item) for item in _items(value))


def _networks(value: Any) -> tuple[Network, ...]:
    return tuple(_network(item) for item in _items(value))


def _network(value: Any) -> Network:
    try:
        return ipaddress.ip_network(value)
    except ValueError as error:
        raise Rejected(str(error), "List exact networks in CIDR form, for example 10.1.2.0/24,fd00::/8.") from None


def _ports(value: Any) -> tuple[int, ...]:
    ports = [int(item) if str(item).isdecimal() else -1 for item in _items(value)]
    if not ports or not all(1 <= port <= 65_535 for port in ports):
        raise Rejected("that is not a list of ports", "List numbers from 1 to 65535, for example 80,443,8443.")
    return tuple(ports)


def _modules(value: Any) -> tuple[str, ...]:
    names = tuple(str(item) for item in _items(value))
    for name in names:
        if not _MODULE.match(name):
            raise Rejected(f"{name[:80]!r} is not a module's dotted name", "List modules, for example shop.jobs,shop.reports.")
    return names


def _weights(value: Any) -> tuple[tuple[str, float], ...]:
    found: dict[str, float] = {}
    for item in value.items() if isinstance(value, Mapping) else _items(value):
        name, weight = item if isinstance(item, tuple) else str(item).rpartition("=")[::2]
        try:
            found[name] = float(weight)
        except ValueError:
            found[name] = 0.0
        if not name or not 0 < found[name] < 1e6:
            raise Rejected(f"{str(item)[:80]!r} is no tenant's share", "List tenants with a number above 0, for example acme=4,globex=2.")
    return tuple(found.items())


def _operator_key(value: Any) -> Any:
    if isinstance(value, str) and not _OPERATOR_KEY.match(value):
        raise Rejected(
            f"the key has {len(value)} characters, or some that are not allowed",
            "Use 32 to 128 characters of A-Z, a-z, 0-9, '_' and '-' (no dot: the Svix SDKs read a region after one).",
        )
    return value


def _database_url(value: Any) -> str:
    url = str(value)
    scheme, _, rest = url.partition("://")
    if scheme == "sqlite" and rest.startswith("/") and rest.strip("/") and ":memory:" not in rest:
        return url
    if scheme in {"postgresql", "postgres"} and rest:
        return url
    raise Rejected("that is not the URL of a database", "Write sqlite:////absolute/file.db, or postgresql://user:password@host:5432/name.")


def _postgres_url(value: Any) -> str:
    if str(value).partition("://")[0] not in {"postgresql", "postgres"}:
        raise Rejected("only PostgreSQL has an owner to migrate as", "Write postgresql://owner:password@host:5432/name, or leave it out.")
    return _database_url(value)


def _cache_url(value: Any) -> str:
    scheme, _, rest = str(value).partition("://")
    if scheme in {"redis", "rediss", "valkey", "valkeys", "unix"} and rest:
        return str(value)
    raise Rejected("that is not the URL of a Valkey or Redis server", "Write valkey://host:6379/0, or valkeys:// for TLS.")


Duration = Annotated[float, BeforeValidator(_reading(parse_duration)), IN_SECONDS]
Size = Annotated[int, BeforeValidator(_reading(parse_size)), IN_BYTES]
Delays = Annotated[tuple[float, ...], BeforeValidator(_reading(_schedule)), IN_SECONDS]
Networks = Annotated[tuple[Network, ...], BeforeValidator(_networks)]
Ports = Annotated[tuple[int, ...], BeforeValidator(_ports)]
Modules = Annotated[tuple[str, ...], BeforeValidator(_modules)]
Weights = Annotated[tuple[tuple[str, float], ...], BeforeValidator(_weights)]
OperatorKey = Annotated[str, BeforeValidator(_operator_key), IS_KEY]
DatabaseUrl = Annotated[str, BeforeValidator(_database_url), IS_URL]
PostgresUrl = Annotated[str, BeforeValidator(_postgres_url), IS_URL]
CacheUrl = Annotated[str, BeforeValidator(_cache_url), IS_URL]
