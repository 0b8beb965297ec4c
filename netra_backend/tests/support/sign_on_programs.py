"""A process under test for single sign-on: logins, sessions, providers and trades, as commands."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from ...errors import NetraError
from ...kernel.scope import Scope
from ...netra import Netra
from ...oauth.sso import exchange
from ...oauth.sso.exchange import Requester
from ...oauth.sso.sessions import Session
from ...storage import log
from ...storage.statements import statement
from .storage import SYSTEM
from .vault_programs import BACK, serve_a_netra
from .vaults import audited

ISSUER = "https://netra.example"
AUDIENCE = "orders"
DUE = statement("update netra_sso_session set due_us = 1 where tenant = :tenant")
OLDER = statement("update netra_sso_session set idle_us = idle_us - 60000000 where tenant = :tenant")
SESSIONS = statement("select count(*) from netra_sso_session where tenant = :tenant")


def sign_on(channel: socket.socket, spec: dict[str, Any]) -> None:
    """A Netra whose commands are calls of `netra.sso`."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    asyncio.run(serve_a_netra(channel, spec, SignOn))


class SignOn:
    """What a process with single sign-on can be asked."""

    def __init__(self, netra: Netra) -> None:
        self._netra = netra
        self._sso = netra.sso

    async def provider(self, tenant: str, name: str, registration: dict[str, Any], rank: int = 0) -> Any:
        await self._netra.oauth.set_client(tenant, name, registration)
        return await self._sso.set_provider(tenant, name, {"client": name, "default_role": "viewer", "rank": rank})

    async def link(self, tenant: str, subject: str, backup_subject: str) -> Any:
        return await self._sso.link(tenant, "first", subject, "backup", backup_subject)

    async def begin(self, tenant: str) -> Any:
        return await self._sso.logins.begin(tenant, BACK, "/ui/overview")

    async def finish(self, answer: dict[str, str], browser: str) -> Any:
        text, session, _ = await self._sso.logins.finish(answer, browser)
        return {"text": text, "subject": session.subject}

    async def session(self, text: str) -> Any:
        found = await self._found(text)
        return found and found.subject

    async def _found(self, text: str) -> Session | None:
        return await self._sso.logins.session(text)

    async def log_out(self, text: str) -> Any:
        found = await self._found(text)
        return found and await self._sso.logins.log_out(found)

    async def sessions(self, tenant: str) -> Any:
        """How many there are in the table."""

        async def count(tx: Any) -> int:
            return int((await tx.one(SESSIONS))[0])

        return await self._netra.database.read(count, scope=Scope(tenant, "tester"))

    async def age(self, tenant: str) -> None:
        """Every session was in use a minute ago."""

        async def make_older(tx: Any) -> None:
            await tx.execute(OLDER)

        await self._netra.database.write(make_older, scope=Scope(tenant, "tester"))

    async def renew(self, tenant: str) -> None:
        """Every session's turn has come."""

        async def make_due(tx: Any) -> None:
            await tx.execute(DUE)

        await self._netra.database.write(make_due, scope=Scope(tenant, "tester"))
        await self._sso.logins.renewals.renew_due()

    async def trim(self) -> None:
        """What one process does for all."""
        await self._sso.logins.look()
        await self._sso.issuing.look()

    async def look(self, tenant: str) -> Any:
        await self._sso.watch.look_at(tenant)
        return await self.status(tenant)

    async def status(self, tenant: str) -> Any:
        try:
            return await self._sso.status(tenant)
        except NetraError as error:
            return {"error": error.code, "providers": []}

    async def told(self) -> Any:
        """What the operator was told of single sign-on."""
        await self._netra.leader.drain()

        async def read(tx: Any) -> Any:
            return await log.read_after(tx, "operational", 0, 1000)

        rows = await self._netra.database.read(read, scope=SYSTEM)
        return [item["reason"] for row in rows for _, item in row.items]

    async def audited(self, tenant: str) -> Any:
        return await audited(self._netra, tenant)

    async def issue(self, tenant: str) -> Any:
        return await self._sso.issue(tenant, "u1", audience=[AUDIENCE], issuer=ISSUER)

    async def trade(self, tenant: str, token: str) -> Any:
        form = {"subject_token": token, "subject_token_type": exchange.ACCESS_TOKEN}
        requester = Requester(tenant, "key", frozenset({exchange.IMPERSONATE}))
        return await self._sso.issuing.exchange(Scope(tenant, "tester"), requester, ISSUER, form)

    async def rotate_keys(self) -> None:
        await self._sso.rotate_keys()

    async def keys(self) -> Any:
        return len(await self._sso.issuing.published())
