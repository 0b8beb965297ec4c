"""The routes of the vault, and the command line over both of its doors."""

from __future__ import annotations

import json

import httpx
import pytest

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
