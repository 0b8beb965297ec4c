"""Routes of debug sessions: start, extend, end, list, and follow what they record. An operator's key is needed for each of them.

Logpoints show a program's own variables, so no tenant's key opens these routes, not even for its own tenant.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from ..kernel.ids import from_text
from ..observability.debug import store
from ..observability.debug.model import MOST_LOGPOINTS, PREFIX, wanted
from ..storage.transaction import Tx
from .access import Access
from .pagination import DEFAULT_LIMIT, Limit
from .routing import Caller, answer, no_content, once, stream

router: Final = APIRouter(prefix="/api/v1/tenants/{tenant}/debug/sessions", tags=["Debug sessions"])

KEEP_ALIVE_S: Final = 10.0
"""A comment is sent where nothing else was for so long, so that a proxy does not take the stream for dead."""

SessionRef = Annotated[str, Path(description="A debug session's id, `dbg_...`.", max_length=64)]
Text = Annotated[str, Field(min_length=1, max_length=256)]
Seq = Annotated[int, Query(ge=0, le=2**62, description="The number of the last record that is known.")]


class LogpointIn(BaseModel):
    """A place in the code, and a condition over its variables."""

    model_config = ConfigDict(extra="forbid")

    at: Text
    where: Annotated[str, Field(max_length=2048)] | None = None


class SessionIn(BaseModel):
    """What to look at, for how long, and why."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(min_length=1, max_length=1000)]
    ttl: Annotated[str, Field(max_length=32)] | Annotated[float, Field(gt=0, le=14_400)] | None = None
    user: Text | None = None
    trace: Text | None = None
    route: Text | None = None
    endpoint: Text | None = None
    provider: Text | None = None
    job: Text | None = None
    capture: Annotated[list[Text], Field(max_length=8)] | None = None
    logpoints: Annotated[list[LogpointIn], Field(max_length=MOST_LOGPOINTS)] = []


class ExtendIn(BaseModel):
    """For how long from now."""

    model_config = ConfigDict(extra="forbid")

    ttl: Annotated[str, Field(max_length=32)] | Annotated[float, Field(gt=0, le=14_400)] | None = None


@router.post("", operation_id="netra.debug.start", status_code=201)
async def start_session(caller: Caller, body: SessionIn) -> Response:
    """Start a session: every process of the installation listens within a second, until its time is over."""
    given = body.model_dump()
    reason, ttl, capture, points = (given.pop(name) for name in ("reason", "ttl", "capture", "logpoints"))
    asked = wanted(reason, ttl, given, capture, points)

    async def make(tx: Tx) -> tuple[bytes, bytes]:
        made = await store.start(tx, asked)
        return made.id, made.id

    async def again(tx: Tx, ref: bytes) -> bytes:
        del tx
        return ref

    id_, replayed = await once(caller, caller.scope, "POST /tenants/{tenant}/debug/sessions", make, again)
    await caller.edge.netra.debug.hub.look()
    return answer(caller.edge.netra.debug.shown(await caller.read(store.get, id_)), 201, replayed=replayed)


@router.get("", operation_id="netra.debug.list")
async def list_sessions(caller: Caller, limit: Limit = DEFAULT_LIMIT, ended: bool = False) -> Response:  # noqa: FBT001, FBT002  (a query's)
    """The tenant's live sessions, the newest first; with `ended=true` also those that are over."""
    found = await caller.write(store.listed, limit, ended)
    shown = [each for each in map(caller.edge.netra.debug.shown, found) if ended or each["state"] == "active"]
    return answer({"data": shown, "done": len(found) < limit})


@router.get("/{session}", operation_id="netra.debug.get")
async def get_session(caller: Caller, session: SessionRef) -> Response:
    """One session, and how its logpoints stand in this process."""
    view = await caller.write(store.view, from_text(PREFIX, session), 2**62, 1, "debug.show")
    return answer(caller.edge.netra.debug.shown(view.session))


@router.post("/{session}/extend", operation_id="netra.debug.extend")
async def extend_session(caller: Caller, session: SessionRef, body: ExtendIn) -> Response:
    """Let a live session last for `ttl` from now."""
    return answer(await caller.edge.netra.debug.extend_in(caller.scope, session, body.ttl))


@router.delete("/{session}", operation_id="netra.debug.end", status_code=204)
async def end_session(caller: Caller, session: SessionRef) -> Response:
    """End a session; what it has recorded can still be read."""
    await caller.edge.netra.debug.end_in(caller.scope, session)
    return no_content()


@router.get("/{session}/export", operation_id="netra.debug.export")
async def export_session(caller: Caller, session: SessionRef) -> Response:
    """All of a session as one document, for a bug report."""
    return answer(await caller.edge.netra.debug.export_in(caller.scope, session))


@router.get("/{session}/records", operation_id="netra.debug.records")
async def follow_records(
    caller: Caller,
    session: SessionRef,
    after: Seq = 0,
    limit: Limit = DEFAULT_LIMIT,
    accept: Annotated[str, Header()] = "",
    last_event_id: Annotated[str, Header()] = "",
) -> Response:
    """What a session records, as server-sent events (HTML Standard, section 9.2) until it is over; a page where JSON is accepted."""
    debug, scope = caller.edge.netra.debug, caller.scope
    behind = int(last_event_id) if last_event_id.isascii() and last_event_id.isdecimal() and len(last_event_id) < 19 else after
    if accept == "application/json":
        return answer(await debug.page_in(scope, session, behind, limit))
    caller.edge.streams.check(caller.tenant.tenant)
    watched = debug.watch_in(scope, session, behind)
    first: list[dict[str, Any]] = await anext(watched, [])
    return stream(caller, _events(caller, first, watched))


async def _events(caller: Access, first: list[dict[str, Any]], watched: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    clock = caller.edge.netra.runtime.clock
    records, told_at = first, clock.monotonic()
    while not caller.edge.draining:
        for record in records:
            yield b"id: %d\nevent: %b\ndata: %b\n\n" % (record["seq"], record["kind"].encode(), orjson.dumps(record))
            told_at = clock.monotonic()
        if clock.monotonic() - told_at > KEEP_ALIVE_S:
            told_at = clock.monotonic()
            yield b": still here\n\n"
        try:
            records = await anext(watched)
            await caller.check_again()
        except StopAsyncIteration:
            yield b"event: ended\ndata: {}\n\n"
            return
