"""O15: a provider that is down is not asked by everybody, on both engines."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.oauth.breakers import CODE, REFRESH
from netra_backend.oauth.errors import RefreshFailed
from netra_backend.testing.provider import Fault, Provider

from ..support.storage import eventually, with_its_server
from ..support.vaults import NAME, TENANT, audited, connect, consent, vault

AT_THREE = {"oauth_breaker_failures": 3, "oauth_breaker_open": "10m"}


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(prepared):
    async with vault(prepared, **AT_THREE) as netra:
        yield netra


async def opened(netra, provider, **registration):
    """A connection whose provider is down, and not asked any more."""
    provider.fault = Fault("503")
    tokens = await connect(netra, provider, expires_in=600, replay_window_s=0, **registration)
    for _ in range(3):
        await netra.oauth.import_(TENANT, NAME, "provider", {**provider.grant(), "expires_in": 600})
        assert (await netra.oauth.refresh(TENANT, NAME)).stale
    assert netra.oauth.refresher.breakers.states()["open"] == 1
    assert len(provider.requests) == 3
    return tokens


async def test_an_open_breaker_sends_nothing_and_the_old_token_serves_stale(netra):
    async with Provider("strict") as provider:
        await opened(netra, provider)
        await netra.oauth.import_(TENANT, "other", "provider", {**provider.grant(), "expires_in": 600})
        for _ in range(3):
            tokens = await asyncio.gather(*(netra.oauth.refresh(TENANT, "other") for _ in range(50)))
            assert {(token.generation, token.stale) for token in tokens} == {(1, True)}
        assert len(provider.requests) == 3
        assert (await netra.oauth.status(TENANT, "other"))["state"] == "active"  # nothing was sent, so nothing is in doubt
        assert (await audited(netra)).count("connection.refresh_failed") == 3  # and no attempt has failed


async def test_a_connection_without_a_token_that_lives_is_told_at_once_why(netra):
    async with Provider("strict") as provider:
        await opened(netra, provider)
        await netra.oauth.import_(TENANT, "other", "provider", {**provider.grant(), "expires_in": 0})
        with pytest.raises(RefreshFailed, match="/token: breaker_open"):
            await netra.oauth.token(TENANT, "other")
        assert len(provider.requests) == 3
        assert (await netra.oauth.status(TENANT, "other"))["state"] == "active"


async def test_a_probe_goes_before_all_others_and_they_follow_it(prepared):
    quick = {**AT_THREE, "oauth_breaker_open": "400ms"}
    async with Provider("strict") as provider, vault(prepared, **quick) as netra:
        await opened(netra, provider)
        names = [f"waits-{number}" for number in range(12)]
        for name in names:
            await netra.oauth.import_(TENANT, name, "provider", {**provider.grant(), "expires_in": 0})
        provider.fault = Fault("503@1")

        async def all_serve():
            return all(await asyncio.gather(*(serves(netra, name) for name in names)))

        await eventually(all_serve)
        sent = [line["status"] for line in provider.requests]
        assert sent == [503] * 3 + [503] + [200] * 12  # a failed probe is one request, not one of each


async def serves(netra, name):
    """Whether it has its second token."""
    try:
        return (await netra.oauth.token(TENANT, name)).generation == 2
    except RefreshFailed:
        return False


async def test_a_refused_grant_or_client_keeps_nobody_from_asking(netra):
    async with Provider("strict") as provider:
        await connect(netra, provider, client_secrets=["wrong"])
        for _ in range(5):
            with pytest.raises(RefreshFailed, match="invalid_client"):
                await netra.oauth.refresh(TENANT, NAME)
        assert len(provider.requests) == 5
        assert sum(netra.oauth.refresher.breakers.states().values()) == 0


async def test_the_issuers_next_endpoint_is_asked_while_the_first_ones_breaker_is_open(netra):
    async with Provider("strict") as first, Provider("strict") as second:
        await opened(netra, first, endpoints={"token": [first.url + "/token", second.url + "/token"]})
        await netra.oauth.import_(TENANT, "other", "provider", {**second.grant(), "expires_in": 0})
        assert (await netra.oauth.token(TENANT, "other")).generation == 2
        assert (len(first.requests), len(second.requests)) == (3, 1)


async def test_a_tenant_whose_provider_is_down_keeps_no_other_tenant_from_it(netra):
    async with Provider("strict") as provider:
        await opened(netra, provider)
        provider.fault = Fault("none")
        await netra.tenant("globex")
        await connect(netra, provider, tenant="globex")
        assert (await netra.oauth.token("globex", NAME)).generation == 2


async def test_a_user_connects_although_refreshes_are_not_sent(netra):
    async with Provider("strict") as provider:
        await opened(netra, provider)
        provider.fault = Fault("none")
        kinds = {key[2] for key in netra.oauth.refresher.breakers._known}
        begun = await netra.oauth.connect(TENANT, "new", "provider", "http://127.0.0.1/back")
        assert (await netra.oauth.callback(consent(provider, begun)))["state"] == "active"
        assert kinds == {REFRESH}
        assert {key[2] for key in netra.oauth.refresher.breakers._known} == {REFRESH, CODE}
