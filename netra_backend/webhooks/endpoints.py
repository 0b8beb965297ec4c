"""Endpoints, their secrets, and the operator's event types: every change with its audit entry.

Each change of a tenant's endpoints raises the tenant's version, so that no message is fanned out by an older list. A change of
an event type raises the system tenant's, for the sake of the retry schedules in that one's snapshot.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from ..errors import Conflict, InvalidInput, NotFound
from ..kernel.ids import to_text, try_from_text
from ..kernel.scope import SYSTEM_TENANT
from ..storage.audit_append import audit_append, fingerprint
from ..storage.sealing import Place, Sealer
from ..storage.statements import Row, Statements
from ..storage.transaction import Tx
from .keys import KeyKind, decode_secret, jwk, kind_of, new_key
from .model import Endpoint, EventType, Secret, Snapshot
from .reports import report

Q = Statements(__package__)
TABLE: Final = "netra_endpoint"
SECRET_TABLE: Final = "netra_endpoint_secret"  # noqa: S105  (a table's name)
EVENT_TYPE_TABLE: Final = "netra_event_type"
MOST_ENDPOINTS: Final = 20_000
"""Of one tenant. All of them are read at once, and a message to all is stored at once, for half a second then."""
MOST_READ: Final = 100_000
DISABLED: Final = "endpoint.disabled"
LIVE_SECRETS: Final = 5
"""How many keys of an endpoint sign at once, the newest included."""
ROTATION_OVERLAP_S: Final = 24 * 3600
_UID_FIX: Final = "Choose another uid, or change the endpoint that has it."
_THIS_HOST: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_EVENT_TYPE: Final = re.compile(r"[a-zA-Z0-9_.\-]{1,256}\Z")


def check_event_type(name: str) -> str:
    """Return a name that an event type may have (Svix's alphabet), else raise."""
    if not _EVENT_TYPE.match(name):
        raise InvalidInput(f"{name[:80]!r} cannot name an event type", fix="Use 1 to 256 of a-z, A-Z, 0-9, '_', '-' and '.'.")
    return name


def check_url(url: str) -> str:
    """Any http(s) URL is accepted; whether its address may be reached is judged at each connection."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not parts.hostname or port == 0 or not url.isprintable() or " " in url:
        raise InvalidInput(f"{url[:80]!r} is not an http or https URL", fix="Give a whole URL, such as https://example.com/hook.")
    if parts.username is not None or parts.password is not None:
        raise InvalidInput("a URL with a user name or password is refused", fix="Give the credential as a header of the endpoint.")
    return url


def check_auth(endpoint: Endpoint) -> None:
    """A bearer token goes over TLS only (RFC 6750 section 5.3), or stays on this host."""
    if endpoint.auth is None:
        return
    if endpoint.tenant == SYSTEM_TENANT:
        raise InvalidInput("an operational endpoint has no tenant whose connection it could use", fix="Give the credential as a header.")
    parts = urlsplit(endpoint.url)
    if parts.scheme != "https" and parts.hostname not in _THIS_HOST:
        raise InvalidInput("an access token is not sent in the clear", fix="Give an https URL, or no `auth`.")


async def create(tx: Tx, sealer: Sealer, endpoint: Endpoint, secret: str | None, kind: KeyKind = "hmac") -> Endpoint:
    """Add an endpoint and its first signing key: `secret` (`whsec_...` or `whsk_...`), or one of this kind that is made here."""
    if endpoint.uid is not None and await tx.one(Q.endpoint_by_uid, uid=endpoint.uid) is not None:
        raise Conflict(f"an endpoint with the uid {endpoint.uid!r} exists already", fix=_UID_FIX)
    await _check_room(tx)
    made = replace(endpoint, tenant=tx.tenant, id=tx.new_id(), created_us=tx.now_us, updated_us=tx.now_us)
    check_auth(made)
    entry = await audit_append(tx, "endpoint.create", made.id, table=TABLE, after=_facts(made))
    await tx.execute(Q.insert_endpoint, id=made.id, now_us=tx.now_us, audit_id=entry, **_columns(made))
    await _add_secret(tx, sealer, made.id, _key(tx, secret, kind))
    await tx.execute(Q.bump_version)
    return made


async def _check_room(tx: Tx) -> None:
    row = await tx.one(Q.count_endpoints, limit=MOST_ENDPOINTS)
    if row is not None and row[0] >= MOST_ENDPOINTS:
        raise Conflict(f"a tenant has at most {MOST_ENDPOINTS} endpoints", fix="Delete some, or give a part of them a tenant of its own.")


async def update(tx: Tx, reference: str, changes: Mapping[str, Any]) -> Endpoint:
    """Change what `changes` names."""
    before = await get_to_change(tx, reference)
    after = replace(before, **changes, updated_us=tx.now_us)
    check_auth(after)
    if after.uid is not None and after.uid != before.uid and await tx.one(Q.endpoint_by_uid, uid=after.uid) is not None:
        raise Conflict(f"an endpoint with the uid {after.uid!r} exists already", fix=_UID_FIX)
    entry = await audit_append(tx, "endpoint.update", before.id, table=TABLE, before=_facts(before), after=_facts(after))
    await tx.execute(Q.update_endpoint, id=before.id, now_us=tx.now_us, audit_id=entry, **_columns(after))
    await tx.execute(Q.bump_version)
    if (before.url, before.disabled) != (after.url, after.disabled):  # what was known is of another receiver, or settled by somebody
        await tx.execute(Q.reset_health, endpoint_id=before.id, now_us=tx.now_us)
    if after.disabled and not before.disabled:
        report(tx, DISABLED, tx.tenant, before.id, trigger="manual", reason=f"disabled by {tx.scope.actor}", since_us=None)
    return after


async def disable(tx: Tx, tenant: str, endpoint_id: bytes, reason: str, *, since_us: int | None = None) -> bool:
    """Disable an endpoint because its receiver asked for it, or has failed `since_us`; False where it is disabled or gone already."""
    if not await tx.execute(Q.hold_enabled_endpoint, tenant=tenant, id=endpoint_id):
        return False
    after = {"disabled": 1, "reason": reason}
    entry = await audit_append(tx, "endpoint.disable", endpoint_id, table=TABLE, before={"disabled": 0}, after=after, tenant=tenant)
    await tx.execute(Q.disable_endpoint, tenant=tenant, id=endpoint_id, now_us=tx.now_us, audit_id=entry)
    await tx.execute(Q.bump_version, tenant=tenant)
    await tx.execute(Q.reset_health, tenant=tenant, endpoint_id=endpoint_id, now_us=tx.now_us)
    tx.emit("events", {"type": "endpoint.disabled", "endpoint": endpoint_id.hex(), "reason": reason}, tenant)
    report(tx, DISABLED, tenant, endpoint_id, trigger="automatic", reason=reason, since_us=since_us)
    return True


async def bury(tx: Tx, reference: str) -> Endpoint:
    """Delete an endpoint: what was due for it is cancelled when it is next looked at."""
    gone = await get_to_change(tx, reference)
    entry = await audit_append(tx, "endpoint.delete", gone.id, table=TABLE, before=_facts(gone))
    await tx.execute(Q.bury_endpoint, id=gone.id, now_us=tx.now_us, audit_id=entry)
    await tx.execute(Q.bump_version)
    await tx.execute(Q.reset_health, endpoint_id=gone.id, now_us=tx.now_us)
    return gone


async def get(tx: Tx, reference: str) -> Endpoint:
    """The endpoint of that id or uid."""
    id_ = try_from_text("ep", reference)
    row = await tx.one(Q.endpoint_by_id, id=id_) if id_ is not None else None
    row = row or await tx.one(Q.endpoint_by_uid, uid=reference)
    if row is None:
        raise NotFound(f"there is no endpoint {reference[:80]!r}", fix="List them: netra webhooks list --endpoints, or GET .../endpoint")
    return endpoint_of(row)


async def get_to_change(tx: Tx, reference: str) -> Endpoint:
    """The endpoint, its row locked first: of two changes at once the second sees what the first has done."""
    found = await get(tx, reference)
    await tx.execute(Q.hold_endpoint, id=found.id)
    return await get(tx, to_text("ep", found.id))


async def page(tx: Tx, at: tuple[int, bytes], limit: int, *, back: bool = False) -> list[Endpoint]:
    """The tenant's endpoints by (created, id)."""
    statement = Q.list_endpoints_back if back else Q.list_endpoints
    return [endpoint_of(row) for row in await tx.all(statement, created_us=at[0], id=at[1], limit=limit)]


async def live_secrets(tx: Tx, sealer: Sealer, endpoint_id: bytes) -> list[Secret]:
    """The keys that sign for an endpoint just now, the newest first."""
    rows = await tx.all(Q.endpoint_secrets, endpoint_id=endpoint_id, now_us=tx.now_us)
    return [await _secret(tx, sealer, tx.tenant, row) for row in rows]


async def disclose_secret(tx: Tx, sealer: Sealer, reference: str) -> bytes:
    """The newest signing key of an endpoint, with an audit entry of who asked for it."""
    endpoint = await get(tx, reference)
    secrets = await live_secrets(tx, sealer, endpoint.id)
    if not secrets:
        raise NotFound("the endpoint has no live secret", fix="Rotate its secret.")
    await audit_append(tx, "endpoint.secret.read", endpoint.id, table="")
    return secrets[0].key


async def rotate_secret(
    tx: Tx, sealer: Sealer, reference: str, secret: str | None, kind: KeyKind | None = None, overlap_s: float = ROTATION_OVERLAP_S
) -> None:
    """Give the endpoint a new key; the former ones sign beside it for the overlap, then no more.

    A key that is made here is of the kind of the newest one unless another is named. An overlap of 0 revokes the former at
    once, also those whose overlap still runs: for a secret that somebody else knows.
    """
    endpoint = await get_to_change(tx, reference)
    expires_us = tx.now_us + int(overlap_s * 1_000_000)
    former = await live_secrets(tx, sealer, endpoint.id)
    for age, each in enumerate(former, 1):
        # Each one signs every request: of many rotations in a row the oldest have their overlap cut short.
        until_us = tx.now_us if age >= LIVE_SECRETS else expires_us
        if each.expires_us is None or each.expires_us > until_us:
            entry = await audit_append(tx, "endpoint.secret.expire", each.id, table=SECRET_TABLE, after={"expires_us": until_us})
            await tx.execute(Q.expire_secret, id=each.id, expires_us=until_us, audit_id=entry)
    kind = kind or (kind_of(former[0].key) if former else "hmac")
    await _add_secret(tx, sealer, endpoint.id, _key(tx, secret, kind))
    await tx.execute(Q.bump_version)


def _key(tx: Tx, secret: str | None, kind: KeyKind) -> bytes:
    return decode_secret(secret) if secret is not None else new_key(tx.runtime.chance, kind)


async def public_keys(tx: Tx, sealer: Sealer, endpoint_id: bytes) -> list[dict[str, str]]:
    """The public halves of the Ed25519 pairs that sign for an endpoint just now, as JSON Web Keys; none where it is gone."""
    if await tx.one(Q.endpoint_by_id, id=endpoint_id) is None:
        return []
    return [jwk(secret.key) for secret in await live_secrets(tx, sealer, endpoint_id) if kind_of(secret.key) == "ed25519"]


async def snapshot(tx: Tx, sealer: Sealer, tenant: str) -> Snapshot:
    """The tenant's endpoints and live secrets, as of one version number. In the system's scope, or the tenant's own."""
    version = await tx.one(Q.get_version, tenant=tenant)
    listed = await tx.all(Q.list_endpoints, tenant=tenant, created_us=-1, id=b"", limit=MOST_READ)
    found = {endpoint.id: endpoint for endpoint in map(endpoint_of, listed)}
    secrets: dict[bytes, list[Secret]] = {}
    for row in await tx.all(Q.live_secrets, tenant=tenant, now_us=tx.now_us):
        if row[1] in found:  # those of endpoints that were deleted stay, and may be very many
            secret = await _secret(tx, sealer, tenant, row)
            secrets.setdefault(secret.endpoint_id, []).append(secret)
    schedules = await tx.all(Q.schedules_of_event_types, tenant=tenant) if tenant == SYSTEM_TENANT else []
    signing = {endpoint: tuple(keys) for endpoint, keys in secrets.items()}
    return Snapshot(tenant, int(version[0]) if version else 0, found, signing, dict(schedules))


async def current_snapshot(tx: Tx, known: Snapshot | None) -> Snapshot:
    """For a fan-out inside a transaction: the known snapshot if it is current, else the endpoints without secrets."""
    row = await tx.one(Q.get_version)
    version = int(row[0]) if row else 0
    if known is not None and known.version == version:
        return known
    endpoints = [endpoint_of(found) for found in await tx.all(Q.list_endpoints, created_us=-1, id=b"", limit=MOST_READ)]
    return Snapshot(tx.tenant, version, {endpoint.id: endpoint for endpoint in endpoints}, {})


async def changed(tx: Tx, known: Sequence[tuple[str, int]]) -> list[str]:
    """Which of the tenants have other endpoints than those of the version given."""
    return [row[0] for row in await tx.all(Q.changed_versions, rows=sorted(known))]


async def _add_secret(tx: Tx, sealer: Sealer, endpoint_id: bytes, key: bytes) -> None:
    secret_id = tx.new_id()
    sealed = await sealer.seal(tx, tx.tenant, _place(secret_id), key)
    after = {"endpoint": endpoint_id.hex(), "sealed": fingerprint(sealed)}
    entry = await audit_append(tx, "endpoint.secret.create", secret_id, table=SECRET_TABLE, after=after)
    await tx.execute(Q.insert_secret, id=secret_id, endpoint_id=endpoint_id, sealed=sealed, now_us=tx.now_us, audit_id=entry)


async def _secret(tx: Tx, sealer: Sealer, tenant: str, row: Row) -> Secret:
    id_, endpoint_id, sealed, expires_us = row
    return Secret(id_, endpoint_id, await sealer.unseal(tx, tenant, _place(id_), sealed), expires_us)


def _place(secret_id: bytes) -> Place:
    return Place(SECRET_TABLE, secret_id, "sealed")


def endpoint_of(row: Row) -> Endpoint:
    """An endpoint from its row, in the column order of the queries."""
    tenant, id_, uid, url, description, types, channels, disabled, rate_limit, metadata, headers, *rest = row
    ordering, filter_, created, updated, schedule, auth = rest
    return Endpoint(
        tenant,
        id_,
        uid,
        url,
        description,
        None if types is None else tuple(orjson.loads(types)),
        None if channels is None else tuple(orjson.loads(channels)),
        bool(disabled),
        rate_limit,
        orjson.loads(metadata),
        orjson.loads(headers),
        created,
        updated,
        ordering or "none",
        filter_,
        schedule,
        auth,
    )


def _columns(endpoint: Endpoint) -> dict[str, Any]:
    return {
        "uid": endpoint.uid,
        "url": endpoint.url,
        "description": endpoint.description,
        "event_types": None if endpoint.event_types is None else orjson.dumps(endpoint.event_types).decode(),
        "channels": None if endpoint.channels is None else orjson.dumps(endpoint.channels).decode(),
        "disabled": int(endpoint.disabled),
        "rate_limit": endpoint.rate_limit,
        "metadata": orjson.dumps(endpoint.metadata).decode(),
        "headers": orjson.dumps(endpoint.headers).decode(),
        "ordering": None if endpoint.ordering == "none" else endpoint.ordering,
        "filter": endpoint.filter,
        "schedule": endpoint.schedule,
        "auth": endpoint.auth,
    }


def _facts(endpoint: Endpoint) -> dict[str, Any]:
    """What an audit entry says of an endpoint; header values may be credentials, so only their names and a fingerprint."""
    columns = _columns(endpoint)
    return {**columns, "headers": sorted(endpoint.headers), "headers_sha256": fingerprint(columns["headers"])}


async def create_event_type(tx: Tx, event_type: EventType) -> EventType:
    """Define an event type; one that was deleted comes back."""
    row = await tx.one(Q.get_event_type, tenant=SYSTEM_TENANT, name=event_type.name)
    if row is not None and row[8] is None:
        raise Conflict(f"an event type {event_type.name!r} exists already", fix="Change it: PUT or PATCH /api/v1/event-type/{name}.")
    entry = await _audit_event_type(tx, "create", event_type)
    statement = Q.insert_event_type if row is None else Q.update_event_type
    await tx.execute(statement, tenant=SYSTEM_TENANT, now_us=tx.now_us, audit_id=entry, **_type_columns(event_type))
    await tx.execute(Q.bump_version, tenant=SYSTEM_TENANT)
    return replace(event_type, created_us=row[6] if row else tx.now_us, updated_us=tx.now_us)


async def update_event_type(tx: Tx, name: str, changes: Mapping[str, Any]) -> EventType:
    """Change what `changes` names."""
    await tx.execute(Q.hold_event_type, tenant=SYSTEM_TENANT, name=name)
    after = replace(await get_event_type(tx, name), **changes, updated_us=tx.now_us)
    entry = await _audit_event_type(tx, "update", after)
    await tx.execute(Q.update_event_type, tenant=SYSTEM_TENANT, now_us=tx.now_us, audit_id=entry, **_type_columns(after))
    await tx.execute(Q.bump_version, tenant=SYSTEM_TENANT)
    return after


async def bury_event_type(tx: Tx, name: str) -> None:
    """Delete an event type: messages of it are kept, new ones are unknown."""
    await tx.execute(Q.hold_event_type, tenant=SYSTEM_TENANT, name=name)
    entry = await _audit_event_type(tx, "delete", await get_event_type(tx, name))
    await tx.execute(Q.bury_event_type, tenant=SYSTEM_TENANT, name=name, now_us=tx.now_us, audit_id=entry)
    await tx.execute(Q.bump_version, tenant=SYSTEM_TENANT)


async def get_event_type(tx: Tx, name: str) -> EventType:
    """The event type of that name."""
    row = await tx.one(Q.get_event_type, tenant=SYSTEM_TENANT, name=name)
    if row is None or row[8] is not None:
        raise NotFound(f"there is no event type {name[:80]!r}")
    return _event_type(row)


async def event_types(tx: Tx, at: str, limit: int, *, with_archived: bool = False, back: bool = False) -> list[EventType]:
    """Event types by name."""
    statement = Q.list_event_types_back if back else Q.list_event_types
    rows = await tx.all(statement, tenant=SYSTEM_TENANT, with_archived=int(with_archived), after=at, limit=limit)
    return [_event_type(row) for row in rows]


async def _audit_event_type(tx: Tx, verb: str, event_type: EventType) -> bytes:
    columns = _type_columns(event_type)
    schemas = columns.pop("schemas")
    facts = {**columns, "schemas_sha256": None if schemas is None else fingerprint(schemas)}
    return await audit_append(tx, f"event_type.{verb}", event_type.name, table=EVENT_TYPE_TABLE, after=facts, tenant=SYSTEM_TENANT)


def _event_type(row: Row) -> EventType:
    name, description, archived, deprecated, group_name, schemas, created_us, updated_us, _, schedule = row
    parsed = None if schemas is None else orjson.loads(schemas)
    return EventType(name, description, bool(archived), bool(deprecated), group_name, parsed, created_us, updated_us, schedule)


def _type_columns(event_type: EventType) -> dict[str, Any]:
    return {
        "name": event_type.name,
        "description": event_type.description,
        "archived": int(event_type.archived),
        "deprecated": int(event_type.deprecated),
        "group_name": event_type.group_name,
        "schemas": None if event_type.schemas is None else orjson.dumps(event_type.schemas).decode(),
        "schedule": event_type.schedule,
    }
