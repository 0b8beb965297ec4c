"""A user connects: the authorization code flow with PKCE (RFC 6749 section 4.1, RFC 7636), and the `iss` check of RFC 9207.

He may be sent at once, or by a link that he opens when he likes: once, within half an hour. The link's token is kept nowhere; the
`state` is derived from it, and is found by its hash like every other.

The user is sent to the provider with a `state` that only the way's row knows (its hash), and comes back to `callback`. The first who
brings that state consumes it and sends the code, once, to one endpoint after the other only while nothing has left this host. Whoever
comes a second time gets the first one's outcome. A lost answer is no connection: nobody knows whether the code was
taken, and a code is never sent twice; the user connects again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

from ..errors import InvalidInput, NetraError
from ..kernel.failpoints import declare
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from ..storage.database import Database
from ..storage.sealing import Sealer
from . import flows, store
from .answers import Kind, Outcome, is_token
from .breakers import CODE
from .errors import ConnectFailed, LinkUsed, UnknownState
from .flows import Beginning, Flow, Sending
from .issuers import Issuers
from .jws import encoded
from .model import US, Client, Connection
from .refresh import OF_A_CODE, Refresher
from .spool import Spooled

LOOK_S: Final = 0.05
BEFORE_CODE: Final = declare("oauth.code_before_send", "the state is consumed for good, its code was not sent")
_SYSTEM: Final = Scope("*", "vault")


class Connector:
    """Begins and ends ways to providers."""

    def __init__(self, database: Database, runtime: Runtime, sealer: Sealer, refresher: Refresher, issuers: Issuers, me: bytes) -> None:
        self._database = database
        self._runtime = runtime
        self._sealer = sealer
        self._refresher = refresher
        self._issuers = issuers
        self._me = me

    async def begin(self, scope: Scope, name: str, client: str, redirect_uri: str) -> tuple[str, float]:
        """Where to send the user, and until when (epoch seconds) the way is open."""
        state, verifier = self._secret(), self._secret()
        registered, expires_us = await self._begun(scope, name, client, Beginning(flows.hashed(state), verifier, redirect_uri))
        return address_of(registered, state, verifier, redirect_uri), expires_us / US

    async def link(self, scope: Scope, name: str, client: str, redirect_uri: str) -> tuple[str, float]:
        """The token of a link that leads there, and until when it does."""
        token = self._secret()
        beginning = Beginning(flows.hashed(_state_of(token)), self._secret(), redirect_uri, "link")
        _, expires_us = await self._begun(scope, name, client, beginning)
        return token, expires_us / US

    async def shown(self, token: str) -> tuple[str, str, str]:
        """Tenant, connection and provider of a link that nobody has followed yet; looking at it uses nothing up."""
        tenant, id_ = await self._of_link(token)
        sending: Sending = await self._write(Scope(tenant, "link"), flows.look, id_)  # holds the connection: whole, as of one moment
        flow = sending.flow
        if flow.followed_us is not None or flow.outcome is not None or flow.expires_us <= self._runtime.clock.wall_us():
            raise LinkUsed
        return tenant, sending.name, urlsplit(_authorize(sending.client)).hostname or ""

    async def follow(self, token: str) -> str:
        """Where the user of a link is sent on to; once."""
        tenant, id_ = await self._of_link(token)
        sending: Sending | None = await self._write(Scope(tenant, "link"), flows.follow, id_)
        if sending is None:
            raise LinkUsed
        return address_of(sending.client, _state_of(token), sending.flow.verifier, sending.flow.redirect_uri)

    async def _of_link(self, token: str) -> tuple[str, bytes]:
        found: tuple[str, bytes] | None = await self._database.read(flows.found, flows.hashed(_state_of(token)), scope=_SYSTEM)
        if found is None:
            raise LinkUsed
        return found

    async def _begun(self, scope: Scope, name: str, client: str, beginning: Beginning) -> tuple[Client, int]:
        async def begin(tx: Any) -> Any:
            registered, expires_us = await flows.begin(tx, self._sealer, name, client, beginning)
            if beginning.kind != "device":
                _authorize(registered)  # nothing is begun that leads nowhere
            return registered, expires_us

        found: tuple[Client, int] = await self._database.write(begin, scope=scope)
        return found

    def _secret(self) -> str:
        return encoded(self._runtime.chance.token(32)).decode()

    async def callback(self, answer: Mapping[str, str]) -> tuple[str, Connection]:
        """Tenant and connection of a user who came back with `code` and `state`; `ConnectFailed` where it led nowhere."""
        found = await self._database.read(flows.found, flows.hashed(answer.get("state", "")), scope=_SYSTEM)
        if found is None:
            raise UnknownState
        tenant, id_ = found
        scope = Scope(tenant, "callback")
        sending: Sending | None = await self._write(scope, flows.consume, id_)
        if sending is not None:
            await self._send(scope, sending, answer)
        return tenant, await self._outcome(scope, id_)

    async def end_overdue(self, limit: int) -> None:
        """End ways whose time is over."""
        for tenant, id_ in await self._database.read(flows.overdue, limit, scope=_SYSTEM):
            try:
                await self._write(Scope(tenant, "vault"), flows.expire, id_)
            except NetraError as error:  # one tenant's key that does not open keeps no other's ways waiting
                self._runtime.log.warning("a way to a provider could not be ended: %s", error)

    async def trim(self, limit: int) -> int:
        """Delete ways that ended long ago, up to `limit` at once; how many were found."""
        found: list[tuple[str, bytes]] = await self._database.read(flows.ended, limit, scope=_SYSTEM)
        for tenant in sorted({tenant for tenant, _ in found}):
            ids = [id_ for owner, id_ in found if owner == tenant]
            await self._database.write(flows.trim, ids, scope=Scope(tenant, "vault"), lane="bulk")
        return len(found)

    async def _send(self, scope: Scope, sending: Sending, answer: Mapping[str, str]) -> None:
        refusal = _refusal(sending, answer)
        if refusal is None and await self._lacks_issuer(scope, sending.client, answer):
            refusal = "failed", "wrong_issuer"
        if refusal is not None:
            await self._write(scope, flows.end, sending.flow.id, *refusal)
            return
        self._runtime.failpoints.hit(BEFORE_CODE)
        outcome = await self._redeem(scope, sending, answer["code"])
        if outcome.kind is Kind.SUCCESS:
            return
        reason = "outcome_unknown" if outcome.kind is Kind.AMBIGUOUS else outcome.cause
        await self._write(scope, flows.end, sending.flow.id, "failed", reason)

    async def _lacks_issuer(self, scope: Scope, client: Client, answer: Mapping[str, str]) -> bool:
        """Whether the answer does not say whose it is, although its issuer promises that all of its own do (RFC 9207 section 2.4).

        Who publishes nothing promises nothing.
        """
        if "iss" in answer or client.issuer is None:
            return False
        try:
            metadata = await self._issuers.metadata(scope, client.issuer)
        except NetraError:
            return False
        return metadata.get("authorization_response_iss_parameter_supported") is True

    async def _redeem(self, scope: Scope, sending: Sending, code: str) -> Outcome:
        """Send the code until it has left this host once."""
        flow, client = sending.flow, sending.client
        members = {"grant_type": "authorization_code", "code": code, "redirect_uri": flow.redirect_uri, "code_verifier": flow.verifier}
        outcome = Outcome(Kind.NOT_SENT, "no_endpoint")
        number, secret = client.credentials()[0]
        for endpoint in client.token_endpoints:
            outcome, sent_us = await self._refresher.post(scope, client, secret, endpoint, members, CODE)
            if outcome.members is not None:
                parent = OF_A_CODE + flow.id.hex()
                spooled = Spooled(scope.tenant, flow.connection, self._me, 0, flow.generation, parent, sent_us, number)
                await self._refresher.keep(scope, spooled, sending.spool_key, outcome.members, client)
            if outcome.kind is not Kind.NOT_SENT:
                return outcome
        return outcome

    async def _outcome(self, scope: Scope, id_: bytes) -> Connection:
        """How the way ended, once it has: the one who sends its code has a deadline."""
        while True:
            flow: Flow = await self._read(scope, flows.get, id_)
            if flow.outcome == "connected":
                now: Connection = await self._write(scope, store.current, flow.connection)
                return now
            if flow.outcome is not None:
                raise ConnectFailed(f"connecting has {flow.outcome}: {flow.reason}", reason=flow.reason)
            if flow.expires_us <= self._runtime.clock.wall_us():
                await self._write(scope, flows.expire, id_)
                continue
            await self._runtime.clock.sleep(LOOK_S)

    async def _read(self, scope: Scope, fn: Any, *arguments: Any) -> Any:
        async def run(tx: Any) -> Any:
            return await fn(tx, self._sealer, *arguments)

        return await self._database.read(run, scope=scope)

    async def _write(self, scope: Scope, fn: Any, *arguments: Any) -> Any:
        async def run(tx: Any) -> Any:
            return await fn(tx, self._sealer, *arguments)

        return await self._database.write(run, scope=scope)


def address_of(client: Client, state: str, verifier: str, redirect_uri: str) -> str:
    """Where a user is sent (RFC 6749 section 4.1.1, RFC 7636 section 4.3)."""
    asked = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": redirect_uri,
        "state": state,
        "code_challenge": encoded(hashlib.sha256(verifier.encode()).digest()).decode(),
        "code_challenge_method": "S256",
    }
    if client.scopes:
        asked["scope"] = " ".join(client.scopes)
    endpoint = _authorize(client)
    return endpoint + ("&" if "?" in endpoint else "?") + urlencode(asked)


def _authorize(client: Client) -> str:
    if client.authorize_endpoint is None:
        raise InvalidInput(
            f"the client {client.name!r} has no authorize endpoint", fix="Register it with `issuer`, or with `endpoints.authorize`."
        )
    return client.authorize_endpoint


def _state_of(token: str) -> str:
    """The `state` of a link's way. Whoever sees it on its way through browsers does not know the link."""
    return encoded(hashlib.sha256(b"netra connect link\0" + token.encode(errors="surrogatepass")).digest()).decode()


def _refusal(sending: Sending, answer: Mapping[str, str]) -> tuple[str, str] | None:
    """Outcome and reason where no code is to be sent."""
    issuer = sending.client.issuer
    if "iss" in answer and issuer is not None and answer["iss"] != issuer:
        return "failed", "wrong_issuer"
    if "error" in answer:
        return "refused", answer["error"] if is_token(answer["error"]) else "unreadable"
    return None if answer.get("code") else ("failed", "no_code")
