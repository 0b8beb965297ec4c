"""The composition root: the one module that sees every part, binds the runtime, and gives each part what it needs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from .batch import registry
from .batch.causes import Witness as BatchWitness
from .batch.service import Batch
from .batch.settings import BatchSettings
from .cache.service import Cache
from .cache.settings import CacheSettings
from .cache.stats import Stats
from .cache.valkey import Valkey
from .errors import MissingTenant, NetraError
from .kernel import debugging
from .kernel.debugging import any_session, watching
from .kernel.ids import try_from_text
from .kernel.rounds import Rounds
from .kernel.runtime import NoMetrics, NoTracer, Runtime
from .kernel.scope import SYSTEM_TENANT, Scope, TraceContext, check_tenant, system_scope
from .kernel.settings import Settings, load
from .kernel.witnesses import Together
from .oauth.causes import Witness as VaultWitness
from .oauth.service import OAuth
from .oauth.settings import OAuthSettings
from .oauth.sso.service import Sso
from .oauth.sso.settings import SsoSettings
from .oauth.worker import Keeper
from .observability.audit.feed import TYPE as AUDIT_ENTRY
from .observability.audit.feed import Feed
from .observability.audit.memory import Memory
from .observability.audit.retention import Retention
from .observability.audit.sequencer import Sequencer
from .observability.audit.service import Audit
from .observability.audit.settings import AuditSettings
from .observability.audit.uses import UseLedger
from .observability.debug.hub import Hub
from .observability.debug.service import Debug
from .observability.debug.settings import DebugSettings
from .observability.events.service import Events
from .observability.kpi.service import Kpis
from .observability.kpi.worker import Follower
from .observability.metrics.aggregate import Aggregate
from .observability.metrics.registry import Registry
from .observability.tracing.service import Traces
from .observability.tracing.tracer import NOTHING, Nothing, Tracer, Working
from .observability.tracing.tracer import Keeper as SpanKeeper
from .resilience.egress import Egress
from .resilience.memory_pressure import MemoryProbe
from .storage import meta, tenants
from .storage.adopted import adopt
from .storage.adopted.transaction import Host
from .storage.database import Database
from .storage.leader import LogLeader
from .storage.membership import Membership
from .storage.sealing import Sealer, load_root_keys
from .storage.tenants import Tenant
from .storage.transaction import StoreFunction, Tx
from .sync import Home, LoopThread, SyncDoor
from .webhooks import endpoints
from .webhooks.causes import Witness
from .webhooks.model import Endpoint
from .webhooks.sender import Sender
from .webhooks.service import Webhooks
from .webhooks.settings import WebhookSettings
from .webhooks.snapshots import Snapshots
from .webhooks.worker import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Iterator

REWRAP_BATCH: Final = 100
REWRAP_AGAIN_S: Final = 5.0
TENANTS_KNOWN: Final = 10_000
RECEIVERS_LOOKED_AT: Final = 1_000
TENANT_KNOWN_S: Final = 1.0
"""How long a name is taken to mean the same tenant; somebody may rename or delete it."""

_LIBRARY: Final = Scope(SYSTEM_TENANT, "library")

_NOT_NAMED: Final = ""
"""The tenant of a context that has a trace and no tenant yet."""

_scope: ContextVar[Scope | Working | None] = ContextVar("netra_scope", default=None)


class Netra:
    """Netra inside a program: `async with Netra("sqlite:///netra.db") as netra:`.

    `url` is the database (`sqlite:///relative.db`, `sqlite:////absolute.db`, `postgresql://netra_run:...@host/db`). A SQLite
    file is migrated when it is opened; PostgreSQL is migrated by its owner, with `netra migrate`. With `workers=True` deliveries are made
    in this process; `False` leaves them to `netra serve` or `netra worker` on the same database. Every other keyword
    is a setting; `NETRA_*` and `netra.toml` are read for the rest. Where the settings name no SQLite library, a user's
    program (role `library`) gets the interpreter's, because that program may open the file too; our own commands get apsw.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        workers: bool = True,
        config: Path | None = None,
        runtime: Runtime | None = None,
        environ: Mapping[str, str] = os.environ,
        dev: bool = False,
        role: str = "library",
        **settings: Any,
    ) -> None:
        self.settings: Settings = load(environ, config, database_url=url, **settings)
        given = _observed(runtime or Runtime())
        self._uses = UseLedger(given)
        self._hub = Hub(given, DebugSettings.of(self.settings))
        self.runtime = replace(given, debug=self._hub, uses=self._uses)
        self.runtime.failpoints.arm_from_environment(environ)
        self.workers = workers
        self._dev = dev
        self._role = role
        self._stack = AsyncExitStack()
        self._home = Home(None, os.getpid())
        self._install_id = ""
        self.trace_around: Callable[[], TraceContext | None] | None = None
        self.aggregate: Aggregate | None = None
        self._door: tuple[Home, SyncDoor] | None = None
        self.events = Events()
        self.kpi = Kpis(self.runtime, self._scope_of)
        self._tenants: dict[str, tuple[str, float]] = {}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        """For a program without an event loop: Netra runs on one of its own, in a thread, and is called through `sync`."""
        self._thread = LoopThread()
        try:
            self._thread.run(self.start())
        except BaseException:
            self._thread.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._thread.run(self.stop())
        finally:
            self._thread.stop()

    @property
    def sync(self) -> SyncDoor:
        """The same calls without `await`, for synchronous code; see `SyncDoor`."""
        if self._door is None or self._door[0] is not self._home:
            self._door = (self._home, SyncDoor(self, self._home))
        return self._door[1]

    async def start(self) -> None:
        """Open the database, join the other processes, start the workers."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise
        self._home = Home(asyncio.get_running_loop(), os.getpid())

    async def stop(self) -> None:
        """Drain and close, in the reverse order."""
        self._home = Home(None, os.getpid())
        await self._stack.aclose()

    async def _start(self) -> None:
        settings, runtime = self.settings, self.runtime
        self.sealer = Sealer(load_root_keys(settings.root_keys, runtime.chance))
        self.database = self._new_database()
        await self.database.open()
        self._stack.push_async_callback(self.database.close)
        self._stack.push_async_callback(self._uses.flush, self.database, whole=True)
        self._install_id = await self.database.write(meta.install_id, scope=system_scope())
        await self.database.write(self.sealer.prove, scope=system_scope())
        self.membership = Membership(
            self.database, runtime, self.database.lock_dir, ttl_s=settings.lease_ttl, role=self._role, sends=self.workers
        )
        await self.membership.start()
        self._stack.push_async_callback(self.membership.stop)
        self.leader = LogLeader(self.database, self.membership, runtime)
        self.leader.start()
        self._stack.push_async_callback(self.leader.stop)
        if self.workers:
            self._in_background(self._rewrap())
        self._start_metrics()
        await self._start_tracing()
        uses = self._uses.rounds(self.database)
        uses.start()
        self._stack.push_async_callback(uses.finish)
        await self._start_debug()
        self._start_audit()
        await self._start_oauth()  # before those who send with its tokens, and so stopped after them
        await self._start_webhooks()
        await self._start_cache()
        await self._start_batch()
        await self._start_kpis()

    async def _start_debug(self) -> None:
        self.debug = Debug(self.database, self.runtime, self._hub, self._scope_of)
        await self._hub.start(self.database)
        self._stack.push_async_callback(self._hub.stop)
        exporters = getattr(self.runtime.tracer, "exporters", None)
        if exporters is not None:
            exporters.append(self._hub.heard)
            self._stack.callback(exporters.remove, self._hub.heard)

    def _start_audit(self) -> None:
        options = AuditSettings.of(self.settings, self._install_id)
        sequencer = Sequencer(self.database, self.runtime, self.membership, self.sealer, Memory(options.memory), options.origin)
        self.audit = Audit(self.database, self.runtime, sequencer)
        if self.workers:
            self._keep_up(sequencer.rounds)
            if options.keep_s is not None:
                retention = Retention(self.database, self.runtime, self.membership, options.keep_s, self.audit.settle)
                self._keep_up(retention.rounds)

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)

        async def end() -> None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

        self._stack.push_async_callback(end)

    def _keep_up(self, rounds: Rounds) -> None:
        rounds.start()
        self._stack.push_async_callback(rounds.stop)

    async def _rewrap(self) -> None:
        """Move data keys to the ring's first root key, in small batches beside everything else."""
        moved = 1
        while moved:
            try:
                moved = await self.database.write(self.sealer.rewrap, REWRAP_BATCH, scope=system_scope("rewrap"), lane="bulk")
            except NetraError as error:
                self.runtime.log.warning("data keys could not be re-wrapped yet: %s", error)
                await self.runtime.clock.sleep(REWRAP_AGAIN_S)

    async def _start_webhooks(self) -> None:
        settings = self.settings
        self.egress = await self._stack.enter_async_context(self._new_egress())
        if self.workers:
            self.egress.preload()
        options = WebhookSettings.of(settings)
        snapshots = Snapshots(self.database, self.sealer)
        dispatcher = None
        if self.workers:
            sender = Sender(self.database, self.runtime, options, self.membership, snapshots, self.egress, self.oauth)
            dispatcher = Dispatcher(self.database, self.runtime, options, self.membership, snapshots, sender)
        self.webhooks = Webhooks(self.database, self.runtime, options, self.sealer, self.membership, snapshots, dispatcher, self._scope_of)
        if dispatcher is not None:
            await dispatcher.start()
            self._stack.push_async_callback(dispatcher.stop)
            self._keep_up(Feed(self.database, self.runtime, self.membership, _AuditReceivers(self.webhooks)).rounds)

    async def _start_cache(self) -> None:
        options = CacheSettings.of(self.settings)
        stats = Stats()
        shared = Valkey(options.url, self._install_id, self.runtime, stats) if options.url is not None else None
        self.cache = Cache(self.database, self.runtime, options, _CacheHost(self), shared, stats)
        self.leader.on_sequenced.append(self.cache.follower.hurry)
        self._stack.push_async_callback(self.cache.close)
        if shared is not None:
            await shared.check()

    def run_blocking(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on Netra's event loop while the calling thread, which must be another, waits."""
        return self._home.submit(work).result()

    async def run_awaited(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine on Netra's event loop while this one, which may be another, goes on."""
        return await self._home.run(work, asynchronous=True)

    @property
    def is_here(self) -> bool:
        """Whether this is running on Netra's event loop."""
        return self._home.is_here

    async def _start_batch(self) -> None:
        options = BatchSettings.of(self.settings)
        probe = MemoryProbe(self.settings.proc_root, self.settings.cgroup_root, self.settings.memory_limit)
        self.batch = Batch(self.database, self.runtime, options, self.membership, self._scope_of, probe=probe)
        if self.workers:
            registry.load(options.jobs)
            self.batch.worker = self.batch.new_worker()
            await self.batch.worker.start()
            self._stack.push_async_callback(self.batch.worker.stop)

    async def _start_oauth(self) -> None:
        self.oauth = OAuth(
            self.database,
            self.runtime,
            OAuthSettings.of(self.settings),
            self.sealer,
            await self._stack.enter_async_context(self._new_egress(keep=False)),
            self._scope_of,
            entered_scope,
        )
        await self.oauth.start()
        self._stack.push_async_callback(self.oauth.stop)
        keeper = Keeper(self.oauth, self.runtime, renews=self.workers)
        await keeper.start()
        self._stack.push_async_callback(keeper.stop)
        options = SsoSettings.of(self.settings)
        self.sso = Sso(self.database, self.runtime, options, self.sealer, self.oauth, self.membership, self._scope_of)
        await self.sso.start(watches=self.workers)
        self._stack.push_async_callback(self.sso.stop)

    def _start_metrics(self) -> None:
        if isinstance(self.runtime.metrics, Registry):
            self.aggregate = Aggregate(self.database, self.runtime, self.membership, self.runtime.metrics)
            self.aggregate.start()
            self._stack.push_async_callback(self.aggregate.stop)

    async def _start_tracing(self) -> None:
        tracer = self.runtime.tracer
        keeper = SpanKeeper(
            self.database, self.runtime, tracer if isinstance(tracer, Tracer) else _new_tracer(self.runtime), lambda: self.membership.id
        )
        keeper.start()
        self._stack.push_async_callback(keeper.stop)
        self.traces = Traces(self.database, keeper)

    async def _start_kpis(self) -> None:
        await self.kpi.start(self.database, self.settings.kpis)
        self._stack.push_async_callback(self.kpi.stop)
        if self.workers:
            witness = Witness()
            troubles = Together(witness, VaultWitness(), BatchWitness())
            follower = Follower(self.database, self.runtime, self.membership, witness, troubles)
            follower.start()
            self._stack.push_async_callback(follower.stop)

    def _new_egress(self, *, keep: bool = True) -> Egress:
        settings = self.settings
        allow = [str(network) for network in settings.egress_allow]
        return Egress(self.runtime, allow=allow, ports=settings.egress_ports, any_loopback_port=self._dev, keep=keep)

    def _new_database(self) -> Database:
        settings = self.settings
        if settings.engine == "postgresql":
            from .storage.postgres import Postgres

            return Postgres(
                settings.database_url,
                self.runtime,
                lock_dir=settings.data.absolute() / "locks",
                connections=settings.postgres_connections,
                statement_cache=settings.postgres_statement_cache,
                idle_limit_s=settings.lease_ttl,
                transaction_timeout_s=settings.transaction_timeout,
            )
        from .storage.sqlite import Sqlite

        return Sqlite(
            Path(settings.database_url.removeprefix("sqlite:///")),
            self.runtime,
            driver=settings.sqlite_driver or ("sqlite3" if self._role == "library" else "apsw"),
            blocked_after_s=settings.quiet_after_s,
            transaction_timeout_s=settings.transaction_timeout,
            disk_reserve_bytes=settings.disk_reserve_bytes,
        )

    @contextmanager
    def scope(self, tenant: str, actor: str = "library", *, trace: TraceContext | str | None = None) -> Iterator[Scope]:
        """The tenant for everything inside that is not told another one, and who asks, in which trace.

        `trace` is a position or a `traceparent` header (W3C Trace Context); without it a trace that was entered outside goes on.
        """
        named = self.trace(trace) if isinstance(trace, str) else trace
        entered = self._around(entered_scope()) if named is None else named
        token = _scope.set(scope := Scope(check_tenant(tenant), actor, entered))
        try:
            if any_session:
                with watching(self._hub.enter(scope, {})):
                    yield scope
            else:
                yield scope
        finally:
            _scope.reset(token)

    def _around(self, current: Scope | None) -> TraceContext:
        """The trace that was entered outside, else that of whoever traces the program."""
        entered = current.trace if current is not None else TraceContext()
        if not entered.trace_id and self.trace_around is not None:
            return self.trace_around() or entered
        return entered

    @contextmanager
    def context(self, tenant: str | None, actor: str, traceparent: str, route: str = "") -> Iterator[None]:
        """For middlewares: `scope` with the trace of a header or a new one, also where the tenant is to be named later.

        `route` is method and path, by which a debug session may select.
        """
        entered = Scope(check_tenant(tenant) if tenant is not None else _NOT_NAMED, actor, self.trace(traceparent))
        token = _scope.set(entered)
        try:
            if any_session:
                with watching(self._hub.enter(entered, {"route": (route, route.partition(" ")[2])})):
                    yield
            else:
                yield
        finally:
            _scope.reset(token)

    def span(self, name: str, *, part: str = "app", ref: str = "") -> Working | Nothing:
        """A span of your own around a block: `with netra.span("render", ref=invoice_id):`, in the trace that was entered.

        What is called inside belongs to it. It is stored, so that `netra trace` shows it; where no scope is entered, or its trace
        is not sampled, it is nothing. A block that raises is an error.
        """
        outer = _scope.get()
        if type(outer) is Scope:
            if not outer.trace.sampled:
                return NOTHING
        elif outer is None:
            return NOTHING
        if not outer.tenant:
            return NOTHING
        tracer = self.runtime.tracer
        return Working(tracer, _scope, outer, name, part, ref) if isinstance(tracer, Tracer) else NOTHING

    def trace(self, traceparent: str | None = None) -> TraceContext:
        """The position that a `traceparent` header names, or the beginning of a new trace where there is none."""
        new = self.runtime.ids.new
        return TraceContext.parse(traceparent or "") or TraceContext(new().hex(), new()[8:].hex())

    async def write(self, fn: StoreFunction, *args: Any, tenant: str | None = None) -> Any:
        """Ship a store function `async def fn(tx, *args)` to the writer; its result once that is durable.

        The first choice for writing: many callers' functions share one commit. The function awaits nothing but its
        `tx`; it may run a second time, in another transaction, if the first was lost.
        """
        return await self.database.write(fn, *args, scope=await self._scope_of(tenant))

    @asynccontextmanager
    async def transaction(self, tenant: str | None = None) -> AsyncIterator[Tx]:
        """Hold a transaction open across awaits, for at most `transaction_timeout`. On SQLite nobody else writes meanwhile."""
        async with self.database.transaction(await self._scope_of(tenant)) as tx:
            yield tx

    def adopt(self, connection: Any, tenant: str | None = None) -> Tx:
        """Your own open transaction as a `Tx`: what is sent in it exists if and only if you commit it.

        `connection` is a SQLAlchemy Session, AsyncSession, Connection or AsyncConnection, `django.db.connection` inside
        `atomic()`, or a connection of asyncpg, psycopg or sqlite3, to the database that Netra is open on. Netra neither begins
        nor commits anything in it. Each call runs in a savepoint, so that its error leaves your transaction as it was.
        One transaction is one tenant's. On PostgreSQL its role needs `grant netra_app to it`. Raises `NotAdoptable`, and at
        each call what does not hold then: `NoTransaction`, `TransactionFailed`, `BeginImmediate`, `OtherDatabase`, `OneTenant`,
        `TwoSqliteLibraries`, `RoleNotGranted`, each of which says what to do.
        """
        self._home.check_open()
        scope = _scope_for(tenant)
        known, until = self._tenants.get(scope.tenant, ("", 0.0))
        if known and self.runtime.clock.monotonic() < until:
            scope = _marked(scope.with_tenant(known))
        host = Host(self._install_id, self.settings.tenants == "strict", self._wake, self._find)
        return adopt(connection, self.database, scope, self.runtime, host)

    def _wake(self) -> None:
        """Have this process look for work now: something was committed. Any thread."""
        if self._home.loop is not None:
            with suppress(RuntimeError):  # closed just now; whoever runs looks anyway
                self._home.loop.call_soon_threadsafe(self.database.look_again)

    async def _find(self, reference: str, *, asynchronous: bool) -> str | None:
        """The tenant of this id, uid or name, for a transaction that cannot see it itself.

        A synchronous connection on Netra's own loop cannot wait for the answer. It may do without one for what can only be
        a name: another tenant's uid is refused by its unique key.
        """
        if not asynchronous and self._home.is_here and try_from_text("app", reference) is None:
            return None
        look = self.database.read(tenants.find, reference, scope=_LIBRARY)
        found: Tenant | None = await self._home.run(look, asynchronous=asynchronous)
        return found.tenant if found is not None else None

    async def _scope_of(self, tenant: str | None) -> Scope:
        scope = _scope_for(tenant)
        return _marked(scope.with_tenant(await self.tenant(scope.tenant)))

    async def tenant(self, reference: str) -> str:
        """The name of the tenant with this id, uid or name; made on first use unless `tenants` is strict."""
        now = self.runtime.clock.monotonic()
        known, until = self._tenants.get(reference, ("", 0.0))
        if now < until:
            return known
        found: Tenant | None = await self.database.read(tenants.find, reference, scope=_LIBRARY)
        if found is None:
            make = tenants.get if self.settings.tenants == "strict" else tenants.ensure
            found = await self.database.write(make, reference, scope=_LIBRARY)
        if len(self._tenants) >= TENANTS_KNOWN:
            self._tenants.clear()
        self._tenants[reference] = (found.tenant, now + TENANT_KNOWN_S)
        return found.tenant


def entered_scope() -> Scope | None:
    """The scope that was entered around the caller, if one was."""
    found = _scope.get()
    return found.scope if isinstance(found, Working) else found


def _new_tracer(runtime: Runtime) -> Tracer:
    return Tracer(runtime.clock, runtime.chance)


def _observed(runtime: Runtime) -> Runtime:
    """The runtime, with a tracer that keeps spans and metrics that count where it had none."""
    tracer = _new_tracer(runtime) if isinstance(runtime.tracer, NoTracer) else runtime.tracer
    metrics = Registry() if isinstance(runtime.metrics, NoMetrics) else runtime.metrics
    return replace(runtime, tracer=tracer, metrics=metrics)


class _AuditReceivers:
    """Endpoints that take audit entries, as the trail sees them."""

    def __init__(self, webhooks: Webhooks) -> None:
        self._webhooks = webhooks

    async def of_tenant(self, tx: Tx) -> list[Endpoint]:
        """Those that name the event type; one that takes everything does not ask for a trail."""
        found = await endpoints.page(tx, (-1, b""), RECEIVERS_LOOKED_AT)
        return [each for each in found if not each.disabled and each.event_types is not None and AUDIT_ENTRY in each.event_types]

    async def send(self, tx: Tx, receiver: Endpoint, event_type: str, payload: dict[str, Any]) -> None:
        """A message for that endpoint alone."""
        await self._webhooks.send_to(tx, receiver, event_type, payload)


class _CacheHost:
    """What the cache sees of its Netra."""

    @staticmethod
    def current_scope() -> Scope | None:
        """The scope that was entered."""
        return entered_scope()

    def __init__(self, netra: Netra) -> None:
        self._netra = netra
        self.tenant = netra.tenant
        self.run_blocking = netra.run_blocking
        self.hurry_log = netra.leader.hurry

    @property
    def is_here(self) -> bool:
        """Whether this is running on Netra's loop."""
        return self._netra.is_here


def _marked(scope: Scope) -> Scope:
    """The scope with the debug sessions that rows made in it should name."""
    marks = debugging.marks_of(scope.tenant) if any_session else ()
    return replace(scope, debug=marks) if marks else scope


def _scope_for(tenant: str | None) -> Scope:
    """The named tenant's, or the one that was entered with `netra.scope`; a name keeps the entered actor and trace."""
    current = entered_scope()
    if tenant is None:
        if current is None or current.tenant == _NOT_NAMED:
            raise MissingTenant
        return current
    return Scope(check_tenant(tenant), "library") if current is None else current.with_tenant(tenant)
