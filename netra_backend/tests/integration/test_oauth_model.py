"""The vault against a model of its provider: whatever is done and whatever fails, what it says of a grant is so at the provider."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netra_backend.errors import NetraError
from netra_backend.kernel.scope import Scope
from netra_backend.oauth import refresh, store
from netra_backend.testing.grants import PROFILES
from netra_backend.testing.provider import Fault, Provider

from ..support.vaults import NAME, TENANT, connect, vault

FAILPOINTS = [
    store.LEASED,
    store.GRANTED,
    store.GIVEN_UP,
    store.DECIDED,
    refresh.SPOOLED,
    refresh.COMMITTED,
    refresh.ANSWERED,
    refresh.BEFORE_SEND,
]
STEP = st.one_of(
    st.tuples(
        st.just("fault"), st.sampled_from(["none", "drop@1", "drop-before@1", "503@1", "503-after@1", "garbage@1", "429@1", "503@9"])
    ),
    st.tuples(st.just("fail"), st.sampled_from(FAILPOINTS)),
    st.tuples(st.just("refresh"), st.integers(min_value=1, max_value=4)),
    st.tuples(st.just("token"), st.integers(min_value=1, max_value=4)),
    st.tuples(st.just("cancel"), st.integers(min_value=0, max_value=30)),
    st.tuples(st.just("import"), st.none()),
)


class World:
    """Two processes' vaults on one database, and the provider."""

    def __init__(self, one, two, provider):
        self.vaults = (one, two)
        self.provider = provider
        self.generation = 1

    async def fault(self, spec):
        self.provider.fault = Fault(spec)

    async def fail(self, failpoint):
        self.vaults[0].runtime.failpoints.arm(failpoint, "raise")

    async def refresh(self, callers):
        await self._all(lambda vault: vault.oauth.refresh(TENANT, NAME), callers)

    async def token(self, callers):
        await self._all(lambda vault: vault.oauth.token(TENANT, NAME), callers)

    async def cancel(self, turns):
        task = asyncio.create_task(self.vaults[0].oauth.refresh(TENANT, NAME))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, NetraError):
            await task

    async def _all(self, call, callers):
        outcomes = await asyncio.gather(*[call(vault) for vault in self.vaults for _ in range(callers)], return_exceptions=True)
        assert all(not isinstance(each, BaseException) or isinstance(each, NetraError) for each in outcomes), outcomes

    async def settled(self):
        """Nothing is in flight any more."""
        while any(len(vault.oauth._flights) or vault.oauth._background for vault in self.vaults):
            await asyncio.sleep(0.005)

    async def check(self):
        vault = self.vaults[1]

        async def look(tx):
            return await store.connection_named(tx, vault.sealer, NAME)

        now = await vault.database.read(look, scope=Scope(TENANT, "tester"))
        assert now.generation >= self.generation
        self.generation = now.generation
        waiting = vault.oauth.refresher._spool.of(now.id)
        if now.state == "active" and not now.has_open_intent and not waiting:
            assert self.provider.grants.is_refreshable(now.refresh), "the current refresh token is not the one that lives"
        if now.state == "reauth_required":
            assert not self.provider.grants.is_refreshable(now.refresh), "a grant that lives was given up"
        assert self.provider.most_in_flight <= 1
        assert self.provider.superseded() == []


async def play(profile, steps, window):
    with tempfile.TemporaryDirectory() as name:
        async with Provider(profile) as provider, vault(Path(name)) as one, vault(Path(name)) as two:
            await connect(one, provider, expires_in=0, replay_window_s=window)
            world = World(one, two, provider)
            for step, argument in steps:
                if step == "import":
                    await connect(two, provider, expires_in=0, replay_window_s=window)  # whose failpoints nobody arms
                else:
                    await getattr(world, step)(argument)
                await world.settled()
                await world.check()


@pytest.mark.parametrize("profile", PROFILES)
@settings(max_examples=13, deadline=None)
@given(steps=st.lists(STEP, min_size=3, max_size=10), window=st.sampled_from([None, 0, 30]))
def test_what_the_vault_says_of_a_grant_is_so_at_the_provider(profile, steps, window):
    asyncio.run(play(profile, steps, window))
