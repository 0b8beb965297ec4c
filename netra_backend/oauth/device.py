"""A user connects on another device (RFC 8628): he types a short code at the provider while we ask whether he has.

The device code is kept sealed in the way's row, so that any process may ask; who asks takes the next turn by a conditional update, so
that two processes never ask within one interval. An answer with tokens goes through the same spool as every other. A question
that got no answer is asked again, later and later (section 3.5). If the lost answer was the one with the tokens, the
provider refuses the code from then on, and the user connects again: no code brings two grants.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import orjson

from ..errors import Conflict, InvalidInput, NetraError
from ..kernel.failpoints import declare
from ..kernel.runtime import Runtime
from ..kernel.scope import Scope
from ..resilience.egress_error import EgressError
from ..storage.database import Database
from ..storage.sealing import Sealer
from . import answers, flows, store
from .answers import Kind, Outcome
from .breakers import DEVICE
from .errors import RefreshFailed
from .flows import Beginning, Sending
from .model import US, Client
from .refresh import OF_A_CODE, Refresher
from .spool import Spooled

DEVICE_CODE: Final = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL_S: Final = 5
"""Between two questions where the provider names none, and what is added when it says `slow_down`."""

LONGEST_INTERVAL_S: Final = 60
LONGEST_LIFE_S: Final = 1800
BEFORE_ASK: Final = declare("oauth.device_turn_before_ask", "the turn to ask for a device's code is this process's, nothing was sent")
_SYSTEM: Final = Scope("*", "vault")


class Devices:
    """Begins ways of devices, and asks what became of them."""

    def __init__(self, database: Database, runtime: Runtime, sealer: Sealer, refresher: Refresher, me: bytes, deadline_s: float) -> None:
        self._database = database
        self._runtime = runtime
        self._sealer = sealer
        self._refresher = refresher
        self._me = me
        self._deadline_s = deadline_s

    async def begin(self, scope: Scope, name: str, client: str) -> dict[str, Any]:
        """What the user is shown: `user_code`, `verification_uri`, `verification_uri_complete`, `expires_at`, `interval`."""

        async def registered(tx: Any) -> Client:
            return await store.client_named(tx, self._sealer, client)

        found: Client = await self._database.read(registered, scope=scope)
        said = await self._asked(scope, found)
        code, lives_s = said["device_code"], min(_number(said.get("expires_in"), LONGEST_LIFE_S), LONGEST_LIFE_S)
        interval_s = max(1, min(int(_number(said.get("interval"), INTERVAL_S)), LONGEST_INTERVAL_S))
        beginning = Beginning(self._runtime.chance.token(32), code, "", "device", lives_s, interval_s)

        async def begin(tx: Any) -> Any:
            registered, expires_us = await flows.begin(tx, self._sealer, name, client, beginning)
            if _asker(registered) != _asker(found):  # the code is of one server, and would be shown to another
                raise Conflict(f"the client {client!r} was changed at this very moment", fix="Begin again.")
            return registered, expires_us

        _, expires_us = await self._database.write(begin, scope=scope)
        shown = {each: said.get(each) for each in ("user_code", "verification_uri", "verification_uri_complete")}
        return {**shown, "interval": interval_s, "expires_at": expires_us / US}

    async def poll(self, limit: int) -> int:
        """Ask for the codes whose turn it is; how many were asked for."""
        due = await self._database.read(flows.due_polls, limit, scope=_SYSTEM)
        return sum(await asyncio.gather(*(self._turn(Scope(tenant, "vault"), id_) for tenant, id_ in due)))

    async def _turn(self, scope: Scope, id_: bytes) -> bool:
        try:
            sending: Sending | None = await self._write(scope, flows.take_poll, id_, INTERVAL_S + 2 * self._deadline_s)
            if sending is None:
                return False
            await self._ask(scope, sending)
        except NetraError as error:  # one tenant's provider or key does not keep the others waiting
            self._runtime.log.warning("a device's code could not be asked for: %s", error)
        return True

    async def _asked(self, scope: Scope, client: Client) -> dict[str, Any]:
        if client.device_endpoint is None:
            raise InvalidInput(
                f"the client {client.name!r} has no device endpoint", fix="Register it with `issuer`, or with `endpoints.device`."
            )
        members = {"scope": " ".join(client.scopes)} if client.scopes else {}
        members["client_id"] = client.client_id
        try:
            reply = await self._refresher.ask_by_any(scope, client, client.device_endpoint, members)
            said = orjson.loads(reply.body)
        except (EgressError, ValueError) as error:
            raise RefreshFailed(f"{client.device_endpoint} gave no code: {error}") from error
        if not isinstance(said, dict) or not all(answers.is_token(said.get(each)) for each in _NEEDED):
            cause = said.get("error", f"status {reply.status}") if isinstance(said, dict) else f"status {reply.status}"
            raise RefreshFailed(f"{client.device_endpoint} gave no code: {str(cause)[:64]}")
        return said

    async def _ask(self, scope: Scope, sending: Sending) -> None:
        flow, client = sending.flow, sending.client
        self._runtime.failpoints.hit(BEFORE_ASK)
        members = {"grant_type": DEVICE_CODE, "device_code": flow.verifier, "client_id": client.client_id}
        outcome, sent_us, number = Outcome(Kind.NOT_SENT, "no_endpoint"), 0, 0
        for number, secret in client.credentials() if client.token_endpoints else ():  # noqa: B007  (the one that was taken)
            outcome, sent_us = await self._refresher.post(scope, client, secret, client.token_endpoints[0], members, DEVICE)
            if not outcome.is_the_clients:
                break
        if outcome.members is not None:
            parent = OF_A_CODE + flow.id.hex()
            spooled = Spooled(scope.tenant, flow.connection, self._me, 0, flow.generation, parent, sent_us, number)
            await self._refresher.keep(scope, spooled, sending.spool_key, outcome.members, client)
            return
        await self._settle(scope, sending, outcome)

    async def _settle(self, scope: Scope, sending: Sending, outcome: Outcome) -> None:
        interval_s = sending.flow.interval_s or INTERVAL_S
        if outcome.kind is Kind.REJECTED and outcome.cause != "authorization_pending":
            said = outcome.cause
            ended = "refused" if said == "access_denied" else "expired" if said == "expired_token" else "failed"
            await self._write(scope, flows.end, sending.flow.id, ended, outcome.cause)
            return
        if outcome.kind is Kind.THROTTLED:
            interval_s = min(interval_s + INTERVAL_S, LONGEST_INTERVAL_S)
        elif outcome.kind is not Kind.REJECTED:  # no answer: later and later
            interval_s = min(interval_s * 2, LONGEST_INTERVAL_S)
        await self._database.write(flows.poll_later, sending.flow.id, interval_s, scope=scope)

    async def _write(self, scope: Scope, fn: Any, *arguments: Any) -> Any:
        async def run(tx: Any) -> Any:
            return await fn(tx, self._sealer, *arguments)

        return await self._database.write(run, scope=scope)


_NEEDED: Final = ("device_code", "user_code", "verification_uri")


def _asker(client: Client) -> tuple[Any, ...]:
    """Who asks whom for a code and with it."""
    return client.issuer, client.device_endpoint, client.token_endpoints, client.client_id


def _number(value: Any, otherwise: float) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 2**31 else float(otherwise)
