"""Django's cache framework over Netra's cache.

    CACHES = {
        "default": {
            "BACKEND": "netra_backend.integrations.django_cache.NetraCache",
            "TIMEOUT": 600,
            "KEY_PREFIX": "shop",
            "OPTIONS": {"TENANT": None, "DATABASE": "default", "NETRA": "shop.netra.netra"},
        }
    }

Every option may be left out. `TENANT`: whose the values are; without it the tenant of the request (`NetraMiddleware`) or of
`netra.scope`, and an error outside of both. `DATABASE`: Django's alias of the database that Netra is open on, or None where it is
none of Django's. `NETRA`: the open Netra, or where it is found; `settings.NETRA` without it.

The rules, and where each comes from:

1. What is invalidated is never served again beyond the cache's bound, in no process. So `set` and `delete` are events of Netra's
   log, and cost a durable write; a `get` is answered from memory.
2. Inside `atomic()` on that database `set` and `delete` are part of the transaction: rolled back they have invalidated nothing, and
   a value is kept after the commit only. Writing beside it would tell others what may never be; on SQLite it would wait for itself.
3. A value that somebody is given is his own: it is kept as JSON bytes and read anew at each `get`. Django's users change what they
   are given (its sessions do), and values are shared between threads.
4. What does not come back equal is refused (`NotCacheable`), and nothing is pickled.

Nothing here is a lock: a value may be gone at any time, and each process may have its own idea of what is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

import orjson

try:
    from asgiref.sync import sync_to_async
    from django.core.cache.backends.base import DEFAULT_TIMEOUT, BaseCache  # type: ignore[import-untyped]
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("Netra's cache for Django needs Django itself: pip install django", name=error.name) from error

from ..cache.codecs import codec_of
from ..cache.errors import NotCacheable
from ..cache.loads import plan_of
from ..errors import MissingTenant
from ..kernel.durations import LONGEST_S
from ..kernel.scope import SYSTEM_TENANT, Scope
from ..netra import Netra, entered_scope
from ..storage import tenants
from ..storage.adopted.errors import NotAdoptable, OtherDatabase
from .django import _found as _at_path

if TYPE_CHECKING:
    from ..cache.model import Kept

FIX: Final = "Keep text, numbers, lists and dicts with text as keys: a tuple as a list, a date by isoformat(), a model by its fields."
_SCOPE: Final = Scope(SYSTEM_TENANT, "library")
_turns: Final[WeakValueDictionary[tuple[int, str, str], asyncio.Lock]] = WeakValueDictionary()
"""Whose turn it is to read and change a name: used on the Netra's own loop only, and gone with the last who waits."""


class NetraCache(BaseCache):  # type: ignore[misc]  # Django's classes have no types
    """See the module's docstring.

    `depends_on` of `set`, `set_many`, `add` and `get_or_set` names what a value is made from: `netra.cache.invalidate(tx, "org:7")`
    drops it. `name_of(key)` is the name of one value, to be invalidated the same way.
    """

    def __init__(self, location: str, params: dict[str, Any]) -> None:
        del location
        super().__init__(params)
        options = params.get("OPTIONS", {})
        self._named = options.get("NETRA")
        self._tenant = options.get("TENANT")
        self._alias = options.get("DATABASE", "default")
        self._everything = f"django-cache:{self.key_prefix}"

    # Reading

    def get(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """The value, each time a new one; `default` where none is kept."""
        name = self.name_of(key, version)
        data = self._netra.cache.get_at_hand(name, tenant=self._whose())
        if data is None:
            data = self._run(self._found([name])).get(name)
        return default if data is None else orjson.loads(data)

    async def aget(self, key: Any, default: Any = None, version: int | None = None) -> Any:
        """As `get`, and no thread waits."""
        name = self.name_of(key, version)
        data = self._netra.cache.get_at_hand(name, tenant=self._whose())
        if data is None:
            data = (await self._netra.run_awaited(self._found([name]))).get(name)
        return default if data is None else orjson.loads(data)

    def get_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """Those that are kept."""
        names = {self.name_of(key, version): key for key in keys}
        return _decoded(names, self._run(self._found(names)))

    async def aget_many(self, keys: Iterable[Any], version: int | None = None) -> dict[Any, Any]:
        """As `get_many`."""
        names = {self.name_of(key, version): key for key in keys}
        return _decoded(names, await self._netra.run_awaited(self._found(names)))

    def get_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, *, depends_on: Sequence[str] = ()
    ) -> Any:
        """The kept value, or what `default` is or returns.

        A function is called once however many threads of this process ask, and what it made is not kept where something of `depends_on`
        was invalidated since it began: so this is the way to cache what comes from a database. Inside `atomic()` its value
        is returned and not kept, for what it has read may be rolled back.
        """
        found = self.get(key, self._missing_key, version)
        if found is not self._missing_key:
            return found
        if not callable(default):
            self.add(key, default, timeout, version, depends_on=depends_on)
            return self.get(key, default, version)  # what somebody else added meanwhile comes first
        seconds = self._seconds(timeout)
        if seconds is None or self._is_inside():
            return default()
        plan = plan_of(seconds, codec=codec_of("raw"))
        deps = [self._everything, *depends_on]
        made = self._netra.cache.obtain_blocking(self.name_of(key, version), lambda: _encoded(default()), plan, deps, tenant=self._whose())
        return orjson.loads(made)

    async def aget_or_set(
        self, key: Any, default: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, *, depends_on: Sequence[str] = ()
    ) -> Any:
        """As `get_or_set`; a function is called in the thread in which Django calls synchronous code."""
        found = await self.aget(key, self._missing_key, version)
        if found is not self._missing_key:
            return found
        return await sync_to_async(self.get_or_set, thread_sensitive=True)(key, default, timeout, version, depends_on=depends_on)

    # Writing

    def set(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, *, depends_on: Sequence[str] = ()
    ) -> None:
        """Keep a value, in place of what any process keeps: the last `set` in the log's order wins everywhere.

        Without a shared tier (`NETRA_CACHE_URL`) it is found in this process, and is a miss in every other one.
        """
        self.set_many({key: value}, timeout, version, depends_on=depends_on)

    async def aset(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, *, depends_on: Sequence[str] = ()
    ) -> None:
        """As `set`, and no thread waits."""
        await self.aset_many({key: value}, timeout, version, depends_on=depends_on)

    def set_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, *, depends_on: Sequence[str] = ()
    ) -> list[Any]:
        """As `set`, all in one transaction; an empty list, for none fails alone."""
        self._store(self._values(data, version), self._seconds(timeout), depends_on)
        return []

    async def aset_many(
        self, data: Mapping[Any, Any], timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, *, depends_on: Sequence[str] = ()
    ) -> list[Any]:
        """As `set_many`."""
        values, seconds = self._values(data, version), self._seconds(timeout)
        if self._is_inside():
            self._store(values, seconds, depends_on)
        else:
            await self._netra.run_awaited(self._stored(self._whose(), values, seconds, depends_on))
        return []

    def add(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, *, depends_on: Sequence[str] = ()
    ) -> bool:
        """Keep a value where none is; whether it was kept.

        Of several threads of one process one gets True (outside of `atomic()`). Of several processes each may: what one keeps
        another need not see, and may be evicted. So it is no lock; take a row of the database for one.
        """
        name, data, seconds = self.name_of(key, version), _encoded(value), self._seconds(timeout)
        if not self._is_inside():
            return bool(self._run(self._added(self._whose(), name, data, seconds, depends_on)))
        if self._kept(name) is not None:
            return False
        self._store({name: data}, seconds, depends_on)
        return True

    async def aadd(
        self, key: Any, value: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None, *, depends_on: Sequence[str] = ()
    ) -> bool:
        """As `add`."""
        if self._is_inside():
            return self.add(key, value, timeout, version, depends_on=depends_on)
        name, data, seconds = self.name_of(key, version), _encoded(value), self._seconds(timeout)
        return bool(await self._netra.run_awaited(self._added(self._whose(), name, data, seconds, depends_on)))

    def incr(self, key: Any, delta: Any = 1, version: int | None = None) -> Any:
        """Add to a kept number, which keeps its timeout and what it depends on; `ValueError` where none is kept.

        Of several threads of one process each counts (outside of `atomic()`). Of several processes one may overwrite the other's, and
        what one keeps another need not see: a number that must be right, such as a limit's, belongs into a row of the database.
        """
        name = self.name_of(key, version)
        if not self._is_inside():
            return self._run(self._counted(self._whose(), key, name, delta))
        kept = _there(self._kept(name), key)
        total = orjson.loads(kept.value) + delta
        self._store({name: _encoded(total)}, kept.left_s, kept.deps)
        return total

    async def aincr(self, key: Any, delta: Any = 1, version: int | None = None) -> Any:
        """As `incr`."""
        if self._is_inside():
            return self.incr(key, delta, version)
        return await self._netra.run_awaited(self._counted(self._whose(), key, self.name_of(key, version), delta))

    def touch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """Another timeout for a kept value; False where none is kept.

        It is no event of the log: another process may serve its own copy until the timeout that it had.
        """
        seconds = self._seconds(timeout)
        if seconds is None:
            return self.delete(key, version)
        return bool(self._run(self._netra.cache.touch(self.name_of(key, version), ttl=seconds, **self._asked())))

    async def atouch(self, key: Any, timeout: Any = DEFAULT_TIMEOUT, version: int | None = None) -> bool:
        """As `touch`."""
        seconds = self._seconds(timeout)
        if seconds is None:
            return await self.adelete(key, version)
        return bool(await self._netra.run_awaited(self._netra.cache.touch(self.name_of(key, version), ttl=seconds, **self._asked())))

    def delete(self, key: Any, version: int | None = None) -> bool:
        """Gone in every process; True where this one, or the shared tier, had it."""
        return self._remove([self.name_of(key, version)])

    async def adelete(self, key: Any, version: int | None = None) -> bool:
        """As `delete`."""
        name = self.name_of(key, version)
        return self._remove([name]) if self._is_inside() else bool(await self._netra.run_awaited(self._removed(self._whose(), [name])))

    def delete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """As `delete`, in one transaction."""
        names = [self.name_of(key, version) for key in keys]
        if names:
            self._remove(names)

    async def adelete_many(self, keys: Iterable[Any], version: int | None = None) -> None:
        """As `delete_many`."""
        names = [self.name_of(key, version) for key in keys]
        if names and self._is_inside():
            self._remove(names)
        elif names:
            await self._netra.run_awaited(self._removed(self._whose(), names))

    def clear(self) -> None:
        """Drop all that was kept under this `KEY_PREFIX` for this tenant, in every process; other prefixes and tenants keep theirs."""
        if self._is_inside():
            self._in_transaction("invalidate", self._everything)
        else:
            self._run(self._cleared(self._whose()))

    async def aclear(self) -> None:
        """As `clear`."""
        if self._is_inside():
            self.clear()
        else:
            await self._netra.run_awaited(self._cleared(self._whose()))

    def incr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """Move a value to another version, with its timeout and what it depends on; the new version."""
        old = self.version if version is None else version
        kept = _there(self._kept(self.name_of(key, old)), key)
        self._store({self.name_of(key, old + delta): kept.value}, kept.left_s, kept.deps)
        self._remove([self.name_of(key, old)])
        return old + delta

    async def aincr_version(self, key: Any, delta: int = 1, version: int | None = None) -> int:
        """As `incr_version`."""
        moved: int = await sync_to_async(self.incr_version, thread_sensitive=True)(key, delta, version)
        return moved

    # Names

    def name_of(self, key: Any, version: int | None = None) -> str:
        """The value's name in Netra's cache: `netra.cache.invalidate(tx, caches["default"].name_of("front-page"))`."""
        return f"django:{self.make_and_validate_key(key, version)}"

    def _whose(self) -> str:
        if self._tenant:
            return str(self._tenant)
        scope = entered_scope()
        if scope is None or not scope.tenant:
            fix = "Use NetraMiddleware with NETRA_TENANT, enter netra.scope(tenant=...), or name one for all: CACHES' OPTIONS, TENANT."
            raise MissingTenant("Django's cache is used outside of any tenant", fix=fix)
        return scope.tenant

    def _asked(self) -> dict[str, Any]:
        return {"serializer": "raw", "tenant": self._whose()}

    def _values(self, data: Mapping[Any, Any], version: int | None) -> dict[str, bytes]:
        return {self.name_of(key, version): _encoded(value) for key, value in data.items()}

    def _seconds(self, timeout: Any) -> float | None:
        """How long to keep a value; None for not at all. Django's None, for ever, is ten years here."""
        chosen = self.default_timeout if timeout is DEFAULT_TIMEOUT else timeout
        if chosen is None:
            return LONGEST_S
        return min(float(chosen), LONGEST_S) if chosen > 0 else None

    # Django's transaction

    @cached_property
    def _netra(self) -> Netra:
        """Found at the first use: the settings may be read before there is one."""
        netra: Netra = _at_path(self._named or import_module("django.conf").settings.NETRA)
        return netra

    def _run(self, work: Any) -> Any:
        return self._netra.run_blocking(work)

    def _is_inside(self) -> bool:
        """Whether the calling thread is in `atomic()` on Netra's database."""
        return self._alias is not None and bool(import_module("django.db").connections[self._alias].in_atomic_block)

    def _in_transaction(self, call: str, *names: str) -> Any:
        """A call of the cache in the transaction that the calling thread is in."""
        self._run(self._netra.cache.follower.ready())  # an event that this process does not follow could not be waited for
        try:
            tx = self._netra.adopt(import_module("django.db").connections[self._alias], self._whose())
            return getattr(self._netra.sync.cache, call)(tx, *names)
        except (OtherDatabase, NotAdoptable) as error:
            fix = "Name Django's alias of Netra's database in CACHES' OPTIONS, DATABASE; None where it is none of Django's."
            raise type(error)(error.detail, fix=fix) from error

    def _kept(self, name: str) -> Kept | None:
        if self._is_inside() and self._run(self._is_new(self._whose())):
            return None
        kept: Kept | None = self._run(self._netra.cache.kept(name, **self._asked()))
        return kept

    def _store(self, values: dict[str, bytes], seconds: float | None, depends_on: Sequence[str]) -> None:
        if seconds is None:
            self._remove(list(values))
        elif not values or not self._is_inside():
            self._run(self._stored(self._whose(), values, seconds, depends_on))
        else:
            token = self._in_transaction("begin_set", *values)
            options = {"ttl": seconds, "depends_on": [self._everything, *depends_on], **self._asked()}
            keep = self._netra.cache.end_set
            # robust: the transaction stands, whatever becomes of the cache
            import_module("django.db.transaction").on_commit(
                lambda: self._run(keep(token, values, **options)), using=self._alias, robust=True
            )

    def _remove(self, names: Sequence[str]) -> bool:
        if not names or not self._is_inside():
            return bool(self._run(self._removed(self._whose(), names)))
        found = bool(self._run(self._found(names)))
        self._in_transaction("invalidate", *names)
        return found

    def _found(self, names: Iterable[str]) -> Coroutine[Any, Any, dict[str, bytes]]:
        return self._looked_up(self._asked(), names, inside=self._is_inside())

    # On Netra's loop

    async def _looked_up(self, asked: dict[str, Any], names: Iterable[str], *, inside: bool) -> dict[str, bytes]:
        if inside and await self._is_new(asked["tenant"]):
            return {}
        return await self._netra.cache.get_many(names, **asked)

    async def _is_new(self, tenant: str) -> bool:
        """Whether there is no such tenant yet. Inside a transaction none is made: on SQLite that would wait for the transaction."""
        if tenant in self._netra.cache.known:
            return False
        return await self._netra.database.read(tenants.find, tenant, scope=_SCOPE) is None

    async def _stored(self, tenant: str, values: dict[str, bytes], seconds: float | None, depends_on: Sequence[str]) -> None:
        if seconds is None:
            await self._removed(tenant, list(values))
        elif values:
            deps = {self._everything, *depends_on}
            await self._netra.cache.set_many(values, ttl=seconds, depends_on=deps, serializer="raw", tenant=tenant)

    async def _removed(self, tenant: str, names: Sequence[str]) -> bool:
        if not names:
            return False
        found = await self._netra.cache.get_many(names, serializer="raw", tenant=tenant)
        await self._netra.cache.delete(*names, tenant=tenant)
        return bool(found)

    async def _added(self, tenant: str, name: str, data: bytes, seconds: float | None, depends_on: Sequence[str]) -> bool:
        async with self._turn(tenant, name):
            if await self._netra.cache.get(name, serializer="raw", tenant=tenant) is not None:
                return False
            if seconds is not None:  # else it is over before anybody could be given it
                await self._stored(tenant, {name: data}, seconds, depends_on)
            return True

    async def _counted(self, tenant: str, key: Any, name: str, delta: Any) -> Any:
        async with self._turn(tenant, name):
            kept = _there(await self._netra.cache.kept(name, serializer="raw", tenant=tenant), key)
            total = orjson.loads(kept.value) + delta
            await self._stored(tenant, {name: _encoded(total)}, kept.left_s, kept.deps)
            return total

    async def _cleared(self, tenant: str) -> None:
        """Until it is applied nothing that depends on it is kept: who clears and then sets wants the second."""
        await self._netra.cache.delete(self._everything, tenant=tenant)
        await self._netra.cache.settled(self._everything, tenant=tenant)

    def _turn(self, tenant: str, name: str) -> asyncio.Lock:
        return _turns.setdefault((id(self._netra), tenant, name), asyncio.Lock())


def _encoded(value: Any) -> bytes:
    """The value as JSON that comes back equal."""
    try:
        data = orjson.dumps(value)
        comes_back = orjson.loads(data) == value
    except TypeError as error:
        raise NotCacheable(f"a value of {type(value).__name__} cannot be kept in Django's cache: {error}", fix=FIX) from error
    if not comes_back:
        raise NotCacheable(f"a value of {type(value).__name__} would not come back as it was: {value!r:.80}", fix=FIX)
    return data


def _decoded(names: Mapping[str, Any], found: Mapping[str, bytes]) -> dict[Any, Any]:
    return {names[name]: orjson.loads(data) for name, data in found.items()}


def _there(kept: Kept | None, key: Any) -> Kept:
    if kept is None:
        raise ValueError(f"Key {key!r} not found")  # Django's documentation names the type
    return kept
