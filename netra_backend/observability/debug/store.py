"""Sessions and what they have recorded: one function per verb, each in the transaction of its audit entry.

Records are numbered under their session's row lock, in the transaction that writes them: numbers are dense and in the order of the
commits, so that a reader who has seen up to one number misses nothing. The row also says until when records count (D5): what
was made later is left out, however late it arrives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from ...kernel.failpoints import declare
from ...kernel.ids import to_text
from ...storage import tenants
from ...storage.audit_append import audit_append
from ...storage.statements import Row, Statements
from ...storage.transaction import Tx
from .errors import SessionEnded, TooManySessions, UnknownSession
from .model import PREFIX, Record, Session, Wanted, record_of, session_of
from .states import SESSION

Q = Statements(__package__)

TABLE: Final = "netra_debug_session"
MOST_OF_TENANT: Final = 5
MOST_LIVE: Final = 1000
MOST_KEPT: Final = 10_000
"""Records of one session that are kept; the oldest go first."""
NEWEST: Final = (2**62, b"\xff" * 16)

STARTED: Final = declare("debug.started_before_commit", "a debug session is written, nothing is committed")
ENDED: Final = declare("debug.ended_before_commit", "a debug session has ended, nothing is committed")
RECORDED: Final = declare("debug.recorded_before_commit", "records are written, nothing is committed")


@dataclass(frozen=True, slots=True)
class View:
    """What somebody was shown: the session as it stood, records behind where he was, and how many are gone between."""

    session: Session
    rows: Sequence[Row]
    missed: int


async def start(tx: Tx, asked: Wanted) -> Session:
    """Begin a session of the transaction's tenant."""
    await tx.execute(tenants.Q.hold_tenant)  # of two starts at once the second counts the first
    live = await tx.one(Q.live_of_tenant, now_us=tx.now_us)
    if live is not None and live[0] >= MOST_OF_TENANT:
        raise TooManySessions(f"{live[0]} debug sessions of this tenant are live")
    id_, expires_us = tx.new_id(), tx.now_us + asked.ttl_us
    kept = (asked.predicates, asked.captures, asked.logpoints)
    made = Session(tx.tenant, id_, SESSION.initial, asked.reason, tx.scope.actor, *kept, asked.ttl_us, tx.now_us, expires_us)
    entry = await audit_append(tx, "debug.start", id_, table=TABLE, after=made.facts())
    await tx.execute(
        Q.insert_session,
        id=id_,
        reason=made.reason,
        actor=made.actor,
        predicates=_text(dict(made.predicates)),
        captures=_text(made.captures),
        logpoints=_text([{"at": each.at, "where": each.where} for each in made.logpoints]),
        granted_us=asked.ttl_us,
        expires_us=expires_us,
        now_us=tx.now_us,
        audit_id=entry,
    )
    tx.wake_others()
    tx.runtime.failpoints.hit(STARTED)
    return made


async def extend(tx: Tx, id_: bytes, ttl_us: int) -> Session:
    """Let a live session last for `ttl_us` from now; `SessionEnded` where its time is over."""
    before = await _held(tx, id_)
    SESSION.after("extend", _state(before, tx.now_us))
    after = replace(before, granted_us=ttl_us, expires_us=tx.now_us + ttl_us)
    changed = {"expires_us": before.expires_us}, {"expires_us": after.expires_us}
    entry = await audit_append(tx, "debug.extend", id_, table=TABLE, before=changed[0], after=changed[1])
    await tx.execute(Q.extend_session, id=id_, granted_us=ttl_us, expires_us=after.expires_us, audit_id=entry)
    tx.wake_others()
    return after


async def end(tx: Tx, id_: bytes, by: str = "actor") -> Session:
    """End a session, now; one that has ended is left as it is."""
    before = await _held(tx, id_)
    if before.state != "active":
        return before
    ended_us = min(tx.now_us, before.expires_us)
    action = "debug.expire" if by == "time" else "debug.end"
    entry = await audit_append(tx, action, id_, table=TABLE, before={"state": "active"}, after={"state": "ended", "by": by})
    await tx.execute(Q.end_session, id=id_, ended_us=ended_us, ended_by=by, audit_id=entry)
    tx.wake_others()
    tx.runtime.failpoints.hit(ENDED)
    return replace(before, state="ended", ended_us=ended_us, ended_by=by)


async def end_all(tx: Tx) -> None:
    """The tenant is about to end: its sessions end, and what they have recorded is deleted (D10)."""
    for (id_,) in await tx.all(Q.ids_of_sessions):
        await end(tx, id_, "tenant")
        await forget(tx, id_)


async def forget(tx: Tx, id_: bytes) -> int:
    """Delete what a session has recorded; the session itself stays, as its audit entries do."""
    await tx.execute(Q.delete_marks, session_id=id_)
    return await tx.execute(Q.delete_records, session_id=id_)


async def live(tx: Tx) -> list[Session]:
    """The live sessions of all tenants, with the references under which each tenant is known."""
    sessions = [session_of(row) for row in await tx.all(Q.live_sessions, limit=MOST_LIVE)]
    names = {tenant: await _names(tx, tenant) for tenant in sorted({session.tenant for session in sessions})}
    return [replace(session, names=names[session.tenant]) for session in sessions if names[session.tenant]]


async def _names(tx: Tx, name: str) -> frozenset[str]:
    """The references that mean this tenant; its name is not among them where that is another's uid. None of one that was deleted."""
    found = await tenants.by_name(tx, name)
    if found is None:
        return frozenset()
    other = await tx.one(tenants.Q.tenant_by_uid, uid=name)
    own_name = () if other is not None and other[0] != name else (name,)
    return frozenset((found.app_id, *((found.uid,) if found.uid is not None else ()), *own_name))


async def get(tx: Tx, id_: bytes) -> Session:
    """One session of the transaction's tenant; `UnknownSession` where it has none of that id."""
    row = await tx.one(Q.get_session, id=id_)
    if row is None:
        raise UnknownSession(f"there is no debug session {to_text(PREFIX, id_)} of this tenant")
    return session_of(row)


async def listed(tx: Tx, limit: int, ended: bool = True) -> list[Session]:  # noqa: FBT001, FBT002  (positional, through `write`)
    """The newest sessions of the transaction's tenant, also those that have `ended` or no such, and an entry that somebody looked."""
    await audit_append(tx, "debug.list", tx.tenant)
    rows = await tx.all(Q.list_sessions, created_us=NEWEST[0], id=NEWEST[1], ended=int(ended), limit=limit)
    return [session_of(row) for row in rows]


async def append(tx: Tx, id_: bytes, records: Sequence[Record], dropped: int) -> int:
    """Store what a process has captured, in order; how many were stored. What was made after the session's end is not."""
    took = await tx.one(Q.take_numbers, id=id_, count=len(records), dropped=dropped)
    if took is None:
        return 0
    last, expires_us, ended_us = took
    until_us = expires_us if ended_us is None else ended_us
    first = last - len(records) + 1
    rows = [
        (first + at, each.kind, each.at_us, each.trace_id, each.data.decode()) for at, each in enumerate(records) if each.at_us <= until_us
    ]
    if rows:
        await tx.execute(Q.insert_records, session_id=id_, rows=rows)
    if last > MOST_KEPT:
        await tx.execute(Q.trim_records, session_id=id_, seq=last - MOST_KEPT)
    tx.runtime.failpoints.hit(RECORDED)
    return len(rows)


async def view(tx: Tx, id_: bytes, after: int, limit: int, action: str | None) -> View:
    """What a session has recorded behind `after`; with an entry of that `action`, unless one was just written for this view (D9)."""
    if action is not None:
        await audit_append(tx, action, id_, after={"behind": after})
    session = await get(tx, id_)
    rows = await tx.all(Q.read_records, session_id=id_, after=after, limit=limit)
    reached = rows[-1][0] if rows else min(session.last_seq, after)
    return View(session, rows, max(0, reached - after - len(rows)))


async def outlived(tx: Tx, after_us: int, before_us: int, limit: int) -> list[tuple[str, bytes, int]]:
    """Sessions of all tenants that ended in that time: (tenant, id, when)."""
    return [(row[0], row[1], row[2]) for row in await tx.all(Q.outlived_sessions, after_us=after_us, before_us=before_us, limit=limit)]


def shown_records(view: View) -> list[dict[str, Any]]:
    """The records of a view as JSON shows them, a gap as one of kind `dropped`."""
    records = [record_of(view.session, row) for row in view.rows]
    if view.missed and records:
        first = records[0]
        gap = {
            **first,
            "seq": first["seq"] - 1,
            "kind": "dropped",
            "trace_id": None,
            "data": {"count": view.missed, "why": {"old": view.missed}},
        }
        records.insert(0, gap)
    return records


async def _held(tx: Tx, id_: bytes) -> Session:
    """The session, its row locked."""
    await tx.execute(Q.hold_session, id=id_)
    return await get(tx, id_)


def _state(session: Session, now_us: int) -> str:
    if session.state != "active" or now_us >= session.expires_us:
        raise SessionEnded(f"the debug session {session.text_id} has ended")
    return session.state


def _text(value: Any) -> str:
    return orjson.dumps(value).decode()
