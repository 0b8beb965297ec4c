"""Iteration 81: OAuth token exchange. The vault's own refresh protocol; database and network are mocked."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock, MagicMock

from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.oauth import store
from netra_backend.oauth.model import Client, Connection, Lease
from netra_backend.oauth.refresh import Refresher
from netra_backend.oauth.service import OAuth
from netra_backend.oauth.settings import OAuthSettings
from netra_backend.resilience.egress_error import EgressError
from netra_backend.testing.clock import FakeClock

FUTURE_US = 4 * 10**15
CLIENT = Client(b"c" * 16, "idp", None, ("http://one/token", "http://two/token"), None, None, "id", "none", ())


def connection(generation, expires_us):
    tokens = ("access", "refresh", "fp", 0, expires_us, None, None)
    return Connection("acme", b"i" * 16, "user", CLIENT.id, "active", None, generation, *tokens, None, 1, None, None, 0, 0, 0, b"")


class TestOAuthTokenExchange:
    async def test_concurrent_token_refresh_race_condition(self, tmp_path):
        """A hundred callers of one expired token, half of them cancelled, make one refresh and get its one result."""
        database = MagicMock(lock_dir=tmp_path, read=AsyncMock(return_value=connection(1, 0)))
        scope_of = AsyncMock(return_value=Scope("acme", "tester"))
        vault = OAuth(database, Runtime(), OAuthSettings(tmp_path), MagicMock(), MagicMock(), scope_of)
        answered = asyncio.Event()

        async def refresh(*_, **__):
            await answered.wait()
            return connection(2, FUTURE_US), None

        vault.refresher.refresh = AsyncMock(side_effect=refresh)
        callers = [asyncio.create_task(vault.token("acme", "user")) for _ in range(100)]
        await asyncio.sleep(0)
        [caller.cancel() for caller in callers[::2]]
        answered.set()
        tokens = await asyncio.gather(*callers[1::2])
        assert vault.refresher.refresh.await_count == 1
        assert {(token.access_token, token.generation, token.stale) for token in tokens} == {("access", 2, False)}

    async def test_network_timeout_recovery(self):
        """An endpoint that was never reached gives way to the next; a time-out after sending does not, and leaves the grant in doubt."""
        errors = [EgressError("connect", sent=False), *[EgressError("timeout", sent=True)] * 9]
        lease = Lease(connection(1, 0), CLIENT, b"h", 2, replayed=False, spool_key=b"k" * 32)
        written = [lease, doubted := connection(1, 0)]
        database = MagicMock(write=AsyncMock(side_effect=lambda fn, *_, **__: fn is store.send_again or written.pop(0)))
        egress = MagicMock(request=AsyncMock(side_effect=errors))
        runtime = Runtime(clock=(clock := FakeClock()))
        refresher = Refresher(database, runtime, OAuthSettings(None), MagicMock(), egress, MagicMock(me=b"h"), MagicMock())
        task = asyncio.create_task(refresher.refresh(Scope("acme", "tester"), lease.connection.id, 1))
        while not task.done():
            await clock.advance(1)
        now, failure = await task
        asked = [call.args[1] for call in egress.request.await_args_list]
        assert (asked[0], set(asked[1:])) == ("http://one/token", {"http://two/token"})
        assert now is doubted
        assert failure.tried[:2] == (("http://one/token", "connect"), ("http://two/token", "timeout"))
