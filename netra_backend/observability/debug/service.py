"""`netra.debug`: start, extend, end debug sessions, see what they have recorded. Each call leaves an entry in the tenant's trail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final

from ...errors import InvalidInput
from ...kernel.ids import from_text
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope
from ...storage.database import Database
from . import store
from .hub import Hub
from .logpoints import engine
from .model import PREFIX, Session, shown, ttl_us, wanted
from .store import View

ScopeOf = Callable[[str | None], Awaitable[Scope]]
"""The scope of a named tenant, or the one that the caller has entered."""

MOST_AT_ONCE: Final = 500
LOOK_EVERY_S: Final = 0.25
ENTRY_EVERY_S: Final = 60.0
"""A view that goes on is one entry a minute."""
SETTLED_US: Final = 2_000_000
"""How long after a session's end some process may still write what it had captured."""


class Debug:
    """`netra.debug`. A session listens to one tenant, in every process, from less than a second after `start` until its time is over."""

    def __init__(self, database: Database, runtime: Runtime, hub: Hub, scope_of: ScopeOf) -> None:
        self.hub = hub
        self._database = database
        self._runtime = runtime
        self._scope_of = scope_of

    async def start(
        self,
        *,
        reason: str,
        ttl: str | float | None = None,
        user: str | None = None,
        trace: str | None = None,
        route: str | None = None,
        endpoint: str | None = None,
        provider: str | None = None,
        job: str | None = None,
        capture: Sequence[str] | None = None,
        logpoints: Sequence[Any] = (),
        tenant: str | None = None,
    ) -> dict[str, Any]:
        """Begin to look into a tenant's production, for `ttl` (30 minutes; `4h` at most), and say why.

        What is looked at may be narrowed: to work of a `user` (an actor of scopes), a `trace` (id), a `route` (`POST /orders/*`), an
        `endpoint`, a `provider` (client registration), a batch `job`. `capture` is any of log, span, http and snapshot; snapshots
        are made at `logpoints`: `"module:function"`, `"file.py:42"`, or `{"at": ..., "where": "order_id == 42"}`.
        """
        predicates = {"user": user, "trace": trace, "route": route, "endpoint": endpoint, "provider": provider, "job": job}
        asked = wanted(reason, ttl, predicates, capture, logpoints)
        scope = await self._scope_of(tenant)
        made: Session = await self._database.write(store.start, asked, scope=scope)
        await self.hub.look()
        return self.shown(made)

    async def extend(self, session: str, ttl: str | float | None = None, *, tenant: str | None = None) -> dict[str, Any]:
        """Let a live session last for `ttl` from now."""
        return await self.extend_in(await self._scope_of(tenant), session, ttl)

    async def end(self, session: str, *, tenant: str | None = None) -> dict[str, Any]:
        """End a session; what it has recorded can still be read."""
        return await self.end_in(await self._scope_of(tenant), session)

    async def sessions(self, *, limit: int = 50, ended: bool = False, tenant: str | None = None) -> list[dict[str, Any]]:
        """The tenant's live sessions, the newest first; with `ended` those that have ended too."""
        scope = await self._scope_of(tenant)
        found: Sequence[Session] = await self._database.write(store.listed, _checked(limit), ended, scope=scope)
        return [each for each in map(self.shown, found) if ended or each["state"] == "active"]

    async def get(self, session: str, *, tenant: str | None = None) -> dict[str, Any]:
        """One session, and how its logpoints stand in this process."""
        scope = await self._scope_of(tenant)
        found: View = await self._database.write(store.view, _id(session), 2**62, 1, "debug.show", scope=scope)
        return self.shown(found.session)

    async def records(self, session: str, *, after: int = 0, limit: int = 100, tenant: str | None = None) -> list[dict[str, Any]]:
        """What a session has recorded behind number `after`, in order: `{"seq", "session", "tenant", "kind", "at", "trace_id", "data"}`.

        Records that are not kept any more are told by one of kind `dropped`.
        """
        page = await self.page_in(await self._scope_of(tenant), session, after, limit)
        found: list[dict[str, Any]] = page["data"]
        return found

    async def watch(self, session: str, *, after: int = 0, tenant: str | None = None) -> AsyncIterator[list[dict[str, Any]]]:
        """Follow a session until it is over and all of it was told: lists of records as they come, an empty one where nothing did."""
        async for records in self.watch_in(await self._scope_of(tenant), session, after):
            yield records

    async def export(self, session: str, *, tenant: str | None = None) -> dict[str, Any]:
        """All of a session as one document, for a bug report: `{"session", "records"}`."""
        return await self.export_in(await self._scope_of(tenant), session)

    # The same in a scope that an edge has decided

    async def extend_in(self, scope: Scope, session: str, ttl: str | float | None) -> dict[str, Any]:
        """See `extend`."""
        changed: Session = await self._database.write(store.extend, _id(session), ttl_us(ttl), scope=scope)
        await self.hub.look()
        return self.shown(changed)

    async def end_in(self, scope: Scope, session: str) -> dict[str, Any]:
        """See `end`."""
        ended: Session = await self._database.write(store.end, _id(session), scope=scope)
        await self.hub.look()
        return self.shown(ended)

    async def page_in(self, scope: Scope, session: str, after: int, limit: int) -> dict[str, Any]:
        """See `records`: `{"data", "after", "done"}`, done once the session is over and nothing is left to be told."""
        found: View = await self._database.write(store.view, _id(session), after, _checked(limit), "debug.view", scope=scope)
        records = store.shown_records(found)
        reached = records[-1]["seq"] if records else after
        return {"data": records, "after": reached, "done": not records and self._is_over(found.session)}

    async def watch_in(self, scope: Scope, session: str, after: int) -> AsyncIterator[list[dict[str, Any]]]:
        """See `watch`."""
        id_, clock, entered_at = _id(session), self._runtime.clock, float("-inf")
        while True:
            action = "debug.view" if clock.monotonic() - entered_at >= ENTRY_EVERY_S else None
            entered_at = clock.monotonic() if action else entered_at
            door = self._database.write if action else self._database.read
            found: View = await door(store.view, id_, after, MOST_AT_ONCE, action, scope=scope)
            records = store.shown_records(found)
            yield records
            if records:
                after = int(records[-1]["seq"])
            elif self._is_over(found.session):
                return
            else:
                await clock.sleep(LOOK_EVERY_S)

    async def export_in(self, scope: Scope, session: str) -> dict[str, Any]:
        """See `export`."""
        id_ = _id(session)
        found: View = await self._database.write(store.view, id_, 0, MOST_AT_ONCE, "debug.export", scope=scope)
        records = store.shown_records(found)
        while found.rows:
            found = await self._database.read(store.view, id_, found.rows[-1][0], MOST_AT_ONCE, None, scope=scope)
            records += store.shown_records(found)
        return {"session": self.shown(found.session), "records": records}

    def _is_over(self, session: Session) -> bool:
        """Whether nothing more comes: it ended so long ago that every process has flushed."""
        ended_us = session.ended_us if session.ended_us is not None else session.expires_us
        return self._runtime.clock.wall_us() - ended_us > SETTLED_US

    def shown(self, session: Session) -> dict[str, Any]:
        """A session as JSON shows it, with the state of its logpoints in this process."""
        found = shown(session, self._runtime.clock.wall_us())
        for point, logpoint in zip(found["logpoints"], session.logpoints, strict=True):
            point["state"] = engine.states.get(logpoint, "not armed in this process") if found["state"] == "active" else "ended"
        return found


def _id(session: str) -> bytes:
    return from_text(PREFIX, session)


def _checked(limit: int) -> int:
    if not 1 <= limit <= MOST_AT_ONCE:
        raise InvalidInput(f"{limit} at once", fix=f"Ask for 1 to {MOST_AT_ONCE}.")
    return limit
