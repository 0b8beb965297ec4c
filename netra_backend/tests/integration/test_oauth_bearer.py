"""Connections by an assertion that the client signs (RFC 7523 section 2.1), against a provider that verifies it strictly; on both engines."""

from __future__ import annotations

import asyncio
import json
import logging
import time

import google.auth.jwt
import pytest
from authlib.oauth2 import OAuth2Error
from authlib.oauth2.rfc7523 import JWTBearerGrant
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from netra_backend.errors import InvalidInput
from netra_backend.kernel.runtime import Runtime
from netra_backend.kernel.scope import Scope
from netra_backend.oauth import assertion
from netra_backend.oauth.errors import ReauthRequired, RefreshFailed
from netra_backend.oauth.providers import filled
from netra_backend.oauth.registration import _registration
from netra_backend.storage import audit_append
from netra_backend.storage.sealing import CannotUnseal, Place
from netra_backend.storage.statements import statement
from netra_backend.testing.clock import FakeClock, SeededChance
from netra_backend.testing.provider import Provider

from ..support.storage import everything_stored, with_its_server
from ..support.vaults import TENANT, audited, vault

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ISSUER = "service@project.example"
RSA, EC, ED = RSAKey.generate_key(2048, {"kid": "rsa"}), ECKey.generate_key("P-256", {"kid": "ec"}), OKPKey.generate_key("Ed25519")
OLD_ED = OKPKey.import_key({**ED.as_dict(private=True), "alg": "EdDSA"})
KEYS = {"rsa": (RSA, "RS256"), "ec": (EC, "ES256"), "ed": (ED, "Ed25519"), "old-ed": (OLD_ED, "EdDSA")}
SEALED = statement("select id, assertion_key from netra_oauth_client where tenant = :tenant and name = 'provider'")


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
        provider.trusted[ISSUER] = {"keys": [key.as_dict(private=False) for key in (RSA, EC, ED)]}
        yield provider


def pem(key):
    return key.as_pem(private=True).decode()


def jwk(key):
    return json.dumps(key.as_dict(private=True))


async def registered(netra, provider, tenant=TENANT, **said):
    """A registration that signs and has no secret; `said` changes what it says."""
    signs = {"key": jwk(EC), "issuer": ISSUER, **said}
    given = provider.registration(client_secrets=[], scopes=["read"], assertion=signs)
    return await netra.oauth.set_client(tenant, "provider", given)


async def owned(netra, tenant=TENANT):
    return await netra.oauth.own(tenant, "service", "provider", "jwt_bearer")


async def own_what_has_ended(netra):
    """A connection whose first token has ended on arrival: the next caller needs another."""
    with pytest.raises(RefreshFailed):
        await owned(netra)
    assert (await netra.oauth.status(TENANT, "service"))["generation"] == 2


def forms_of(provider, monkeypatch):
    """The forms of all token requests from now on."""
    forms, traded = [], provider._traded
    monkeypatch.setattr(provider, "_traded", lambda fields, form: (forms.append((fields, form)), traded(fields, form))[1])
    return forms


# A token, and the next one


@pytest.mark.parametrize("form", [pem, jwk])
@pytest.mark.parametrize("name", KEYS)
async def test_a_client_is_given_a_token_for_what_it_signs(netra, provider, name, form):
    key, _ = KEYS[name]
    shown = await registered(netra, provider, key=form(key), key_id=key.kid)
    assert (shown["auth"], shown["client_secrets"], shown["assertion"]["issuer"]) == ("none", 0, ISSUER)
    made = await owned(netra)
    assert (made["kind"], made["state"], made["generation"], made["refreshable"]) == ("jwt_bearer", "active", 2, True)
    first, second = await netra.oauth.token(TENANT, "service"), await netra.oauth.refresh(TENANT, "service")
    assert (second.generation, second.access_token != first.access_token) == (3, True)
    assert (await netra.oauth.request(TENANT, "service", "GET", provider.url + "/userinfo")).status == 200


async def test_each_request_carries_an_assertion_of_its_own_and_neither_secret_nor_name(netra, provider, monkeypatch):
    forms = forms_of(provider, monkeypatch)
    await registered(netra, provider)
    await owned(netra)
    await netra.oauth.refresh(TENANT, "service")
    assert [set(form) for _, form in forms] == [{"grant_type", "assertion", "scope"}] * 2
    assert ["authorization" in fields for fields, _ in forms] == [False, False]
    assert len({claims["jti"] for claims in provider.asserted}) == 2
    assert [claims["exp"] - claims["iat"] for claims in provider.asserted] == [180, 180]


async def test_a_client_may_prove_itself_beside_what_it_signs(netra, provider, monkeypatch):
    forms = forms_of(provider, monkeypatch)
    signs = {"key": pem(RSA), "issuer": ISSUER}
    shown = await netra.oauth.set_client(TENANT, "provider", provider.registration(assertion=signs))
    await owned(netra)
    assert shown["auth"] == "basic"
    assert "authorization" in forms[0][0]


async def test_callers_of_all_processes_cause_one_request(prepared, provider):
    async with vault(prepared) as one, vault(prepared) as two:
        await registered(one, provider)
        provider.grants.lifetime_s = 0  # the first token has ended when it comes
        await own_what_has_ended(one)
        provider.grants.lifetime_s = 3600
        provider._control({"fault": "delay:0.2@1"})
        found = await asyncio.gather(*[each.oauth.token(TENANT, "service") for each in (one, two) * 50])
        assert {token.generation for token in found} == {3}
        assert (len(provider.requests), provider.most_in_flight) == (2, 1)


async def test_a_token_is_renewed_ahead_of_its_end_by_signing_again(prepared, provider):
    clock = FakeClock()
    async with vault(prepared, runtime=Runtime(clock=clock, chance=SeededChance())) as netra:
        provider._traded = lambda _, form: (
            200,
            {"content-type": "application/json"},
            b'{"access_token": "at-%d", "expires_in": 3600}' % len(form),
        )
        await registered(netra, provider)
        await owned(netra)
        assert await netra.oauth.renew_due(10) == 0
        await clock.jump(3500)
        assert await netra.oauth.renew_due(10) == 1
        await netra.oauth.refresh(TENANT, "service")  # joins the one under way, or finds it done
        assert len(provider.requests) >= 2


async def test_a_lost_answer_costs_nothing_for_the_next_assertion_is_another(netra, provider):
    await registered(netra, provider)
    await owned(netra)
    provider._control({"fault": "drop@2"})
    assert not (await netra.oauth.refresh(TENANT, "service")).stale
    assert (await netra.oauth.status(TENANT, "service"))["state"] == "active"
    assert len({claims["jti"] for claims in provider.asserted}) == len(provider.asserted) == 4


# What the provider refuses


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"issuer": "stranger"}, "no key of the issuer"),
        ({"audience": "https://other.example/token"}, "for somebody else"),
        ({"subject": ""}, "a claim that must be there is not: sub"),
        ({"key": jwk(ECKey.generate_key("P-256"))}, "signature"),
        ({"claims": {"scope": 7, "azp": "other"}}, "for somebody else"),
    ],
)
async def test_a_refused_assertion_needs_somebody_and_says_why(netra, provider, monkeypatch, said, words):
    answers, traded = [], provider._traded
    monkeypatch.setattr(provider, "_traded", lambda *asked: (answers.append(traded(*asked)), answers[-1])[1])
    await registered(netra, provider, **said)
    with pytest.raises(ReauthRequired, match="assertion_refused") as refused:
        await owned(netra)
    assert "clock" in refused.value.fix
    assert words in json.loads(answers[0][2])["error_description"]
    status = await netra.oauth.status(TENANT, "service")
    assert (status["state"], status["reason"]) == ("reauth_required", "assertion_refused")
    assert {"connection.refresh_failed", "connection.reauth_required"} <= set(await audited(netra))
    with pytest.raises(ReauthRequired, match="assertion_refused"):
        await netra.oauth.token(TENANT, "service")
    assert len(provider.requests) == 1
    await registered(netra, provider)
    assert (await owned(netra))["state"] == "active"


async def test_a_clock_that_is_wrong_by_more_than_an_assertions_life_is_refused_too(prepared, provider):
    clock = FakeClock()
    async with vault(prepared, runtime=Runtime(clock=clock, chance=SeededChance())) as netra:
        await registered(netra, provider)
        with pytest.raises(ReauthRequired, match="assertion_refused"):
            await owned(netra)
        assert provider.asserted == []


@pytest.mark.parametrize("error", ["invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_request"])
async def test_every_other_refusal_is_our_configuration_and_the_old_token_serves(netra, provider, monkeypatch, error):
    await registered(netra, provider)
    await owned(netra)
    said = json.dumps({"error": error}).encode()
    monkeypatch.setattr(provider, "_traded", lambda *_: (400, {"content-type": "application/json"}, said))
    assert (await netra.oauth.refresh(TENANT, "service")).stale
    assert (await netra.oauth.status(TENANT, "service"))["state"] == "active"


async def test_an_assertion_is_taken_once(netra, provider, monkeypatch):
    forms = forms_of(provider, monkeypatch)
    await registered(netra, provider)
    await owned(netra)
    status, _, body = provider._traded(*forms[0])
    assert (status, json.loads(body)) == (400, {"error": "invalid_grant", "error_description": "this jti came before"})


async def test_a_connection_whose_registration_signs_no_more_waits_for_a_better_one(netra, provider):
    await registered(netra, provider)
    await owned(netra)
    await netra.oauth.set_client(TENANT, "provider", provider.registration())
    assert (await netra.oauth.refresh(TENANT, "service")).stale
    assert len(provider.requests) == 1
    await registered(netra, provider)
    assert not (await netra.oauth.refresh(TENANT, "service")).stale


# Registering


@pytest.mark.parametrize(
    "said",
    [
        {"key": None},
        {"key": "secret"},
        {"key": json.dumps(RSA.as_dict(private=False))},
        {"lifetime_s": 301},
        {"lifetime_s": 0},
        {"lifetime_s": True},
        {"issuer": ""},
        {"subject": 7},
        {"audience": ["a", "b"]},
        {"claims": {"exp": 1}},
        {"claims": {"jti": "mine"}},
        {"claims": ["scope"]},
        {"claims": {"scope": "x" * 5000}},
        {"claims": {"scope": "\ud800"}},
        {"other": 1},
    ],
)
async def test_what_cannot_be_an_assertion_is_refused_when_it_is_registered(netra, provider, said):
    with pytest.raises(InvalidInput) as refused:
        await registered(netra, provider, **said)
    assert (said.get("key") or jwk(EC)) not in str(refused.value)
    assert await netra.oauth.clients(TENANT) == []


async def test_without_anything_to_sign_there_is_no_connection(netra, provider):
    await netra.oauth.set_client(TENANT, "provider", provider.registration())
    with pytest.raises(InvalidInput, match="nothing to sign"):
        await owned(netra)
    with pytest.raises(InvalidInput, match="password"):
        await netra.oauth.own(TENANT, "service", "provider", "password")
    assert (await netra.oauth.connections(TENANT), provider.requests) == ([], [])


def signed_by(given, at=1000):
    """What a registration signs at its first endpoint."""
    client = _registration("idp", filled(given), b"i" * 16)
    return assertion.granting(client.assertion, client.token_endpoints[0], at, "j")


def test_google_is_told_what_it_reads():
    now_s = int(time.time())
    signs = {"key": pem(RSA), "key_id": "k7", "claims": {"scope": "a b"}}
    signed = signed_by({"provider": "google", "client_id": "me@google.example", "assertion": signs}, now_s)
    certificates = {"k7": RSA.as_pem(private=False)}
    claims = google.auth.jwt.decode(signed, certificates, audience="https://oauth2.googleapis.com/token")
    times = {"jti": "j", "iat": now_s, "exp": now_s + 180}
    assert claims == {"scope": "a b", "iss": "me@google.example", "aud": "https://oauth2.googleapis.com/token", **times}


def test_salesforce_is_told_what_it_reads():
    signs = {"key": jwk(RSA), "subject": "user@acme.example"}
    signed = signed_by({"provider": "salesforce", "client_id": "consumer", "assertion": signs})
    said = {"iss": "consumer", "sub": "user@acme.example", "aud": "https://login.salesforce.com", "jti": "j", "iat": 1000, "exp": 1180}
    assert jwt.decode(signed, RSA).claims == said


class Authlib(JWTBearerGrant):
    """A server by Authlib that knows the client `me` by a key."""

    LEEWAY = 0

    def __init__(self, key):
        super().__init__(None, None)
        self.key = key

    def resolve_issuer_client(self, issuer):
        return issuer if issuer == "me" else None

    def resolve_client_public_key(self, client):
        return self.key.as_dict(private=False)

    def get_audiences(self):
        return ["https://id.example/token"]


@pytest.mark.parametrize("key", [RSA, EC], ids=["rsa", "ec"])
def test_authlib_takes_what_is_signed_and_nothing_that_has_ended_or_is_for_another(key):
    now_s = int(time.time())
    given = {"client_id": "me", "assertion": {"key": jwk(key), "claims": {"scope": "a"}}}
    here, there = ({**given, "endpoints": {"token": f"https://{name}.example/token"}} for name in ("id", "other"))
    claims = Authlib(key).process_assertion_claims(signed_by(here, now_s))
    assert (claims["sub"], claims["scope"], claims["exp"]) == ("me", "a", now_s + 180)
    for wrong in (signed_by(here, now_s - 200), signed_by(there, now_s), signed_by({**here, "client_id": "you"}, now_s)):
        with pytest.raises(OAuth2Error) as refused:
            Authlib(key).process_assertion_claims(wrong)
        assert refused.value.error == "invalid_grant"


# The key


async def test_the_key_that_signs_stands_in_no_database_log_answer_or_audit_entry(netra, provider, prepared, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    forms = forms_of(provider, monkeypatch)
    shown = [await registered(netra, provider, key=pem(RSA)), await owned(netra)]
    shown += [await netra.oauth.client(TENANT, "provider"), await netra.oauth.clients(TENANT), await entries(netra)]
    stored, told = everything_stored(netra.database), json.dumps(shown) + caplog.text
    signed = forms[0][1]["assertion"]
    body = pem(RSA).split("-----")[2].strip()
    for planted in (body, body.splitlines()[3], RSA.as_dict(private=True)["d"], signed):
        assert planted not in told
        assert planted.encode() not in stored
        assert planted.encode().hex().encode() not in stored
    assert list((prepared / "oauth-spool").iterdir()) == []
    (entry,) = [each for each in await entries(netra) if each["action"] == "oauth_client.set"]
    facts = json.loads(entry["after"]["assertion"])
    assert (facts["issuer"], facts["lifetime_s"], "key" in facts) == (ISSUER, 180, False)
    assert len(entry["after"]["assertion_key"]) == 64


async def test_the_sealed_key_opens_in_no_other_tenants_row_and_for_nothing_else(netra, provider):
    for tenant in (TENANT, "globex"):
        await registered(netra, provider, tenant=tenant)
    id_, sealed = await netra.database.read(lambda tx: tx.one(SEALED), scope=Scope(TENANT, "thief"))

    async def opened(tx, field="assertion_key"):
        return await netra.oauth._sealer.unseal(tx, tx.tenant, Place("netra_oauth_client", id_, field), sealed)

    assert (await netra.database.read(opened, scope=Scope(TENANT, "owner"))).decode() == jwk(EC)
    with pytest.raises(CannotUnseal):
        await netra.database.read(opened, scope=Scope("globex", "thief"))
    with pytest.raises(CannotUnseal):
        await netra.database.read(opened, "secrets", scope=Scope(TENANT, "owner"))


async def entries(netra):
    """Action and facts of the tenant's audit entries."""

    async def listed(tx):
        return await tx.all(audit_append.Q.list_audit_entries, after=b"", limit=1000)

    found = await netra.database.read(listed, scope=Scope(TENANT, "tester"))
    return [{"action": row[3], "after": json.loads(row[9]) if row[9] else None} for row in found]
