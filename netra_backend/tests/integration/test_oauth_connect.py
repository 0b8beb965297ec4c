"""A user connects: one code is sent once, whatever arrives twice or never."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, urlsplit

import pytest

from netra_backend.kernel.failpoints import FailpointError
from netra_backend.oauth import flows, refresh
from netra_backend.oauth.errors import ConnectFailed, GrantInUse, UnknownState
from netra_backend.testing.provider import Provider

from ..support.storage import everything_stored, with_its_server
from ..support.vaults import TENANT, audited, connect, consent, vault

BACK = "http://127.0.0.1/back"


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(request, prepared):
    async with vault(prepared, request.node.callspec.params.get("fault", "")) as netra:
        yield netra


async def begin(netra, provider, name="new", **registration):
    await netra.oauth.set_client(TENANT, "provider", provider.registration(scopes=["read", "write"], **registration))
    return await netra.oauth.connect(TENANT, name, "provider", BACK)


async def test_a_user_connects_by_a_code_and_a_verifier(netra):
    async with Provider("strict") as provider:
        begun = await begin(netra, provider)
        asked = dict(parse_qsl(urlsplit(begun["authorize_url"]).query))
        assert (asked["response_type"], asked["code_challenge_method"], asked["scope"]) == ("code", "S256", "read write")
        assert (await netra.oauth.status(TENANT, "new"))["state"] == "pending"
        status = await netra.oauth.callback(consent(provider, begun))
        assert (status["state"], status["generation"]) == ("active", 1)
        assert (await netra.oauth.token(TENANT, "new")).generation == 1
        assert (await netra.oauth.refresh(TENANT, "new")).generation == 2
        assert await audited(netra) == ["tenant.create", "oauth_client.set", "connection.connect", "connection.active"]


async def test_fifty_callbacks_with_one_code_send_it_once_and_all_hear_the_same(prepared):
    async with Provider("strict", "delay:0.1") as provider, vault(prepared) as one, vault(prepared) as two:
        begun = await begin(one, provider)
        answer = consent(provider, begun)
        found = await asyncio.gather(*[netra.oauth.callback(answer) for netra in (one, two) for _ in range(25)])
        assert {(each["state"], each["generation"]) for each in found} == {("active", 1)}
        assert len(provider.requests) == 1
        assert (await one.oauth.callback(answer))["state"] == "active"  # and later too
        assert len(provider.requests) == 1


@pytest.mark.parametrize("fault", ["drop", "drop-before", "503", "garbage", "delay:1"])
async def test_a_lost_answer_is_no_connection_and_the_code_is_not_sent_again(netra, fault):
    async with Provider("strict", fault) as provider:
        answer = consent(provider, await begin(netra, provider))
        for _ in range(2):
            with pytest.raises(ConnectFailed, match="outcome_unknown"):
                await netra.oauth.callback(answer)
        assert len(provider.requests) == 1
        status = await netra.oauth.status(TENANT, "new")
        assert (status["state"], status["reason"], status["generation"]) == ("failed", "outcome_unknown", 0)
        provider._control({"fault": "none"})
        again = await netra.oauth.connect(TENANT, "new", "provider", BACK)
        assert (await netra.oauth.callback(consent(provider, again)))["state"] == "active"


async def test_a_user_who_refuses_has_not_connected(netra):
    async with Provider("strict") as provider:
        answer = consent(provider, await begin(netra, provider))
        with pytest.raises(ConnectFailed, match="access_denied"):
            await netra.oauth.callback({"state": answer["state"], "error": "access_denied"})
        assert provider.requests == []


async def test_an_answer_of_another_issuer_is_not_taken(netra):
    async with Provider("strict") as provider:
        begun = await begin(netra, provider, issuer=provider.url)
        with pytest.raises(ConnectFailed, match="wrong_issuer"):
            await netra.oauth.callback({**consent(provider, begun), "iss": "https://evil.example"})
        assert provider.requests == []


async def test_an_answer_that_hides_its_issuer_is_taken_only_where_nobody_promised_that_it_would_not(netra, monkeypatch):
    async with Provider("strict") as provider:
        answer = consent(provider, await begin(netra, provider, issuer=provider.url))
        del answer["iss"]
        with pytest.raises(ConnectFailed, match="wrong_issuer"):
            await netra.oauth.callback(answer)
        assert provider.requests == []
    async with Provider("strict") as provider:
        promised = provider._metadata()
        monkeypatch.setattr(provider, "_metadata", lambda: {**promised, "authorization_response_iss_parameter_supported": False})
        answer = consent(provider, await begin(netra, provider, "other", issuer=provider.url))
        del answer["iss"]
        assert (await netra.oauth.callback(answer))["state"] == "active"


@pytest.mark.parametrize("error", ["a\0b", "line\nforged", "\u202eevil", "\ud800", "x" * 100_000])
async def test_an_error_that_is_no_word_of_the_standard_ends_the_way_and_is_not_repeated(netra, error):
    async with Provider("strict") as provider:
        begun = await begin(netra, provider)
        with pytest.raises(ConnectFailed, match="unreadable") as failed:
            await netra.oauth.callback({"state": consent(provider, begun)["state"], "error": error})
        assert error not in str(failed.value)
        assert (await netra.oauth.status(TENANT, "new"))["state"] == "failed"


async def test_an_answer_whose_commit_failed_is_committed_by_the_next_start_also_after_an_orderly_end(prepared):
    async with Provider("strict") as provider:
        async with vault(prepared) as netra:
            answer = consent(provider, await begin(netra, provider))
            netra.runtime.failpoints.arm(refresh.SPOOLED, "raise")
            with pytest.raises(FailpointError):
                await netra.oauth.callback(answer)
        async with vault(prepared) as netra:
            status = await netra.oauth.status(TENANT, "new")
            assert (status["state"], status["generation"], len(provider.requests)) == ("active", 1, 1)
            assert list((prepared / "oauth-spool").iterdir()) == []


@pytest.mark.parametrize("answer", [{}, {"state": ""}, {"state": "guess", "code": "x"}, {"state": "\ud800"}])
async def test_a_state_that_nobody_was_given_leads_nowhere(netra, answer):
    with pytest.raises(UnknownState):
        await netra.oauth.callback(answer)


async def test_a_code_that_the_provider_refuses_has_not_connected(netra):
    async with Provider("strict") as provider:
        answer = consent(provider, await begin(netra, provider))
        with pytest.raises(ConnectFailed, match="invalid_grant"):
            await netra.oauth.callback({**answer, "code": "forged"})
        assert (await netra.oauth.status(TENANT, "new"))["state"] == "failed"


async def test_a_connection_serves_on_until_its_user_has_connected_again(netra):
    async with Provider("strict") as provider:
        tokens = await connect(netra, provider, expires_in=600)
        begun = await netra.oauth.connect(TENANT, "user-1", "provider", BACK)
        assert (await netra.oauth.token(TENANT, "user-1")).access_token == tokens["access_token"]
        status = await netra.oauth.callback(consent(provider, begun))
        assert (status["state"], status["generation"]) == ("active", 3)
        assert (await netra.oauth.token(TENANT, "user-1")).access_token != tokens["access_token"]


async def test_a_way_is_overtaken_by_a_revocation(netra):
    async with Provider("strict") as provider:
        await connect(netra, provider, expires_in=600)
        begun = await netra.oauth.connect(TENANT, "user-1", "provider", BACK)
        await netra.oauth.revoke(TENANT, "user-1")
        with pytest.raises(ConnectFailed, match="superseded"):
            await netra.oauth.callback(consent(provider, begun))
        assert (await netra.oauth.status(TENANT, "user-1"))["state"] == "revoked"


async def test_a_name_is_not_taken_from_another_client(netra):
    async with Provider("strict") as provider:
        await connect(netra, provider)
        await netra.oauth.set_client(TENANT, "other", provider.registration())
        with pytest.raises(GrantInUse):
            await netra.oauth.connect(TENANT, "user-1", "other", BACK)


async def test_a_way_that_nobody_comes_back_on_ends_by_itself(netra, monkeypatch):
    monkeypatch.setattr(flows, "LIVES_S", 0)
    async with Provider("strict") as provider:
        begun = await begin(netra, provider)
        await netra.oauth.end_overdue(100)
        status = await netra.oauth.status(TENANT, "new")
        assert (status["state"], status["reason"]) == ("failed", "nobody came back")
        with pytest.raises(ConnectFailed, match="expired"):
            await netra.oauth.callback(consent(provider, begun))
        assert provider.requests == []


async def test_neither_state_nor_verifier_nor_code_stands_in_the_database(netra):
    async with Provider("strict") as provider:
        begun = await begin(netra, provider)
        answer = consent(provider, begun)
        verifier = next(iter(provider._codes.values()))["code_challenge"]
        await netra.oauth.callback(answer)
        stored = everything_stored(netra.database)
        for secret in (answer["state"], answer["code"], verifier):
            assert secret.encode() not in stored
