"""`netra.oauth.exchange`, the client of a trade (RFC 8693): at our own endpoint, at the server of npm, and at one that is hostile."""

from __future__ import annotations

import asyncio
from contextlib import closing

import httpx
import pytest

from netra_backend.errors import OutcomeUnknown, Unavailable
from netra_backend.oauth import validate
from netra_backend.oauth.errors import ExchangeRejected
from netra_backend.oauth.sso.exchange import ACCESS_TOKEN, GRANT, JWT

from ...support.issuers import issuing
from ...support.oidc import OidcProvider
from ...support.server import OPERATOR, actions, new_netra, serving, tenant_key

TENANT = "acme"
ERRORS = [
    ({"subject_token": None}, 400, "invalid_request"),
    ({"subject_token_type": None}, 400, "invalid_request"),
    ({"subject_token_type": "urn:ietf:params:oauth:token-type:id_token"}, 400, "invalid_request"),
    ({"subject_token": "accVkjcJyb4BWCxGsndESCJQbdFMogUC5PbRDqceLTC"}, 400, "invalid_request"),
    ({"actor_token_type": ACCESS_TOKEN}, 400, "invalid_request"),
    ({"actor_token": "x", "actor_token_type": JWT}, 400, "invalid_request"),
    ({"requested_token_type": "urn:ietf:params:oauth:token-type:saml1"}, 400, "invalid_request"),
    ({"audience": "https://elsewhere.example"}, 400, "invalid_target"),
    ({"resource": "https://backend.example.com/api"}, 400, "invalid_target"),
    ({"scope": "api"}, 400, "invalid_scope"),
    ({"grant_type": "authorization_code"}, 400, "unsupported_grant_type"),
    ({"client_secret": "wrong"}, 401, "invalid_client"),
]


@pytest.fixture
async def served(tmp_path):
    async with new_netra(tmp_path) as netra, serving(netra) as url:
        async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {OPERATOR}"}) as operator:
            yield netra, url, operator


async def token(netra, url, **more):
    return await netra.sso.issue(TENANT, "u1", audience=["orders", "billing"], scopes=["read", "write"], issuer=url, **more)


async def test_each_error_of_the_standard_is_told_by_its_code_and_uses_nothing_up(served):
    netra, url, operator = served
    key = await tenant_key(operator, TENANT, scopes=["token:exchange", "token:impersonate"])
    good = {"grant_type": GRANT, "subject_token": await token(netra, url), "subject_token_type": ACCESS_TOKEN}
    good |= {"client_id": key["id"], "client_secret": key["key"]}
    async with httpx.AsyncClient(base_url=url) as service:
        for changes, status, error in ERRORS:
            form = {name: value for name, value in {**good, **changes}.items() if value is not None}
            answer = await service.post("/oauth2/token", data=form)
            assert (answer.status_code, answer.json()["error"]) == (status, error), changes
            assert answer.headers["cache-control"] == "no-store"
        answer = await service.post("/oauth2/token", data={**good, "audience": "orders", "scope": "read"})
    found = answer.json()
    assert (answer.status_code, found["issued_token_type"], found["token_type"], found["scope"]) == (200, ACCESS_TOKEN, "Bearer", "read")


async def test_it_trades_at_our_own_endpoint(served):
    netra, url, operator = served
    key = await tenant_key(operator, TENANT, scopes=["token:exchange"])
    await netra.oauth.set_client(TENANT, "self", {"issuer": url, "client_id": key["id"], "client_secrets": ["wrong", key["key"]]})
    actor = await netra.sso.issue(TENANT, "orders-service", audience=["orders"], issuer=url)
    found = await netra.oauth.exchange(TENANT, "self", await token(netra, url), actor_token=actor, audience="billing", scope="read")
    keys = (await operator.get(f"{url}/oauth2/jwks")).json()
    claims = validate(found["access_token"], issuer=url, audience="billing", keys=keys, algorithms=["ES256"])
    assert (claims.subject, claims["scope"], claims["act"]) == ("u1", "read", {"iss": url, "sub": "orders-service"})
    for wanted, error in (
        ({"audience": "bank"}, "invalid_target"),
        ({"scope": "all"}, "invalid_scope"),
        ({"resource": "x"}, "invalid_target"),
    ):
        with pytest.raises(ExchangeRejected, match=error):
            await netra.oauth.exchange(TENANT, "self", await token(netra, url), actor_token=actor, **wanted)
    with pytest.raises(ExchangeRejected, match="unauthorized_client"):
        await netra.oauth.exchange(TENANT, "self", await token(netra, url))  # this key may not impersonate
    assert "token.exchange" in await actions(operator)


async def test_it_trades_at_the_server_of_npm_and_sends_nothing_twice(served):
    netra, _, _ = served
    with closing(await asyncio.to_thread(OidcProvider().start)) as provider:
        await netra.oauth.set_client(TENANT, "npm", provider.registration())
        subject = (await asyncio.to_thread(provider.grant))["access_token"]
        found = await netra.oauth.exchange(TENANT, "npm", subject, scope="read")
        assert (found["issued_token_type"], found["scope"]) == (ACCESS_TOKEN, "read")
        assert found["access_token"] != subject
        assert await asyncio.to_thread(provider.is_active, found["access_token"])
        for wanted, error in (({"scope": "openid read admin"}, "invalid_scope"), ({"subject_token_type": JWT}, "invalid_request")):
            with pytest.raises(ExchangeRejected, match=error):
                await netra.oauth.exchange(TENANT, "npm", subject, **wanted)
        before = len(provider.stats()["requests"])
        for number, fault in enumerate(("drop", "drop-before"), start=1):
            provider.fail(fault)
            with pytest.raises(OutcomeUnknown):
                await netra.oauth.exchange(TENANT, "npm", subject)
            assert len(provider.stats()["requests"]) == before + number


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ((200, b"{"), OutcomeUnknown),
        ((200, b"[]"), OutcomeUnknown),
        ((200, {"issued_token_type": ACCESS_TOKEN}), OutcomeUnknown),
        ((200, {"access_token": {"a": 1}, "token_type": "Bearer"}), OutcomeUnknown),
        ((200, {"access_token": "a\r\nb", "token_type": "Bearer"}), OutcomeUnknown),
        ((500, {"error": "invalid_grant"}), OutcomeUnknown),
        ((307, {}), OutcomeUnknown),
        ((400, {"error": {"code": 7}}), OutcomeUnknown),
        ((400, {"error": "x" * 10_000}), ExchangeRejected),
        ((403, {"error": "invalid_target"}), ExchangeRejected),
        ((429, {"error": "slow_down"}), Unavailable),
    ],
)
async def test_a_hostile_endpoint_is_asked_once_and_what_it_says_is_not_believed(served, answer, error):
    netra, _, _ = served
    async with issuing() as issuer:
        await netra.oauth.set_client(TENANT, "hostile", {"issuer": issuer.url, "client_id": "netra", "client_secret": "s"})
        issuer.token = lambda _: answer
        with pytest.raises(error) as caught:
            await netra.oauth.exchange(TENANT, "hostile", "subject-token", audience="orders")
        assert issuer.count("/token") == 1
        assert issuer.forms[0] == {
            "grant_type": GRANT, "subject_token": "subject-token", "subject_token_type": ACCESS_TOKEN, "audience": "orders",
        }  # fmt: skip
        assert "subject-token" not in str(caught.value)
        assert len(str(caught.value)) < 500
