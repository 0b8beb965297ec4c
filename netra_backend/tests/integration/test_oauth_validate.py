"""The vault judges tokens of others: `netra.oauth.validate`, `judge` and `introspect`, from async and from plain code."""

from __future__ import annotations

import asyncio
import time

import pytest

from netra_backend.errors import InvalidInput, Unavailable
from netra_backend.kernel.scope import Scope
from netra_backend.oauth import TokenRejected
from netra_backend.oauth.validator import Question
from netra_backend.testing.provider import Provider

from ..support.issuers import issuing
from ..support.tokens import AUDIENCE, claims, rsa, sign
from ..support.vaults import NAME, TENANT, connect, vault


def signed(issuer, **changes):
    now = int(time.time())
    return sign({"alg": "RS256", "kid": "r1"}, claims(iss=issuer.url, iat=now, exp=now + 300, **changes), rsa())


async def refused(call):
    with pytest.raises(TokenRejected) as caught:
        await call
    return caught.value.code


async def test_the_vault_judges_a_token_by_its_issuers_published_keys(prepared):
    async with issuing() as issuer, vault(prepared) as netra:
        for _ in range(2):
            found = await netra.oauth.validate(signed(issuer), issuer=issuer.url, audience=AUDIENCE, tenant=TENANT)
            assert (found.subject, found.issuer) == ("u1", issuer.url)
        assert issuer.count("/jwks") == 1
        wrong = netra.oauth.validate(signed(issuer), issuer=issuer.url, audience="another", tenant=TENANT)
        assert await refused(wrong) == "wrong_audience"
        judge = await netra.oauth.judge(issuer=issuer.url, audience=AUDIENCE, tenant=TENANT)
        assert (await judge.validate(signed(issuer, nonce="n1"), nonce="n1")).subject == "u1"
        assert await refused(judge.validate(signed(issuer, nonce="n1"), nonce="n2")) == "wrong_nonce"
        given = {"issuer": issuer.url, "audience": AUDIENCE, "tenant": TENANT}
        found = await asyncio.to_thread(lambda: netra.sync.oauth.validate(signed(issuer), **given))
        assert found.subject == "u1"


async def test_a_revocation_ends_every_verdict_of_the_process_those_of_judges_that_were_handed_out_too(prepared):
    async with issuing() as issuer, Provider() as provider, vault(prepared) as netra:
        await connect(netra, provider, expires_in=3600)
        given = {"issuer": issuer.url, "audience": AUDIENCE, "tenant": TENANT}
        judge, token = await netra.oauth.judge(**given), signed(issuer)
        await netra.oauth.validate(token, **given)
        assert (await judge.validate(token)).subject == judge.remembered(token).subject == "u1"
        await netra.oauth.revoke(TENANT, NAME)
        assert judge.remembered(token) is None
        assert netra.oauth.judges.get(Scope(TENANT), Question.of(issuer.url, AUDIENCE)).remembered(token) is None


def answers(now):
    """What an issuer may say of an opaque token, and the verdict."""
    return [
        ({"active": True, "sub": "u1", "aud": AUDIENCE}, None),
        ({"active": True, "aud": [AUDIENCE, "bank"], "exp": now + 60}, None),
        ({"active": False, "sub": "u1"}, "revoked"),
        ({"active": True, "aud": "another"}, "wrong_audience"),
        ({"active": True}, "missing_claim"),
        ({"active": True, "aud": AUDIENCE, "exp": now - 60}, "expired"),
        ({"active": True, "aud": AUDIENCE, "exp": "soon"}, "bad_claim"),
        ({"active": True, "aud": AUDIENCE, "exp": now + 60, "nbf": now + 90}, "not_yet_valid"),
        ({"active": True, "aud": AUDIENCE, "nbf": now + 90}, "not_yet_valid"),
        ({"active": True, "aud": AUDIENCE, "iat": now + 90}, "issued_in_future"),
        ({"active": True, "aud": AUDIENCE, "iss": "https://evil.example"}, "wrong_issuer"),
    ]


async def test_an_opaque_token_is_what_its_issuer_says_of_it_now(prepared):
    async with issuing() as issuer, vault(prepared) as netra:
        registration = {"issuer": issuer.url, "client_id": "netra", "client_secrets": ["secret-a"], "auth": "post"}
        await netra.oauth.set_client(TENANT, "idp", registration)
        for answer, verdict in answers(time.time()):
            issuer.active["opaque"] = answer
            asked = netra.oauth.introspect(TENANT, "idp", "opaque", audience=AUDIENCE)
            if verdict is None:
                assert await asked == answer
            else:
                assert await refused(asked) == verdict, answer
        assert issuer.forms[-1]["token"] == "opaque"
        assert issuer.forms[-1]["client_secret"] == "secret-a"
        assert await refused(netra.oauth.introspect(TENANT, "idp", "a\nb")) == "malformed"


@pytest.mark.parametrize("answer", [{}, {"active": "yes"}, {"active": 1}, [], None])
async def test_an_answer_that_does_not_say_whether_a_token_is_active_lets_nobody_in(prepared, answer):
    async with issuing() as issuer, vault(prepared) as netra:
        await netra.oauth.set_client(TENANT, "idp", {"issuer": issuer.url, "client_id": "netra"})
        issuer.active["opaque"] = answer
        with pytest.raises(Unavailable, match="does not say"):
            await netra.oauth.introspect(TENANT, "idp", "opaque")


async def test_a_client_whose_issuer_tells_nowhere_to_ask_cannot_introspect(prepared):
    async with issuing(introspection_endpoint=None) as issuer, vault(prepared) as netra:
        await netra.oauth.set_client(TENANT, "idp", {"issuer": issuer.url, "client_id": "netra"})
        await netra.oauth.set_client(TENANT, "plain", {"endpoints": {"token": "http://127.0.0.1/t"}, "client_id": "netra"})
        for client in ("idp", "plain"):
            with pytest.raises(InvalidInput, match=r"introspection endpoint|no issuer"):
                await netra.oauth.introspect(TENANT, client, "opaque")
