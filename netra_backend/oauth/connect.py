"""A user connects: the authorization code flow with PKCE (RFC 6749 section 4.1, RFC 7636), and the `iss` check of RFC 9207.

The user is sent to the provider with a `state` that only the way's row knows (its hash), and comes back to `callback`. The first who
brings that state consumes it and sends the code, once, to one endpoint after the other only while nothing has left this host. Whoever
comes a second time gets the first one's outcome. A lost answer is no connection: nobody knows whether the code was
taken, and a code is never sent twice; the user connects again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from ..errors import InvalidInput
from ..kernel.failpoints import declare
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from ..storage.database import Database
from ..storage.sealing import Sealer
from . import flows, store
from .answers import Kind, Outcome
from .errors import ConnectFailed, UnknownState
from .flows import Flow, Sending
from .jws import encoded
from .model import US, Connection
from .refresh import OF_A_CODE, Refresher
from .spool import Spooled

LOOK_S: Final = 0.05
BEFORE_CODE: Final = declare("oauth.code_before_send", "the state is consumed for good, its code was not sent")
_SYSTEM: Final = Scope("*", "vault")


class Connector:
    """Begins and ends ways to providers."""

    def __init__(self, database: Database, runtime: Runtime, sealer: Sealer, refresher: Refresher, me: bytes) -> None:
        self._database = database
        self._runtime = runtime
        self._sealer = sealer
        self._refresher = refresher
        self._me = me

    async def begin(self, scope: Scope, name: str, client: str, redirect_uri: str) -> tuple[str, float]:
        """Where to send the user, and until when (epoch seconds) the way is open."""
        chance = self._runtime.chance
        state, verifier = encoded(chance.token(32)).decode(), encoded(chance.token(32)).decode()

        async def begin(tx: Any) -> Any:
            return await flows.begin(tx, self._sealer, name, client, flows.hashed(state), verifier, redirect_uri)

        registered, expires_us = await self._database.write(begin, scope=scope)
        if registered.authorize_endpoint is None:
            raise InvalidInput(
                f"the client {client!r} has no authorize endpoint", fix="Register it with `issuer`, or with `endpoints.authorize`."
            )
        asked = {
            "response_type": "code",
            "client_id": registered.client_id,
            "redirect_uri": redirect_uri,
            "state": state,
            "code_challenge": encoded(hashlib.sha256(verifier.encode()).digest()).decode(),
            "code_challenge_method": "S256",
        }
        if registered.scopes:
            asked["scope"] = " ".join(registered.scopes)
        joint = "&" if "?" in registered.authorize_endpoint else "?"
        return registered.authorize_endpoint + joint + urlencode(asked), expires_us / US

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
            await self._write(Scope(tenant, "vault"), flows.expire, id_)

    async def _send(self, scope: Scope, sending: Sending, answer: Mapping[str, str]) -> None:
        refusal = _refusal(sending, answer)
        if refusal is not None:
            await self._write(scope, flows.end, sending.flow.id, *refusal)
            return
        self._runtime.failpoints.hit(BEFORE_CODE)
        outcome = await self._redeem(scope, sending, answer["code"])
        if outcome.kind is Kind.SUCCESS:
            return
        reason = "outcome_unknown" if outcome.kind is Kind.AMBIGUOUS else outcome.cause
        await self._write(scope, flows.end, sending.flow.id, "failed", reason)

    async def _redeem(self, scope: Scope, sending: Sending, code: str) -> Outcome:
        """Send the code until it has left this host once."""
        flow, client = sending.flow, sending.client
        members = {"grant_type": "authorization_code", "code": code, "redirect_uri": flow.redirect_uri, "code_verifier": flow.verifier}
        outcome = Outcome(Kind.NOT_SENT, "no_endpoint")
        number, secret = client.credentials()[0]
        for endpoint in client.token_endpoints:
            outcome, sent_us = await self._refresher.post(scope, client, secret, endpoint, members)
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


def _refusal(sending: Sending, answer: Mapping[str, str]) -> tuple[str, str] | None:
    """Outcome and reason where no code is to be sent."""
    issuer = sending.client.issuer
    if "iss" in answer and issuer is not None and answer["iss"] != issuer:
        return "failed", "wrong_issuer"
    if "error" in answer:
        return "refused", answer["error"]
    return None if answer.get("code") else ("failed", "no_code")
