"""O5: whoever is cancelled at whatever await of whatever call, nothing is half done and nothing is done twice. On both engines."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest

from netra_backend.errors import NetraError
from netra_backend.testing.provider import Fault, Provider

from ..support.cancelling import cancelled_at
from ..support.storage import with_its_server
from ..support.vaults import NAME, TENANT, connect, consent, vault

BACK = "http://127.0.0.1/back"


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(prepared):
    async with vault(prepared) as netra:
        yield netra


@pytest.fixture
async def provider():
    async with Provider("strict") as provider:
        yield provider


async def settled(netra):
    """Nothing of the vault is under way any more."""
    while len(netra.oauth._flights) or netra.oauth._background:
        await asyncio.sleep(0)


async def at_each_await(netra, call, check):
    """Make the call again and again, cancelled at one await after the other, until one comes to its end; how often it was cancelled."""
    for number in itertools.count():
        done = await cancelled_at(number, call(number))
        await settled(netra)
        await check(number)
        if done is not None:
            return number
    raise AssertionError


async def test_a_token_is_refreshed_once_whoever_is_cancelled(netra, provider):
    for number in itertools.count():
        await connect(netra, provider, name=f"user-{number}")
        done = await cancelled_at(number, netra.oauth.token(TENANT, f"user-{number}"))
        assert (await netra.oauth.token(TENANT, f"user-{number}")).generation == 2
        assert len(provider.requests) == number + 1
        if done is not None:
            break
    assert number >= 2


async def test_refreshes_by_hand_follow_each_other(netra, provider):
    await connect(netra, provider)

    async def lives(number):
        assert provider.superseded() == []
        assert (await netra.oauth.status(TENANT, NAME))["state"] == "active"

    assert await at_each_await(netra, lambda _: netra.oauth.refresh(TENANT, NAME), lives) >= 2
    assert (await netra.oauth.status(TENANT, NAME))["generation"] == len(provider.requests) + 1


async def test_a_code_is_sent_once_and_connects_whoever_is_cancelled(netra, provider):
    await netra.oauth.set_client(TENANT, "provider", provider.registration())
    answers = {}

    async def bring(number):
        begun = await netra.oauth.connect(TENANT, f"new-{number}", "provider", BACK)
        answers[number] = consent(provider, begun)
        return answers[number]

    for number in itertools.count():
        answer = await bring(number)
        done = await cancelled_at(number, netra.oauth.callback(answer))
        await settled(netra)
        assert (await netra.oauth.callback(answer))["state"] == "active"
        if done is not None:
            break
    assert number >= 1
    assert len(provider.requests) == number + 1


async def test_a_devices_answer_is_taken_although_whoever_asked_is_gone(netra, provider, monkeypatch):
    await netra.oauth.set_client(TENANT, "provider", provider.registration())
    await netra.oauth.device(TENANT, "tv", "provider")
    for code in provider.devices:
        provider.devices[code] = "approved"
    provider.fault = Fault("delay:0.2")
    monkeypatch.setattr(type(netra.runtime.clock), "wall_us", lambda _: time.time_ns() // 1000 + 6_000_000)  # its interval is over
    asking = asyncio.create_task(netra.oauth.poll_devices())
    await provider.arrived.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await settled(netra)
    assert ((await netra.oauth.status(TENANT, "tv"))["state"], len(provider.requests)) == ("active", 1)


async def test_a_revocation_is_whole_or_absent_and_the_provider_is_told_of_each(netra, provider):
    for number in itertools.count():
        tokens = await connect(netra, provider, expires_in=3600, name=f"user-{number}")
        done = await cancelled_at(number, netra.oauth.revoke(TENANT, f"user-{number}"))
        await settled(netra)
        state = (await netra.oauth.status(TENANT, f"user-{number}"))["state"]
        assert state in {"active", "revoked"}
        if state == "active":
            assert (await netra.oauth.token(TENANT, f"user-{number}")).access_token == tokens["access_token"]
        if done is not None:
            break
    assert number >= 2
    assert not provider.grants.is_refreshable(tokens["refresh_token"])


@pytest.mark.parametrize("call", ["set_client", "import_", "connect", "link", "own"])
async def test_what_is_made_is_whole_or_absent(netra, provider, call):
    await netra.oauth.set_client(TENANT, "provider", provider.registration())

    def made(number):
        name = f"new-{number}"
        match call:
            case "set_client":
                return netra.oauth.set_client(TENANT, name, provider.registration())
            case "import_":
                return netra.oauth.import_(TENANT, name, "provider", provider.grant())
            case "connect":
                return netra.oauth.connect(TENANT, name, "provider", BACK)
            case "link":
                return netra.oauth.link(TENANT, name, "provider", BACK, BACK)
            case _:
                return netra.oauth.own(TENANT, name, "provider")

    async def whole(number):
        show = netra.oauth.client if call == "set_client" else netra.oauth.status
        try:
            shown = await show(TENANT, f"new-{number}")
        except NetraError as error:
            assert error.status == 404
        else:
            assert shown.get("state", "active") == ("pending" if call in {"connect", "link"} else "active")

    assert await at_each_await(netra, made, whole) >= 1
