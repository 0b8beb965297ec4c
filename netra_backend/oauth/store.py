"""Connections: import, lease, commit, reject, doubt, revoke, and what lists show.

Every verb holds the connection's row first, so that all that decide about one do so in turn, and then changes it under the condition that
its decision was made on: the fence of the lease it holds, or the lineage (generation and fingerprint) that its answer descends
from. The lease is in no condition of `commit`: a process that lost it, and whose parent token is still the current one, holds the
only token that lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from ..errors import Conflict, InvalidInput
from ..kernel.failpoints import declare
from ..kernel.spans import ERROR
from ..storage import spans
from ..storage.audit_append import audit_append
from ..storage.audit_append import fingerprint as fingerprint_of
from ..storage.sealing import Place, Sealer
from ..storage.statements import Row, Statements
from ..storage.transaction import Tx
from .assertion import PRIVATE_KEY_JWT, is_key
from .errors import GrantInUse, IssuerInUse, UnknownClient, UnknownConnection
from .model import JWT_BEARER, US, Assertion, Busy, Client, Connection, Due, Grant, Lease, Ready, Step, due_us, fingerprint, is_costly
from .states import CONNECTION, REFRESHED, SUCCEEDED

Q = Statements(__package__)
TABLE: Final = "netra_connection"
SPOOL_KEY: Final = "oauth.spool"
SECRETS: Final = "secrets"
ASSERTION_KEY: Final = "assertion_key"
BEFORE_EXPIRY_S: Final = 30
"""How long before its access token ends a grant in doubt is tried once more, where a second try may cost it."""

ASSERTION_REFUSED: Final = "assertion_refused"
"""Why a connection by an assertion was given up: the provider's `invalid_grant` (RFC 7523 section 3.1)."""

SUPERSEDED: Final = "superseded"
"""Why a way led nowhere: somebody has decided about its connection meanwhile."""

OPERATIONAL: Final = "operational"
"""The log's stream of what the operator is told (`webhooks/operational.py` follows it)."""
TO_THE_OPERATOR: Final = frozenset({"connection.at_risk", "connection.reauth_required", "connection.revoked"})

LEASED: Final = declare("oauth.leased_before_commit", "the lease and the intent are written, nothing is committed or sent")
GRANTED: Final = declare("oauth.granted_before_commit", "a successor is written, nothing is committed; it is in the spool")
GIVEN_UP: Final = declare("oauth.given_up_before_commit", "an attempt without a success is noted, nothing is committed")
DECIDED: Final = declare("oauth.decided_before_commit", "a connection's state is changed, nothing is committed")


async def client_named(tx: Tx, sealer: Sealer, name: str) -> Client:
    """A registration by name."""
    row = await tx.one(Q.get_client, name=name, id=b"")
    if row is None:
        raise UnknownClient(f"there is no client {name!r}")
    return await _client(tx, sealer, row)


async def client_of(tx: Tx, sealer: Sealer, id_: bytes) -> Client:
    """A connection's registration."""
    row = await tx.one(Q.get_client, name="", id=id_)
    assert row is not None  # a foreign key
    return await _client(tx, sealer, row)


async def clients(tx: Tx, sealer: Sealer, after: str, limit: int) -> list[Client]:
    """Registrations by name."""
    return [await _client(tx, sealer, row) for row in await tx.all(Q.list_clients, after=after, limit=limit)]


async def set_client(tx: Tx, sealer: Sealer, given: Client) -> Client:
    """Register, or change the registration of that name; its connections go on with the new one, at the same issuer."""
    row = await tx.one(Q.hold_client, name=given.name)
    id_ = row[0] if row is not None else given.id
    await _keep_issuer(tx, id_, given)
    sealed = await sealer.seal(tx, tx.tenant, _place(id_, SECRETS), orjson.dumps(given.secrets))
    signs, key = given.assertion, None
    if signs is not None:
        key = await sealer.seal(tx, tx.tenant, _place(id_, ASSERTION_KEY), signs.key.encode())
    facts = {
        "issuer": given.issuer,
        "token_endpoints": orjson.dumps(given.token_endpoints).decode(),
        "authorize_endpoint": given.authorize_endpoint,
        "revoke_endpoint": given.revoke_endpoint,
        "client_id": given.client_id,
        "auth": "none" if given.auth == PRIVATE_KEY_JWT else given.auth,
        "scopes": orjson.dumps(given.scopes).decode(),
        "replay_window_s": given.replay_window_s,
        "provider": given.provider,
        "device_endpoint": given.device_endpoint,
        "idle_s": given.idle_s,
        "assertion": orjson.dumps(signs.facts()).decode() if signs is not None else None,
    }
    after = {**facts, "name": given.name, "secrets": len(given.secrets), "sealed": fingerprint_of(sealed)}
    after[ASSERTION_KEY] = fingerprint_of(key) if key is not None else None
    entry = await audit_append(tx, "oauth_client.set", id_, table="netra_oauth_client", after=after)
    rest = {"id": id_, "sealed": sealed, "audit_id": entry, "now_us": tx.now_us, "default_lifetime_s": given.default_lifetime_s}
    rest[ASSERTION_KEY] = key
    if row is not None:
        await tx.execute(Q.update_client, **facts, **rest)
    elif not await tx.execute(Q.insert_client, name=given.name, **facts, **rest):
        raise Conflict(f"the client {given.name!r} was registered by somebody else just now", fix="Look at it, and register again.")
    return await client_named(tx, sealer, given.name)


async def _keep_issuer(tx: Tx, id_: bytes, given: Client) -> None:
    """Refuse another issuer while grants of the present one stand or users are there: a stranger would be sent their tokens and codes."""
    for asked, what in (
        (Q.issuer_of_grants, "connections of {} hold grants of {}"),
        (Q.issuer_of_flows, "users of {} are on their way to {}"),
    ):
        row = await tx.one(asked, id=id_)
        if row is not None and row[0] is not None and row[0] != given.issuer:
            raise IssuerInUse(f"{row[1]} " + what.format(repr(given.name), row[0]))


async def connection_named(tx: Tx, sealer: Sealer, name: str) -> Connection:
    """A connection with its tokens."""
    row = await tx.one(Q.get_connection, name=name)
    if row is None:
        raise UnknownConnection(f"there is no connection {name!r}")
    return await _connection(tx, sealer, row)


async def connection_and_client(tx: Tx, sealer: Sealer, name: str) -> tuple[Connection, Client]:
    """A connection and its registration."""
    found = await connection_named(tx, sealer, name)
    return found, await client_of(tx, sealer, found.client)


async def connections(tx: Tx, sealer: Sealer, after: str, limit: int) -> list[tuple[Connection, Client]]:
    """Connections by name."""
    found = [await _connection(tx, sealer, row) for row in await tx.all(Q.list_connections, after=after, limit=limit)]
    return [(each, await client_of(tx, sealer, each.client)) for each in found]


async def import_grant(tx: Tx, sealer: Sealer, name: str, client: str, grant: Grant, kind: str | None = None) -> Connection:
    """Take over tokens that were got elsewhere, under a new name or in place of what that name holds; `kind` as in `Connection`."""
    registered = await client_named(tx, sealer, client)
    if kind == JWT_BEARER and registered.assertion is None:
        raise InvalidInput(f"the client {client!r} has nothing to sign", fix="Register it with an `assertion` and its `key`.")
    lineage = fingerprint(grant.refresh) if grant.refresh is not None else None
    row = await tx.one(Q.get_connection, name=name)
    if lineage is not None and (other := await tx.one(Q.lineage_of, rt_fp=lineage)) is not None and (row is None or other[0] != name):
        raise GrantInUse(f"this refresh token is the connection {other[0]!r} already")
    if row is not None:
        held = await _held(tx, sealer, row[0])
        return await replace(tx, sealer, held, registered.id, grant, "connection.import", kind)
    id_ = tx.new_id()
    entry = await audit_append(tx, "connection.import", id_, table=TABLE, after=_imported(name, client, kind))
    facts = {"id": id_, "client": registered.id, "audit_id": entry, "now_us": tx.now_us, "kind": kind}
    facts |= await _sealed(tx, sealer, id_, registered.id, grant, 1, grant.refresh)
    if not await tx.execute(Q.insert_connection, name=name, state="active", generation=1, **facts):
        raise GrantInUse(f"another import of the connection {name!r} or of its refresh token came first")
    tx.runtime.failpoints.hit(DECIDED)
    return await _held(tx, sealer, id_)


def _imported(name: str, client: str, kind: str | None) -> dict[str, Any]:
    after = {"name": name, "client": client, "state": "active"}
    return after if kind is None else {**after, "kind": kind}


async def replace(tx: Tx, sealer: Sealer, now: Connection, client: bytes, grant: Grant, action: str, kind: str | None = None) -> Connection:
    """Give a connection another grant, in place of whatever it holds; it descends from nothing that was before.

    Nor does it stand beside it: an answer that is still on its way to what was here is no orphan of this grant (`reject`).
    """
    after = {"name": now.name, "state": "active", "kind": kind or "grant"}
    entry = await audit_append(tx, action, now.id, table=TABLE, before={"state": now.state}, after=after)
    facts = {"id": now.id, "client": client, "audit_id": entry, "now_us": tx.now_us, "kind": kind}
    await tx.execute(Q.replace_grant, **facts, **await _sealed(tx, sealer, now.id, client, grant, now.generation + 2, grant.refresh))
    await tx.execute(Q.drop_orphans, id=now.id, generation=2**62, rt_fp="")
    tx.runtime.failpoints.hit(DECIDED)
    return await _held(tx, sealer, now.id)


async def fail(tx: Tx, sealer: Sealer, now: Connection, reason: str) -> Connection:
    """A connection that nobody could finish."""
    return await _decide(tx, sealer, now, "fail", {"state": "failed", "reason": reason}, "connection.failed")


async def begin(
    tx: Tx, sealer: Sealer, id_: bytes, known: int, holder: bytes, lapsed: tuple[bytes, int] | None, *, forced: bool = False
) -> Step:
    """Take the lease and write the intent, in one transaction; or tell why nothing is to be sent.

    `known` is the generation that is to be replaced: a newer one wins at once. `lapsed` is the lease, holder and fence, that was found
    to be nobody's any more. `forced` passes over the pause that follows a failure, but not where a second request may cost the grant.
    """
    now = await _held(tx, sealer, id_)
    if now.generation > known or now.state not in REFRESHED or now.refresh is None:
        return Ready(now)
    if now.holder is not None and (now.holder, now.fence) != lapsed:
        return Busy(now, now.holder, now.fence)
    client = await client_of(tx, sealer, now.client)
    costly = now.has_open_intent and is_costly(now, client) and now.lives(tx.now_us, BEFORE_EXPIRY_S)
    if now.is_paused(tx.now_us) and (costly or not forced):
        return Ready(now)
    if costly and now.state == "active":
        return Ready(await _doubt(tx, sealer, now, client, "takeover", 0.0))
    taken = await tx.execute(Q.take_lease, id=id_, holder=holder, fence=now.fence, generation=now.generation, now_us=tx.now_us)
    assert taken  # the row is held
    key = await sealer.derive(tx, tx.tenant, SPOOL_KEY)
    tx.runtime.failpoints.hit(LEASED)
    return Lease(await _held(tx, sealer, id_), client, holder, now.fence + 1, now.has_open_intent, key)


async def send_again(tx: Tx, lease: Lease, endpoint: int) -> bool:
    """Note, before it is made, one more request under the same lease, and to which endpoint; False where the lease is lost."""
    was = lease.connection
    facts = {"id": was.id, "fence": lease.fence, "holder": lease.holder, "generation": was.generation}
    return bool(await tx.execute(Q.send_again, attempt_at=endpoint, **facts))


Tried = Sequence[tuple[str, str]]
"""Each endpoint that was asked, with why that failed."""


async def give_up(tx: Tx, sealer: Sealer, lease: Lease, pause_s: float, *, keep_intent: bool, tried: Tried = ()) -> Connection:
    """End an attempt whose token is well: nothing was sent, or the provider did not look at it. Not again before `pause_s`."""
    retry_us = tx.now_us + int(pause_s * US)
    ended = await tx.execute(
        Q.end_attempt, id=lease.connection.id, fence=lease.fence, holder=lease.holder, retry_us=retry_us, keep_intent=int(keep_intent)
    )
    if ended:
        await _note_failure(tx, lease.connection, tried)
    tx.runtime.failpoints.hit(GIVEN_UP)
    return await _held(tx, sealer, lease.connection.id)


async def doubt(tx: Tx, sealer: Sealer, lease: Lease, cause: str, pause_s: float, tried: Tried = ()) -> Connection:
    """Nobody knows what became of the token that was sent. The intent stays open, for the replay that will tell."""
    now = await _held(tx, sealer, lease.connection.id)
    if not _is_leased(now, lease):
        return now  # whoever has the lease by now has the intent as well
    await _note_failure(tx, now, tried)
    if now.state == "active":
        return await _doubt(tx, sealer, now, lease.client, cause, pause_s)
    retry_us = _replay_us(tx, now, lease.client, pause_s)
    await tx.execute(Q.end_attempt, id=now.id, fence=lease.fence, holder=lease.holder, retry_us=retry_us, keep_intent=1)
    tx.runtime.failpoints.hit(GIVEN_UP)
    return await _held(tx, sealer, now.id)


async def reject(tx: Tx, sealer: Sealer, lease: Lease, error: str, tried: Tried = ()) -> tuple[Connection, bool]:
    """The provider refused the current refresh token for good: how the connection stands, and whether an orphan took its place.

    The last hope is a successor that came too late for its own commit: a sibling of the current token that the provider may hold
    for the one that lives. Nothing is deleted: the old access token serves until its end.
    """
    now = await _held(tx, sealer, lease.connection.id)
    if not _is_leased(now, lease) or now.generation != lease.connection.generation:
        return now, False
    row = await tx.one(Q.newest_orphan, id=now.id, generation=now.generation - 1)
    if row is not None:
        grant = await _opened_orphan(tx, sealer, now.id, row)
        return await _commit(tx, sealer, now, grant), True
    await _note_failure(tx, now, tried)
    reason = "rotation_lost" if lease.replayed or now.attempts > 1 else "revoked"
    if now.kind == JWT_BEARER:  # nothing was spent that could be lost: what the assertion says, its key or its time is refused
        reason = ASSERTION_REFUSED
    after = {"state": "reauth_required", "reason": reason, "error": error}
    return await _decide(tx, sealer, now, "reject", after, "connection.reauth_required"), False


async def commit(tx: Tx, sealer: Sealer, id_: bytes, generation: int, parent_fp: str, grant: Grant, secret: int) -> Connection:
    """Put a successor in its parent's place; keep it as an orphan where the parent is not the current token any more.

    `secret` is the number of the client's secret that the provider took.
    """
    now = await _held(tx, sealer, id_)
    if now.kind is not None:  # its lineage is a name of our own: a refresh token that came along is nobody's (RFC 6749 section 4.4.3)
        grant = Grant(grant.access, None, grant.issued_us, grant.expires_us, grant.refresh_in_s)
    if now.generation == generation and now.rt_fp == parent_fp and now.state in SUCCEEDED:
        client = await client_of(tx, sealer, now.client)
        if secret != client.first_secret:
            await tx.execute(Q.prefer_secret, id=client.id, first_secret=secret)
        return await _commit(tx, sealer, now, grant)
    if grant.refresh is not None and now.state != "revoked" and fingerprint(grant.refresh) not in {now.rt_fp, parent_fp}:
        await _keep_orphan(tx, sealer, id_, generation, grant)
    return now


async def revoke(tx: Tx, sealer: Sealer, name: str, reason: str, *, delete: bool = False) -> tuple[Connection, Client]:
    """Forget a connection's tokens for good; as it was, so that the provider can be told."""
    was = await _held(tx, sealer, (await connection_named(tx, sealer, name)).id)
    client = await client_of(tx, sealer, was.client)
    if was.state == "revoked" and not delete:
        return was, client
    after = {"state": "revoked", "reason": reason, "deleted": delete}
    entry = await audit_append(tx, "connection.delete" if delete else "connection.revoke", was.id, table=TABLE, after=after)
    deleted_us = tx.now_us if delete else None
    await tx.execute(Q.revoke_connection, id=was.id, reason=reason, audit_id=entry, now_us=tx.now_us, deleted_us=deleted_us)
    await tx.execute(Q.drop_orphans, id=was.id, generation=2**62, rt_fp="")
    await tx.execute(Q.end_flows_of, id=was.id, outcome="failed", reason=SUPERSEDED)
    _announce(tx, "connection.revoked", was, reason=reason)
    tx.runtime.failpoints.hit(DECIDED)
    return was, client


async def note_reading(tx: Tx, name: str, generation: int) -> None:
    """Somebody was shown an access token."""
    await audit_append(tx, "connection.token.read", name, after={"generation": generation})


async def generations(tx: Tx, asked: Sequence[tuple[str, bytes]]) -> dict[tuple[str, bytes], tuple[int, str]]:
    """Generation and state of these connections (tenant, id), in one query for all tenants."""
    rows = await tx.all(Q.generations, rows=sorted(asked))
    return {(tenant, id_): (generation, state) for tenant, id_, generation, state in rows}


async def due(tx: Tx, after: Due | None, limit: int) -> list[Due]:
    """Connections of all tenants that are to be refreshed by now, behind `after`, the longest due first."""
    at_us, tenant, id_, _ = after or (-1, "", b"", 0)
    rows = await tx.all(Q.due_connections, now_us=tx.now_us, after_us=at_us, after_tenant=tenant, after_id=id_, limit=limit)
    return [Due(*row) for row in rows]


async def current(tx: Tx, sealer: Sealer, id_: bytes) -> Connection:
    """A connection as it stands."""
    return await _held(tx, sealer, id_)


async def client_of_connection(tx: Tx, sealer: Sealer, id_: bytes) -> Client:
    """The registration that a connection was made under."""
    return await client_of(tx, sealer, (await _held(tx, sealer, id_)).client)


async def spool_key(tx: Tx, sealer: Sealer) -> bytes:
    """The key under which this tenant's answers wait in the spool."""
    return await sealer.derive(tx, tx.tenant, SPOOL_KEY)


async def _note_failure(tx: Tx, connection: Connection, tried: Tried) -> None:
    """An entry and an event of a refresh that brought nothing; none where nobody was asked, for that begins anew at once."""
    if not tried:
        return
    after = {"name": connection.name, "generation": connection.generation, "tried": [list(each) for each in tried]}
    await audit_append(tx, "connection.refresh_failed", connection.id, after=after, outcome="failed")
    _announce(tx, "connection.refresh_failed", connection, generation=connection.generation, cause=tried[-1][1])
    await spans.append(tx, "oauth", "refresh", connection.name, status=ERROR)


def _is_leased(now: Connection, lease: Lease) -> bool:
    return (now.holder, now.fence) == (lease.holder, lease.fence)


def _replay_us(tx: Tx, now: Connection, client: Client, pause_s: float) -> int:
    """When a token in doubt is sent once more: soon, or, where that may cost the grant, just before its access token ends."""
    soon = tx.now_us + int(pause_s * US)
    if not is_costly(now, client) or now.expires_us is None:
        return soon
    return max(soon, now.expires_us - BEFORE_EXPIRY_S * US)


async def _doubt(tx: Tx, sealer: Sealer, now: Connection, client: Client, cause: str, pause_s: float) -> Connection:
    after = {"state": "at_risk", "reason": cause}
    return await _decide(tx, sealer, now, "doubt", after, "connection.at_risk", _replay_us(tx, now, client, pause_s))


async def _decide(
    tx: Tx, sealer: Sealer, now: Connection, event: str, after: dict[str, Any], kind: str, retry_us: int | None = None
) -> Connection:
    """Change the state as `event` does, with its entry, and tell the log."""
    state = CONNECTION.after(event, now.state)
    entry = await audit_append(tx, f"connection.{state}", now.id, table=TABLE, before={"state": now.state}, after=after)
    facts = {"state": state, "reason": after["reason"], "retry_us": retry_us, "audit_id": entry, "now_us": tx.now_us}
    await tx.execute(Q.decide_connection, id=now.id, **facts)
    _announce(tx, kind, now, reason=after["reason"])
    tx.runtime.failpoints.hit(DECIDED)
    return await _held(tx, sealer, now.id)


async def _commit(tx: Tx, sealer: Sealer, now: Connection, grant: Grant) -> Connection:
    entry = now.audit_id
    if now.state != "active":
        before, after = {"state": now.state}, {"state": "active"}
        entry = await audit_append(tx, "connection.active", now.id, table=TABLE, before=before, after=after)
    refresh = grant.refresh if grant.refresh is not None else now.refresh
    if refresh is not None and refresh != now.refresh and await tx.one(Q.lineage_of, rt_fp=fingerprint(refresh)) is not None:
        refresh = None  # the provider has given it to another connection too: that one renews it, and this one ends with its access token
    facts = await _sealed(tx, sealer, now.id, now.client, grant, now.generation + 1, refresh)
    await tx.execute(Q.commit_grant, id=now.id, generation=now.generation, parent_fp=now.rt_fp, audit_id=entry, now_us=tx.now_us, **facts)
    await tx.execute(Q.drop_orphans, id=now.id, generation=now.generation, rt_fp=facts["rt_fp"])
    await tx.execute(Q.carry_flows, id=now.id, generation=now.generation)
    _announce(tx, "connection.refreshed", now, generation=now.generation + 1)
    await spans.append(tx, "oauth", "refresh", now.name)
    tx.runtime.failpoints.hit(GRANTED)
    return await _held(tx, sealer, now.id)


async def _sealed(tx: Tx, sealer: Sealer, id_: bytes, client: bytes, grant: Grant, generation: int, refresh: str | None) -> dict[str, Any]:
    """The columns of a grant. A provider that gave no new refresh token goes on with the old one, which `refresh` then is."""
    secrets = {"access": grant.access, "refresh": refresh}
    sealed = {
        field: await sealer.seal(tx, tx.tenant, Place(TABLE, id_, field), secret.encode()) if secret is not None else None
        for field, secret in secrets.items()
    }
    idle = await tx.one(Q.idle_of_client, id=client)
    assert idle is not None  # a foreign key
    return {
        **sealed,
        "rt_fp": fingerprint(refresh) if refresh is not None else None,
        "issued_us": grant.issued_us,
        "expires_us": grant.expires_us,
        "due_us": due_us(grant, id_, generation, idle[0]) if refresh is not None else None,
    }


async def _keep_orphan(tx: Tx, sealer: Sealer, id_: bytes, generation: int, grant: Grant) -> None:
    assert grant.refresh is not None
    lineage = fingerprint(grant.refresh)
    body = orjson.dumps([grant.access, grant.refresh, grant.issued_us, grant.expires_us])
    sealed = await sealer.seal(tx, tx.tenant, Place("netra_connection_orphan", id_ + bytes.fromhex(lineage), "sealed"), body)
    await tx.execute(Q.insert_orphan, id=id_, rt_fp=lineage, parent_generation=generation, sealed=sealed, now_us=tx.now_us)


async def _opened_orphan(tx: Tx, sealer: Sealer, id_: bytes, row: Row) -> Grant:
    lineage, _, sealed = row
    body = await sealer.unseal(tx, tx.tenant, Place("netra_connection_orphan", id_ + bytes.fromhex(lineage), "sealed"), sealed)
    return Grant(*orjson.loads(body))


async def _held(tx: Tx, sealer: Sealer, id_: bytes) -> Connection:
    row = await tx.one(Q.hold_connection, id=id_)
    if row is None:
        raise UnknownConnection("the connection was deleted")
    return await _connection(tx, sealer, row)


async def _connection(tx: Tx, sealer: Sealer, row: Row) -> Connection:
    id_, name, client, state, reason, generation, access, refresh, *rest = row
    opened = [
        (await sealer.unseal(tx, tx.tenant, Place(TABLE, id_, field), sealed)).decode() if sealed is not None else None
        for field, sealed in (("access", access), ("refresh", refresh))
    ]
    return Connection(tx.tenant, id_, name, client, state, reason, generation, opened[0], opened[1], *rest)


async def _client(tx: Tx, sealer: Sealer, row: Row) -> Client:
    id_, name, issuer, endpoints, authorize, revoke_at, client_id, auth, sealed, first, scopes, window, lifetime, *ways, says, key = row
    secrets = orjson.loads(await sealer.unseal(tx, tx.tenant, _place(id_, SECRETS), sealed))
    if key is not None:
        key = (await sealer.unseal(tx, tx.tenant, _place(id_, ASSERTION_KEY), key)).decode()
    ways.append(Assertion(key, **orjson.loads(says)) if key is not None else None)
    where = (tuple(orjson.loads(endpoints)), authorize, revoke_at)
    if auth == "none" and secrets and is_key(secrets[0]):  # a client without a secret has none; the column's words are older than this way
        auth = PRIVATE_KEY_JWT
    return Client(id_, name, issuer, *where, client_id, auth, tuple(secrets), first, tuple(orjson.loads(scopes)), window, lifetime, *ways)


def _place(id_: bytes, field: str) -> Place:
    """Where a registration's secrets stand."""
    return Place("netra_oauth_client", id_, field)


def _announce(tx: Tx, kind: str, connection: Connection, **facts: Any) -> None:
    """Tell the log; no token is in it."""
    tx.emit("events", {"type": kind, "connection": connection.name, **facts})
    if kind in TO_THE_OPERATOR:
        tx.emit(OPERATIONAL, {"type": kind, "at_us": tx.now_us, "connection": connection.name, **facts})
