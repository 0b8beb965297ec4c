"""The vault as the rest of Netra sees it: tokens that live, and the connections that they come from."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from typing import Any, Final, TypeVar

import orjson

from ..errors import InvalidInput, NetraError
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from ..resilience.egress import Egress, Reply
from ..resilience.single_flight import SingleFlight
from ..storage.database import Database
from ..storage.nesting import refuse_nested
from ..storage.sealing import Sealer
from . import store
from .connect import Connector
from .device import Devices
from .due import DueConnections
from .errors import ASSERTION_FIX, ConnectionPending, ConnectionRevoked, ReauthRequired, UnknownConnection
from .holders import Holders
from .imported import grant_of, key_of
from .introspection import Introspector
from .issuers import Issuers
from .keys import KeySource
from .memory import USE, Entered, Memory, outside
from .model import API_KEY, JWT_BEARER, OWN_RIGHT, US, Client, Connection, Grant, Token, status_of
from .providers import listed
from .refresh import Failure, Refresher, refused
from .registration import Registrar, checked_name, checked_url, client_of
from .settings import OAuthSettings
from .spool import Spool
from .trading import traded
from .validation import Claims
from .validator import Judge, Judges, Question

T = TypeVar("T")
ScopeOf = Callable[[str | None], Awaitable[Scope]]
"""The scope of a named tenant, or the one that the caller has entered."""


class OAuth:
    """`netra.oauth`. Every call may be made from any number of tasks at once; those who want one refresh share it."""

    def __init__(
        self,
        database: Database,
        runtime: Runtime,
        settings: OAuthSettings,
        sealer: Sealer,
        egress: Egress,
        scope_of: ScopeOf,
        entered: Entered = outside,
    ) -> None:
        """`entered` tells the scope that the caller has entered, if any, and waits for nothing."""
        self._database = database
        self._runtime = runtime
        self._sealer = sealer
        self._egress = self.egress = egress
        self._scope_of = scope_of
        self._settings = settings
        self.deadline_s = settings.deadline_s
        self.spool_folder = settings.spool
        self.holders = Holders(database.lock_dir, runtime.clock, runtime.ids.new(), settings.lease_ttl_s)
        spool = Spool(settings.spool, runtime.chance)
        self.refresher = Refresher(database, runtime, settings, sealer, egress, self.holders, spool)
        self._spool = spool
        self._registrar = Registrar(runtime, egress, settings.deadline_s)
        self._devices = Devices(database, runtime, sealer, self.refresher, self.holders.me, settings.deadline_s)
        self.issuers = Issuers(runtime, egress, settings.deadline_s)
        self._connector = Connector(database, runtime, sealer, self.refresher, self.issuers, self.holders.me)
        self.judges = Judges(runtime, self.issuers)
        self._introspector = Introspector(runtime, self.refresher, self.issuers)
        self._flights: SingleFlight[tuple[str, bytes], tuple[Connection, Failure | None]] = SingleFlight()
        self._due = DueConnections(database)
        self.memory = Memory(runtime.clock, runtime.uses, entered)
        self.token_at_hand = self.memory.at_hand
        self._background: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Take this life's name, and commit what a former one has left in the spool."""
        await asyncio.to_thread(self._spool.open)
        self.holders.open()
        for tenant in sorted(self.refresher.leftovers()):
            await self.replay(tenant)

    async def stop(self) -> None:
        """Finish what is in flight; what cannot be finished is in the spool."""
        while len(self._flights) or self._background:
            await self._runtime.clock.sleep(0.01)
        self.memory.clear()
        await self.issuers.stop()
        left = await asyncio.to_thread(self._spool.of)
        self.holders.close(leaves=any(spooled.holder == self.holders.me for _, spooled in left))

    async def replay(self, tenant: str) -> None:
        """Commit what is in the spool for a tenant."""
        try:
            await self.refresher.replay_spool(Scope(tenant, "vault"))
        except NetraError as error:
            self._runtime.log.warning("an answer of a provider waits in the spool: %s", error)

    # Tokens

    async def token(self, tenant: str | None = None, connection: str = "", min_valid_s: float = 0) -> Token:
        """An access token that lives for longer than `min_valid_s`, refreshed first if it does not.

        In the time before its end it is renewed in the background, and this answers at once. A token that is younger than 0.6 of
        its life is never renewed for `min_valid_s`. Where no renewal can be had the old token is served until its very end, with
        `stale` set; after that: `ReauthRequired` (the provider refused the grant), `ConnectionRevoked`, `RefreshFailed` (later).
        """
        at_hand = self.token_at_hand(tenant, connection, min_valid_s)
        if at_hand is not None:
            return at_hand
        scope = await self._scope_of(tenant)
        token = await self._token(scope, connection, min_valid_s)
        self.memory.name(tenant, scope.tenant, connection)
        return token

    async def bearer(self, scope: Scope, connection: str) -> str:
        """See `kernel.bearers`: for the other parts, which act for a tenant that they know."""
        return (await self._token(scope, connection, 0)).access_token

    async def _token(self, scope: Scope, connection: str, min_valid_s: float) -> Token:
        return self._used(scope, connection, await self._a_token(scope, connection, min_valid_s))

    def _used(self, scope: Scope, connection: str, token: Token) -> Token:
        """Whoever is handed a token has used it."""
        self._runtime.uses.note(scope.tenant, scope.actor, USE, connection)
        return token

    async def _a_token(self, scope: Scope, connection: str, min_valid_s: float) -> Token:
        kept = self.memory.get(scope.tenant, connection, min_valid_s)
        if kept is not None:
            return kept
        found = await self._load(scope, connection)
        now_us = self._runtime.clock.wall_us()
        if found.lives(now_us, min_valid_s) and not self._is_due(found, now_us):
            return _token(found)
        if found.lives(now_us) and self._is_young(found, now_us):
            return _token(found)
        if found.lives(now_us, min_valid_s):  # time to renew it, and time enough: nobody waits
            self._in_background(scope, found)
            return _token(found)
        now, failure = await self._renewed(scope, found)
        return self._usable(now, failure, min_valid_s, found.generation)

    async def refresh(self, tenant: str | None = None, connection: str = "") -> Token:
        """Renew the token now, whatever its age; whoever asks at the same time shares it."""
        scope = await self._scope_of(tenant)
        return self._used(scope, connection, await self._refreshed(scope, connection))

    async def renew(self, tenant: str | None = None, connection: str = "") -> dict[str, Any]:
        """The same for whoever is not to have the token: the connection as it stands then."""
        scope = await self._scope_of(tenant)
        await self._refreshed(scope, connection)
        return await self.status(scope.tenant, connection)

    async def _refreshed(self, scope: Scope, connection: str) -> Token:
        found = await self._load(scope, connection)
        now, failure = await self._renewed(scope, found, forced=True)
        if now.generation == found.generation and now.state == "reauth_required":
            raise ReauthRequired(f"the provider refuses the connection {now.name!r} ({now.reason})", fix=_fix_of(now))
        return self._usable(now, failure, 0, found.generation)

    async def request(
        self,
        tenant: str,
        connection: str,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
        **options: Any,
    ) -> Reply:
        """Ask `url` with the connection's token as bearer; on one 401 the token is renewed and the request is made once more.

        The body is `json`, whatever JSON can say, or `body`, bytes. `timeout_s` bounds everything (15 s), `read_limit` the bytes of the
        answer that are kept (64 KiB). The answer has `status`, `headers`, `body` and `json()`.
        """
        scope = await self._scope_of(tenant)
        token = await self.token(tenant, connection)
        sent = dict(headers or {})
        if json is not None:
            options["body"] = _body(json)
            sent = {"content-type": "application/json"} | sent
        reply = await self._egress.request(method, url, headers=sent | _bearer(token), tenant=scope.tenant, **options)
        if reply.status != 401:
            return reply
        newer = self._used(scope, connection, await self._newer(scope, connection, token))
        if newer.access_token == token.access_token:  # nothing newer is to be had, and the same again says the same
            return reply
        return await self._egress.request(method, url, headers=sent | _bearer(newer), tenant=scope.tenant, **options)

    async def _newer(self, scope: Scope, connection: str, than: Token) -> Token:
        found = await self._load(scope, connection)
        if found.generation > than.generation:
            return _token(found)
        now, failure = await self._renewed(scope, found, forced=True)
        return self._usable(now, failure, 0, found.generation)

    # Connections and clients

    async def import_(
        self, tenant: str | None = None, connection: str = "", client: str = "", tokens: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Take over tokens that were got elsewhere: `access_token`, `refresh_token`, and `expires_in` or `expires_at` (epoch seconds).

        Or an `api_key` alone, which is sealed, served and audited like a token and never refreshed.
        Under a name that exists it takes the place of what that holds. From then on nobody else may refresh that grant.
        """
        scope = await self._scope_of(tenant)
        given = tokens or {}
        now_us = self._runtime.clock.wall_us()
        kind, grant = (API_KEY, key_of(given, now_us)) if "api_key" in given else (None, grant_of(given, now_us))
        await self._write(scope, store.import_grant, checked_name(connection), client, grant, kind)
        self.memory.forget(scope.tenant, connection)
        return await self.status(scope.tenant, connection)

    async def connect(self, tenant: str | None = None, connection: str = "", client: str = "", redirect_uri: str = "") -> dict[str, Any]:
        """Begin a user's way to the provider: `{"authorize_url", "expires_at"}`; he comes back to `redirect_uri`, for `callback`.

        A connection that is there serves on until the new grant has come.
        """
        scope = await self._scope_of(tenant)
        url, expires_at = await self._connector.begin(scope, checked_name(connection), client, checked_url(redirect_uri, "redirect_uri"))
        return {"authorize_url": url, "expires_at": expires_at, "name": connection, "state": "pending"}

    async def own(self, tenant: str | None = None, connection: str = "", client: str = "", grant: str = OWN_RIGHT) -> dict[str, Any]:
        """A connection without a user, with its first token; renewed like every other.

        `grant` is `client_credentials`, the client's own right (RFC 6749 section 4.4), or `jwt_bearer`, by an assertion that the
        registration's key signs anew for each request (RFC 7523 section 2.1). Where the provider refuses what the latter says:
        `ReauthRequired`.
        """
        if grant not in {OWN_RIGHT, JWT_BEARER}:
            raise InvalidInput(f"nobody owns a connection by {grant!r}", fix=f"Give {OWN_RIGHT} or {JWT_BEARER}.")
        scope = await self._scope_of(tenant)
        now_us = self._runtime.clock.wall_us()
        lineage = self._runtime.chance.token(32).hex()
        none = Grant(None, lineage, now_us, now_us)
        await self._write(scope, store.import_grant, checked_name(connection), client, none, grant)
        self.memory.forget(scope.tenant, connection)
        return await self.renew(scope.tenant, connection)

    async def link(
        self, tenant: str | None = None, connection: str = "", client: str = "", redirect_uri: str = "", page: str = ""
    ) -> dict[str, Any]:
        """A link for a tenant's user: `{"url", "expires_at"}`. `page` is where links are opened, the server's `/oauth/link`.

        It leads to the provider once, within half an hour, and from there back to `redirect_uri`.
        """
        scope = await self._scope_of(tenant)
        back, page = checked_url(redirect_uri, "redirect_uri"), checked_url(page, "page")
        token, expires_at = await self._connector.link(scope, checked_name(connection), client, back)
        return {"url": f"{page}/{token}", "expires_at": expires_at, "name": connection, "state": "pending"}

    async def shown_link(self, token: str) -> dict[str, str]:
        """What a link is for: `{"tenant", "name", "provider"}`; `LinkUsed` if it leads nowhere any more."""
        found_tenant, name, provider = await self._connector.shown(token)
        return {"tenant": found_tenant, "name": name, "provider": provider}

    async def follow_link(self, token: str) -> str:
        """Where the link's user is sent on to; to the first who asks, then `LinkUsed`."""
        return await self._connector.follow(token)

    async def device(self, tenant: str | None = None, connection: str = "", client: str = "") -> dict[str, Any]:
        """Begin to connect a user who types `user_code` at `verification_uri`, on whatever device (RFC 8628).

        Processes with workers ask the provider until he has, or until `expires_at`; `poll_devices` asks once.
        """
        scope = await self._scope_of(tenant)
        begun = await self._devices.begin(scope, checked_name(connection), client)
        return {**begun, "name": connection, "state": "pending"}

    async def callback(self, answer: Mapping[str, str]) -> dict[str, Any]:
        """What the provider sent the user back with (`state`, `code`, `iss`, `error`); the connection as it stands then.

        However often it comes, the code is sent once. `UnknownState`, or `ConnectFailed` with the reason.
        """
        refuse_nested()
        tenant, now = await self._owned(self._connector.callback(answer))
        self.memory.forget(tenant, now.name)
        return await self.status(tenant, now.name)

    async def status(self, tenant: str | None = None, connection: str = "") -> dict[str, Any]:
        """How a connection stands: `{"name", "client", "state", "generation", "expires_at", "stale", "reason", ...}`."""
        scope = await self._scope_of(tenant)
        found, client = await self._read(scope, store.connection_and_client, connection)
        return dict(status_of(found, client.name, self._runtime.clock.wall_us()))

    async def connections(self, tenant: str | None = None, *, after: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """The tenant's connections by name."""
        scope = await self._scope_of(tenant)
        now_us = self._runtime.clock.wall_us()
        return [dict(status_of(found, client.name, now_us)) for found, client in await self._read(scope, store.connections, after, limit)]

    async def revoke(self, tenant: str | None = None, connection: str = "", *, delete: bool = False) -> dict[str, Any]:
        """Forget the tokens for good, then tell the provider (RFC 7009), once and without waiting for its consent.

        When this returns no token of the connection can be had: in this process at once, in others within a second.
        """
        scope = await self._scope_of(tenant)
        await self._owned(self._revoke(scope, connection, delete=delete))
        if delete:
            return {"name": connection, "state": "revoked", "deleted": True}
        return await self.status(scope.tenant, connection)

    async def set_client(self, tenant: str | None = None, name: str = "", registration: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Register as a client of a provider, or change that: see docs/oauth.md for the members. The secrets are sealed."""
        return await self.register(await self._scope_of(tenant), name, registration or {})

    async def register(self, scope: Scope, name: str, registration: Mapping[str, Any]) -> dict[str, Any]:
        """The same for the other parts, which act in a scope that they know."""
        given = await self._registrar.complete(scope, checked_name(name), registration)
        return client_of(await self._write(scope, store.set_client, given))

    async def client(self, tenant: str | None = None, name: str = "") -> dict[str, Any]:
        """A registration, without its secrets."""
        return client_of(await self._read(await self._scope_of(tenant), store.client_named, name))

    async def clients(self, tenant: str | None = None, *, after: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """The tenant's registrations by name, without secrets."""
        found = await self._read(await self._scope_of(tenant), store.clients, after, limit)
        return [client_of(each) for each in found]

    @staticmethod
    def providers() -> list[dict[str, Any]]:
        """The providers that are known: how each rotates refresh tokens, what it does with one that comes twice, and who says so."""
        return listed()

    # Tokens of others

    async def validate(
        self,
        token: str | bytes,
        *,
        issuer: str,
        audience: str | Collection[str],
        tenant: str | None = None,
        nonce: str | None = None,
        access_token: str | None = None,
        **rules: Any,
    ) -> Claims:
        """The claims of a token by `issuer`, whose keys are fetched and kept; `TokenRejected(code)`, or `IssuerUnreachable`.

        `rules` are those of `netra_backend.oauth.validate`: `algorithms`, `leeway_s`, `authorized_party`, `max_lifetime_s`, `required`.
        A token that was accepted before is not judged anew until its end, or until the issuer's keys change. See `judge` for the
        quickest way.
        """
        judge = self.judges.get(await self._scope_of(tenant), Question.of(issuer, audience, **rules))
        return await judge.validate(token, nonce=nonce, access_token=access_token)

    async def judge(
        self, *, issuer: str, audience: str | Collection[str], tenant: str | None = None, keys: KeySource = None, **rules: Any
    ) -> Judge:
        """One question, to be asked of many tokens: `await judge.validate(token)`. With `keys` nothing is fetched."""
        return self.judges.new(await self._scope_of(tenant), Question.of(issuer, audience, **rules), keys)

    async def introspect(
        self, tenant: str | None = None, client: str = "", token: str = "", *, audience: str | Collection[str] | None = None
    ) -> dict[str, Any]:
        """What the issuer of a registration says of an opaque token (RFC 7662): its members; `TokenRejected` where it is not active."""
        scope = await self._scope_of(tenant)
        found = await self._read(scope, store.client_named, client)
        return dict(await self._introspector.introspect(scope, found, token, audience))

    async def exchange(
        self,
        tenant: str | None = None,
        client: str = "",
        subject_token: str = "",
        *,
        actor_token: str | None = None,
        **parameters: str,
    ) -> dict[str, Any]:
        """Trade a token at the token endpoint of a registration (RFC 8693): the answer's members. It is stored nowhere.

        `parameters` are `audience`, `resource`, `scope`, `requested_token_type`, and the types of the tokens where they are no access
        tokens. `ExchangeRejected` has the endpoint's error code. What was sent is never sent again by itself: `OutcomeUnknown` says
        that the trade may have been made.
        """
        scope = await self._scope_of(tenant)
        registered = await self._read(scope, store.client_named, client)
        return dict(await traded(self.refresher, scope, registered, subject_token, actor_token, parameters))

    # What the vault does by itself (`worker.py`)

    async def look(self) -> None:
        """Ask in one query whether what is in memory is still current; what it saw is vouched for from when it began."""
        began = self._runtime.clock.monotonic()
        asked = self.memory.places()
        if asked:
            self.memory.looked(asked, await self._database.read(store.generations, sorted(asked), scope=_SYSTEM), began)

    async def renew_due(self, limit: int) -> int:
        """Refresh up to `limit` connections whose time has come, no tenant's before all of another's; how many."""
        found = await self._due.take(limit)
        for each in found:
            self._spawn(self._flight(Scope(each.tenant, "vault"), each.id, each.generation))
        return len(found)

    async def end_overdue(self, limit: int) -> None:
        """End users' ways to providers that nobody came back on."""
        await self._connector.end_overdue(limit)

    async def trim(self, limit: int) -> None:
        """Delete users' ways to providers that ended more than a day ago."""
        while await self._connector.trim(limit) == limit:
            continue

    async def poll_devices(self, limit: int = 100) -> int:
        """Ask providers what became of devices' codes whose turn it is; how many were asked for."""
        return await self._owned(self._devices.poll(limit))  # whoever stops waiting, an answer with tokens is taken

    async def replay_leftovers(self) -> None:
        """Commit what is in the spool although its commit failed."""
        for tenant in sorted(self.refresher.leftovers()):
            await self.replay(tenant)

    # Inner

    async def _load(self, scope: Scope, name: str) -> Connection:
        began = self._runtime.clock.monotonic()
        found: Connection = self.memory.aged(await self._read(scope, store.connection_named, name))
        self._keep(found, began)
        return found

    def _keep(self, found: Connection, began: float) -> None:
        """Serve it from memory from now on; `began` is from when on it is known to be so."""
        if found.state == "active" and found.access is not None:
            self.memory.keep(found, _token(found), began)
        else:
            self.memory.forget(found.tenant, found.name)

    def _is_due(self, found: Connection, now_us: int) -> bool:
        return found.due_us is not None and now_us >= found.due_us

    def _is_young(self, found: Connection, now_us: int) -> bool:
        """Whether too little of its life is over for a renewal, whoever asks: a provider's limit on refreshes is soon reached."""
        if found.issued_us is None or found.expires_us is None:
            return False
        return now_us < found.issued_us + (found.expires_us - found.issued_us) * 6 // 10

    async def _renewed(self, scope: Scope, found: Connection, *, forced: bool = False) -> tuple[Connection, Failure | None]:
        if found.state in {"revoked", "pending", "failed", "reauth_required"} or found.refresh is None:
            return found, None
        if not forced and found.is_paused(self._runtime.clock.wall_us()):
            return found, None
        refuse_nested()
        return await self._flight(Scope(scope.tenant, scope.actor, scope.trace), found.id, found.generation, forced=forced)

    async def _flight(self, scope: Scope, id_: bytes, known: int, *, forced: bool = False) -> tuple[Connection, Failure | None]:
        """The one refresh of this connection that is under way here, joined or begun. It goes on whoever is cancelled."""

        async def work() -> tuple[Connection, Failure | None]:
            began = self._runtime.clock.monotonic()
            found, failure = await self.refresher.refresh(scope, id_, known, forced=forced)
            now = self.memory.aged(found)
            self._keep(now, began)
            return now, failure

        return await self._flights.run((scope.tenant, id_), work)

    def _in_background(self, scope: Scope, found: Connection) -> None:
        """Whoever asks while it is renewed already, or in the pause after a failure, begins nothing."""
        is_renewed = (scope.tenant, found.id) in self._flights or found.is_paused(self._runtime.clock.wall_us())
        if found.state == "active" and found.refresh is not None and not is_renewed:
            self._spawn(self._flight(scope, found.id, found.generation))

    async def _owned(self, work: Coroutine[Any, Any, T]) -> T:
        """What the vault finishes whoever is cancelled, and before it stops."""
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return await asyncio.shield(task)

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._runtime.log.warning("a token could not be renewed: %s", error)

    def _usable(self, now: Connection, failure: Failure | None, min_valid_s: float, known: int) -> Token:
        now_us = self._runtime.clock.wall_us()
        if now.state == "revoked":
            raise ConnectionRevoked(f"the connection {now.name!r} was revoked")
        if now.state in {"pending", "failed"}:
            raise ConnectionPending(f"the connection {now.name!r} is {now.state}")
        if now.lives(now_us):
            late = now.generation == known and not now.lives(now_us, min_valid_s)
            return _token(now, stale=late or failure is not None or now.state != "active")
        if now.state == "reauth_required" or (now.refresh is None and now.access is not None):
            words = f"the connection {now.name!r} has no token that lives ({now.reason or 'no refresh token'})"
            raise ReauthRequired(words, fix=_fix_of(now))
        raise refused(now, failure)

    async def _revoke(self, scope: Scope, connection: str, *, delete: bool) -> None:
        was, client = await self._write(scope, store.revoke, connection, "revoked_by_us", delete=delete)
        self.memory.forget(scope.tenant, connection)
        self.judges.flush()
        await self._tell_provider(scope, was, client)

    async def _tell_provider(self, scope: Scope, was: Connection, client: Client) -> None:
        grants = was.refresh is not None and was.kind is None
        token = was.refresh if grants else was.access
        if client.revoke_endpoint is None or token is None or was.kind == API_KEY:
            return
        hint = "refresh_token" if grants else "access_token"
        try:
            reply = await self.refresher.ask_by_any(scope, client, client.revoke_endpoint, {"token": token, "token_type_hint": hint})
        except NetraError as error:
            self._runtime.log.warning("the provider could not be told that a grant was revoked: %s", error)
            return
        if not 200 <= reply.status < 300:
            self._runtime.log.warning("the provider does not take it that a grant was revoked: it answered with status %d", reply.status)

    async def _read(self, scope: Scope, fn: Any, *arguments: Any) -> Any:
        """A store function that opens what is sealed."""

        async def run(tx: Any) -> Any:
            return await fn(tx, self._sealer, *arguments)

        return await self._database.read(run, scope=scope)

    async def _write(self, scope: Scope, fn: Any, *arguments: Any, **options: Any) -> Any:
        async def run(tx: Any) -> Any:
            return await fn(tx, self._sealer, *arguments, **options)

        return await self._database.write(run, scope=scope)


def token_of(token: Token) -> dict[str, Any]:
    """The JSON of a token."""
    return {
        "access_token": token.access_token,
        "expires_at": token.expires_at,
        "generation": token.generation,
        "stale": token.stale,
    }


def _fix_of(now: Connection) -> str:
    return ASSERTION_FIX if now.kind == JWT_BEARER else ReauthRequired.fix


def _body(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError as error:  # orjson's own error is one
        raise InvalidInput(f"the body is not JSON: {error}", fix="Pass dicts, lists, strings, numbers, booleans and None.") from error


def _bearer(token: Token) -> dict[str, str]:
    return {"authorization": f"Bearer {token.access_token}"}


def _token(found: Connection, *, stale: bool = False) -> Token:
    if found.state == "revoked":
        raise ConnectionRevoked(f"the connection {found.name!r} was revoked")
    assert found.access is not None
    expires_at = found.expires_us / US if found.expires_us is not None else None
    return Token(found.access, expires_at, found.generation, stale or found.state != "active")


_SYSTEM: Final = Scope("*", "vault")
__all__ = ["OAuth", "UnknownConnection", "client_of", "token_of"]
