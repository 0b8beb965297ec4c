"""Ways to a provider and login sessions, as they stand in rows."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from ...kernel.failpoints import declare
from ...kernel.scope import SYSTEM_TENANT
from ...storage.audit_append import audit_append
from ...storage.sealing import Place, Sealer
from ...storage.statements import Row, Statements
from ...storage.transaction import Tx
from .. import store as vault_store
from ..model import Client
from . import store
from .model import US, Provider
from .settings import SsoSettings

Q = Statements(__package__)
LOGIN: Final = "netra_sso_login"
SESSION: Final = "netra_sso_session"
WAY_S: Final = 600
REFRESH_S: Final = 300
TOUCH_S: Final = 30
"""A session that was touched a moment ago is not written again."""

PURPOSE: Final = "sso.session"

BEGUN: Final = declare("sso.way_begun_before_commit", "a way to a provider is written, nothing is committed, and nobody was sent there")
CONSUMED: Final = declare("sso.way_consumed_before_commit", "a way is used up, nothing is committed, and its code was not sent")
LOGGED_IN: Final = declare("sso.logged_in_before_commit", "a session is written, nothing is committed; the code is used up")
TOUCHED: Final = declare("sso.touched_before_commit", "a session is in use for longer, nothing is committed")
LOGGED_OUT: Final = declare("sso.logged_out_before_commit", "sessions are ended by their person, nothing is committed")
TURNED: Final = declare("sso.turn_before_commit", "a session's turn is taken, nothing is committed or sent")
KEPT: Final = declare("sso.renewed_before_commit", "a session's next token is written, nothing is committed; it is in the spool")
REFUSED: Final = declare("sso.ended_by_provider_before_commit", "a session is ended by its provider's refusal, nothing is committed")
TRIMMED: Final = declare("sso.trimmed_before_commit", "ways and sessions whose time is over are deleted, nothing is committed")


@dataclass(frozen=True, slots=True)
class Way:
    """A way to a provider as it stands."""

    id: bytes
    provider: str
    issuer: str
    browser: bytes
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str
    target: str


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is logged in. `backup`: by a provider other than the first."""

    tenant: str
    id: bytes
    identity: bytes
    issuer: str
    subject: str
    role: str
    backup: bool
    expires_us: int
    idle_us: int

    @property
    def actor(self) -> str:
        """How an audit entry names him."""
        return f"user:{self.identity.hex()}"

    @property
    def is_operator(self) -> bool:
        """Whether he logged in at the installation's own provider."""
        return self.tenant == SYSTEM_TENANT

    def lives(self, now_us: int) -> bool:
        """Neither idle for too long nor at its end."""
        return now_us < min(self.expires_us, self.idle_us)


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to ask a session's provider once. `sealed` is the refresh token as it stands in the row."""

    client: Client
    refresh: str = field(repr=False)
    sealed: bytes
    spool_key: bytes = field(repr=False)


def hashed(purpose: str, text: str) -> bytes:
    """What stands for a random text in the table."""
    return hashlib.sha256(f"netra {purpose}\0{text}".encode(errors="surrogatepass")).digest()


def keyed(key: bytes, text: str) -> bytes:
    """What stands for a session's text in the table: useless without the key, which is sealed."""
    return hmac.digest(key, text.encode(errors="surrogatepass"), "sha256")


async def begin(
    tx: Tx, sealer: Sealer, provider: Provider, hashes: tuple[bytes, bytes], secrets: tuple[str, str], places: tuple[str, str]
) -> None:
    """Write a way down: hashes of `state` and of the browser's cookie, nonce and verifier, and where it comes back and goes on to."""
    id_ = tx.new_id()
    sealed = await sealer.seal(tx, tx.tenant, Place(LOGIN, id_, "secrets"), orjson.dumps(secrets))
    facts = {"provider": provider.name, "issuer": provider.issuer, "state_hash": hashes[0], "browser_hash": hashes[1], "sealed": sealed}
    ends_us = tx.now_us + WAY_S * US
    await tx.execute(Q.insert_login, id=id_, redirect_uri=places[0], target=places[1], expires_us=ends_us, **facts)
    tx.runtime.failpoints.hit(BEGUN)


async def way_by_state(tx: Tx, state: bytes) -> tuple[str, bytes] | None:
    """Tenant and id of the way with this state."""
    row = await tx.one(Q.login_by_state, state_hash=state)
    return (str(row[0]), bytes(row[1])) if row is not None else None


async def consume(tx: Tx, sealer: Sealer, id_: bytes) -> Way | None:
    """The way, to the first who comes back on it while its time lasts; None to everybody after."""
    row = await tx.one(Q.get_login, id=id_)
    if row is None or not await tx.execute(Q.consume_login, id=id_, now_us=tx.now_us):
        return None
    tx.runtime.failpoints.hit(CONSUMED)
    nonce, verifier = orjson.loads(await sealer.unseal(tx, tx.tenant, Place(LOGIN, id_, "secrets"), row[3]))
    return Way(id_, row[0], row[1], row[2], nonce, verifier, row[4], row[5])


async def log_in(
    tx: Tx,
    sealer: Sealer,
    settings: SsoSettings,
    provider: Provider,
    claims: Mapping[str, Any],
    refresh: str | None,
    hash_: bytes,
    *,
    is_first: bool,
) -> Session | str:
    """A session for whoever the provider says has come; or why there is none, `unknown_subject` or `no_role`.

    That is no error, which would take back what is noted here: somebody who has lost his role at the first provider has none at a backup.
    """
    try:
        who, role = await store.recognise(tx, provider, claims["sub"], provider.role_of(claims), first=is_first)
    except LookupError:
        return "unknown_subject"
    if who is None or role is None:
        return "no_role"
    backup = who.linked is not None or not is_first
    person = who.linked if who.linked is not None else who.id
    expires_us = tx.now_us + int((settings.backup_life_s if backup else settings.life_s) * US)
    id_ = tx.new_id()
    sealed = None if refresh is None else await sealer.seal(tx, tx.tenant, Place(SESSION, id_, "refresh"), refresh.encode())
    after = {"issuer": provider.issuer, "identity": who.id.hex(), "role": role, "backup": backup}
    await audit_append(tx, "sso.login", id_, after=after)
    facts: dict[str, Any] = {"identity": person, "provider": provider.name, "issuer": who.issuer, "subject": who.subject, "role": role}
    facts |= {"backup": int(backup), "hash": hash_, "sealed": sealed}
    facts["due_us"] = None if sealed is None else tx.now_us + REFRESH_S * US
    idle_us = tx.now_us + int(settings.idle_s * US)
    await tx.execute(Q.insert_session, id=id_, expires_us=expires_us, idle_us=idle_us, now_us=tx.now_us, **facts)
    tx.runtime.failpoints.hit(LOGGED_IN)
    return Session(tx.tenant, id_, person, who.issuer, who.subject, role, backup, expires_us, idle_us)


async def by_hash(tx: Tx, hash_: bytes) -> Session | None:
    """The session of that text, whether it lives or not; None once it has ended."""
    row = await tx.one(Q.session_by_hash, hash=hash_)
    return _session(row) if row is not None else None


async def touch(tx: Tx, session: Session, settings: SsoSettings) -> None:
    """It is in use: it may be idle for the whole time from now."""
    idle_us = tx.now_us + int(settings.idle_s * US)
    if idle_us - session.idle_us >= min(TOUCH_S, settings.idle_s / 4) * US:
        await tx.execute(Q.touch_session, id=session.id, idle_us=idle_us)
        tx.runtime.failpoints.hit(TOUCHED)


async def end(tx: Tx, session: Session, everywhere: bool) -> int:  # noqa: FBT001  (a store function's own argument)
    """End it, or all of that person's."""
    if everywhere:
        ended = await tx.execute(Q.end_sessions_of, identity=session.identity)
    else:
        ended = await tx.execute(Q.end_session, id=session.id)
    if ended:
        await audit_append(tx, "sso.logout", session.id, after={"identity": session.identity.hex(), "ended": ended})
    tx.runtime.failpoints.hit(LOGGED_OUT)
    return ended


async def end_by_provider(tx: Tx, id_: bytes, sealed: bytes) -> None:
    """The provider says that somebody is not to be here any more, if the token that it refused is still the session's."""
    if await tx.execute(Q.end_refused, id=id_, sealed=sealed):
        await audit_append(tx, "sso.logout", id_, after={"reason": "the provider refuses the refresh token"})
        tx.runtime.failpoints.hit(REFUSED)


async def due(tx: Tx, limit: int) -> list[tuple[str, bytes]]:
    """Sessions of all tenants whose provider is to be asked, by tenant and id."""
    return [(tenant, id_) for tenant, id_ in await tx.all(Q.due_sessions, now_us=tx.now_us, limit=limit)]


async def take_turn(tx: Tx, sealer: Sealer, id_: bytes) -> Turn | None:
    """The right to ask a session's provider, once in `REFRESH_S`."""
    if not await tx.execute(Q.take_turn, id=id_, now_us=tx.now_us, due_us=tx.now_us + REFRESH_S * US):
        return None
    tx.runtime.failpoints.hit(TURNED)
    row = await tx.one(Q.get_session, id=id_)
    if row is None or row[1] is None:
        return None
    client = await client_of(tx, sealer, row[0], row[2])
    if client is None:
        return None
    refresh = await sealer.unseal(tx, tx.tenant, Place(SESSION, id_, "refresh"), row[1])
    return Turn(client, refresh.decode(), row[1], await vault_store.spool_key(tx, sealer))


async def client_of(tx: Tx, sealer: Sealer, provider: str, issuer: str) -> Client | None:
    """The registration of the provider of that name, if it is still that issuer's: what an issuer gave goes to no other."""
    for each in await store.providers(tx):
        if each.name == provider:
            client = await vault_store.client_named(tx, sealer, each.client)
            return client if client.issuer == issuer else None
    return None


def named(sealed: bytes) -> str:
    """What stands for a sealed token in the spool."""
    return hashlib.sha256(sealed).hexdigest()


async def keep(tx: Tx, sealer: Sealer, id_: bytes, parent: str, refresh: str) -> None:
    """The provider has given another refresh token for `parent`. Nothing where the session has ended or has gone on meanwhile."""
    row = await tx.one(Q.get_session, id=id_)
    if row is None or row[1] is None or named(row[1]) != parent:
        return
    sealed = await sealer.seal(tx, tx.tenant, Place(SESSION, id_, "refresh"), refresh.encode())
    await tx.execute(Q.keep_refresh, id=id_, sealed=sealed, parent=row[1])
    tx.runtime.failpoints.hit(KEPT)


async def forget_ended(tx: Tx, limit: int) -> int:
    """Forget ways and sessions whose time is over, of every tenant."""
    ways = await tx.execute(Q.trim_logins, before_us=tx.now_us, limit=limit)
    gone = ways + await tx.execute(Q.trim_sessions, before_us=tx.now_us, limit=limit)
    tx.runtime.failpoints.hit(TRIMMED)
    return gone


def _session(row: Row) -> Session:
    tenant, id_, identity, issuer, subject, role, backup, expires_us, idle_us = row
    return Session(tenant, id_, identity, issuer, subject, role, bool(backup), expires_us, idle_us)
