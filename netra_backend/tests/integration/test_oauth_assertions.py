"""A client that signs instead of sending a secret, judged by the certified server of npm; on both engines."""

from __future__ import annotations

import asyncio
import json

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from netra_backend.errors import InvalidInput
from netra_backend.oauth import assertion
from netra_backend.oauth.errors import RefreshFailed

from ..support.oidc import OidcProvider
from ..support.storage import everything_stored, with_its_server
from ..support.vaults import TENANT, vault

RSA, EC, ED = (
    RSAKey.generate_key(2048, {"kid": "rsa"}),
    ECKey.generate_key("P-256", {"kid": "ec"}),
    OKPKey.generate_key("Ed25519", {"kid": "ed"}),
)
KEYS = {"rsa": (0, RSA, "RS256"), "ec": (1, EC, "ES256"), "ed": (2, ED, "Ed25519")}


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(prepared):
    async with vault(prepared, oauth_http_timeout="5s", oauth_lease_ttl="20s") as netra:
        yield netra


@pytest.fixture(scope="module")
def provider():
    public = [{**key.as_dict(private=False), "alg": algorithm, "use": "sig"} for _, key, algorithm in KEYS.values()]
    provider = OidcProvider(keys=public).start()
    yield provider
    provider.close()


def pem(key):
    return key.as_pem(private=True).decode()


def jwk(key):
    return json.dumps(key.as_dict(private=True))


def registration(provider, number, *secrets, **changes):
    return {"issuer": provider.url, "client_id": f"signs-{number}", "client_secrets": list(secrets), "scopes": ["read"], **changes}


@pytest.mark.parametrize("form", [pem, jwk])
@pytest.mark.parametrize("name", KEYS)
async def test_a_client_proves_itself_by_its_key(netra, provider, name, form):
    number, key, _ = KEYS[name]
    shown = await netra.oauth.set_client(TENANT, "provider", registration(provider, number, form(key)))
    assert (shown["auth"], shown["client_secrets"]) == ("private_key_jwt", 1)
    await netra.oauth.own(TENANT, "service", "provider")
    tokens = [await netra.oauth.token(TENANT, "service"), await netra.oauth.refresh(TENANT, "service")]
    assert await asyncio.to_thread(provider.is_active, tokens[-1].access_token)
    assert (await netra.oauth.client(TENANT, "provider"))["auth"] == "private_key_jwt"
    stored = everything_stored(netra.database)
    assert form(key).encode() not in stored
    assert json.loads(jwk(key))["d"].encode() not in stored


async def test_the_second_key_is_tried_where_the_first_is_refused(netra, provider):
    other = RSAKey.generate_key(2048)
    await netra.oauth.set_client(TENANT, "provider", registration(provider, 0, pem(other), pem(RSA)))
    await netra.oauth.own(TENANT, "service", "provider")
    assert (await netra.oauth.token(TENANT, "service")).generation == 2


async def test_a_key_that_the_server_does_not_know_is_our_configuration(netra, provider):
    await netra.oauth.set_client(TENANT, "provider", registration(provider, 0, pem(RSAKey.generate_key(2048))))
    with pytest.raises(RefreshFailed, match="invalid_client"):
        await netra.oauth.own(TENANT, "service", "provider")


def test_each_assertion_is_fresh_short_lived_and_for_one_server():
    made = [assertion.assertion(jwk(EC), "me", "https://id.example", 1000, jti) for jti in ("a", "b")]
    claims = [jwt.decode(each, EC, algorithms=["ES256"]).claims for each in made]
    assert claims[0] == {"iss": "me", "sub": "me", "aud": "https://id.example", "jti": "a", "iat": 1000, "exp": 1300}
    assert claims[1]["jti"] == "b"
    assert jwt.decode(made[0], EC, algorithms=["ES256"]).header == {"alg": "ES256", "typ": "JWT", "kid": "ec"}


@pytest.mark.parametrize(
    "secret",
    [
        "secret",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
        "{}",
        '{"kty": "oct", "k": "c2VjcmV0"}',
        '{"kty": "RSA"}',
        json.dumps(RSA.as_dict(private=False)),
        RSA.as_pem(private=False).decode(),
    ],
)
async def test_what_cannot_sign_is_refused_when_it_is_registered(netra, provider, secret):
    with pytest.raises(InvalidInput) as refused:
        await netra.oauth.set_client(TENANT, "bad", registration(provider, 0, secret, auth="private_key_jwt"))
    assert secret not in str(refused.value)
