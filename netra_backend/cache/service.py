"""`netra.cache`: what a program calls. The protocol is told in the package's docstring, each guard in `node.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, ParamSpec, Protocol, TypeVar

from ..errors import MissingTenant
from ..kernel.runtime import Runtime
from ..kernel.scope import SYSTEM_TENANT, Scope, check_tenant
from ..storage import spans
from ..storage.audit_append import audit_append
from ..storage.database import Database
from ..storage.transaction import Tx
from . import store
from .caretaker import Caretaker
from .codecs import Serializer, codec_of
from .decorator import Names, wrapped
from .follower import Follower
from .keys import check_name
from .loader import Loader, Make
from .loads import JITTER, Load, Plan, Seconds, current, current_load, plan_of, seconds_of
from .model import Kept, Loaded, of_tenant, qualified
from .node import Node
from .settings import CacheSettings
from .shared import Shared
from .stats import Stats

P = ParamSpec("P")
T = TypeVar("T")
NAMES_KNOWN: Final = 10_000
NAME_KNOWN_S: Final = 1.0
SETTLE_S: Final = 30.0
NUMBERED_WITHIN_S: Final = 5.0
DAY_S: Final = 24 * 3600.0


class Host(Protocol):
    """What the cache needs of the Netra around it."""

    def current_scope(self) -> Scope | None:
        """The entered scope."""
        ...

    async def tenant(self, reference: str) -> str:
        """The tenant's name."""
        ...

    def run_blocking(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run it on Netra's loop while this thread waits."""
        ...

    @property
    def is_here(self) -> bool:
        """Whether this is running on Netra's loop."""
        ...

    def hurry_log(self) -> None:
        """Something on the log's outbox waits for its number."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """What a reference to a tenant stands for, and until when that is taken for granted."""

    tenant: str
    prefix: str
    until: float


class Cache:
    """`netra.cache`. The tenant is the entered scope's (`with netra.scope(tenant=...)`); without one each call is an error.

    Values are shared with everybody who is given them: never change one. A key and a dependency are names of one kind: an
    invalidated name takes with it the entry of that name and all that was made from it.
    """

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        settings: CacheSettings,
        host: Host,
        shared: Shared | None = None,
        stats: Stats | None = None,
    ) -> None:
        self.settings = settings
        self.node = Node(settings.lease_s, settings.max_bytes)
        self.stats = stats or Stats()
        self.known: dict[str, Place] = {}
        self.monotonic = runtime.clock.monotonic
        self.scope_of = host.current_scope
        self.shared = shared
        self.follower = Follower(database, runtime, self.node, shared, self.stats)
        self.loader = Loader(runtime, self.node, self.follower, shared, self.stats, settings.loads)
        self.caretaker = Caretaker(database, runtime, settings, self.node, self.stats)
        self.follower.on_start.append(self.caretaker.start)
        self.loader.after_fill = self.caretaker.pressed.after_fill
        self._database = database
        self._runtime = runtime
        self._host = host
        self._looking_up: asyncio.Future[Place] | None = None

    async def close(self) -> None:
        """End what is under way."""
        if self._looking_up is not None:
            await asyncio.gather(self._looking_up, return_exceptions=True)
        await self.loader.close()
        await self.follower.stop()
        await self.caretaker.stop()
        if self.shared is not None:
            await self.shared.close()

    # Writing

    async def invalidate(self, tx: Tx, *deps: str) -> None:
        """Invalidate these, and all that was made from them, if and only if the transaction commits.

        From this call on both tiers are passed by for them in this process, so that it reads its own writes; every other one
        stops to serve them within one `cache_lease` of the commit.
        """
        async with tx.verb():
            self._invalidate(tx, deps)
            await spans.append(tx, "cache", "invalidate", _words(deps))

    async def invalidate_now(self, scope: Scope, deps: Sequence[str]) -> int | None:
        """For the edges: in a transaction of its own, audited; the event's number, None if nobody has numbered it within 5 s."""
        await self.follower.ready()
        token = await self._database.write(self._invalidate_audited, deps, scope=scope)
        ends = self.monotonic() + NUMBERED_WITHIN_S
        while token not in self.node.numbered and self.monotonic() < ends:
            await self._runtime.clock.sleep(0.02)
            await self.follower.look()
        return self.node.numbered.get(token)

    async def _invalidate_audited(self, tx: Tx, deps: Sequence[str]) -> str:
        await audit_append(tx, "cache.invalidate", deps[0], after={"deps": list(deps)})
        await spans.append(tx, "cache", "invalidate", _words(deps))
        return self._invalidate(tx, deps)

    def _invalidate(self, tx: Tx, deps: Sequence[str]) -> str:
        names = [check_name(dep) for dep in deps]
        if not names:
            return ""
        token = self._runtime.ids.new().hex()
        latest = self.monotonic() + (self.settings.transaction_s if tx.own else 0.0)  # from when on its end may be one that nobody hears of
        self.node.mark(token, [qualified(tx.tenant, name) for name in names], latest)
        tx.wake_others()
        tx.after_commit(self._committed)
        tx.after_rollback(lambda: self.node.unmark(token))
        tx.after_let_go(lambda: self.follower.let_go(token))
        store.invalidate(tx, token, names)
        return token

    def _committed(self) -> None:
        self._host.hurry_log()
        self.follower.hurry()

    async def delete(self, *keys: str, tenant: str | None = None) -> None:
        """Invalidate these in a transaction of its own; durable, and seen everywhere within the bound."""
        place = await self._place(tenant)
        await self._database.write(self._delete, keys, scope=self._writing(place))

    async def _delete(self, tx: Tx, keys: Sequence[str]) -> str:
        token = self._invalidate(tx, keys)
        await spans.append(tx, "cache", "invalidate", _words(keys))
        return token

    async def set(
        self,
        key: str,
        value: Any,
        *,
        ttl: Seconds,
        depends_on: Iterable[str] = (),
        serializer: Serializer = "json",
        type: Any = None,
        tenant: str | None = None,
    ) -> None:
        """Keep a value that was made elsewhere, in place of what any process keeps under the key (by an invalidation, durable).

        Where what it depends on changes meanwhile it is not kept, nor where another process sets the key behind this one: the last in
        the log's order wins everywhere. Its truth is the caller's: prefer `get_or_load`.
        """
        await self.set_many({key: value}, ttl=ttl, depends_on=depends_on, serializer=serializer, type=type, tenant=tenant)

    async def set_many(
        self,
        values: Mapping[str, Any],
        *,
        ttl: Seconds,
        depends_on: Iterable[str] = (),
        serializer: Serializer = "json",
        type: Any = None,
        tenant: str | None = None,
    ) -> None:
        """As `set`, all of them by one invalidation in one transaction."""
        plan = plan_of(ttl, codec=codec_of(serializer, type))
        place = await self._place(tenant)
        await self.follower.ready()
        token = await self._database.write(self._delete, list(values), scope=self._writing(place))
        await self._end_set(place, token, values, plan, list(depends_on))

    async def begin_set(self, tx: Tx, *keys: str) -> str:
        """The first half of `set_many`, in your transaction: the keys are invalidated if it commits. Hand the token to `end_set` then.

        A process that has made no use of the cache before does not follow the log yet, and keeps nothing for it: await `position()` first.
        """
        async with tx.verb():
            return await self._delete(tx, keys)

    async def end_set(
        self,
        token: str,
        values: Mapping[str, Any],
        *,
        ttl: Seconds,
        depends_on: Iterable[str] = (),
        serializer: Serializer = "json",
        type: Any = None,
        tenant: str | None = None,
    ) -> None:
        """The second half, after the commit: keep the values, each unless its key was set or invalidated anew since."""
        plan = plan_of(ttl, codec=codec_of(serializer, type))
        place = await self._place(tenant)
        await self.follower.ready()
        await self._end_set(place, token, values, plan, list(depends_on))

    async def _end_set(self, place: Place, token: str, values: Mapping[str, Any], plan: Plan, depends_on: Sequence[str]) -> None:
        deps = {place.prefix + check_name(dep) for dep in depends_on}
        await self._settled([place.prefix + key for key in values])
        for key, value in values.items():
            name = place.prefix + key
            if self.node.is_last(token, name):
                ticket = self.node.begin(self.monotonic())
                await self.loader.keep(Load(name, place.tenant, None, frozenset(), set(deps)), value, plan, ticket)

    async def settled(self, *names: str, tenant: str | None = None) -> None:
        """Wait until this process has applied its own invalidations of these, so that what is made from now on is kept; at most 30 s."""
        place = await self._place(tenant)
        await self._settled([place.prefix + check_name(name) for name in names])

    async def _settled(self, names: Collection[str]) -> None:
        ends = self.monotonic() + SETTLE_S
        while self.node.is_pending(names) and self.monotonic() < ends:
            await self._runtime.clock.sleep(min(self.settings.lease_s / 100, 0.02))
            await self.follower.look()

    async def touch(self, key: str, *, ttl: Seconds, serializer: Serializer = "json", type: Any = None, tenant: str | None = None) -> bool:
        """Give what is kept under the key another TTL, here and in the shared tier; False where nothing is kept.

        It writes nothing durable, so another process may serve its own copy up to the TTL that this one had.
        """
        plan = plan_of(ttl, codec=codec_of(serializer, type))
        kept = await self.kept(key, serializer=serializer, type=type, tenant=tenant)
        if kept is None:
            return False
        place = await self._place(tenant)
        load = Load(place.prefix + key, place.tenant, None, frozenset(), {place.prefix + dep for dep in kept.deps})
        await self.loader.keep(load, kept.value, plan, kept.ticket)  # by the ticket from before it was read: never over a newer one
        return True

    # Reading

    async def get(
        self, key: str, default: Any = None, *, serializer: Serializer = "json", type: Any = None, tenant: str | None = None
    ) -> Any:
        """The value that is kept under the key in either tier, or `default`. Nothing is loaded."""
        return (await self.get_many([key], serializer=serializer, type=type, tenant=tenant)).get(key, default)

    def get_at_hand(
        self,
        key: str,
        default: Any = None,  # noqa: ARG002  (`netra.sync` asks here first, with whatever `get` was asked with)
        *,
        serializer: Serializer = "json",  # noqa: ARG002
        type: Any = None,  # noqa: ARG002
        tenant: str | None = None,
    ) -> Any:
        """What `get` would find in this process's memory, from any thread; None where `get` must look further."""
        place = self.known.get(self._reference(tenant))
        now = self.monotonic()
        if place is None or now >= place.until:
            return None
        entry = self.node.find(place.prefix + check_name(key), now)
        if entry is None or now >= entry.expires:
            return None
        self.loader.count_hit(entry)
        return entry.value

    async def kept(self, key: str, *, serializer: Serializer = "json", type: Any = None, tenant: str | None = None) -> Kept | None:
        """As `get`, with what the value is made from and the time that it has left; None where nothing is kept."""
        place = await self._place(tenant)
        await self.follower.ready()
        ticket = self.node.begin(self.monotonic())
        name = place.prefix + check_name(key)
        entry = self.loader.hit(name)
        if entry is None:
            self.stats.l1.misses += 1
            found = await self.loader.look_up(name, plan_of(DAY_S, codec=codec_of(serializer, type)))
            entry = None if found is None else self.node.find(name, self.monotonic())
        if entry is None:
            return None
        deps = tuple(sorted(dep for each in self.node.deps_of(entry) if (dep := of_tenant(place.tenant, each)) is not None))
        return Kept(entry.value, deps, max(0.001, entry.expires - self.monotonic()), ticket)

    async def get_many(
        self, keys: Iterable[str], *, serializer: Serializer = "json", type: Any = None, tenant: str | None = None
    ) -> dict[str, Any]:
        """Those of the keys under which something is kept, with their values."""
        place = await self._place(tenant)
        await self.follower.ready()
        plan = plan_of(DAY_S, codec=codec_of(serializer, type))
        found: dict[str, Any] = {}
        for key in keys:
            name = place.prefix + check_name(key)
            kept = self.loader.hit(name)
            if kept is not None:
                found[key] = kept.value
                continue
            self.stats.l1.misses += 1
            landed = await self.loader.look_up(name, plan)
            if landed is not None:
                found[key] = landed.value
        return found

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Any | Awaitable[Any]],
        *,
        ttl: Seconds,
        depends_on: Iterable[str] = (),
        info: bool = False,
        negative_ttl: Seconds | None = None,
        stale_for: Seconds | None = None,
        fail_safe: Seconds | None = None,
        soft_timeout: Seconds | None = None,
        hard_timeout: Seconds | None = None,
        jitter: float = JITTER,
        serializer: Serializer = "json",
        type: Any = None,
        refresh: bool = False,
        tenant: str | None = None,
    ) -> Any:
        """The kept value, or the one that `loader()` makes: once, however many ask for it at the same time.

        The loader reads the primary, in a transaction begun by itself. It may be a plain function (it runs in a thread then), may
        name what it depends on by `depends`, and may set its own TTL by `expires`. None is kept for `negative_ttl` (30 s at most by
        default). Past its TTL, and only then, a value may be served while it is loaded again (`stale_for`), while the load takes
        longer than `soft_timeout`, or where it fails (`fail_safe`). `hard_timeout` raises `LoadTimeout`. With `refresh` it is loaded
        again as soon as it is invalidated. `info=True` returns a `Loaded`: value, tier, age and whether it is past its TTL.
        """
        plan = plan_of(
            ttl,
            negative_ttl=negative_ttl,
            stale_for=stale_for,
            fail_safe=fail_safe,
            soft_timeout=soft_timeout,
            hard_timeout=hard_timeout,
            jitter=jitter,
            codec=codec_of(serializer, type),
            refresh=refresh,
        )
        loaded = await self.obtain(key, loader, plan, depends_on, tenant=tenant)
        return loaded if info else loaded.value

    def cached(
        self,
        key: str,
        *,
        ttl: Seconds,
        depends_on: Sequence[str] = (),
        negative_ttl: Seconds | None = None,
        stale_for: Seconds | None = None,
        fail_safe: Seconds | None = None,
        soft_timeout: Seconds | None = None,
        hard_timeout: Seconds | None = None,
        jitter: float = JITTER,
        serializer: Serializer = "json",
        type: Any = None,
        refresh: bool = False,
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Decorate a function, asynchronous or not: `@netra.cache.cached("user:{user_id}", ttl="10m", depends_on=["org:{org_id}"])`.

        Key and dependencies name the function's parameters; the options are those of `get_or_load`. A method's `self` is a parameter too,
        and part of nothing unless it is named. A synchronous function is called in its caller's thread.
        """
        plan = plan_of(
            ttl,
            negative_ttl=negative_ttl,
            stale_for=stale_for,
            fail_safe=fail_safe,
            soft_timeout=soft_timeout,
            hard_timeout=hard_timeout,
            jitter=jitter,
            codec=codec_of(serializer, type),
            refresh=refresh,
        )

        def decorate(function: Callable[P, T]) -> Callable[P, T]:
            return wrapped(self, function, Names(function, key, depends_on), plan)

        return decorate

    async def obtain(self, key: str, make: Make, plan: Plan, depends_on: Iterable[str], *, tenant: str | None = None) -> Loaded:
        """What `get_or_load` and decorated functions come to."""
        place = await self._place(tenant)
        deps = [place.prefix + check_name(dep) for dep in depends_on]
        return await self.loader.obtain(place.tenant, place.prefix + check_name(key), make, plan, deps)

    def obtain_blocking(
        self, key: str, make: Callable[[], Any], plan: Plan, depends_on: Iterable[str], *, tenant: str | None = None
    ) -> Any:
        """The same for a synchronous function, which runs in this thread; on Netra's own loop without waiting for anybody."""
        place = self._place_blocking(tenant)
        deps = frozenset(place.prefix + check_name(dep) for dep in depends_on)
        run = None if self._host.is_here else self._host.run_blocking
        if run is None:
            self.follower.start()
        else:
            run(self.follower.ready())
        load = Load(place.prefix + check_name(key), place.tenant, current.get(), deps, set(deps))
        return self.loader.obtain_here(load, make, plan, run)

    def depends(self, *deps: str) -> None:
        """Inside a load: its value is made from these as well."""
        load = current_load()
        load.deps |= {qualified(load.tenant, check_name(dep)) for dep in deps}

    def expires(self, ttl: Seconds) -> None:
        """Inside a load: its value is kept for this long, whatever its caller said."""
        current_load().ttl_s = seconds_of(ttl)

    # Looking at it

    async def position(self) -> dict[str, Any]:
        """How far this process has followed the log: `{"epoch","applied","pending","lease_left_ms"}`."""
        await self.follower.ready()
        left_s = max(0.0, self.node.lease_until - self.monotonic())
        epoch = self.shared.epoch if self.shared is not None else f"local-{self.node.life}"
        return {
            "epoch": epoch,
            "applied": self.node.applied,
            "pending": len(self.node.pending),
            "lease_left_ms": int(left_s * 1000),
        }

    def tiers(self) -> dict[str, Any]:
        """This process's counts: `l1`, `l2`, and loads, joins, bypasses of both."""
        self.stats.l1.bytes = self.node.tier.used_bytes
        self.stats.l1.evictions = self.node.tier.evictions
        return self.stats.as_dict()

    async def graph(self, tenant: str | None = None) -> dict[str, Any]:
        """A tenant's part of this process's dependency graph, for drawing: `{"nodes":[{"name","kept"}],"edges":[{"from","to"}]}`."""
        own = (await self._place(tenant)).tenant
        with self.node.lock:
            pairs = [(of_tenant(own, dep), of_tenant(own, name)) for dep, name in self.node.graph.edges()]
            kept = {word for name in self.node.tier.entries if (word := of_tenant(own, name)) is not None}
        edges = [{"from": dep, "to": name} for dep, name in pairs if dep is not None and name is not None]
        names = sorted(kept | {word for edge in edges for word in edge.values()})
        return {"nodes": [{"name": name, "kept": name in kept} for name in names], "edges": edges}

    async def probe(self, tenant: str | None = None) -> dict[str, Any]:
        """Load some of what is kept for the tenant once more: `{"sampled","stale":[{"key","age_s"}]}`; ages in seconds.

        A value that differs although nothing invalidated it meanwhile is stale: a writer forgot to invalidate, or a loader reads an
        old snapshot. The metric `stale_probe` counts them.
        """
        place = await self._place(tenant)
        found = await self.loader.probe(place.prefix)
        stale = [{"key": name.removeprefix(place.prefix), "age_s": round(age_s, 3)} for name, age_s in found if age_s is not None]
        self.stats.l1.stale_probe += len(stale)
        return {"sampled": len(found), "stale": stale}

    # Tenants

    async def _place(self, tenant: str | None = None) -> Place:
        reference = self._reference(tenant)
        found = self.known.get(reference)
        if found is None or self.monotonic() >= found.until:
            name = reference if reference == SYSTEM_TENANT else await self._host.tenant(reference)
            found = self._remember(reference, name)
        return found

    def _place_blocking(self, tenant: str | None) -> Place:
        reference = self._reference(tenant)
        found = self.known.get(reference)
        if found is not None and self.monotonic() < found.until:
            return found
        if not self._host.is_here:
            return self._remember(reference, self._host.run_blocking(self._host.tenant(reference)))
        if found is None:
            fix = "Await any call of netra.cache for this tenant first, or call the function from another thread."
            raise MissingTenant(f"the tenant {reference!r} is not looked up yet, and the event loop cannot wait for that", fix=fix)
        self._looking_up = asyncio.ensure_future(self._place(reference))  # for the next call; a name is renewed each second
        return found

    def _remember(self, reference: str, name: str) -> Place:
        if len(self.known) >= NAMES_KNOWN:
            self.known.clear()
        place = self.known[reference] = Place(name, qualified(name, ""), self.monotonic() + NAME_KNOWN_S)
        return place

    def _reference(self, tenant: str | None) -> str:
        if tenant is not None:
            return tenant if tenant == SYSTEM_TENANT else check_tenant(tenant)
        scope = self.scope_of()
        if scope is None or not scope.tenant:
            raise MissingTenant
        return scope.tenant

    def _writing(self, place: Place) -> Scope:
        scope = self.scope_of()
        if place.tenant == SYSTEM_TENANT:
            return Scope(SYSTEM_TENANT, scope.actor if scope is not None else "library")
        return Scope(place.tenant, "library") if scope is None else scope.with_tenant(place.tenant)


def _words(names: Sequence[str]) -> str:
    """What was invalidated, for a span."""
    return ", ".join(names)[:200]
