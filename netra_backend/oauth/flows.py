"""Ways to a provider and back: begin, consume the `state` once, commit what the code was traded for, end.

O9: a code leaves this host at most once. Whoever consumes the `state` in the table may send it, and nobody else ever; a process that is
killed after that leaves a way that ends as failed, and the user connects again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from ..kernel.failpoints import declare
from ..storage.audit_append import audit_append
from ..storage.sealing import Place, Sealer
from ..storage.transaction import Tx
from . import store
from .errors import GrantInUse, UnknownConnection, UnknownState
from .model import US, Client, Connection, Grant, fingerprint
from .store import Q

TABLE: Final = "netra_connect_flow"
LIVES_S: Final = 1800
ANSWER_S: Final = 120
"""How long after its `state` came back a way waits for the answer of whoever sends the code."""

KEPT_S: Final = 24 * 3600
"""How long a way that has ended is there to be told of, from its beginning."""

CONSUMED: Final = declare("oauth.code_consumed_before_commit", "the state is consumed, nothing is committed, and no code was sent")
FOLLOWED: Final = declare("oauth.link_followed_before_commit", "a link is used up, nothing is committed, and nobody was sent on")
TAKEN: Final = declare("oauth.device_turn_before_commit", "the turn to ask for a device's code is taken, nothing is committed")
TRIMMED: Final = declare("oauth.flows_trimmed_before_commit", "ways that ended long ago are deleted, nothing is committed")


@dataclass(frozen=True, slots=True)
class Flow:
    """A way as it stands. `outcome` is None while it is open."""

    id: bytes
    connection: bytes
    verifier: str = field(repr=False)
    redirect_uri: str
    generation: int
    expires_us: int
    consumed_us: int | None
    outcome: str | None
    reason: str | None
    kind: str | None = None
    interval_s: int | None = None
    followed_us: int | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """The right to send the code of one way, once."""

    flow: Flow
    client: Client
    name: str
    spool_key: bytes = field(repr=False)


def hashed(state: str) -> bytes:
    """What stands for a `state` in the table."""
    return hashlib.sha256(b"netra connect state\0" + state.encode(errors="surrogatepass")).digest()


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a way begins with. For a device `verifier` is its code, and `lives_s` and `interval_s` are the provider's."""

    state_hash: bytes
    verifier: str = field(repr=False)
    redirect_uri: str = ""
    kind: str | None = None
    lives_s: float | None = None
    interval_s: int | None = None


async def begin(tx: Tx, sealer: Sealer, name: str, client: str, beginning: Beginning) -> tuple[Client, int]:
    """Begin a way to the client's provider for a new connection or for one that is there; its end by itself, in microseconds."""
    await tx.one(Q.hold_client, name=client)  # it moves to no other issuer until this way is there to be seen (`store.set_client`)
    registered = await store.client_named(tx, sealer, client)
    row = await tx.one(Q.get_connection, name=name)
    if row is None:
        id_, generation = tx.new_id(), 0
        after = {"name": name, "client": client, "state": "pending"}
        entry = await audit_append(tx, "connection.connect", id_, table=store.TABLE, after=after)
        none = dict.fromkeys(("access", "refresh", "rt_fp", "issued_us", "expires_us", "due_us"))
        facts = {"id": id_, "client": registered.id, "audit_id": entry, "now_us": tx.now_us, "kind": None, **none}
        if not await tx.execute(Q.insert_connection, name=name, state="pending", generation=0, **facts):
            raise GrantInUse(f"the connection {name!r} was made by somebody else just now")
    else:  # what it holds serves on until the new grant is there
        id_, generation = row[0], row[5]
        if row[2] != registered.id:
            raise GrantInUse(f"the connection {name!r} is another client's", fix="Connect under another name, or delete that one first.")
    flow = tx.new_id()
    expires_us = tx.now_us + int((LIVES_S if beginning.lives_s is None else beginning.lives_s) * US)
    sealed = await sealer.seal(tx, tx.tenant, Place(TABLE, flow, "verifier"), beginning.verifier.encode())
    poll_us = tx.now_us + beginning.interval_s * US if beginning.interval_s is not None else None
    facts = {"id": flow, "connection_id": id_, "state_hash": beginning.state_hash, "verifier": sealed}
    facts |= {"redirect_uri": beginning.redirect_uri, "kind": beginning.kind, "poll_us": poll_us, "interval_s": beginning.interval_s}
    await tx.execute(Q.insert_flow, generation=generation, expires_us=expires_us, now_us=tx.now_us, **facts)
    return registered, expires_us


async def found(tx: Tx, state_hash: bytes) -> tuple[str, bytes] | None:
    """Tenant and id of the way with this state."""
    row = await tx.one(Q.flow_by_state, state_hash=state_hash)
    return (str(row[0]), bytes(row[1])) if row is not None else None


async def consume(tx: Tx, sealer: Sealer, id_: bytes) -> Sending | None:
    """The right to send its code, to the first who asks; None to everybody after, for ever."""
    taken = await tx.execute(Q.consume_flow, id=id_, now_us=tx.now_us, answer_by_us=tx.now_us + ANSWER_S * US)
    tx.runtime.failpoints.hit(CONSUMED)
    if not taken:
        return None
    return await _sending(tx, sealer, id_)


async def follow(tx: Tx, sealer: Sealer, id_: bytes) -> Sending | None:
    """What the user of a link is sent on with, to the first who follows it; None to everybody after. His time begins anew."""
    if not await tx.execute(Q.follow_flow, id=id_, now_us=tx.now_us, expires_us=tx.now_us + LIVES_S * US):
        return None
    tx.runtime.failpoints.hit(FOLLOWED)
    return await _sending(tx, sealer, id_)


async def look(tx: Tx, sealer: Sealer, id_: bytes) -> Sending:
    """A way with its client and its connection's name, to be shown."""
    return await _sending(tx, sealer, id_)


async def take_poll(tx: Tx, sealer: Sealer, id_: bytes, within_s: float) -> Sending | None:
    """The right to ask once what became of a device's code; nobody else asks before `within_s` is over."""
    next_us = tx.now_us + int(within_s * US)
    if not await tx.execute(Q.take_poll, id=id_, now_us=tx.now_us, next_us=next_us):
        return None
    tx.runtime.failpoints.hit(TAKEN)
    return await _sending(tx, sealer, id_)


async def poll_later(tx: Tx, id_: bytes, interval_s: int) -> None:
    """The user has not decided yet."""
    await tx.execute(Q.poll_later, id=id_, next_us=tx.now_us + interval_s * US, interval_s=interval_s)


async def due_polls(tx: Tx, limit: int) -> list[tuple[str, bytes]]:
    """Ways of all tenants, by tenant and id, whose device's code is to be asked for."""
    return [(tenant, id_) for tenant, id_ in await tx.all(Q.due_polls, now_us=tx.now_us, limit=limit)]


async def _sending(tx: Tx, sealer: Sealer, id_: bytes) -> Sending:
    flow = await get(tx, sealer, id_)
    now = await store.current(tx, sealer, flow.connection)
    return Sending(flow, await store.client_of(tx, sealer, now.client), now.name, await store.spool_key(tx, sealer))


async def get(tx: Tx, sealer: Sealer, id_: bytes) -> Flow:
    """A way as it stands; `UnknownState` where it ended long ago."""
    row = await tx.one(Q.get_flow, id=id_)
    if row is None:
        raise UnknownState
    connection, sealed, *rest = row
    verifier = await sealer.unseal(tx, tx.tenant, Place(TABLE, id_, "verifier"), sealed)
    return Flow(id_, connection, verifier.decode(), *rest)


async def commit(tx: Tx, sealer: Sealer, id_: bytes, connection: bytes, grant: Grant) -> Connection:
    """Give the connection what the code was traded for; once, also where it is found in the spool a second time."""
    now = await store.current(tx, sealer, connection)
    try:
        flow = await get(tx, sealer, id_)  # behind the connection's lock: as it stands now
    except UnknownState:  # it ended long ago (`trim`): whoever it was for has connected again, or never will
        return now
    if flow.outcome == "connected":
        return now
    if now.generation != flow.generation:  # revoked, imported or connected meanwhile, by somebody's later decision
        await _end(tx, sealer, flow, "failed", store.SUPERSEDED)
        return now
    other = await tx.one(Q.lineage_of, rt_fp=fingerprint(grant.refresh)) if grant.refresh is not None else None
    if other is not None and other[0] != now.name:  # its own it may be: some providers give the one that they gave before
        await _end(tx, sealer, flow, "failed", "grant_in_use")
        return await store.current(tx, sealer, flow.connection)
    await tx.execute(Q.end_flow, id=id_, outcome="connected", reason=None)
    return await store.replace(tx, sealer, now, now.client, grant, "connection.active")


async def end(tx: Tx, sealer: Sealer, id_: bytes, outcome: str, reason: str) -> None:
    """End a way that led nowhere; a connection that was to be made by it has failed."""
    await _end(tx, sealer, await get(tx, sealer, id_), outcome, reason[:200])


async def overdue(tx: Tx, limit: int) -> list[tuple[str, bytes]]:
    """Ways of all tenants, by tenant and id, that are to end by themselves."""
    return [(tenant, id_) for tenant, id_ in await tx.all(Q.open_flows, now_us=tx.now_us, limit=limit)]


async def expire(tx: Tx, sealer: Sealer, id_: bytes) -> None:
    """End a way whose time is over: nobody came back, or nobody knows what became of its code."""
    flow = await get(tx, sealer, id_)
    if flow.expires_us <= tx.now_us:
        outcome = ("expired", "nobody came back") if flow.consumed_us is None else ("failed", "outcome_unknown")
        await _end(tx, sealer, flow, *outcome)


async def ended(tx: Tx, limit: int) -> list[tuple[str, bytes]]:
    """Ways of all tenants, by tenant and id, that ended so long ago that nobody asks for them any more."""
    return [(tenant, id_) for tenant, id_ in await tx.all(Q.ended_flows, before_us=tx.now_us - KEPT_S * US, limit=limit)]


async def trim(tx: Tx, ids: Sequence[bytes]) -> int:
    """Delete ways that have ended; how many there still were."""
    gone = await tx.execute(Q.delete_flows, rows=[(id_,) for id_ in sorted(ids)])
    tx.runtime.failpoints.hit(TRIMMED)
    return gone


async def _end(tx: Tx, sealer: Sealer, flow: Flow, outcome: str, reason: str) -> None:
    if not await tx.execute(Q.end_flow, id=flow.id, outcome=outcome, reason=reason):
        return
    try:
        now = await store.current(tx, sealer, flow.connection)
    except UnknownConnection:  # deleted: the way ends all the same, or whoever looks for ways to end would meet it for ever
        return
    if now.state == "pending":
        await store.fail(tx, sealer, now, reason)
