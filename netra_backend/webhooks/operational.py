"""Operational events on their way to the operator: a cursor on the log's stream, which turns them into messages.

The operator's endpoints and the messages to them belong to the system tenant, so that signatures, retries, breakers, limits and retention
are the very same. An event stands in the log because the change that it tells of was committed (`reports.py`). One process, under a
lease, reads what is behind the cursor and writes messages, deliveries and the cursor's new place in one transaction: so an event becomes
one message, whoever is killed at whatever moment, and at least once an arrival.

Where no endpoint wants an event no message is made of it; it stays in the log for its day. Events of a tenant that is gone meanwhile
name it by its name.

Rejected: a message in the transaction of the change itself. A tenant's own transaction, an adopted one at that, would write rows of
another tenant, which every policy forbids (docs/decisions/0013).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from ..errors import NetraError
from ..kernel.failpoints import declare
from ..kernel.ids import to_text
from ..kernel.runtime import Runtime
from ..kernel.scope import SYSTEM_TENANT, TraceContext, system_scope
from ..storage import log, tenants
from ..storage.database import Database
from ..storage.log import LogEntry
from ..storage.membership import Membership
from ..storage.statements import Statements
from ..storage.transaction import Tx
from . import endpoints
from .filters import wanting
from .intake import Intake, StaleSnapshot, Target, ingest
from .model import NewMessage, Snapshot
from .reports import STREAM
from .settings import WebhookSettings
from .snapshots import Snapshots

Q = Statements(__package__)

FOLLOW_EVERY_S: Final = 0.5
ROWS_AT_ONCE: Final = 50
EVENTS_AT_ONCE: Final = 500
LEASE: Final = "webhooks.operational"
CURSOR: Final = "webhooks.operational"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SCOPE: Final = system_scope("operational")

TAKEN: Final = declare("webhooks.operational_taken_before_commit", "operational events are messages, nothing is committed")

Event = tuple[str, Mapping[str, Any]]
"""A tenant, and what was reported of it."""


class Operational:
    """See the module's docstring. `follow` takes everything that is behind the cursor, if this process may."""

    def __init__(
        self, database: Database, runtime: Runtime, settings: WebhookSettings, membership: Membership, snapshots: Snapshots
    ) -> None:
        self._database = database
        self._runtime = runtime
        self._settings = settings
        self._membership = membership
        self._snapshots = snapshots
        self._version = -1

    async def follow(self) -> None:
        """One look; it costs nothing where nobody has committed since the last one."""
        version = self._database.version()
        if version == self._version or self._membership.quiet:
            return
        while await self._database.read(_is_behind, scope=_SCOPE):
            await self._snapshots.get(SYSTEM_TENANT)  # current_snapshot takes it from memory
            try:
                if not await self._database.write(self._take, scope=_SCOPE):
                    return  # another process does it, and may end before it has
            except StaleSnapshot:  # the operator's endpoints were changed meanwhile; nothing was taken
                self._snapshots.forget(SYSTEM_TENANT)
        self._version = version

    async def _take(self, tx: Tx) -> bool:
        """Turn the next rows into messages; False where another living process has the lease."""
        if not await log.has_lead(tx, LEASE, self._membership.id):
            return False
        last = await log.last_seq(tx, STREAM)
        rows = _some(await log.read_after(tx, STREAM, await log.cursor(tx, CURSOR), ROWS_AT_ONCE))
        if not rows:  # the log was trimmed before this cursor was in it
            await log.move_cursor(tx, CURSOR, STREAM, last)
            return True
        snapshot = await endpoints.current_snapshot(tx, self._snapshots.peek(SYSTEM_TENANT))
        if snapshot.endpoints:
            events: list[Event] = [item for row in rows for item in row.items]
            await self._send(tx, snapshot, events)
        await log.move_cursor(tx, CURSOR, STREAM, rows[-1].seq)
        tx.runtime.failpoints.hit(TAKEN)
        return True

    async def _send(self, tx: Tx, snapshot: Snapshot, events: Sequence[Event]) -> None:
        known = await _Known.of(tx, events)
        items = []
        for tenant, event in events:
            new = NewMessage(event["type"], orjson.dumps(known.payload(tenant, event)).decode())
            if targets := self._targets(snapshot, new):
                items.append(self._intake(snapshot, new, targets))
        for answer in await ingest(tx, items) if items else ():
            if isinstance(answer, NetraError):  # all of it or nothing: the cursor passes only what has become a message
                raise answer

    def _targets(self, snapshot: Snapshot, new: NewMessage) -> list[Target]:
        found = wanting(snapshot.matching(new.event_type, None), new)
        return [Target(each.id, skip="the endpoint is disabled" if each.disabled else None, line=each.line_of(None)) for each in found]

    def _intake(self, snapshot: Snapshot, new: NewMessage, targets: Sequence[Target]) -> Intake:
        message_id = self._runtime.ids.new()
        trace = TraceContext(self._runtime.ids.new().hex(), message_id[8:].hex())
        return Intake(SYSTEM_TENANT, message_id, new, snapshot.version, targets, self._settings.deadline_s, trace)


def _some(rows: Sequence[LogEntry]) -> list[LogEntry]:
    """As many of the rows as hold about `EVENTS_AT_ONCE` events, one at least: a row may hold a thousand."""
    taken: list[LogEntry] = []
    events = 0
    for row in rows:
        if taken and events + len(row.items) > EVENTS_AT_ONCE:
            break
        taken.append(row)
        events += len(row.items)
    return taken


async def _is_behind(tx: Tx) -> bool:
    return await log.last_seq(tx, STREAM) > await log.cursor(tx, CURSOR)


class _Known:
    """What the events name, as Svix's shapes of them want it."""

    def __init__(self, apps: Mapping[str, tuple[str, str | None]], uids: Mapping[Any, str | None], keys: Mapping[Any, str | None]) -> None:
        self._apps = apps
        self._uids = uids
        self._keys = keys

    @classmethod
    async def of(cls, tx: Tx, events: Sequence[Event]) -> _Known:
        apps = {tenant: await _app(tx, tenant) for tenant in sorted({tenant for tenant, _ in events})}
        lanes = sorted({(tenant, bytes.fromhex(event["endpoint"])) for tenant, event in events if "endpoint" in event})
        uids = {lane: await _uid(tx, *lane) for lane in lanes}
        messages = sorted({(tenant, bytes.fromhex(event["message"])) for tenant, event in events if "message" in event})
        keys = {(row[0], row[1]): row[2] for row in await tx.all(Q.event_ids, rows=messages)} if messages else {}
        return cls(apps, uids, keys)

    def payload(self, tenant: str, event: Mapping[str, Any]) -> dict[str, Any]:
        """The body: `type`, `timestamp` and `data`, as the Standard Webhooks recommend."""
        facts = dict(event)
        kind, at_us = facts.pop("type"), facts.pop("at_us", None)
        app_id, app_uid = self._apps[tenant]
        data: dict[str, Any] = {"appId": app_id, "appUid": app_uid}
        if "endpoint" in facts:
            endpoint = bytes.fromhex(facts.pop("endpoint"))
            data |= {"endpointId": to_text("ep", endpoint), "endpointUid": self._uids.get((tenant, endpoint))}
        if "message" in facts:
            message = bytes.fromhex(facts.pop("message"))
            data |= {"msgId": to_text("msg", message), "msgEventId": self._keys.get((tenant, message))}
            data["lastAttempt"] = _attempt(facts.pop("attempt", None))
        if "since_us" in facts:
            data["failSince"] = _instant(facts.pop("since_us"))
        return {"type": kind, "timestamp": _instant(at_us), "data": data | facts}


async def _app(tx: Tx, tenant: str) -> tuple[str, str | None]:
    found = await tenants.by_name(tx, tenant)
    return (found.app_id, found.uid) if found is not None else (tenant, None)


async def _uid(tx: Tx, tenant: str, endpoint_id: bytes) -> str | None:
    row = await tx.one(Q.endpoint_by_id, tenant=tenant, id=endpoint_id)
    return row[2] if row else None


def _attempt(made: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if made is None:  # it died without one, at its deadline
        return None
    return {
        "id": to_text("atmpt", bytes.fromhex(made["id"])),
        "timestamp": _instant(made["at_us"]),
        "responseStatusCode": made["status"],
    }


def _instant(at_us: int | None) -> str | None:
    """RFC 3339 in UTC."""
    return None if at_us is None else (_EPOCH + timedelta(microseconds=at_us)).isoformat(timespec="microseconds").replace("+00:00", "Z")
