"""The claims that RFC 8693 gives as examples (sections 4.1 and 4.4, appendix A), through our own rules of a trade.

Ours are stricter where the standard leaves it to the server: scope and audience only shrink, so what the examples ask for beyond the subject's
token is refused, and an actor is named with its issuer.
"""

from __future__ import annotations

import pytest

from netra_backend.oauth.sso.exchange import EXCHANGE, IMPERSONATE, ExchangeRefused, Requester, Wanted, narrowed

NOW = 1441909900
ORIGINAL, SERVER, BACKEND = "https://original-issuer.example.net", "https://as.example.com", "https://backend.example.com"
SERVICE_16, SERVICE_77 = "https://service16.example.com", "https://service77.example.com"
BOTH = Requester("acme", "key_1", frozenset({EXCHANGE, IMPERSONATE}))

A_1 = {"iss": ORIGINAL, "aud": [SERVER, BACKEND], "exp": NOW + 700, "sub": "bdc@example.net", "scope": "orders profile history"}
A_2 = {"iss": ORIGINAL, "aud": SERVER, "exp": NOW + 160, "sub": "user@example.net", "scope": "status feed"}
A_2_MAY_ACT = {**A_2, "may_act": {"sub": "admin@example.net"}}
ADMIN = {"iss": ORIGINAL, "aud": SERVER, "exp": NOW + 160, "sub": "admin@example.net"}
SOMEBODY = {**ADMIN, "sub": "somebody@example.net"}
SERVICE = {**ADMIN, "sub": SERVICE_16}
CHAIN = {"sub": SERVICE_16, "act": {"sub": SERVICE_77}}
BY_ADMIN = {"iss": ORIGINAL, "sub": "admin@example.net"}

GRANTED = [
    ("A.1 impersonation", A_1, None, (BACKEND,), None, {"sub": "bdc@example.net", "aud": BACKEND, "exp": NOW + 300, "act": None}),
    ("A.1 with less scope", A_1, None, (BACKEND,), ("orders",), {"scope": "orders", "aud": BACKEND}),
    (
        "A.2 delegation",
        A_2_MAY_ACT,
        ADMIN,
        (),
        None,
        {"sub": "user@example.net", "scope": "status feed", "act": BY_ADMIN, "exp": NOW + 160},
    ),
    ("A.2 without may_act", A_2, ADMIN, (), ("feed",), {"scope": "feed", "act": BY_ADMIN}),
    ("4.1 a chain is kept", {**A_2, "act": CHAIN}, ADMIN, (), None, {"act": {**BY_ADMIN, "act": CHAIN}}),
    ("4.1 a chain without a new actor", {**A_2, "act": CHAIN}, None, (), None, {"act": CHAIN}),
    ("4.1 one actor, then another", {**A_2, "act": {"sub": SERVICE_77}}, SERVICE, (), None, {"act": {"iss": ORIGINAL, **CHAIN}}),
    ("4.4 with the issuer named", {**A_2, "may_act": BY_ADMIN}, ADMIN, (), None, {"act": BY_ADMIN}),
]
REFUSED = [
    ("A.1 asks for the scope `api`", A_1, None, (BACKEND,), ("api",), "invalid_scope"),
    ("A.2 asks for a context of its own", A_2_MAY_ACT, ADMIN, ("urn:example:cooperation-context",), None, "invalid_target"),
    ("4.4 another actor", A_2_MAY_ACT, SOMEBODY, (), None, "invalid_request"),
    ("4.4 nobody acts", A_2_MAY_ACT, None, (), None, "invalid_request"),
    ("4.4 the same name elsewhere", {**A_2, "may_act": {**BY_ADMIN, "iss": SERVER}}, ADMIN, (), None, "invalid_request"),
    ("4.4 no subject", {**A_2, "may_act": {"iss": ORIGINAL}}, ADMIN, (), None, "invalid_request"),
    ("4.4 no object", {**A_2, "may_act": "admin@example.net"}, ADMIN, (), None, "invalid_request"),
    ("4.1 an actor without a name", {**A_2, "act": {"act": CHAIN}}, ADMIN, (), None, "invalid_request"),
    ("4.1 an actor that is acting itself", A_2, {**ADMIN, "act": CHAIN}, (), None, "invalid_request"),
    ("a subject without a name", {**A_2, "sub": 7}, None, (), None, "invalid_request"),
    ("a scope that is a list", {**A_2, "scope": ["status"]}, None, (), None, "invalid_request"),
]


@pytest.mark.parametrize(
    ("subject", "actor", "audience", "scope", "expected"), [case[1:] for case in GRANTED], ids=[case[0] for case in GRANTED]
)
def test_an_example_of_the_standard_is_granted_with_its_claims(subject, actor, audience, scope, expected):
    found = narrowed(BOTH, subject, actor, Wanted(audience, scope), NOW)
    assert {name: found.get(name) for name in expected} == expected
    assert found["tenant"] == "acme"


@pytest.mark.parametrize(
    ("subject", "actor", "audience", "scope", "error"), [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED]
)
def test_what_goes_beyond_the_subjects_token_is_refused_in_the_standards_words(subject, actor, audience, scope, error):
    with pytest.raises(ExchangeRefused) as caught:
        narrowed(BOTH, subject, actor, Wanted(audience, scope), NOW)
    assert caught.value.error == error


@pytest.mark.parametrize(("held", "actor"), [(EXCHANGE, None), (IMPERSONATE, ADMIN)])
def test_either_right_alone_is_not_the_other_one(held, actor):
    with pytest.raises(ExchangeRefused) as caught:
        narrowed(Requester("acme", "key_1", frozenset({held})), A_2, actor, Wanted((), None), NOW)
    assert caught.value.error == "unauthorized_client"
