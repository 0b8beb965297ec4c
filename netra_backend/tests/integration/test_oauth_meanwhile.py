"""What is in flight while somebody decides otherwise: connects anew, deletes, moves a registration."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.errors import Conflict
from netra_backend.kernel.scope import Scope
from netra_backend.oauth import flows
from netra_backend.oauth.errors import ConnectFailed, IssuerInUse, ReauthRequired, UnknownConnection
from netra_backend.storage.sealing import CannotUnseal
from netra_backend.storage.statements import statement
from netra_backend.testing.provider import Provider

from ..support.storage import with_its_server
from ..support.vaults import NAME, TENANT, connect, consent, timed, vault

BACK = "http://127.0.0.1/back"


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(prepared):
    async with vault(prepared) as netra:
        yield netra


async def test_an_answer_to_the_grant_that_was_replaced_never_takes_the_place_of_the_new_one(netra):
    async with Provider("strict", "delay:0.2") as provider:
        await connect(netra, provider)
        asking = asyncio.create_task(netra.oauth.refresh(TENANT, NAME))
        await provider.arrived.wait()
        another = provider.grant()  # of another user, perhaps
        await netra.oauth.import_(TENANT, NAME, "provider", {**another, "expires_in": 3600})
        assert (await asking).access_token == another["access_token"]
        provider.grants.revoke_token(another["refresh_token"])
        with pytest.raises(ReauthRequired):
            await netra.oauth.refresh(TENANT, NAME)
        status = await netra.oauth.status(TENANT, NAME)
        assert (status["state"], status["reason"]) == ("reauth_required", "revoked")
        assert (await netra.oauth.token(TENANT, NAME)).access_token == another["access_token"]  # to its end, and no other's


async def test_a_refresh_while_the_user_is_at_the_provider_does_not_undo_his_connecting(netra):
    async with Provider("strict") as provider:
        await connect(netra, provider, expires_in=600)
        begun = await netra.oauth.connect(TENANT, NAME, "provider", BACK)
        await netra.oauth.refresh(TENANT, NAME)
        before = await netra.oauth.token(TENANT, NAME)
        status = await netra.oauth.callback(consent(provider, begun))
        assert status["state"] == "active"
        assert (await netra.oauth.token(TENANT, NAME)).access_token != before.access_token


async def test_of_two_ways_to_one_connection_the_first_counts(netra):
    async with Provider("strict") as provider:
        await connect(netra, provider, expires_in=600)
        ways = [await netra.oauth.connect(TENANT, NAME, "provider", BACK) for _ in range(2)]
        await netra.oauth.callback(consent(provider, ways[1]))
        with pytest.raises(ConnectFailed, match="superseded"):
            await netra.oauth.callback(consent(provider, ways[0]))


async def test_a_provider_that_gives_the_same_refresh_token_again_is_connected_to_again(netra, monkeypatch):
    async with Provider("keep-old") as provider:
        tokens = await connect(netra, provider, expires_in=600)
        begun = await netra.oauth.connect(TENANT, NAME, "provider", BACK)
        new = provider.grants.new
        monkeypatch.setattr(provider.grants, "new", lambda now: {**new(now), "refresh_token": tokens["refresh_token"]})
        status = await netra.oauth.callback(consent(provider, begun))
        assert status["state"] == "active"
        assert (await netra.oauth.token(TENANT, NAME)).access_token != tokens["access_token"]


@pytest.mark.parametrize("by", ["connect", "device"])
@pytest.mark.parametrize("open_still", [False, True], ids=["as it is", "as it once was"])
async def test_a_way_whose_connection_was_deleted_ends_and_keeps_no_other_waiting(prepared, by, open_still):
    async with Provider("strict") as provider, timed(prepared) as (netra, clock):
        await netra.oauth.set_client(TENANT, "provider", provider.registration())
        for name in ("deleted", "other"):
            if by == "connect":
                await netra.oauth.connect(TENANT, name, "provider", BACK)
            else:
                await netra.oauth.device(TENANT, name, "provider")
            await clock.jump(1)
        await netra.oauth.revoke(TENANT, "deleted", delete=True)
        if open_still:

            async def reopen(tx):
                await tx.execute(statement("update netra_connect_flow set outcome = null where tenant = :tenant"))

            await netra.database.write(reopen, scope=Scope(TENANT, "tester"))
        await clock.jump(5)
        assert await netra.oauth.poll_devices(1) == len(provider.requests) == (by == "device")
        await clock.jump(1801)
        for _ in range(2):
            await netra.oauth.end_overdue(1)
        assert (await netra.oauth.status(TENANT, "other"))["state"] == "failed"


async def test_a_way_that_cannot_be_ended_keeps_no_other_waiting(prepared, monkeypatch, caplog):
    async with Provider("strict") as provider, timed(prepared) as (netra, clock):
        await netra.oauth.set_client(TENANT, "provider", provider.registration())
        for name in ("first", "second"):
            await netra.oauth.connect(TENANT, name, "provider", BACK)
            await clock.jump(1)
        await clock.jump(1801)
        expire, failed = flows.expire, []

        async def once(tx, sealer, id_):
            if not failed:
                failed.append(id_)
                raise CannotUnseal("a key that does not open")
            await expire(tx, sealer, id_)

        monkeypatch.setattr(flows, "expire", once)
        await netra.oauth.end_overdue(10)
        assert [(await netra.oauth.status(TENANT, name))["state"] for name in ("first", "second")] == ["pending", "failed"]
        assert "a key that does not open" in caplog.text


async def test_a_code_is_not_sent_once_its_connection_was_revoked(netra):
    async with Provider("strict") as provider:
        await connect(netra, provider, expires_in=600)
        begun = await netra.oauth.connect(TENANT, NAME, "provider", BACK)
        await netra.oauth.revoke(TENANT, NAME)
        with pytest.raises(ConnectFailed, match="superseded"):
            await netra.oauth.callback(consent(provider, begun))
        assert provider.requests == []


async def test_a_registration_is_not_moved_to_another_issuer_while_a_user_is_on_his_way_there(netra):
    async with Provider("strict") as one, Provider("strict") as two:
        await netra.oauth.set_client(TENANT, "provider", one.registration(issuer=one.url))
        answer = consent(one, await netra.oauth.connect(TENANT, "new", "provider", BACK))
        del answer["iss"]  # as of a server that does not say who it is
        with pytest.raises(IssuerInUse):
            await netra.oauth.set_client(TENANT, "provider", two.registration(issuer=two.url))
        with pytest.raises(ConnectFailed, match="wrong_issuer"):  # its metadata promises that it does say so
            await netra.oauth.callback(answer)
        await netra.oauth.set_client(TENANT, "provider", two.registration(issuer=two.url))
        assert two.requests == []


async def test_a_devices_code_is_shown_to_no_other_server_than_gave_it(netra, monkeypatch):
    async with Provider("strict") as one, Provider("strict") as two:
        await netra.oauth.set_client(TENANT, "provider", one.registration(issuer=one.url))
        asked = netra.oauth._devices._asked

        async def moved_meanwhile(*arguments):
            said = await asked(*arguments)
            await netra.oauth.set_client(TENANT, "provider", two.registration(issuer=two.url))
            return said

        monkeypatch.setattr(netra.oauth._devices, "_asked", moved_meanwhile)
        with pytest.raises(Conflict, match="changed"):
            await netra.oauth.device(TENANT, "tv", "provider")
        with pytest.raises(UnknownConnection):
            await netra.oauth.status(TENANT, "tv")
