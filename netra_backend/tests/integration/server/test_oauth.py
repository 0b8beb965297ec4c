"""The routes of the vault, and the command line over both of its doors."""

from __future__ import annotations

import json
from urllib.parse import urlsplit

import httpx
import pytest
from joserfc.jwk import ECKey

from netra_backend.testing.provider import Provider

from ...support.server import API, OPERATOR, actions, client_of, new_netra, serving, tenant_key
from ...support.tokens import NOW

pytestmark = pytest.mark.usefixtures("every_server_engine")

HERE = f"{API}/tenants/acme"


@pytest.fixture
async def served(tmp_path):
    """A client of a server, and the server's Netra."""
    async with new_netra(tmp_path) as netra, serving(netra) as url:
        async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {OPERATOR}"}) as client:
            assert (await client.post(f"{API}/tenants", json={"uid": "acme"})).status_code == 201
            yield client


@pytest.fixture
async def provider():
    async with Provider("strict") as provider:
        yield provider


async def connected(client, provider, expires_in=0, **registration):
    given = {**provider.registration(), **registration}
    assert (await client.put(f"{HERE}/oauth/clients/idp", json=given)).status_code == 200
    tokens = {**provider.grant(), "expires_in": expires_in}
    made = await client.post(f"{HERE}/connections", json={"name": "user", "client": "idp", "tokens": tokens})
    assert made.status_code == 201
    return tokens, made.json()


async def test_a_grant_is_imported_served_refreshed_and_revoked(served, provider):
    tokens, made = await connected(served, provider)
    assert {"name": "user", "client": "idp", "state": "active", "generation": 1, "reason": None}.items() <= made.items()
    token = await served.get(f"{HERE}/connections/user/token")
    assert (token.status_code, token.json()["generation"], token.json()["stale"]) == (200, 2, False)
    assert token.json()["access_token"] != tokens["access_token"]
    assert token.json()["expires_at"] > NOW / 2
    assert token.headers["cache-control"] == "no-store"
    assert (await served.post(f"{HERE}/connections/user/refresh")).json()["generation"] == 3
    listed = (await served.get(f"{HERE}/connections")).json()
    assert ([each["name"] for each in listed["data"]], listed["done"]) == (["user"], True)
    revoked = await served.post(f"{HERE}/connections/user/revoke")
    assert revoked.json()["state"] == "revoked"
    refused = await served.get(f"{HERE}/connections/user/token")
    assert (refused.status_code, refused.json()["code"]) == (409, "connection_revoked")
    assert (await served.delete(f"{HERE}/connections/user")).status_code == 204
    assert (await served.get(f"{HERE}/connections/user")).status_code == 404
    assert await actions(served) == [
        "tenant.create",
        "oauth_client.set",
        "connection.import",
        "connection.token.read",
        "connection.revoke",
        "connection.delete",
    ]


async def test_a_grant_that_the_provider_refuses_is_a_conflict_that_says_what_to_do(served, provider):
    tokens, _ = await connected(served, provider)
    provider.grants.revoke_token(tokens["refresh_token"])
    refused = await served.get(f"{HERE}/connections/user/token")
    assert (refused.status_code, refused.json()["code"]) == (409, "reauth_required")
    assert "onnect again" in refused.json()["fix"]
    assert (await served.get(f"{HERE}/connections/user")).json()["state"] == "reauth_required"


async def test_secrets_and_refresh_tokens_are_never_shown(served, provider):
    tokens, made = await connected(served, provider)
    shown = [made, (await served.get(f"{HERE}/oauth/clients")).json(), (await served.get(f"{HERE}/oauth/clients/idp")).json()]
    shown += [(await served.get(f"{HERE}/connections")).json(), (await served.get(f"{HERE}/connections/user/token")).json()]
    shown += [(await served.get(f"{HERE}/audit")).json()]
    for secret in ("secret-a", tokens["refresh_token"], "rt-g1-2"):
        assert secret not in json.dumps(shown)


async def test_a_token_needs_its_own_scope(served, provider):
    await connected(served, provider, expires_in=600)
    plain = {"authorization": f"Bearer {(await tenant_key(served))['key']}"}
    assert (await served.get(f"{HERE}/connections/user", headers=plain)).status_code == 200
    assert (await served.get(f"{HERE}/connections/user/token", headers=plain)).status_code == 403
    made = await tenant_key(served, scopes=["connection:token"])
    scoped = {"authorization": f"Bearer {made['key']}"}
    assert (await served.get(f"{HERE}/connections/user/token", headers=scoped)).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/connections", {"name": "a/b", "client": "idp", "tokens": {"access_token": "x"}}),
        ("/connections", {"name": "a", "client": "idp", "tokens": {}}),
        ("/connections", {"name": "a", "client": "idp", "tokens": {"access_token": "x\u00e9"}}),
        ("/connections", {"name": "a", "client": "idp", "tokens": {"access_token": "x", "expires_in": -1}}),
        ("/connections", {"name": "a", "client": "nobody", "tokens": {"access_token": "x"}}),
    ],
)
async def test_what_cannot_be_a_connection_is_refused(served, provider, path, body):
    await connected(served, provider)
    assert (await served.post(HERE + path, json=body)).status_code in {404, 422}


async def test_another_tenants_key_finds_nothing(served, provider):
    await connected(served, provider, expires_in=600)
    assert (await served.post(f"{API}/tenants", json={"uid": "globex"})).status_code == 201
    foreign = {"authorization": f"Bearer {(await tenant_key(served, 'globex'))['key']}"}
    for path in ("/connections/user", "/connections/user/token", "/connections", "/oauth/clients"):
        assert (await served.get(HERE + path, headers=foreign)).status_code == 404
    assert (await served.get(f"{API}/tenants/globex/connections", headers=foreign)).json()["data"] == []


async def test_without_a_key_nothing_is_told(app):
    async with client_of(app, None) as nobody:
        assert (await nobody.get(f"{HERE}/connections/user/token")).status_code == 401


async def made(client, name, grant, **body):
    return await client.post(f"{HERE}/connections", json={"name": name, "client": "idp", "grant": grant, **body})


async def test_a_link_shows_a_page_with_a_button_and_leads_on_once(served, app, provider):
    await connected(served, provider)
    link = await made(served, "new", "link")
    assert link.status_code == 200
    async with client_of(app, None) as nobody:
        path = urlsplit(link.json()["url"]).path
        for _ in range(2):
            page = await nobody.get(path)
            assert (page.status_code, page.headers["referrer-policy"]) == (200, "no-referrer")
            assert "acme asks you to connect new at 127.0.0.1" in page.text
        sent = await nobody.post(path)
        assert sent.status_code == 303
        assert sent.headers["location"].startswith(provider.url + "/authorize?")
        assert {(await nobody.post(path)).status_code, (await nobody.get(path)).status_code} == {404}
        assert (await nobody.get("/oauth/link/guess")).status_code == 404


async def test_what_a_link_shows_cannot_be_a_page_of_somebody_else(served, app, provider):
    await connected(served, provider)
    link = await made(served, "<script>x", "link")
    async with client_of(app, None) as nobody:
        page = await nobody.get(urlsplit(link.json()["url"]).path)
    assert "<script>" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


async def test_a_device_is_told_what_to_type_and_a_client_gets_its_own_token(served, provider):
    await connected(served, provider)
    device = await made(served, "tv", "device_code")
    assert (device.status_code, device.json()["user_code"], device.json()["state"]) == (200, "CODE-1", "pending")
    own = await made(served, "service", "client_credentials")
    assert (own.status_code, own.json()["kind"], own.json()["state"]) == (201, "client_credentials", "active")
    assert (await served.get(f"{HERE}/connections/service/token")).status_code == 200


@pytest.mark.parametrize("form", ["pem", "jwk"])
async def test_a_client_that_signs_gets_a_token_and_its_key_is_never_shown(served, provider, form):
    key = ECKey.generate_key("P-256")
    text = key.as_pem(private=True).decode() if form == "pem" else json.dumps(key.as_dict(private=True))
    provider.trusted["service"] = key.as_dict(private=False)
    given = provider.registration(client_secrets=[], assertion={"key": text, "issuer": "service", "claims": {"scope": "a"}})
    shown = await served.put(f"{HERE}/oauth/clients/idp", json=given)
    assert (shown.status_code, shown.json()["auth"], shown.json()["assertion"]["subject"]) == (200, "none", "service")
    own = await made(served, "service", "jwt_bearer")
    assert (own.status_code, own.json()["kind"], own.json()["state"]) == (201, "jwt_bearer", "active")
    assert (await served.get(f"{HERE}/connections/service/token")).status_code == 200
    told = shown.text + own.text + (await served.get(f"{HERE}/audit")).text + (await served.get(f"{HERE}/oauth/clients")).text
    assert key.as_dict(private=True)["d"] not in told
    assert "PRIVATE" not in told
    provider.trusted.clear()
    refused = await made(served, "other", "jwt_bearer")
    assert (refused.status_code, refused.json()["code"]) == (409, "reauth_required")
    assert "clock" in refused.json()["fix"]


@pytest.mark.parametrize("auth", [{}, {"auth": "private_key_jwt"}])
async def test_a_client_whose_secret_is_a_key_in_lines_is_registered_as_one_that_signs(served, provider, auth):
    key = ECKey.generate_key("P-256").as_pem(private=True).decode()
    shown = await served.put(f"{HERE}/oauth/clients/idp", json={**provider.registration(client_secrets=[key]), **auth})
    assert (shown.status_code, shown.json().get("auth")) == (200, "private_key_jwt")


async def test_an_api_key_is_kept_and_served_with_the_scope_of_tokens_only(served):
    assert (await served.put(f"{HERE}/oauth/clients/idp", json={"kind": "api_key"})).status_code == 200
    kept = await served.post(f"{HERE}/connections", json={"name": "mail", "client": "idp", "tokens": {"api_key": "planted-key"}})
    assert (kept.status_code, kept.json()["kind"]) == (201, "api_key")
    assert "planted-key" not in kept.text + (await served.get(f"{HERE}/connections/mail")).text + (await served.get(f"{HERE}/audit")).text
    assert (await served.get(f"{HERE}/connections/mail/token")).json()["access_token"] == "planted-key"
    assert "connection.token.read" in await actions(served)


async def test_a_registration_by_a_preset_shows_what_it_came_to(served):
    given = {"provider": "okta", "parameters": {"domain": "acme.okta.com"}, "client_id": "x", "endpoints": {"token": ["https://own/token"]}}
    shown = (await served.put(f"{HERE}/oauth/clients/idp", json=given)).json()
    assert (shown["provider"], shown["issuer"], shown["endpoints"]["token"]) == ("okta", "https://acme.okta.com", ["https://own/token"])
    for wrong in (
        {"client_id": "x", "provider": "nobody"},
        {"provider": "github"},
        {"kind": "api_key", "client_id": "x"},
        {"kind": "other"},
        {"client_id": "x", "provider": "google", "assertion": {}},
        {"client_id": "x", "provider": "google", "assertion": {"key": "secret"}},
        {"client_id": "x", "provider": "google", "assertion": {"key": "{}", "lifetime_s": 3600}},
    ):
        assert (await served.put(f"{HERE}/oauth/clients/idp", json=wrong)).status_code == 422
