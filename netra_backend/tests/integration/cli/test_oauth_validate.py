"""`netra oauth validate`: one document, and an exit code that says yes, no, or that the call is wrong."""

from __future__ import annotations

import io
import json
import sys
from types import SimpleNamespace

import pytest

from ...support.tokens import AUDIENCE, ISSUER, NOW, public, rsa, token
from .driving import run


@pytest.fixture
def validate(tmp_path, monkeypatch, capsys):
    keys = tmp_path / "jwks.json"
    keys.write_text(json.dumps(public(rsa())))

    def ask(text, *options, keys=keys):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
        return run(
            capsys,
            "oauth",
            "validate",
            "--issuer",
            ISSUER,
            "--audience",
            AUDIENCE,
            "--keys",
            keys,
            "--alg",
            "RS256",
            "--now",
            NOW,
            *options,
        )

    return ask


def test_a_good_token_is_valid_and_its_claims_are_shown(validate):
    answer = validate(token() + "\n")
    assert (answer.code, answer.document["valid"], answer.document["code"]) == (0, True, None)
    assert answer.document["claims"]["sub"] == "u1"


def test_a_bad_token_is_a_no_with_its_code(validate):
    answer = validate(token(exp=1), "--json")
    assert (answer.code, answer.document["valid"], answer.document["code"]) == (1, False, "expired")


def test_keys_that_cannot_be_read_are_a_wrong_call(validate, tmp_path):
    assert validate(token(), keys=tmp_path / "absent").code == 2
    (tmp_path / "bad").write_text("no keys")
    assert validate(token(), keys=tmp_path / "bad").code == 2


def test_an_algorithm_that_cannot_be_configured_is_a_wrong_call(validate):
    assert validate(token(), "--alg", "none").code == 2
