"""Netra as an issuer (RFC 8693, 7662, 8414), with Authlib as the client: what shrinks, who acts, what is refused and in which words."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

import httpx
import pytest
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from netra_backend.oauth import TokenRejected, validate
from netra_backend.oauth.sso.exchange import GRANT, MOST_ACTORS

from ...support.issuers import issuing
from ...support.server import OPERATOR, actions, new_netra, serving, tenant_key
from ...support.tokens import claims as good_claims
from ...support.tokens import rsa, sign

pytestmark = pytest.mark.usefixtures("every_server_engine")

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
BOTH = ["token:exchange", "token:impersonate"]
SERVICES = ["orders", "billing"]


class Bench:
    """A server, its operator, and services of acme that trade."""

    def __init__(self, netra, url, operator):
        self.netra, self.url, self.operator = netra, url, operator
        self.services = []

    async def service(self, *scopes, tenant="acme"):
        """A client of the token endpoint with a key of those scopes."""
        key = await tenant_key(self.operator, tenant, scopes=list(scopes))
        self.services.append(AsyncOAuth2Client(key["id"], key["key"], token_endpoint_auth_method="client_secret_basic"))
        return self.services[-1]

    async def token(self, subject="u1", *, tenant="acme", audience=SERVICES, scopes=("read", "write"), **more):
        return await self.netra.sso.issue(tenant, subject, audience=audience, scopes=scopes, issuer=self.url, **more)

    async def trade(self, service, subject, actor=None, **wanted):
        members = {"subject_token": subject, "subject_token_type": ACCESS_TOKEN, **wanted}
        if actor is not None:
            members |= {"actor_token": actor, "actor_token_type": ACCESS_TOKEN}
        audience = members.pop("audience", ())
        body = urlencode([("audience", each) for each in ([audience] if isinstance(audience, str) else audience)])
        return await service.fetch_token(f"{self.url}/oauth2/token", body=body, grant_type=GRANT, **members)

    async def refusal(self, *arguments, **wanted):
        with pytest.raises(OAuthError) as caught:
            await self.trade(*arguments, **wanted)
        return caught.value.error

    async def judged(self, token, audience):
        keys = (await self.operator.get(f"{self.url}/oauth2/jwks")).json()
        return validate(token, issuer=self.url, audience=audience, keys=keys, algorithms=["ES256"])


@pytest.fixture
async def bench(tmp_path):
    async with new_netra(tmp_path) as netra, serving(netra) as url:
        async with httpx.AsyncClient(base_url=url, headers={"authorization": f"Bearer {OPERATOR}"}) as operator:
            bench = Bench(netra, url, operator)
            yield bench
            for service in bench.services:
                await service.aclose()


async def test_it_publishes_itself_and_its_keys(bench):
    async with httpx.AsyncClient() as anybody:
        found = (await anybody.get(f"{bench.url}/.well-known/oauth-authorization-server")).json()
        assert (found["issuer"], found["grant_types_supported"]) == (bench.url, [GRANT])
        keys = (await anybody.get(found["jwks_uri"])).json()["keys"]
    assert [(key["kty"], key["alg"], key["use"], "d" in key) for key in keys] == [("EC", "ES256", "sig", False)]
    token = await bench.token()
    assert (
        await bench.netra.oauth.validate(token, issuer=bench.url, audience="orders", tenant="acme", algorithms=["ES256"])
    ).subject == "u1"


async def test_delegation_narrows_and_says_who_acts(bench):
    service = await bench.service("token:exchange")
    answer = await bench.trade(service, await bench.token(), await bench.token("orders-service"), audience="billing", scope="read")
    assert (answer["token_type"], answer["issued_token_type"], answer["scope"]) == ("Bearer", ACCESS_TOKEN, "read")
    assert 0 < answer["expires_in"] <= 300
    found = await bench.judged(answer["access_token"], "billing")
    assert (found.subject, found["aud"], found["scope"], found["tenant"]) == ("u1", "billing", "read", "acme")
    assert found["act"] == {"iss": bench.url, "sub": "orders-service"}
    with pytest.raises(TokenRejected, match="somebody else"):
        await bench.judged(answer["access_token"], "orders")
    assert "token.exchange" in await actions(bench.operator)


async def test_a_chain_of_actors_is_kept_with_the_present_one_outermost(bench):
    service = await bench.service(*BOTH)
    token = await bench.token()
    for name in ("first", "second"):
        token = (await bench.trade(service, token, await bench.token(name), audience=SERVICES))["access_token"]
    chain = {"iss": bench.url, "sub": "second", "act": {"iss": bench.url, "sub": "first"}}
    assert (await bench.judged(token, "billing"))["act"] == chain
    token = (await bench.trade(service, token))["access_token"]  # impersonation adds nobody and takes nobody away
    assert (await bench.judged(token, "billing"))["act"] == chain
    for number in range(MOST_ACTORS - 2):
        token = (await bench.trade(service, token, await bench.token(f"a{number}")))["access_token"]
    assert await bench.refusal(service, token, await bench.token("one too many")) == "invalid_request"


async def test_impersonation_is_a_right_of_its_own(bench):
    delegates, impersonates, neither = [await bench.service(*scopes) for scopes in (BOTH[:1], BOTH[1:], ("tenant",))]
    assert await bench.refusal(delegates, await bench.token()) == "unauthorized_client"
    assert "act" not in await bench.judged((await bench.trade(impersonates, await bench.token()))["access_token"], "orders")
    assert await bench.refusal(impersonates, await bench.token(), await bench.token("service")) == "unauthorized_client"
    assert await bench.refusal(neither, await bench.token()) == "unauthorized_client"
    assert "token.impersonate" in await actions(bench.operator)


async def test_audience_scope_and_life_only_shrink(bench):
    service = await bench.service(*BOTH)
    assert await bench.refusal(service, await bench.token(), audience="bank") == "invalid_target"
    assert await bench.refusal(service, await bench.token(), audience=["orders", "bank"]) == "invalid_target"
    assert await bench.refusal(service, await bench.token(), resource="https://bank.example") == "invalid_target"
    assert await bench.refusal(service, await bench.token(), scope="read admin") == "invalid_scope"
    narrow = (await bench.trade(service, await bench.token(lives_s=60), scope="read", audience="orders"))["access_token"]
    assert await bench.refusal(service, narrow, scope="read write") == "invalid_scope"
    assert await bench.refusal(service, narrow, audience="billing") == "invalid_target"
    again = await bench.trade(service, narrow)
    assert again["expires_in"] <= 60
    assert (await bench.judged(again["access_token"], "orders"))["scope"] == "read"


async def test_a_token_is_traded_once_by_each_for_each_audience_however_many_ask_at_once(bench):
    one, other = await bench.service(*BOTH), await bench.service(*BOTH)
    token = await bench.token()

    async def outcome(service, **wanted):
        try:
            return bool((await bench.trade(service, token, **wanted))["access_token"])
        except OAuthError as error:
            return error.error

    found = await asyncio.gather(*(outcome(one, audience="orders") for _ in range(10)))
    assert sorted(map(str, found)) == ["True", *["invalid_request"] * 9]
    assert await outcome(one, audience="billing") is True
    assert await outcome(other, audience="orders") is True


async def test_may_act_names_who_alone_may_act(bench):
    service = await bench.service(*BOTH)
    allowed = {"may_act": {"sub": "orders-service"}}
    assert await bench.refusal(service, await bench.token(**allowed)) == "invalid_request"
    assert await bench.refusal(service, await bench.token(**allowed), await bench.token("billing-service")) == "invalid_request"
    assert (await bench.trade(service, await bench.token(**allowed), await bench.token("orders-service")))["access_token"]


async def test_tokens_that_are_not_accepted_are_invalid_requests_whatever_is_wrong_with_them(bench):
    service = await bench.service(*BOTH)
    good = await bench.token()
    head, body, tail = good.split(".")
    foreign = sign({"alg": "RS256", "kid": "r1"}, good_claims(), rsa())
    self_made = sign({"alg": "RS256", "kid": "r1"}, good_claims(iss=bench.url, tenant="acme", aud="orders"), rsa())
    others = await bench.token(tenant="globex")
    for bad in ("x", "a.b.c", f"{head}.{body}.{tail[::-1]}", f"{head}.{body}.", foreign, self_made, others, good + ".", "é.é.é"):
        assert await bench.refusal(service, bad) == "invalid_request", bad
    assert await bench.refusal(service, good, subject_token_type="urn:ietf:params:oauth:token-type:saml2") == "invalid_request"
    assert await bench.refusal(service, good, requested_token_type="urn:ietf:params:oauth:token-type:refresh_token") == "invalid_request"
    assert await bench.refusal(service, good, actor_token=good) == "invalid_request"  # its type is missing
    assert (await bench.trade(service, good))["access_token"]  # none of that has used it up


async def test_a_tenants_identity_provider_may_be_one_whose_tokens_are_traded(bench):
    service = await bench.service(*BOTH)
    async with issuing() as issuer:
        await bench.netra.oauth.set_client("acme", "idp", {"issuer": issuer.url, "client_id": "netra"})
        provider = {"client": "idp", "default_role": "viewer"}
        await bench.netra.sso.set_provider("acme", "idp", provider)
        now = bench.netra.runtime.clock.wall_us() // 1_000_000
        said = good_claims(iss=issuer.url, aud=["orders", "billing"], iat=now, exp=now + 60, scope="read")
        token = sign({"alg": "RS256", "kid": "r1"}, said, rsa())
        assert await bench.refusal(service, token) == "invalid_request"  # nobody has said so yet
        await bench.netra.sso.set_provider("acme", "idp", {**provider, "audiences": ["orders"]})
        found = await bench.judged((await bench.trade(service, token, audience="orders"))["access_token"], "orders")
        assert (found.issuer, found.subject, found["scope"]) == (bench.url, "u1", "read")


async def test_clients_that_do_not_authenticate_are_refused_alike(bench):
    key = await tenant_key(bench.operator, "acme", scopes=BOTH)
    other = await tenant_key(bench.operator, "acme", scopes=BOTH)
    pairs = [(key["id"], "wrong"), (other["id"], key["key"]), ("", key["key"]), (key["id"], OPERATOR)]
    form = {"grant_type": GRANT, "subject_token": await bench.token(), "subject_token_type": ACCESS_TOKEN}
    async with httpx.AsyncClient(base_url=bench.url) as anybody:
        answers = [await anybody.post("/oauth2/token", data=form, auth=pair) for pair in pairs]
        answers += [await anybody.post("/oauth2/token", data=form)]
        assert {(each.status_code, each.json()["error"]) for each in answers} == {(401, "invalid_client")}
        assert all(each.headers["www-authenticate"] for each in answers)
        posted = {**form, "client_id": key["id"], "client_secret": key["key"]}
        assert (await anybody.post("/oauth2/token", data=posted, auth=pairs[0])).json()["error"] == "invalid_request"
        assert (await anybody.post("/oauth2/token", data=posted)).status_code == 200
        assert (await anybody.post("/oauth2/token", data={**posted, "grant_type": "password"})).json()["error"] == "unsupported_grant_type"
        twice = httpx.QueryParams([*posted.items(), ("scope", "read"), ("scope", "write")])
        kind = {"content-type": "application/x-www-form-urlencoded"}
        for content in (str(twice), "a=b&" * 40 + "c=d", "=%", "a", "%ff=%ff"):
            refused = await anybody.post("/oauth2/token", content=content, headers=kind)
            assert (refused.status_code, refused.json()["error"]) in {(400, "invalid_request"), (401, "invalid_client")}
        assert (await anybody.post("/oauth2/token", content="x=" + "y" * 70_000, headers=kind)).status_code == 413
        assert (await anybody.post("/oauth2/token", json=posted)).json()["error"] == "invalid_request"


async def test_a_token_is_introspected_by_its_tenants_services_alone(bench):
    token = await bench.token()

    async def asked(tenant, given):
        key = await tenant_key(bench.operator, tenant, scopes=BOTH)
        async with httpx.AsyncClient(base_url=bench.url, auth=(key["id"], key["key"])) as service:
            return (await service.post("/oauth2/introspect", data={"token": given})).json()

    found = await asked("acme", token)
    assert (found["active"], found["sub"], found["tenant"], found["scope"]) == (True, "u1", "acme", "read write")
    for tenant, given in (("globex", token), ("acme", token[:-4] + "AAAA"), ("acme", "opaque")):
        assert await asked(tenant, given) == {"active": False}


async def test_a_new_signing_key_is_published_before_it_signs(bench):
    before = await bench.token()
    await bench.netra.sso.rotate_keys()
    keys = (await bench.operator.get(f"{bench.url}/oauth2/jwks")).json()["keys"]
    assert len(keys) == 2
    ring = await bench.netra.sso.issuing.ring()
    now_us = bench.netra.runtime.clock.wall_us()
    assert ring.signing(now_us).kid == keys[0]["kid"]
    assert ring.signing(now_us + 3_600_000_000).kid == keys[1]["kid"]
    assert len(ring.published(now_us + 2 * 3_600_000_000)) == 2
    assert [key["kid"] for key in ring.published(now_us + 4 * 3_600_000_000)] == [keys[1]["kid"]]
    assert (await bench.judged(before, "orders")).subject == "u1"


async def test_tokens_that_were_traded_are_not_kept_in_memory(bench):
    async with issuing() as issuer:
        given = {"issuer": issuer.url, "client_id": "netra", "auth": "none"}
        await bench.netra.oauth.set_client("acme", "corp", given)
        await bench.netra.sso.set_provider("acme", "corp", {"client": "corp", "default_role": "viewer", "audiences": SERVICES})
        service = await bench.service(*BOTH)
        now = bench.netra.runtime.clock.wall_us() // 1_000_000
        for number in range(3):
            said = good_claims(iss=issuer.url, aud="orders", sub="u1", iat=now, exp=now + 60, jti=str(number))
            await bench.trade(service, sign({"alg": "RS256", "kid": "r1"}, said, rsa()))
        assert [len(judge) for judge in bench.netra.oauth.judges._all] == [0]
