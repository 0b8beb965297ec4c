"""Other ways to a connection: a link, a device, the client's own right, a key that is kept as it is."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, urlsplit

import pytest

from netra_backend.errors import InvalidInput
from netra_backend.oauth.errors import ConnectFailed, LinkUsed, RefreshFailed
from netra_backend.testing.provider import Provider

from ..support.storage import everything_stored, with_its_server
from ..support.vaults import TENANT, audited, timed, vault

BACK = "http://127.0.0.1/back"
PAGE = "http://127.0.0.1/oauth/link"


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(prepared):
    async with vault(prepared) as netra:
        yield netra


async def registered(netra, provider, **registration):
    await netra.oauth.set_client(TENANT, "provider", provider.registration(scopes=["read"], **registration))


async def a_link(netra, name="new"):
    made = await netra.oauth.link(TENANT, name, "provider", BACK, PAGE)
    return made["url"].removeprefix(PAGE + "/")


def consent(provider, address):
    _, headers, _ = provider._authorize(dict(parse_qsl(urlsplit(address).query)))
    return dict(parse_qsl(urlsplit(headers["location"]).query))


# A link


async def test_a_user_connects_by_a_link_that_was_sent_to_him(netra):
    async with Provider("strict") as provider:
        await registered(netra, provider)
        token = await a_link(netra)
        assert await netra.oauth.shown_link(token) == {"tenant": TENANT, "name": "new", "provider": "127.0.0.1"}
        answer = consent(provider, await netra.oauth.follow_link(token))
        assert (await netra.oauth.callback(answer))["state"] == "active"


async def test_a_link_leads_there_once_and_looking_at_it_uses_nothing_up(prepared):
    async with Provider("strict") as provider, vault(prepared) as one, vault(prepared) as two:
        await registered(one, provider)
        token = await a_link(one)
        for _ in range(3):
            await two.oauth.shown_link(token)
        found = await asyncio.gather(*[each.oauth.follow_link(token) for each in (one, two) * 10], return_exceptions=True)
        assert sorted(isinstance(each, LinkUsed) for each in found) == [False] + [True] * 19
        with pytest.raises(LinkUsed):
            await one.oauth.shown_link(token)


async def test_a_link_ends_after_half_an_hour_and_the_user_has_as_long_once_he_opened_it(prepared):
    async with Provider("strict") as provider, timed(prepared) as (netra, clock):
        await registered(netra, provider)
        late, timely = await a_link(netra, "late"), await a_link(netra, "timely")
        await clock.jump(1790)
        address = await netra.oauth.follow_link(timely)
        await clock.jump(20)
        with pytest.raises(LinkUsed):
            await netra.oauth.shown_link(late)
        with pytest.raises(LinkUsed):
            await netra.oauth.follow_link(late)
        await netra.oauth.end_overdue(10)
        assert (await netra.oauth.status(TENANT, "late"))["state"] == "failed"
        assert (await netra.oauth.callback(consent(provider, address)))["state"] == "active"


@pytest.mark.parametrize("token", ["", "guess", "\ud800", "x" * 5000])
async def test_a_link_that_nobody_made_leads_nowhere(netra, token):
    for way in (netra.oauth.shown_link, netra.oauth.follow_link):
        with pytest.raises(LinkUsed):
            await way(token)


async def test_the_token_of_a_link_is_kept_nowhere(netra, prepared):
    async with Provider("strict") as provider:
        await registered(netra, provider)
        token = await a_link(netra)
        address = await netra.oauth.follow_link(token)
        state = dict(parse_qsl(urlsplit(address).query))["state"]
        stored = everything_stored(netra.database).decode("latin-1")
        assert token not in stored
        assert state not in stored


# A device


async def test_a_user_connects_by_typing_a_code_on_another_device(prepared):
    async with Provider("strict") as provider, timed(prepared) as (netra, clock):
        await registered(netra, provider)
        shown = await netra.oauth.device(TENANT, "tv", "provider")
        assert (shown["user_code"], shown["verification_uri"], shown["interval"]) == ("CODE-1", provider.url + "/activate", 5)
        assert await netra.oauth.poll_devices() == 0  # not before its interval
        await clock.jump(5)
        assert (await netra.oauth.poll_devices(), len(provider.requests)) == (1, 1)
        assert (await netra.oauth.status(TENANT, "tv"))["state"] == "pending"
        provider.devices["device-1"] = "approved"
        await clock.jump(5)
        assert await netra.oauth.poll_devices() == 1
        assert (await netra.oauth.status(TENANT, "tv"))["state"] == "active"
        assert (await netra.oauth.refresh(TENANT, "tv")).generation == 2
        await clock.jump(60)
        assert await netra.oauth.poll_devices() == 0


async def test_a_provider_that_is_asked_too_often_is_asked_less_often(prepared):
    async with Provider("strict") as provider, timed(prepared) as (netra, clock):
        await registered(netra, provider)
        await netra.oauth.device(TENANT, "tv", "provider")
        provider.devices["device-1"] = "slow_down"
        await clock.jump(5)
        await netra.oauth.poll_devices()
        await clock.jump(9)
        assert await netra.oauth.poll_devices() == 0
        await clock.jump(1)
        assert await netra.oauth.poll_devices() == 1


@pytest.mark.parametrize(
    ("said", "state", "reason"),
    [
        ("access_denied", "failed", "access_denied"),
        ("expired_token", "failed", "expired_token"),
        ("invalid_grant", "failed", "invalid_grant"),
    ],
)
async def test_a_code_that_leads_nowhere_ends_its_connection(prepared, said, state, reason):
    async with Provider("strict") as provider, timed(prepared) as (netra, clock):
        await registered(netra, provider)
        await netra.oauth.device(TENANT, "tv", "provider")
        provider.devices["device-1"] = said
        await clock.jump(5)
        await netra.oauth.poll_devices()
        status = await netra.oauth.status(TENANT, "tv")
        assert (status["state"], status["reason"]) == (state, reason)


async def test_a_code_that_nobody_types_ends_with_its_time(prepared):
    async with Provider("strict") as provider, timed(prepared) as (netra, clock):
        provider.device_lifetime_s = 60
        await registered(netra, provider)
        await netra.oauth.device(TENANT, "tv", "provider")
        await clock.jump(61)
        assert await netra.oauth.poll_devices() == 0
        await netra.oauth.end_overdue(10)
        assert (await netra.oauth.status(TENANT, "tv"))["state"] == "failed"


async def test_two_processes_ask_for_one_code_once_in_its_interval(prepared):
    async with Provider("strict") as provider, timed(prepared) as (one, clock), timed(prepared) as (two, other):
        await registered(one, provider)
        await one.oauth.device(TENANT, "tv", "provider")
        await clock.jump(5)
        await other.jump(5)
        assert sorted(await asyncio.gather(one.oauth.poll_devices(), two.oauth.poll_devices())) == [0, 1]
        assert len(provider.requests) == 1


async def test_a_devices_code_is_asked_for_by_the_secret_that_the_provider_takes(prepared):
    async with Provider(secrets=["second"]) as provider, timed(prepared) as (netra, clock):
        await registered(netra, provider, client_secrets=["first", "second"])
        await netra.oauth.device(TENANT, "tv", "provider")
        provider.devices["device-1"] = "approved"
        await clock.jump(5)
        assert await netra.oauth.poll_devices() == 1
        assert (await netra.oauth.status(TENANT, "tv"))["state"] == "active"


async def test_without_a_device_endpoint_nobody_is_sent_to_type(netra):
    async with Provider("strict") as provider:
        await registered(netra, provider, endpoints={"token": [provider.url + "/token"]})
        with pytest.raises(InvalidInput):
            await netra.oauth.device(TENANT, "tv", "provider")


async def test_an_endpoint_that_gives_no_code_makes_no_connection(netra):
    async with Provider("strict") as provider:
        endpoints = {"token": [provider.url + "/token"], "device": provider.url + "/nothing"}
        await registered(netra, provider, endpoints=endpoints)
        with pytest.raises(RefreshFailed):
            await netra.oauth.device(TENANT, "tv", "provider")
        assert await netra.oauth.connections(TENANT) == []


# The client's own right


async def test_a_client_connects_by_its_own_right_and_is_renewed_like_every_other(netra):
    async with Provider("strict") as provider:
        await registered(netra, provider)
        made = await netra.oauth.own(TENANT, "service", "provider")
        assert (made["kind"], made["state"], made["refreshable"]) == ("client_credentials", "active", True)
        first = await netra.oauth.token(TENANT, "service")
        second = await netra.oauth.refresh(TENANT, "service")
        assert second.generation == first.generation + 1
        assert second.access_token != first.access_token
        assert (await netra.oauth.request(TENANT, "service", "GET", provider.url + "/userinfo")).status == 200


async def test_a_lost_answer_to_the_clients_own_right_costs_nothing_even_at_a_strict_provider(netra):
    async with Provider("strict") as provider:
        await registered(netra, provider, replay_window_s=0)
        await netra.oauth.own(TENANT, "service", "provider")
        provider._control({"fault": "drop@2"})
        token = await netra.oauth.refresh(TENANT, "service")
        assert (token.stale, (await netra.oauth.status(TENANT, "service"))["state"]) == (False, "active")


async def test_a_refused_right_is_our_configuration_and_not_the_end_of_the_connection(netra, monkeypatch):
    async with Provider("strict") as provider:
        await registered(netra, provider)
        await netra.oauth.own(TENANT, "service", "provider")
        monkeypatch.setattr(provider, "_traded", lambda *_: (400, {"content-type": "application/json"}, b'{"error":"invalid_grant"}'))
        assert (await netra.oauth.refresh(TENANT, "service")).stale
        assert (await netra.oauth.status(TENANT, "service"))["state"] == "active"


async def test_what_stands_for_a_right_of_ones_own_is_never_sent(netra):
    async with Provider("strict") as provider:
        await registered(netra, provider)
        forms, traded = [], provider._traded
        provider._traded = lambda fields, form: (forms.append(form), traded(fields, form))[1]
        await netra.oauth.own(TENANT, "service", "provider")
        await netra.oauth.refresh(TENANT, "service")
        await netra.oauth.revoke(TENANT, "service")
        assert [set(form) for form in forms] == [{"grant_type", "scope"}] * 2


# A key that is kept as it is


async def test_an_api_key_is_sealed_served_audited_and_never_refreshed(netra):
    async with Provider("strict") as provider:
        await netra.oauth.set_client(TENANT, "mailer", {"kind": "api_key"})
        made = await netra.oauth.import_(TENANT, "mail", "mailer", {"api_key": "planted-key-1"})
        assert (made["kind"], made["state"], made["refreshable"], made["expires_at"]) == ("api_key", "active", False, None)
        assert (await netra.oauth.token(TENANT, "mail")).access_token == "planted-key-1"
        assert (await netra.oauth.refresh(TENANT, "mail")).generation == 1
        assert "planted-key-1" not in everything_stored(netra.database).decode("latin-1")
        assert (await audited(netra))[-1] == "connection.import"
        assert (await netra.oauth.request(TENANT, "mail", "GET", provider.url + "/userinfo")).status == 401
        assert (await netra.oauth.revoke(TENANT, "mail"))["state"] == "revoked"
        assert provider.requests == []


@pytest.mark.parametrize("tokens", [{"api_key": ""}, {"api_key": 7}, {"api_key": "k", "access_token": "a"}, {"api_key": "k\u00e9"}])
async def test_what_is_no_api_key_is_refused(netra, tokens):
    await netra.oauth.set_client(TENANT, "mailer", {"kind": "api_key"})
    with pytest.raises(InvalidInput):
        await netra.oauth.import_(TENANT, "mail", "mailer", tokens)


async def test_a_registration_of_keys_has_nothing_else_and_leads_no_user_anywhere(netra):
    with pytest.raises(InvalidInput):
        await netra.oauth.set_client(TENANT, "mailer", {"kind": "api_key", "client_id": "x"})
    await netra.oauth.set_client(TENANT, "mailer", {"kind": "api_key"})
    for way in (netra.oauth.connect, netra.oauth.link):
        with pytest.raises(InvalidInput):
            await way(TENANT, "mail", "mailer", BACK, **({"page": PAGE} if way == netra.oauth.link else {}))
    assert await netra.oauth.connections(TENANT) == []


async def test_a_user_who_refused_a_link_has_not_connected(netra):
    async with Provider("strict") as provider:
        await registered(netra, provider)
        answer = consent(provider, await netra.oauth.follow_link(await a_link(netra)))
        with pytest.raises(ConnectFailed):
            await netra.oauth.callback({"state": answer["state"], "error": "access_denied"})
