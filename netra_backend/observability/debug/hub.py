"""Debug sessions in one process: which are live, who listens to what, and how records reach the table.

Protocol.
1. Whatever is committed anywhere is seen within 100 ms (`database.version()`), and what is live is then read again, at most every
   0.2 s; in a second at the latest, anyway. So a start, an extension and an end hold in every process in less than a second.
2. Whoever takes work in asks `watch` (or `pick_up`, where the work lay in a row). Sessions of the work's tenant are looked at, and
   of no other (D1); nothing that the work brings along can name one (D8).
3. A record is judged and shortened (`redaction.py`), then put into the ring of each session that takes it. The flusher carries rings to
   the table four times a second, in the tenant's name, beside everything else; where that fails the rings go on dropping their oldest.
4. A session is over when its time is, by the monotonic or the wall clock (D5), without anybody's doing. Some process then
   writes its end, with an audit entry. A process that cannot read what is live for `VOUCHED_S` listens to nobody: it would not
   hear of an end.
5. A forked child listens to nobody.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Iterable, Mapping
from typing import Any, Final

import orjson

from ...errors import NetraError, OutcomeUnknown
from ...kernel import debugging
from ...kernel.debugging import Facts, any_session
from ...kernel.rounds import Rounds, attempt
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, system_scope
from ...storage import debug_marks
from ...storage.database import Database
from . import logs, store
from .held import Held
from .live import Live
from .logpoints import engine
from .model import AT_INGRESS_ONLY, Record, Session
from .redaction import Redactor
from .retention import retire
from .settings import DebugSettings
from .watch import Watched

TICK_S: Final = 0.1
LOOK_AT_MOST_EVERY_S: Final = 0.2
LOOK_ANYWAY_S: Final = 0.8
VOUCHED_S: Final = 5.0
FLUSH_S: Final = 0.25
RETIRE_EVERY_S: Final = 3600.0
MARKS_WITHIN_S: Final = 1.0
"""Work that is taken up waits no longer to hear who debugs it."""
AT_ONCE: Final = 100
"""Records of one session in one write: on SQLite it holds the one writer."""
LARGEST: Final = 96 * 1024
"""Bytes of one record's JSON; a larger one tells only that it was."""

_SCOPE: Final = system_scope("debug")
_NOT_NAMED: Final = ""
_hubs: weakref.WeakSet[Hub] = weakref.WeakSet()


class Hub:
    """See the module's docstring. It is the runtime's `DebugHook`."""

    def __init__(self, runtime: Runtime, settings: DebugSettings) -> None:
        self.monotonic = runtime.clock.monotonic
        self.held = Held(runtime.chance.token(16))
        self.redactor = Redactor(self.held.__contains__, self.held.count)
        self.database: Database | None = None
        self._runtime = runtime
        self._settings = settings
        self._lives: dict[bytes, Live] = {}
        self._of: dict[str, tuple[Live, ...]] = {}
        self._names: dict[str, str] = {}
        self._vouched_until = 0.0
        self._looked_at = float("-inf")
        self._version = -1
        self._leaving: list[Live] = []
        self._rounds = (
            Rounds(runtime, self.look_if_due, "which debug sessions are live could not be read", TICK_S, at_once=False),
            Rounds(runtime, self._carry_all, "what debug sessions captured could not be written", FLUSH_S, at_once=False),
            Rounds(runtime, self._retire, "old captures could not be deleted yet", RETIRE_EVERY_S),
        )
        _hubs.add(self)

    async def start(self, database: Database) -> None:
        """Know what is live, then keep knowing it in the background."""
        self.database = database
        debugging.on_secret(self.held.add)
        await self._look()
        for rounds in self._rounds:
            rounds.start()

    async def stop(self) -> None:
        """Write down what was captured, and listen to nobody any more."""
        for rounds in self._rounds:
            await rounds.stop()
        lives = [*self._lives.values(), *self._leaving]
        self._replace({})
        for live in lives:
            await self._carry(live)
        debugging.off_secret(self.held.add)
        self.database = None

    def abandon(self) -> None:
        """In a forked child: none of this is its own."""
        self._replace({})

    @property
    def lives(self) -> tuple[Live, ...]:
        """The live sessions, as this process knows them."""
        return tuple(self._lives.values())

    # Who listens

    def enter(self, scope: Scope, facts: Facts) -> Watched | None:
        """The same as `watch` for a scope that a program enters: its tenant may be an id or a uid, or not be named yet."""
        if scope.tenant == _NOT_NAMED:
            return Watched(self, _NOT_NAMED, scope.trace.trace_id, self._known(scope, facts, None), (), ())
        tenant = self._names.get(scope.tenant)
        return self._watch(tenant, scope, facts) if tenant is not None else None

    def watch(self, scope: Scope, facts: Facts) -> Watched | None:
        """See `DebugHook.watch`. What begins inside watched work of the same tenant is known by all that is known of that."""
        return self._watch(scope.tenant, scope, facts) if scope.tenant in self._of else None

    def _watch(self, tenant: str, scope: Scope, facts: Facts) -> Watched:
        outer = debugging.watched.get()
        inherited = None
        if isinstance(outer, Watched) and outer.hub is self and outer.is_open and outer.tenant in {tenant, _NOT_NAMED}:
            inherited = outer
        marks = frozenset((*(inherited.marks if inherited is not None else ()), *scope.debug))
        return self._chosen(tenant, scope, self._known(scope, facts, inherited), marks)

    async def pick_up(self, scope: Scope, ref: bytes | None, facts: Facts) -> Watched | None:
        """See `DebugHook.pick_up`. Nothing is inherited: whose task it is that takes up a row says nothing of the row."""
        lives = self._of.get(scope.tenant)
        if lives is None:
            return None
        known: dict[str, Any] = {"trace": scope.trace.trace_id, **facts}
        return self._chosen(scope.tenant, scope, known, await self._marks(scope, ref, lives))

    def _known(self, scope: Scope, facts: Facts, inherited: Watched | None) -> dict[str, Any]:
        before: Facts = inherited.facts if inherited is not None else {}
        users = before.get("user", ())
        users = (users,) if isinstance(users, str) else users
        return {**before, **facts, "trace": scope.trace.trace_id, "user": (*users, scope.actor)[-4:]}

    def _chosen(self, tenant: str, scope: Scope, facts: Mapping[str, Any], marks: frozenset[bytes]) -> Watched:
        now = self.monotonic()
        lives = [live for live in self._of.get(tenant, ()) if live.is_open(now)]
        carried = marks | {live.session.id for live in lives if live.needs_mark(facts)}
        chosen = tuple(live for live in lives if live.matches(facts, carried))
        return Watched(self, tenant, scope.trace.trace_id, facts, chosen, tuple(sorted(carried)))

    async def _marks(self, scope: Scope, ref: bytes | None, lives: Iterable[Live]) -> frozenset[bytes]:
        if ref is None or self.database is None or not any(AT_INGRESS_ONLY & live.session.predicates.keys() for live in lives):
            return frozenset()
        try:
            async with asyncio.timeout(MARKS_WITHIN_S):
                found: frozenset[bytes] = await self.database.read(debug_marks.of, ref, scope=scope)
        except (NetraError, TimeoutError) as error:
            self._runtime.log.warning("who debugs this could not be read, so nobody does: %s", error)
            return frozenset()
        return found

    # Records

    def record(self, lives: Iterable[Live], kind: str, data: Mapping[str, Any], trace_id: str) -> None:
        """Judge a record, and put it into the ring of each of these sessions that takes it."""
        began = self.monotonic()
        takers = [
            live
            for live in lives
            if kind in live.captures and began < self._vouched_until and live.is_open(began) and live.quotas.admits(began)
        ]
        if not takers:
            return
        text = _dumped(self.redactor.data(data))
        record = Record(kind, self._runtime.clock.wall_us(), trace_id, text)
        spent = self.monotonic() - began
        for live in takers:
            live.quotas.spend(1, len(text), spent)
            live.keep(record)

    def heard(self, span: Any) -> None:
        """A finished span, from a tracer's `exporters`: recorded if it is of the tenant whose watched work ends it here."""
        watch = debugging.watched.get() if any_session else None
        if not isinstance(watch, Watched) or watch.hub is not self or not watch.wants("span"):
            return
        if self._names.get(span.tenant, span.tenant) == watch.tenant:
            times = {"start_us": span.start_us, "duration_us": span.end_us - span.start_us}
            names = {"name": span.name, "part": span.part, "id": span.span_id, "parent": span.parent}
            watch.record("span", {**names, **times, "status": span.status, "ref": span.ref, "attributes": dict(span.attributes)})

    # Knowing what is live

    async def look_if_due(self) -> None:
        """Read what is live again, where somebody has committed since, or none has looked for long."""
        assert self.database is not None
        now, version = self.monotonic(), self.database.version()
        age_s = now - self._looked_at
        if age_s >= LOOK_ANYWAY_S or (version != self._version and age_s >= LOOK_AT_MOST_EVERY_S):
            self._version = version
            await self._look()

    async def look(self) -> None:
        """Read what is live, now."""
        await self._look()

    async def _look(self) -> None:
        assert self.database is not None
        began = self.monotonic()
        sessions: list[Session] = await self.database.read(store.live, scope=_SCOPE)
        self._looked_at, self._vouched_until = began, began + VOUCHED_S
        lives: dict[bytes, Live] = {}
        for session in sessions:
            live = self._lives.get(session.id) or Live(session, self._runtime.clock, self._settings)
            live.renew(session)
            lives[session.id] = live
        self._leaving += [live for id_, live in self._lives.items() if id_ not in lives]
        self._replace(lives)

    def _replace(self, lives: dict[bytes, Live]) -> None:
        for id_, live in self._lives.items():
            if id_ not in lives:
                live.closed = True
        of: dict[str, list[Live]] = {}
        for live in lives.values():
            of.setdefault(live.session.tenant, []).append(live)
        self._lives = lives
        self._of = {tenant: tuple(found) for tenant, found in of.items()}
        self._names = {name: live.session.tenant for live in lives.values() for name in live.session.names}
        debugging.switch(id(self), on=bool(lives))
        logs.tap(id(self), on=any("log" in live.captures for live in lives.values()))
        engine.arm(id(self), {point for live in lives.values() for point in live.session.logpoints})

    async def _expire(self, live: Live) -> None:
        """Its time is over, and that is written by whoever comes first."""
        assert self.database is not None
        scope = Scope(live.session.tenant, "debug")
        session: Session = await self.database.read(store.get, live.session.id, scope=scope)
        if session.state == "active" and session.expires_us > live.session.expires_us:
            return  # extended meanwhile: the next look finds it
        live.closed = True
        await self.database.write(store.end, live.session.id, "time", scope=scope)

    # The way to the table

    async def _carry_all(self) -> None:
        leaving, self._leaving = self._leaving, []
        for live in (*self.lives, *leaving):
            await self._carry(live)

    async def _carry(self, live: Live) -> None:
        """One session's records to the table, and its end where its time is over; no other one waits for what this one cannot."""
        await attempt(self._runtime.log, "a debug session could not be brought up to date", self._flush_or_expire(live))

    async def _flush_or_expire(self, live: Live) -> None:
        await self._flush(live)
        if not live.closed and not live.is_open(self.monotonic()):
            await self._expire(live)

    async def _retire(self) -> None:
        """Delete what outlived sessions have recorded."""
        assert self.database is not None
        await retire(self.database, self._runtime.clock.wall_us(), self._settings.keep_s)

    async def _flush(self, live: Live) -> None:
        async with live.writing:
            await self._write(live)

    async def _write(self, live: Live) -> None:
        while live.has_records and self.database is not None:
            records = live.take(AT_ONCE)
            lost, told = live.take_losses(self._runtime.clock.wall_us())
            scope = Scope(live.session.tenant, "debug")
            try:
                await self.database.write(store.append, live.session.id, [*records, *told], lost, scope=scope, lane="bulk")
            except BaseException as error:
                reason = "unwritten" if isinstance(error, NetraError) and not isinstance(error, OutcomeUnknown) else "unknown"
                live.quotas.lost[reason] += len(records) + lost
                if not isinstance(error, NetraError):
                    raise
                if records:  # else only the note of former losses was not written, which is tried again
                    self._runtime.log.warning("%d records of a debug session are lost: %s", len(records), error)
                return


def _dumped(data: Mapping[str, Any]) -> bytes:
    text = orjson.dumps(data)
    return text if len(text) <= LARGEST else orjson.dumps({"[cut]": len(text), **dict.fromkeys(list(data)[:20])})


def _abandon_all() -> None:
    engine.reset()
    for hub in list(_hubs):
        hub.abandon()


os.register_at_fork(after_in_child=_abandon_all)
