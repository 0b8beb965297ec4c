"""`validate` beyond the table: time, spellings, nonces, key sources, and that nothing but a verdict is ever raised."""

from __future__ import annotations

import base64
import hashlib
import json
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import ECKey, KeySet

from netra_backend.errors import InvalidInput
from netra_backend.oauth import VERDICTS, Keys, TokenRejected, validate, verify_jws

from ..support.tokens import AUDIENCE, ISSUER, NOW, b64, claims, edwards, public, rsa, sign, signed_parts, token

KEYS = Keys.of(public(edwards()))
HEADER = {"alg": "Ed25519", "kid": "o1"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def judge(text, keys=KEYS, algorithms=("Ed25519",), now=NOW, **options):
    return validate(text, issuer=ISSUER, audience=AUDIENCE, keys=keys, algorithms=algorithms, now=now, **options)


def verdict(text, **options):
    with pytest.raises(TokenRejected) as caught:
        judge(text, **options)
    return caught.value.code


def made(**changes):
    return sign(HEADER, claims(**changes), edwards())


def test_a_token_expires_at_the_very_second_and_the_leeway_is_applied_once():
    good = made(exp=NOW)
    assert verdict(good, leeway_s=0) == "expired"
    assert judge(good, leeway_s=0, now=NOW - 0.001)
    assert judge(good, now=NOW + 29.999)
    assert verdict(good, now=NOW + 30) == "expired"
    early = made(nbf=NOW, iat=None)
    assert judge(early, now=NOW - 30)
    assert verdict(early, now=NOW - 30.001) == "not_yet_valid"


@pytest.mark.parametrize("leeway", [-1, 120.5, float("nan"), float("inf")])
def test_a_leeway_beyond_two_minutes_is_the_callers_error(leeway):
    with pytest.raises(InvalidInput):
        judge(made(), leeway_s=leeway)


@pytest.mark.parametrize("rule", [{"now": float("nan")}, {"now": float("inf")}, {"max_lifetime_s": float("nan")}])
def test_a_time_that_is_no_number_lets_no_token_pass(rule):
    with pytest.raises(InvalidInput):
        judge(made(exp=NOW - 10**6), **rule)


def test_a_clock_that_jumps_in_either_direction_is_judged_as_it_stands():
    good = made()
    assert verdict(good, now=NOW + 400) == "expired"
    assert verdict(good, now=NOW - 400) == "issued_in_future"
    assert judge(good)


def test_the_clock_of_the_machine_is_taken_where_no_time_is_given():
    assert verdict(made(iat=1, exp=2), now=None) == "expired"


def test_a_nonce_must_be_there_and_be_the_one():
    assert judge(made(nonce="n1"), nonce="n1")
    assert verdict(made(nonce="n2"), nonce="n1") == "wrong_nonce"
    assert verdict(made(), nonce="n1") == "wrong_nonce"


def test_an_access_token_is_held_against_at_hash():
    pair = rsa()
    left_half = hashlib.sha256(b"an-access-token").digest()[:16]  # OpenID Connect Core 3.1.3.6
    sent = sign({"alg": "RS256", "kid": "r1"}, claims(at_hash=b64(left_half)), pair)
    options = {"keys": public(pair), "algorithms": ("RS256",)}
    assert judge(sent, access_token="an-access-token", **options)
    assert verdict(sent, access_token="another", **options) == "bad_claim"
    assert judge(sent, **options)


def test_the_hash_of_an_access_token_is_of_the_signatures_own_size():
    pair = ECKey.generate_key("secp256k1", {"kid": "k1"})
    sent = sign({"alg": "ES256K", "kid": "k1"}, claims(at_hash=b64(hashlib.sha256(b"at").digest()[:16])), pair)
    assert judge(sent, access_token="at", keys=public(pair), algorithms=("ES256K",))


def test_another_authorised_party_and_further_claims_are_asked_for_by_the_caller():
    assert judge(made(azp="app"), authorized_party="app")
    assert verdict(made(azp="app"), authorized_party="other") == "wrong_audience"
    assert verdict(made(sub=None), required=["sub"]) == "missing_claim"


def test_any_of_several_audiences_will_do():
    assert validate(made(), issuer=ISSUER, audience=["x", AUDIENCE], keys=KEYS, algorithms=["Ed25519"], now=NOW).audience == (AUDIENCE,)


def test_claims_are_a_mapping_with_typed_members_and_show_nothing_of_the_person():
    found = judge(made(email="ada@example.com"))
    assert (found.subject, found.issuer, found.audience, found.expires_at) == ("u1", ISSUER, (AUDIENCE,), NOW + 300)
    assert dict(found)["email"] == "ada@example.com"
    assert "ada" not in repr(found)


def test_the_words_of_a_refusal_hold_nothing_of_the_token():
    for text in (made(iss="secret-issuer"), made(sub=["secret"]), "secret." + made()):
        with pytest.raises(TokenRejected) as caught:
            judge(text)
        assert "secret" not in str(caught.value) + json.dumps(caught.value.as_dict())


def test_keys_come_as_a_set_one_key_a_list_json_a_pem_or_joserfcs_own():
    member = public(edwards())["keys"][0]
    pem = edwards().as_pem(private=False)
    for source in (public(edwards()), member, [member], json.dumps(member), json.dumps(public(edwards())).encode(), pem, pem.decode()):
        assert judge(made(), keys=source)
    assert judge(made(), keys=edwards())
    assert judge(made(), keys=KeySet([edwards()]))


@pytest.mark.parametrize(
    "source", [7, "x", b"", [1], {"keys": {}}, {"keys": [1]}, "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"]
)
def test_what_are_no_keys_is_the_callers_error(source):
    with pytest.raises(InvalidInput):
        judge(made(), keys=source)


def test_no_keys_know_no_token():
    assert verdict(made(), keys=None) == "unknown_key"


@pytest.mark.parametrize("algorithms", [(), ("none",), ("RS256", "none"), ("RSA1_5",), "none"])
def test_what_cannot_be_configured_is_the_callers_error(algorithms):
    with pytest.raises(InvalidInput):
        verify_jws(made(), keys=KEYS, algorithms=algorithms)


def test_broken_members_of_a_key_set_are_counted_and_passed_by():
    keys = Keys.of(
        {
            "keys": [
                {"kty": "RSA", "n": "AA", "e": "!"},
                {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
                {"use": 7, "kty": "OKP"},
                *public(edwards())["keys"],
            ]
        }
    )
    assert (len(keys), keys.ignored) == (1, 3)
    assert judge(made(), keys=keys)


@given(st.binary(min_size=1, max_size=40), st.integers(min_value=0, max_value=63))
def test_of_all_spellings_of_one_base64_text_only_the_canonical_one_is_read(payload, bits):
    canonical = b64(payload)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = canonical[:-1] + alphabet[bits]
    head = b64(json.dumps(HEADER))
    raw = base64.urlsafe_b64decode(other + "=" * (-len(other) % 4))
    with suppress(TokenRejected):
        assert verify_jws(signed_parts(head, other, edwards(), "Ed25519"), keys=KEYS, algorithms=["Ed25519"]) == raw
        assert b64(raw) == other
        return
    assert b64(raw) != other


@settings(max_examples=400)
@given(st.text() | st.binary() | st.builds(".".join, st.lists(st.text("AQabe_-=+/ \n", max_size=12), min_size=3, max_size=3)))
def test_whatever_the_bytes_nothing_but_a_verdict_is_raised(text):
    assert verdict(text) in VERDICTS


@settings(max_examples=400)
@given(
    st.dictionaries(st.sampled_from(["kid", "typ", "cty", "crit", "jku", "x"]), JSON, max_size=3),
    st.one_of(
        st.builds(
            lambda changes: {**claims(), **changes},
            st.dictionaries(st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "azp", "sub", "jti"]), JSON),
        ),
        JSON,
    ),
    st.binary(max_size=3),
)
def test_whatever_a_signed_token_says_nothing_but_a_verdict_is_raised(header, payload, tail):
    body = json.dumps(payload).encode() + (tail if tail != b" " else b"")
    with suppress(TokenRejected):
        judge(sign({**header, "alg": "Ed25519"}, body, edwards()))


@settings(max_examples=200)
@given(JSON, st.sampled_from(["RS256", "HS256", "ES256", "Ed25519", "PS256"]))
def test_whatever_a_key_set_says_nothing_but_a_verdict_or_the_callers_error_is_raised(member, algorithm):
    keys = {
        "keys": [
            {"kty": kty, "n": member, "e": "AQAB", "k": member, "crv": "P-256", "x": member, "y": member}
            for kty in ("RSA", "oct", "EC", "OKP")
        ]
    }
    with suppress(TokenRejected, InvalidInput):
        judge(sign({"alg": algorithm}, claims(), rsa(), "RS256"), keys=keys, algorithms=(algorithm,))


def test_a_token_of_another_key_of_the_same_kind_is_refused():
    assert verdict(token(), keys=public(rsa("r9"), kid="r1"), algorithms=("RS256",)) == "bad_signature"
