"""Signatures that the official libraries verify, and verification of what they sign."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime

import pytest
import standardwebhooks
import svix
from hypothesis import given, settings
from hypothesis import strategies as st

from netra_backend.errors import InvalidInput
from netra_backend.webhooks.keys import decode_secret, encode_secret
from netra_backend.webhooks.signing import (
    MOST_SIGNATURES,
    PayloadUnreadable,
    SignatureMismatch,
    SignatureMissing,
    SignatureOutdated,
    SignatureRejected,
    signature_header,
    verify,
)

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = decode_secret(SECRET)
OTHER = b"o" * 32
NOW = 1_614_265_330


def headers_of(message_id, body, keys=(KEY,), at=None, prefix="webhook"):
    at = int(time.time()) if at is None else at
    return {f"{prefix}-id": message_id, f"{prefix}-timestamp": str(at), f"{prefix}-signature": signature_header(keys, message_id, at, body)}


def test_the_published_vector_of_the_specification_is_ours():
    signed = signature_header([KEY], "msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, b'{"test": 2432232314}')
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@settings(max_examples=50)
@given(
    st.binary(min_size=24, max_size=64), st.text("abcdefghij_0123456789", min_size=1), st.dictionaries(st.text(), st.integers() | st.text())
)
def test_the_official_libraries_verify_what_we_sign(key, message_id, payload):
    body = json.dumps(payload).encode()
    headers = headers_of(message_id, body, [key])
    assert standardwebhooks.Webhook(encode_secret(key)).verify(body, headers) == payload
    svix.Webhook(encode_secret(key)).verify(body, {name.replace("webhook", "svix"): value for name, value in headers.items()})


@settings(max_examples=50)
@given(st.binary(min_size=24, max_size=64), st.dictionaries(st.text(), st.integers() | st.text()))
def test_we_verify_what_the_official_library_signs(key, payload):
    body, now = json.dumps(payload), datetime.now(tz=UTC)
    signature = standardwebhooks.Webhook(encode_secret(key)).sign("msg_1", now, body)
    headers = {"Webhook-Id": "msg_1", "Webhook-Timestamp": str(int(now.timestamp())), "Webhook-Signature": signature}
    assert verify(headers, body.encode(), encode_secret(key)) == payload


def test_an_integer_of_any_size_is_read_exactly():
    body = b'{"id":123456789012345678901234567890}'
    assert verify(headers_of("msg_1", body), body, SECRET) == {"id": 123456789012345678901234567890}


@pytest.mark.parametrize("prefix", ["webhook", "svix", "Webhook", "SVIX"])
def test_names_may_be_spelt_in_any_case_and_with_svixs_prefix(prefix):
    assert verify(headers_of("msg_1", b"{}", prefix=prefix), b"{}", SECRET) == {}


def test_every_live_key_signs_and_either_verifies():
    headers = headers_of("msg_1", b"{}", [OTHER, KEY])
    assert len(headers["webhook-signature"].split(" ")) == 2
    for key in (KEY, OTHER):
        assert verify(headers, b"{}", encode_secret(key)) == {}
        assert standardwebhooks.Webhook(encode_secret(key)).verify(b"{}", headers) == {}


@pytest.mark.parametrize("change", ["body", "id", "timestamp", "signature", "secret"])
def test_whatever_is_changed_does_not_verify(change):
    headers, body, secret = headers_of("msg_1", b'{"n":1}', at=NOW), b'{"n":1}', SECRET
    if change == "body":
        body = b'{"n": 1}'
    elif change == "secret":
        secret = encode_secret(OTHER)
    else:
        headers[f"webhook-{change}"] = {"id": "msg_2", "timestamp": str(NOW + 1), "signature": "v1,AAAA"}[change]
    with pytest.raises(SignatureRejected):
        verify(headers, body, secret, now_s=NOW)


@pytest.mark.parametrize(("offset_s", "accepted"), [(-301, False), (-300, True), (0, True), (300, True), (301, False)])
def test_a_timestamp_may_be_five_minutes_off(offset_s, accepted):
    headers = headers_of("msg_1", b"{}", at=NOW)
    if accepted:
        assert verify(headers, b"{}", SECRET, now_s=NOW + offset_s) == {}
    else:
        with pytest.raises(SignatureRejected):
            verify(headers, b"{}", SECRET, now_s=NOW + offset_s)


@pytest.mark.parametrize("missing", ["webhook-id", "webhook-timestamp", "webhook-signature"])
@pytest.mark.parametrize("instead", [None, "", "x", "１２３", "-1", "1e9", "9" * 5000, "v1,\udcff"])
def test_missing_and_malformed_fields_are_rejected_and_never_an_error_of_ours(missing, instead):
    headers = headers_of("msg_1", b"{}", at=NOW)
    del headers[missing]
    if instead is not None:
        headers[missing] = instead
    with pytest.raises(SignatureRejected):
        verify(headers, b"{}", SECRET, now_s=NOW)


def test_each_cause_has_an_error_of_its_own():
    headers = headers_of("msg_1", b"{}", at=NOW)
    with pytest.raises(SignatureMissing) as missing:
        verify({}, b"{}", SECRET, now_s=NOW)
    with pytest.raises(SignatureOutdated) as outdated:
        verify(headers, b"{}", SECRET, now_s=NOW + 301)
    with pytest.raises(SignatureMismatch) as mismatch:
        verify(headers, b"[]", SECRET, now_s=NOW)
    codes = {each.value.code for each in (missing, outdated, mismatch)}
    assert codes == {"signature_missing", "signature_outdated", "signature_mismatch"}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000])
def test_a_signed_body_that_is_not_json_is_not_taken_for_a_wrong_signature(body):
    with pytest.raises(PayloadUnreadable):
        verify(headers_of("msg_1", body, at=NOW), body, SECRET, now_s=NOW)


def test_a_body_may_be_text_and_a_receiver_may_hold_several_secrets():
    body = '{"name":"Zoë"}'
    headers = headers_of("msg_1", body.encode(), at=NOW)
    assert verify(headers, body, [encode_secret(OTHER), SECRET], now_s=NOW) == {"name": "Zoë"}
    with pytest.raises(InvalidInput):
        verify(headers, body, [], now_s=NOW)


def test_of_a_list_of_signatures_without_end_only_the_first_are_looked_at():
    headers = headers_of("msg_1", b"{}", at=NOW)
    good, junk = headers["webhook-signature"], ["v1,AAAA"] * (MOST_SIGNATURES - 1)
    assert verify({**headers, "webhook-signature": " ".join([*junk, good])}, b"{}", SECRET, now_s=NOW) == {}
    with pytest.raises(SignatureMismatch):
        verify({**headers, "webhook-signature": " ".join([*junk, "v1,AAAA", good])}, b"{}", SECRET, now_s=NOW)


@pytest.mark.parametrize("size", [24, 32, 64])
def test_a_secret_survives_its_text_form(size):
    assert decode_secret(encode_secret(b"k" * size)) == b"k" * size


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_%%%", "whsec_" + base64.b64encode(b"k" * 23).decode(), "whsec_" + base64.b64encode(b"k" * 65).decode()]
)
def test_a_secret_that_is_no_key_is_refused(secret):
    with pytest.raises(InvalidInput):
        decode_secret(secret)
