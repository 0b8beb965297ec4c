"""The vault against the certified authorization server of npm, which rotates, and revokes a grant whose refresh token comes twice."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.kernel.scope import Scope
from netra_backend.oauth import store
from netra_backend.oauth.errors import ConnectionRevoked, ReauthRequired

from ..support.oidc import BACK, OidcProvider
from ..support.storage import with_its_server
from ..support.vaults import NAME, TENANT, vault


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(prepared):
    async with vault(prepared, oauth_http_timeout="5s", oauth_lease_ttl="20s") as netra:
        yield netra


@pytest.fixture(scope="module")
def strict():
    provider = OidcProvider().start()
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def keeping():
    provider = OidcProvider(rotate=False).start()
    yield provider
    provider.close()


async def connect(netra, provider, *, expires_in=0, **registration):
    """A connection with a user's grant."""
    await netra.oauth.set_client(TENANT, "provider", provider.registration(**registration))
    tokens = await asyncio.to_thread(provider.grant)
    await netra.oauth.import_(TENANT, NAME, "provider", {**tokens, "expires_in": expires_in})
    return tokens


async def current(netra):
    """The refresh token that the vault holds."""

    async def look(tx):
        return (await store.connection_named(tx, netra.sealer, NAME)).refresh

    return await netra.database.read(look, scope=Scope(TENANT, "tester"))


async def asked(call, *arguments):
    return await asyncio.to_thread(call, *arguments)


async def test_a_user_connects_through_it_and_his_tokens_follow_each_other(netra, strict):
    await netra.oauth.set_client(TENANT, "provider", strict.registration())
    begun = await netra.oauth.connect(TENANT, "new", "provider", BACK)
    status = await netra.oauth.callback(await asked(strict.consent, begun))
    assert (status["state"], status["generation"]) == ("active", 1)
    tokens = [await netra.oauth.token(TENANT, "new")] + [await netra.oauth.refresh(TENANT, "new") for _ in range(3)]
    assert [token.generation for token in tokens] == [1, 2, 3, 4]
    assert [await asked(strict.is_active, token.access_token) for token in tokens][-1]
    assert strict.superseded() == []


async def test_callers_of_several_processes_make_one_request(prepared, strict):
    async with vault(prepared) as one, vault(prepared) as two:
        await connect(one, strict)
        before = len(strict.refreshes())
        tokens = await asyncio.gather(*(netra.oauth.token(TENANT, NAME) for netra in (one, two) for _ in range(100)))
        assert {(token.generation, token.stale) for token in tokens} == {(2, False)}
        assert len(strict.refreshes()) == before + 1


async def test_a_lost_answer_costs_the_grant_only_if_nobody_said_that_the_provider_is_strict(netra, strict):
    await connect(netra, strict)
    await asked(strict.fail, "drop")
    with pytest.raises(ReauthRequired):
        await netra.oauth.token(TENANT, NAME)
    assert (await netra.oauth.status(TENANT, NAME))["reason"] == "rotation_lost"
    assert not await asked(strict.is_active, await current(netra))


async def test_a_provider_known_to_be_strict_is_not_asked_twice_and_the_old_token_serves(netra, strict):
    tokens = await connect(netra, strict, expires_in=600, replay_window_s=0)
    before = len(strict.stats()["requests"])
    await asked(strict.fail, "drop")
    for _ in range(3):
        token = await netra.oauth.refresh(TENANT, NAME)
        assert (token.access_token, token.stale) == (tokens["access_token"], True)
    assert await asked(strict.is_active, token.access_token)  # the grant was not revoked, as a second request would have
    assert len(strict.stats()["requests"]) == before + 1
    assert (await netra.oauth.status(TENANT, NAME))["state"] == "at_risk"


async def test_a_request_that_was_cut_before_it_was_served_is_made_again(netra, strict):
    await connect(netra, strict)
    await asked(strict.fail, "drop-before")
    token = await netra.oauth.token(TENANT, NAME)
    assert (token.generation, token.stale) == (2, False)
    assert await asked(strict.is_active, await current(netra))


async def test_a_server_that_does_not_rotate_takes_the_token_again(netra, keeping):
    tokens = await connect(netra, keeping)
    await asked(keeping.fail, "drop", 2)
    token = await netra.oauth.token(TENANT, NAME)
    assert (token.generation, token.stale) == (2, False)
    assert await current(netra) == tokens["refresh_token"]
    assert await asked(keeping.is_active, token.access_token)


async def test_a_grant_that_was_replayed_by_somebody_else_needs_its_user(netra, strict):
    tokens = await connect(netra, strict)
    assert (await netra.oauth.token(TENANT, NAME)).generation == 2
    assert (await asked(strict.refresh, tokens["refresh_token"])).json()["error"] == "invalid_grant"  # and with it the family goes
    with pytest.raises(ReauthRequired):
        await netra.oauth.refresh(TENANT, NAME)
    status = await netra.oauth.status(TENANT, NAME)
    assert (status["state"], status["reason"]) == ("reauth_required", "revoked")


async def test_a_revocation_is_told_to_it(netra, strict):
    tokens = await connect(netra, strict, expires_in=3600)
    assert await asked(strict.is_active, tokens["refresh_token"])
    await netra.oauth.revoke(TENANT, NAME)
    assert not await asked(strict.is_active, tokens["refresh_token"])
    with pytest.raises(ConnectionRevoked):
        await netra.oauth.token(TENANT, NAME)


async def test_a_client_has_a_token_by_its_own_right(netra, strict):
    await netra.oauth.set_client(TENANT, "provider", strict.registration(scopes=["read"]))
    await netra.oauth.own(TENANT, "service", "provider")
    first = await netra.oauth.token(TENANT, "service")
    assert await asked(strict.is_active, first.access_token)
    await asked(strict.fail, "drop")
    assert (await netra.oauth.refresh(TENANT, "service")).generation == first.generation + 1


async def test_a_code_whose_answer_is_lost_is_not_sent_again(netra, strict):
    await netra.oauth.set_client(TENANT, "provider", strict.registration())
    begun = await netra.oauth.connect(TENANT, "lost", "provider", BACK)
    answer = await asked(strict.consent, begun)
    before = len(strict.stats()["requests"])
    await asked(strict.fail, "drop")
    outcomes = await asyncio.gather(*(netra.oauth.callback(answer) for _ in range(10)), return_exceptions=True)
    assert {type(each).__name__ for each in outcomes} == {"ConnectFailed"}
    assert len(strict.stats()["requests"]) == before + 1
    assert (await netra.oauth.status(TENANT, "lost"))["reason"] == "outcome_unknown"
