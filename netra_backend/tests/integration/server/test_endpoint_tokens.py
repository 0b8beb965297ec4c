"""`auth` of an endpoint in the Svix-compatible API: an additive member, which takes the scope that reading a token takes."""

from __future__ import annotations

import pytest

from netra_backend.server.app import create_app

from ...support.server import API, client_of, new_netra, tenant_key

HERE = f"{API}/app/acme/endpoint"
AUTH = {"connection": "crm"}
PLAIN = {"url": "https://example.com/hook"}

pytestmark = pytest.mark.usefixtures("every_server_engine")


@pytest.fixture
async def netra(tmp_path):
    async with new_netra(tmp_path) as netra:
        yield netra


@pytest.fixture
async def operator(netra):
    async with client_of(create_app(netra)) as client:
        assert (await client.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})).status_code == 201
        yield client


async def client_with(netra, operator, *scopes):
    return client_of(create_app(netra), (await tenant_key(operator, scopes=list(scopes)))["key"])


async def test_an_endpoint_is_made_shown_changed_and_cleared_of_its_connection(operator):
    made = (await operator.post(HERE, json={**PLAIN, "uid": "hook", "auth": AUTH})).json()
    assert made["auth"] == AUTH
    assert (await operator.get(f"{HERE}/hook")).json()["auth"] == AUTH
    assert (await operator.patch(f"{HERE}/hook", json={"description": "x"})).json()["auth"] == AUTH
    assert (await operator.patch(f"{HERE}/hook", json={"auth": {"connection": "erp"}})).json()["auth"] == {"connection": "erp"}
    assert (await operator.patch(f"{HERE}/hook", json={"auth": None})).json()["auth"] is None
    assert (await operator.put(f"{HERE}/hook", json={**PLAIN, "auth": AUTH})).json()["auth"] == AUTH
    assert (await operator.put(f"{HERE}/hook", json=PLAIN)).json()["auth"] is None
    assert [each["auth"] for each in (await operator.get(HERE)).json()["data"]] == [None]


@pytest.mark.parametrize("auth", [{}, {"connection": ""}, {"connection": 1}, {"connection": "a/b"}, "crm", [], {"connection": "x" * 129}])
async def test_what_is_no_connection_is_refused(operator, auth):
    assert (await operator.post(HERE, json={**PLAIN, "auth": auth})).status_code == 422


async def test_a_token_in_the_clear_is_refused(operator):
    assert (await operator.post(HERE, json={"url": "http://example.com/hook", "auth": AUTH})).status_code == 422


async def test_a_key_that_may_not_read_tokens_has_none_sent_to_a_place_of_its_choice(netra, operator):
    await operator.post(HERE, json={**PLAIN, "uid": "with", "auth": AUTH})
    await operator.post(HERE, json={**PLAIN, "uid": "without"})
    async with await client_with(netra, operator, "tenant") as stranger:
        elsewhere = {"url": "https://evil.example/hook"}
        asked = [
            await stranger.post(HERE, json={**elsewhere, "auth": AUTH}),
            await stranger.put(f"{HERE}/new", json={**elsewhere, "auth": AUTH}),
            await stranger.put(f"{HERE}/with", json={**elsewhere, "auth": AUTH}),
            await stranger.patch(f"{HERE}/with", json=elsewhere),
            await stranger.patch(f"{HERE}/with", json={"auth": {"connection": "erp"}}),
            await stranger.patch(f"{HERE}/without", json={"auth": AUTH}),
        ]
        assert [answer.status_code for answer in asked] == [403] * 6
        assert (await stranger.patch(f"{HERE}/with", json={"description": "x"})).status_code == 200
        assert (await stranger.patch(f"{HERE}/with", json={"auth": None})).status_code == 200
    found = {each["uid"]: (each["url"], each["auth"]) for each in (await operator.get(HERE)).json()["data"]}
    assert found == {"with": (PLAIN["url"], None), "without": (PLAIN["url"], None)}


async def test_a_key_that_may_read_tokens_may_have_them_sent(netra, operator):
    async with await client_with(netra, operator, "tenant", "connection:token") as keeper:
        made = await keeper.post(HERE, json={**PLAIN, "uid": "hook", "auth": AUTH})
        assert (made.status_code, made.json()["auth"]) == (201, AUTH)
        assert (await keeper.patch(f"{HERE}/hook", json={"url": "https://example.com/new"})).status_code == 200
