"""Ed25519: signatures that others verify, verification of what others sign, and no way from one version to the other."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc.jwk import OKPKey

from netra_backend.errors import InvalidInput
from netra_backend.testing.clock import SeededChance
from netra_backend.testing.signatures import SignatureCheck
from netra_backend.webhooks.keys import decode_public, decode_secret, encode_secret, jwk, kind_of, new_key, public_of, sign, told
from netra_backend.webhooks.signing import SignatureMismatch, signature_header, verify

# The vector of the Svix server's own test (`test_asymmetric_key_signing`), in the id and time of the specification's example.
PAIR = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
MESSAGE, NOW, BODY = "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, b'{"test": 2432232314}'
SIGNATURE = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="

# RFC 8032 section 7.1, tests 1 to 3: seed, public key, message, signature.
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
]


def headers(signature, message=MESSAGE):
    return {"webhook-id": message, "webhook-timestamp": str(NOW), "webhook-signature": signature}


def test_the_vector_of_the_svix_server_is_ours():
    assert signature_header([decode_secret(PAIR)], MESSAGE, NOW, BODY) == SIGNATURE
    assert told(decode_secret(PAIR)) == PUBLIC
    assert verify(headers(SIGNATURE), BODY, PUBLIC, now_s=NOW) == {"test": 2432232314}
    assert verify(headers(SIGNATURE), BODY, PAIR, now_s=NOW) == {"test": 2432232314}


@pytest.mark.parametrize(("seed", "public", "message", "signature"), RFC_8032)
def test_the_vectors_of_rfc_8032_are_ours(seed, public, message, signature):
    key = decode_secret("whsk_" + base64.b64encode(bytes.fromhex(seed)).decode())
    assert public_of(key).hex() == public
    assert base64.b64decode(sign(key, bytes.fromhex(message)).removeprefix("v1a,")).hex() == signature


@settings(max_examples=50)
@given(st.integers(0, 2**32), st.binary(max_size=200))
def test_cryptography_and_the_test_receiver_verify_what_we_sign(seed, body):
    key = new_key(SeededChance(seed), "ed25519")
    header = signature_header([key], MESSAGE, NOW, body)
    signed = f"{MESSAGE}.{NOW}.".encode() + body
    Ed25519PublicKey.from_public_bytes(decode_public(told(key))).verify(base64.b64decode(header.removeprefix("v1a,")), signed)
    assert SignatureCheck([told(key)])(headers(header), body, NOW)


@settings(max_examples=50)
@given(st.binary(min_size=32, max_size=32))
def test_we_verify_what_cryptography_signs(seed):
    private = Ed25519PrivateKey.from_private_bytes(seed)
    public = "whpk_" + base64.b64encode(private.public_key().public_bytes_raw()).decode()
    signature = base64.b64encode(private.sign(f"{MESSAGE}.{NOW}.".encode() + BODY)).decode()
    assert verify(headers(f"v1a,{signature}"), BODY, public, now_s=NOW) == {"test": 2432232314}


def test_while_an_endpoint_moves_from_a_secret_to_a_pair_both_verify():
    secret = new_key(SeededChance(1), "hmac")
    both = signature_header([decode_secret(PAIR), secret], MESSAGE, NOW, BODY)
    for held in (PUBLIC, encode_secret(secret), [encode_secret(secret), PUBLIC]):
        assert verify(headers(both), BODY, held, now_s=NOW) == {"test": 2432232314}


@pytest.mark.parametrize(
    "signature",
    [
        SIGNATURE.replace("v1a,", "v1,"),
        SIGNATURE.replace("v1a,", "v1a,v1a,"),
        SIGNATURE.replace("v1a,", "v2a,"),
        SIGNATURE.removeprefix("v1a,"),
        SIGNATURE[:-2],
        SIGNATURE[:-1],
        SIGNATURE + "=",
        SIGNATURE.replace("/", "_").replace("+", "-"),
        SIGNATURE.replace("hnO3", "hnO4"),
        SIGNATURE[:40] + "\n" + SIGNATURE[40:],
        "v1a,",
        "v1a," + "A" * 86 + "==",
        "v1a,\udcff",
        "v1a," + "é" * 88,
    ],
)
def test_a_signature_that_is_not_the_pairs_is_refused(signature):
    with pytest.raises(SignatureMismatch):
        verify(headers(signature), BODY, PUBLIC, now_s=NOW)


def test_a_signature_of_one_version_is_never_taken_for_a_key_of_the_other():
    """The public key is public: an HMAC keyed with it, or with the text of it, proves nothing."""
    public = decode_public(PUBLIC)
    forged = sign(public, f"{MESSAGE}.{NOW}.".encode() + BODY)
    assert forged.startswith("v1,")
    for attempt in (forged, forged.replace("v1,", "v1a,")):
        with pytest.raises(SignatureMismatch):
            verify(headers(attempt), BODY, PUBLIC, now_s=NOW)
    with pytest.raises(SignatureMismatch):
        verify(headers(SIGNATURE), BODY, encode_secret(b"k" * 32), now_s=NOW)


def test_a_pair_survives_its_text_form_and_a_secret_of_any_length_is_never_taken_for_one():
    key = new_key(SeededChance(2), "ed25519")
    assert decode_secret(encode_secret(key)) == key
    assert kind_of(key) == "ed25519"
    assert decode_secret("whsk_" + base64.b64encode(key[8:40]).decode()) == key
    assert {kind_of(b"ed25519:" + b"k" * size) for size in range(16, 57)} == {"hmac"}


@pytest.mark.parametrize(
    "text",
    [
        "whsk_",
        "whsk_%",
        "whsk_" + base64.b64encode(b"k" * 31).decode(),
        "whsk_" + base64.b64encode(b"k" * 64).decode(),
        PUBLIC.replace("whpk", "whsk")[:-3],
        PUBLIC,
    ],
)
def test_a_pair_that_is_none_is_refused(text):
    with pytest.raises(InvalidInput):
        decode_secret(text)


def test_another_library_reads_our_jwk_and_its_thumbprint():
    key = decode_secret(PAIR)
    other = OKPKey.import_key({name: value for name, value in jwk(key).items() if name in {"kty", "crv", "x"}})
    assert other.raw_value.public_bytes_raw() == public_of(key)
    assert other.thumbprint() == jwk(key)["kid"]
