"""Every hostile or odd token gets the verdict that names its cause."""

from __future__ import annotations

import warnings

import pytest

from netra_backend.oauth import VERDICTS, TokenRejected, validate

from ..support.hostile_tokens import all_cases
from ..support.tokens import AUDIENCE, ISSUER, NOW, public, rsa

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # joserfc warns of the weak keys that some of these are signed by
    CASES = list(all_cases())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.encode("unicode_escape").decode())
def test_a_hostile_or_odd_token_gets_its_own_verdict(case):
    keys = public(rsa()) if case.keys is None else case.keys
    try:
        claims = validate(case.token, issuer=ISSUER, audience=AUDIENCE, keys=keys, algorithms=case.algorithms, now=NOW)
    except TokenRejected as error:
        assert error.code == case.verdict, error
    else:
        assert case.verdict is None
        assert claims.issuer == ISSUER


def test_the_table_is_large_and_has_each_verdict_that_a_token_alone_can_get():
    assert len(CASES) >= 120
    assert len({case.name for case in CASES}) == len(CASES)
    told_by_the_call = {"wrong_nonce", "revoked"}
    assert {case.verdict for case in CASES} - {None} == set(VERDICTS) - told_by_the_call
