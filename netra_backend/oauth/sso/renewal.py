"""Login sessions are renewed: their provider is asked whether somebody is still one of its people, and its next refresh token is kept.

The vault's protocol (`..refresh`), on the session's row:

- Lease and intent are one thing, the turn: `due_us` moves on by `REFRESH_S` in a transaction of its own before anything is sent. Whoever
  finds it moved asks nothing. The turn outlasts a request and its commit many times over, and a process that stood still in it sends
  nothing once too little of it is left.
- An answer that was read is in the spool before anything else is done with it. Whoever takes the next turn on this host, or starts
  here, commits it first, so no token is sent that was traded.
- A commit asks for its parent: the sealed token that was sent. So does the end of a session that the provider has refused.

What the vault does beyond that is left out: no answer in doubt is asked for again at once, and no orphan is kept. A session whose token
is lost on the network ends at the next turn, if the provider rotates strictly, and its user logs in again
(`docs/decisions/0018-a-session-may-be-lost-to-the-network.md`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from ...errors import NetraError
from ...kernel.failpoints import declare
from ...kernel.rounds import attempt
from ...kernel.runtime import Runtime
from ...kernel.scope import Scope, system_scope
from ...storage.database import Database
from ...storage.sealing import Sealer
from .. import store as vault_store
from ..answers import Kind, Outcome, is_token
from ..breakers import REFRESH
from ..model import Client
from ..service import OAuth
from ..spool import Spool, Spooled
from . import sessions
from .sessions import REFRESH_S, Turn

COMMIT_S: Final = 5.0
MOST_AT_ONCE: Final = 1000
A_FEW: Final = 4
"""Of one tenant's sessions whose provider is asked at the same time."""

FOLDER: Final = "sso-spool"
"""Beside the vault's, in the data folder."""

BEFORE_SEND: Final = declare("sso.renewal_before_send", "a session's turn is taken for good, its provider was not asked")
SPOOLED: Final = declare("sso.renewal_spooled_before_commit", "a session's next token is in the spool, nothing of it is in the database")
COMMITTED: Final = declare("sso.renewal_committed_before_unspooled", "a session's next token is committed, and still in the spool")
_SYSTEM: Final = system_scope("login")


class Renewals:
    """See the module's docstring."""

    def __init__(self, database: Database, runtime: Runtime, sealer: Sealer, vault: OAuth) -> None:
        self._database = database
        self._runtime = runtime
        self._sealer = sealer
        self._refresher = vault.refresher
        self._holders = vault.holders
        self._spool = Spool(vault.spool_folder.with_name(FOLDER), runtime.chance)
        self._fence_s = REFRESH_S - vault.deadline_s - COMMIT_S
        self._under_way: dict[str, asyncio.Task[bool]] = {}

    async def start(self) -> None:
        """Commit what processes of this host that have ended left in the spool."""
        await asyncio.to_thread(self._spool.open)
        for path, spooled in await asyncio.to_thread(self._spool.of):
            if self._holders.is_gone(spooled.holder):
                await self._guarded(self._replay(Scope(spooled.tenant, "login"), path, spooled))

    async def stop(self) -> None:
        """Finish what was sent: an answer that nobody reads would cost a session its token."""
        await asyncio.gather(*self._under_way.values())

    async def renew_due(self, limit: int = MOST_AT_ONCE) -> None:
        """Ask the providers of sessions whose turn it is, whoever is cancelled meanwhile."""
        for task in await self.begin_due(limit):
            await asyncio.shield(task)

    async def begin_due(self, limit: int = MOST_AT_ONCE) -> list[asyncio.Task[bool]]:
        """Begin to. Each tenant has a task of its own, and no second one: whose provider hangs keeps nobody else waiting."""
        due: dict[str, list[bytes]] = {}
        for tenant, id_ in await self._database.read(sessions.due, limit, scope=_SYSTEM):
            due.setdefault(tenant, []).append(id_)
        begun = []
        for tenant, ids in due.items():
            if tenant not in self._under_way:
                work = attempt(self._runtime.log, "login sessions could not be renewed", self._renew_all(tenant, ids))
                task = self._under_way[tenant] = asyncio.get_running_loop().create_task(work)
                task.add_done_callback(partial(self._ended, tenant))
                begun.append(task)
        return begun

    def _ended(self, tenant: str, _: asyncio.Task[bool]) -> None:
        del self._under_way[tenant]

    async def _renew_all(self, tenant: str, ids: Sequence[bytes]) -> None:
        """A tenant's, a few at a time."""
        left = iter(ids)

        async def one_by_one() -> None:
            for id_ in left:
                await self._guarded(self._renew(Scope(tenant, "login"), id_))

        await asyncio.gather(*(one_by_one() for _ in range(A_FEW)))

    async def _guarded(self, work: Any) -> None:
        try:
            await work
        except NetraError as error:
            self._runtime.log.warning("a login session could not be renewed: %s", error)

    async def _renew(self, scope: Scope, id_: bytes) -> None:
        """The one who takes its turn asks; the others see that it is not due any more."""
        began = self._runtime.clock.monotonic()
        for path, spooled in await asyncio.to_thread(self._spool.of, id_):  # its turn is over, whoever has read that: the parent decides
            await self._replay(scope, path, spooled)
        turn: Turn | None = await self._write(scope, sessions.take_turn, id_)
        if turn is None:
            return
        self._runtime.failpoints.hit(BEFORE_SEND)
        if self._runtime.clock.monotonic() - began >= self._fence_s:
            return
        outcome, sent_us = await self._ask(scope, turn.client, turn.refresh)
        if outcome.kind is Kind.REJECTED and outcome.cause == "invalid_grant":
            await self._database.write(sessions.end_by_provider, id_, turn.sealed, scope=scope)
        elif outcome.members is not None and is_token(outcome.members.get("refresh_token")):
            spooled = Spooled(scope.tenant, id_, self._holders.me, 0, 0, sessions.named(turn.sealed), sent_us, 0)
            await self._take(scope, spooled, turn.spool_key, outcome.members["refresh_token"])

    async def _ask(self, scope: Scope, client: Client, refresh: str) -> tuple[Outcome, int]:
        """One request that left this host: the issuer's endpoints in turn while nothing leaves, its secrets in turn."""
        outcome, sent_us = Outcome(Kind.NOT_SENT, "no_endpoint"), 0
        members = {"grant_type": "refresh_token", "refresh_token": refresh}
        for endpoint in client.token_endpoints:
            for _, secret in client.credentials():
                outcome, sent_us = await self._refresher.post(scope, client, secret, endpoint, members, REFRESH)
                if not outcome.is_the_clients:
                    break
            if outcome.kind is not Kind.NOT_SENT:
                break
        return outcome, sent_us

    async def _take(self, scope: Scope, spooled: Spooled, key: bytes, refresh: str) -> None:
        """Keep the answer, then commit it. Nothing is awaited between its being read and its being in the spool."""
        path = None
        try:
            path = self._spool.write(spooled, key, refresh.encode())
            await asyncio.to_thread(self._spool.sync, path)
        except OSError as error:
            self._runtime.log.warning("a session's token has no safe copy in the spool until its commit: %s", error)
        self._runtime.failpoints.hit(SPOOLED)
        await self._commit(scope, path, spooled, refresh)

    async def _replay(self, scope: Scope, path: Path, spooled: Spooled) -> None:
        key: bytes = await self._write(scope, vault_store.spool_key)
        body = await asyncio.to_thread(self._spool.read, path, key)
        if body is None:  # another process has committed it just now, or the root keys are not those that sealed it
            self._runtime.log.warning("%s does not open, or is gone", path)
            return
        await self._commit(scope, path, spooled, body.decode())

    async def _commit(self, scope: Scope, path: Path | None, spooled: Spooled, refresh: str) -> None:
        """If it fails the answer waits in the spool for the next turn."""
        await self._write(scope, sessions.keep, spooled.connection, spooled.parent_fp, refresh)
        self._runtime.failpoints.hit(COMMITTED)
        if path is not None:
            await asyncio.to_thread(self._spool.remove, path)

    async def _write(self, scope: Scope, fn: Any, *arguments: Any) -> Any:
        async def run(tx: Any) -> Any:
            return await fn(tx, self._sealer, *arguments)

        return await self._database.write(run, scope=scope)
