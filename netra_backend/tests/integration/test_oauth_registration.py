"""Registering: by the preset of a provider, by an issuer's metadata, by endpoints; and what a grant is kept alive by."""

from __future__ import annotations

import pytest

from netra_backend.errors import InvalidInput
from netra_backend.kernel.runtime import Runtime
from netra_backend.oauth.model import US, Grant, due_us
from netra_backend.testing.clock import FakeClock, SeededChance
from netra_backend.testing.provider import Provider

from ..support.issuers import issuing
from ..support.storage import with_its_server
from ..support.vaults import NAME, TENANT, connect, vault

DAY_S = 86400


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(prepared):
    async with vault(prepared) as netra:
        yield netra


async def test_a_preset_is_registered_with_its_window_and_its_addresses(netra):
    given = {"provider": "xero", "client_id": "x", "client_secrets": ["secret"]}
    shown = await netra.oauth.set_client(TENANT, "books", given)
    assert (shown["provider"], shown["auth"], shown["replay_window_s"], shown["idle_s"]) == ("xero", "basic", 1800, 30 * DAY_S)
    assert shown["endpoints"]["token"] == ["https://identity.xero.com/connect/token"]
    assert await netra.oauth.client(TENANT, "books") == shown


async def test_what_an_issuer_publishes_is_what_is_registered(netra):
    async with Provider("strict") as provider:
        given = {"provider": "oidc", "client_id": "netra", "client_secrets": ["secret-a"], "issuer": provider.url}
        shown = await netra.oauth.set_client(TENANT, "idp", given)
        assert shown["endpoints"]["token"] == [provider.url + "/token"]
        assert shown["endpoints"]["device"] == provider.url + "/device"
        assert shown["auth"] == "basic"


async def test_an_issuer_that_takes_no_basic_authentication_gets_none(netra, monkeypatch):
    async with Provider("strict") as provider:
        published = {**provider._metadata(), "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"]}
        monkeypatch.setattr(provider, "_metadata", lambda: published)
        given = {"client_id": "netra", "client_secrets": ["secret-a"], "issuer": provider.url}
        assert (await netra.oauth.set_client(TENANT, "idp", given))["auth"] == "post"
        assert (await netra.oauth.set_client(TENANT, "own", {**given, "auth": "basic"}))["auth"] == "basic"


async def test_a_registration_without_a_place_to_ask_is_refused(netra):
    with pytest.raises(InvalidInput):
        await netra.oauth.set_client(TENANT, "idp", {"provider": "oidc", "client_id": "x"})


async def test_a_grant_whose_access_token_lives_for_a_year_is_used_before_it_is_idle_for_too_long(prepared):
    clock = FakeClock()
    async with Provider("strict") as provider, vault(prepared, runtime=Runtime(clock=clock, chance=SeededChance())) as netra:
        await connect(netra, provider, expires_in=365 * DAY_S, idle_s=30 * DAY_S)
        assert (await netra.oauth.renew_due(10), len(provider.requests)) == (0, 0)
        await clock.jump(15 * DAY_S + 1)
        assert await netra.oauth.renew_due(10) == 1
        await netra.oauth.refresh(TENANT, NAME)  # joins the one under way, or finds it done
        assert (await netra.oauth.status(TENANT, NAME))["generation"] >= 2
        assert await netra.oauth.renew_due(10) == 0


def test_keep_alive_is_at_half_of_what_the_provider_allows_and_never_late():
    grant = Grant("a", "r", 1000 * US, 1000 * US + 365 * DAY_S * US)
    assert due_us(grant, b"c", 1, 30 * DAY_S) == (1000 + 15 * DAY_S) * US
    short = Grant("a", "r", 1000 * US, 4600 * US)
    assert due_us(short, b"c", 1, 30 * DAY_S) == due_us(short, b"c", 1)
    assert due_us(Grant("a", "r", 0, None), b"c", 1) is None
    assert due_us(Grant("a", "r", 0, None), b"c", 1, 60) == 30 * US


@pytest.mark.parametrize("address", ["https://[", "http://[::1", "http://a]b", "http://\u2100.example/"])
@pytest.mark.parametrize("member", ["issuer", "token", "authorize", "revoke", "device"])
async def test_an_address_that_nobody_can_read_is_refused(netra, member, address):
    given = {"client_id": "netra", "endpoints": {"token": ["http://127.0.0.1/token"]}}
    if member == "issuer":
        given["issuer"] = address
    else:
        given["endpoints"] |= {member: [address] if member == "token" else address}
    with pytest.raises(InvalidInput):
        await netra.oauth.set_client(TENANT, "provider", given)


@pytest.mark.parametrize("published", [None, 5, {}, "client_secret_post", [5]])
async def test_ways_to_authenticate_that_are_no_list_are_none_that_were_published(netra, published):
    async with issuing(token_endpoint_auth_methods_supported=published) as issuer:
        given = {"client_id": "netra", "client_secrets": ["secret"], "issuer": issuer.url}
        assert (await netra.oauth.set_client(TENANT, "provider", given))["auth"] == "basic"


@pytest.mark.parametrize("published", ["https://[", 5, ["http://127.0.0.1/token"]])
async def test_an_issuer_that_publishes_an_address_that_is_none_is_not_registered_at(netra, published):
    async with issuing(token_endpoint=published) as issuer:
        with pytest.raises(InvalidInput):
            await netra.oauth.set_client(TENANT, "provider", {"client_id": "netra", "issuer": issuer.url})
