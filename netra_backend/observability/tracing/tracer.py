"""Where finished spans go: a bounded buffer, written to the store in batches beside everything else, and to whoever else wants them.

A span costs its caller an append. Nothing waits for the store: where it takes nothing, the oldest spans are dropped and counted. What
must be known of a committed change is not sent through here, but appended in its own transaction (`storage/spans.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final, Self

from ...errors import NetraError
from ...kernel.chance import Chance
from ...kernel.clock import Clock
from ...kernel.rounds import Rounds
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, TraceContext, system_scope
from ...kernel.spans import ERROR, OK, Span
from ...storage import log, spans, tenants
from ...storage.database import Database
from ...storage.transaction import Tx
from .assembly import Q

BUFFER: Final = 10_000
FLUSH_EVERY_S: Final = 0.5
FLUSH_AT_ONCE: Final = 500
KEEP_US: Final = 30 * 86_400_000_000
FORGET_EVERY_S: Final = 60.0
LEASE: Final = "tracing"
SERVER: Final = "server"
DROPPED: Final = "netra_spans_dropped_total"
STORED: Final = "netra_spans_total"
NO_ATTRIBUTES: Final[Mapping[str, Any]] = MappingProxyType({})
_SPAN: Final = (1 << 64) - 1
_TRACE: Final = (1 << 128) - 1
_SCOPE: Final = system_scope("tracing")


class Tracer:
    """See the module's docstring. `exporters` are called with every finished span; they must neither wait nor raise."""

    def __init__(self, clock: Clock, chance: Chance) -> None:
        self.wall_us = clock.wall_us
        self.exporters: list[Callable[[Any], None]] = []
        self.dropped = 0
        self._buffer: deque[Any] = deque(maxlen=BUFFER)
        self._append = self._buffer.append
        self._base = int.from_bytes(chance.token(16), "big") | 1
        self.next_number = itertools.count(1).__next__
        """A number that nothing else of this process has: of a span or a trace."""

    def span_id(self, number: int) -> str:
        """The id of the span of that number; which comes next is nobody's secret."""
        return f"{self._base * number & _SPAN or 1:016x}"

    def new_trace(self) -> str:
        """An id of a new trace."""
        return f"{self._base * self.next_number() & _TRACE or 1:032x}"

    def span(self, span: Span | Working) -> None:
        """Record one finished span. Any thread."""
        self.store(span)
        if self.exporters:
            self.export(span)

    def export(self, span: Span | Working) -> None:
        """Show one to whoever else wants them."""
        for export in self.exporters:
            export(span)

    def store(self, span: Span | Working) -> None:
        """Record one that is exported elsewhere already."""
        if len(self._buffer) == BUFFER:
            self.dropped += 1
        self._append(span)

    def take(self, most: int) -> list[Any]:
        """The oldest that are not stored yet."""
        taken: list[Any] = []
        with contextlib.suppress(IndexError):
            while len(taken) < most:
                taken.append(self._buffer.popleft())
        return taken

    def give_back(self, taken: list[Any]) -> None:
        """They could not be stored; those for which there is no room any more are dropped."""
        room = BUFFER - len(self._buffer)
        self.dropped += max(0, len(taken) - room)
        self._buffer.extendleft(reversed(taken[max(0, len(taken) - room) :]))

    def __len__(self) -> int:
        return len(self._buffer)


class Working:
    """A span of a program's own, while its block runs: `with netra.span("render") as span:`; `span.ref` says what it was about.

    It is what `Span` is by its members, so that nothing is copied when it ends. It stands in the context in the scope's place. What most
    spans are never asked for while they run is made when somebody asks: the scope of what is called inside, and the ids.
    """

    __slots__ = (
        "_number", "_outer", "_scope", "_token", "_tracer", "_variable", "end_us", "name", "part", "ref", "start_us", "status", "tenant",
        "trace_id",
    )  # fmt: skip

    link = None
    attributes = NO_ATTRIBUTES
    tenant: str
    trace_id: str
    start_us: int
    end_us: int
    status: str

    def __init__(
        self, tracer: Tracer, variable: ContextVar[Scope | Working | None], outer: Scope | Working, name: str, part: str, ref: str
    ) -> None:
        self._tracer = tracer
        self._variable = variable
        self._outer = outer
        self._scope: Scope | None = None
        self.name = name
        self.part = part
        self.ref = ref
        self.tenant = outer.tenant

    @property
    def span_id(self) -> str:
        """Its own position in the trace."""
        return self._tracer.span_id(self._number)

    @property
    def parent(self) -> str:
        """The span that it is part of, or empty."""
        outer = self._outer
        return outer.trace.span_id if isinstance(outer, Scope) else outer.span_id

    @property
    def scope(self) -> Scope:
        """The scope inside: that of outside, at this span's position."""
        if self._scope is None:
            outer = self._outer if isinstance(self._outer, Scope) else self._outer.scope
            self._scope = Scope(outer.tenant, outer.actor, TraceContext(self.trace_id, self.span_id), outer.deadline)
        return self._scope

    def __enter__(self) -> Self:
        outer, tracer = self._outer, self._tracer
        self.trace_id = outer.trace_id if type(outer) is Working else outer.trace.trace_id or tracer.new_trace()  # type: ignore[union-attr]  # a scope
        self._number = tracer.next_number()
        self._token = self._variable.set(self)
        self.start_us = tracer.wall_us()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, traceback: object, /) -> None:
        tracer = self._tracer
        self.end_us = tracer.wall_us()
        try:
            self._variable.reset(self._token)
        except ValueError:  # it ends in another context: a generator that a pool of threads runs, step by step, has a new one at each
            if self._variable.get() is self:
                self._variable.set(self._outer)
        self.status = OK if kind is None else ERROR
        tracer.store(self)
        if tracer.exporters:
            tracer.export(self)


class Nothing:
    """What a block gets that nobody traces."""

    __slots__ = ()
    ref = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, traceback: object, /) -> None:
        return None

    def __setattr__(self, name: str, value: object) -> None:
        """Taken and forgotten."""


NOTHING: Final = Nothing()


class Keeper:
    """Writes what the tracer has, and forgets what is old."""

    def __init__(self, database: Database, runtime: Runtime, tracer: Tracer, node: Callable[[], bytes]) -> None:
        self._database = database
        self._runtime = runtime
        self._tracer = tracer
        self._node = node
        self._rounds = Rounds(runtime, self._keep, "spans could not be stored yet", FLUSH_EVERY_S, at_once=False)
        self._forgot_at = 0.0
        self._told = 0
        self._flushing = asyncio.Lock()

    def start(self) -> None:
        """Begin, in the background."""
        self._forgot_at = self._runtime.clock.monotonic()
        self._rounds.start()

    async def stop(self) -> None:
        """End, with what is left written."""
        await self._rounds.stop()
        with contextlib.suppress(NetraError):
            await self.flush()

    async def _keep(self) -> None:
        await self.flush()
        if self._runtime.clock.monotonic() - self._forgot_at > FORGET_EVERY_S:
            self._forgot_at = self._runtime.clock.monotonic()
            while await self._database.write(self._forget, scope=_SCOPE, lane="bulk") == FLUSH_AT_ONCE:
                continue

    async def flush(self) -> None:
        """Write everything that is finished by now: what another flush has taken is written when this returns, too."""
        async with self._flushing:
            await self._flush()

    async def _flush(self) -> None:
        for _ in range(BUFFER // FLUSH_AT_ONCE):
            taken = self._tracer.take(FLUSH_AT_ONCE)
            if not taken:
                break
            try:
                await self._database.write(_put, taken, scope=_SCOPE, lane="bulk")
            except BaseException:
                self._tracer.give_back(taken)
                raise
            self._runtime.metrics.count(STORED, len(taken))
        if self._tracer.dropped > self._told:
            self._runtime.metrics.count(DROPPED, self._tracer.dropped - self._told)
            self._told = self._tracer.dropped

    async def _forget(self, tx: Tx) -> int:
        if not await log.has_lead(tx, LEASE, self._node()):
            return 0
        return await tx.execute(Q.forget_spans, before_us=tx.now_us - KEEP_US, limit=FLUSH_AT_ONCE)


async def _put(tx: Tx, finished: Sequence[Span | Working]) -> None:
    """Store spans. Those of a program say whose they are as it says it: by an id or a uid, which may be another's name tomorrow."""
    references = sorted({each.tenant for each in finished if not _has_name(each)})
    names = {reference: found.tenant for reference in references if (found := await tenants.find(tx, reference)) is not None}
    await spans.put(tx, [_of(each, names) for each in finished])


def _has_name(span: Span | Working) -> bool:
    """Whether it is a request's, whose edge has found the tenant; all others that come through here are of a program's own."""
    return isinstance(span, Span) and span.part == SERVER


def _of(span: Span | Working, names: Mapping[str, str]) -> Span:
    tenant = span.tenant if _has_name(span) else names.get(span.tenant, span.tenant)
    known = (span.trace_id, span.span_id, span.parent, span.part, span.name, span.start_us, span.end_us, span.status, span.ref, span.link)
    return Span(tenant, *known)
