"""D4: planted secrets in more than 200 forms, none of which comes through; and ordinary values that do."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from netra_backend.observability.debug.held import Held
from netra_backend.observability.debug.redaction import LONGEST_TEXT, MASK, UNJUDGED, Redactor

JWT = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg"
PEM = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7\n-----END PRIVATE KEY-----"
SHAPED = {
    "jwt": JWT,
    "pem": PEM,
    "pem without its end": PEM.partition("-----END")[0],
    "whsec": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "whsk": "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc7",
    "operator key": "netra_op_7f3kq9z2m4n8v6x1c5b0d9g7h2j4k6l8aaaa11",
    "stripe": "sk_" + "live_51H8xJ2eZvKYlo2Ch4q9zT7u",
    "github": "ghp_" + "16C7e42F292c6912E7710c838347Ae178B4a",
    "github fine": "github_pat_" + "11ABCDEFG0abcdefghij_klmnopqrstuvwxyz0123456789ABCD",
    "gitlab": "glpat-" + "Zx81kQ93hfBBy7Tq2wPd",
    "slack": "xoxb-" + "2938471029-3847561029384-AbCdEfGhIjKlMnOpQrStUvWx",
    "aws id": "AKIA" + "IOSFODNN7EXAMPLE",
    "aws key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "google": "AIza" + "SyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "google access": "ya29." + "a0AfH6SMBx8k3jNn4VqZtYw",
    "sendgrid": "SG." + "ngeVfQFYQlKU0ufo8x5d1A.TwL2iGABf9DHoTf09kqeF8tAmbihYzrnopKc1s5cr4",
    "hex of 32 bytes": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "hex of 16 bytes": "5f4dcc3b5aa765d61d8327deb882cf99",
    "base64 of 24 bytes": "q83vEjRWeJCrze8SNFZ4kKvN7xI0VniQ",
    "base64 with slashes": "aB3/dE5/gH7/jK9/mN1/pQ2/sT4/vW6=",
    "base64url": "Zm9vYmFy-MTIzNDU2_Nzg5MGFiY2RlZg",
    "base32": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP",
    "session id": "s3ss10n4u7h8k2m9q5w1z6x0c",
    "card": "4111 1111 1111 1111",
    "card in one": "5500005555555559",
}
CARRIERS = {
    "alone": lambda s: s,
    "in words": lambda s: f"request failed for {s} after 3 tries",
    "in quotes": lambda s: f"value='{s}'",
    "in brackets": lambda s: f"got ({s}), wanted another",
    "in a path": lambda s: {"url": f"https://api.example.com/v1/{s}/x"},
    "in a query": lambda s: {"url": f"https://api.example.com/v1?x={s}&y=1"},
    "in JSON text": lambda s: json.dumps({"id": 42, "value": s}),
    "in JSON in JSON": lambda s: json.dumps({"body": json.dumps({"v": s})}),
    "in a list": lambda s: ["a", [s]],
    "under a harmless name": lambda s: {"note": {"deep": s}},
    "as a name": lambda s: {s: 1},
    "as bytes": lambda s: s.encode(),
}
NAMES = [
    "password", "Passwd", "PASSPHRASE", "client_secret", "clientSecret", "X-Api-Key", "api_key", "accessToken", "refresh_token", "Authorization",
    "Proxy-Authorization", "Cookie", "Set-Cookie", "private_key", "aws_secret_access_key", "sessionid", "session_token", "csrf_token", "pin",
    "otp", "cvv", "iban", "ssn", "signing_key", "webhook-signature", "db_password", "user[password]", "oauth_verifier_token", "code_verifier", "dsn",
]  # fmt: skip
BY_NAME = {
    "member": lambda n, s: {n: s},
    "header": lambda n, s: f"{n}: {s}\r\nAccept: */*",
    "form": lambda n, s: f"user=alice&{n}={s}&x=1",
    "json": lambda n, s: json.dumps({"user": "alice", n: s, "x": 1}),
    "escaped json": lambda n, s: json.dumps(json.dumps({n: s})),
    "assignment": lambda n, s: f"{n} = '{s}'",
    "xml": lambda n, s: f"<user>alice</user><{n}>{s}</{n}>",
}
PLAIN_SECRET = "hunter2"
OTHERS = {
    "bearer": "Authorization header was Bearer hunter2",
    "basic": "sent Basic YWxpY2U6aHVudGVyMg== to it",
    "url": "postgresql://app:hunter2@db.internal:5432/shop",
    "url user": "https://hunter2@example.com/x",
    "multipart": '--b\r\nContent-Disposition: form-data; name="password"\r\n\r\nhunter2\r\n--b--',
    "spoken": "the password is hunter2",
    "two words": "API key: hunter2",
    "escaped url": "redirect=/x%3Fpassword%3Dhunter2",
    "number": {"pin": 1234567, "password": 7654321},
    "nested under a name": {"credentials": {"user": "alice", "word": "hunter2"}},
    "list under a name": {"passwords": ["hunter2", "hunter2"]},
}
FORMS = [
    *((f"{secret} {carrier}", SHAPED[secret], CARRIERS[carrier](SHAPED[secret])) for secret in SHAPED for carrier in CARRIERS),
    *(
        (f"{name} as {carrier}", PLAIN_SECRET, BY_NAME[carrier](name, PLAIN_SECRET))
        for name in NAMES
        for carrier in BY_NAME
        if not (carrier == "xml" and "[" in name)
    ),
    *((name, PLAIN_SECRET, form) for name, form in OTHERS.items()),
]


@pytest.fixture
def redactor():
    return Redactor(Held(b"salt").__contains__)


def pieces(secret):
    """What of a secret must not be read: it, its lines, and any stretch of it that is long enough to help."""
    found = {secret, json.dumps(secret)[1:-1], quote(secret, safe="")}
    for line in secret.splitlines():
        found |= {line[at : at + 12] for at in range(0, len(line) - 11, 4)} if "BEGIN" not in line and "END" not in line else set()
    return {piece for piece in found if piece}


def test_there_are_more_than_two_hundred_forms():
    assert len(FORMS) > 200
    assert len({form[0] for form in FORMS}) == len(FORMS)


@pytest.mark.parametrize(
    "form",
    [
        [("password", "hunter2")],
        {"headers": [(b"x-api-key", b"hunter2"), (b"accept", b"*/*")]},
        {"headers": [["Cookie", "hunter2"]]},
        ["serve", "--token", "hunter2", "--port", "80"],
        ("client_secret", {"value": "hunter2"}),
        {"name": "DB_PASSWORD", "value": "hunter2"},
        {"Key": "api_key", "Value": b"hunter2"},
        [{"header": "authorization", "values": ["hunter2"]}],
        '{"name": "password", "value": "hunter2"}',
        "{'name': 'password', 'value': 'hunter2'}",
        "form: 'name'='password'; 'value'='hunter2'",
        '{"credentials": {"user": {"id": 7}, "word": "hunter2"}}',
        '{"passwords": ["short", "hunter2"]}',
        '["--token", "hunter2"]',
        "{'passwords': ['short', 'hunter2']}",
        "passwords=('short', 'hunter2')",
        '{"outer": "{\\"credentials\\": {\\"a\\": {}, \\"b\\": \\"hunter2\\"}}"}',
    ],
)
def test_what_a_telling_name_is_followed_by_never_comes_through(redactor, form):
    shown = json.dumps(redactor.value(form))
    assert "hunter2" not in shown
    assert MASK in shown


def test_what_follows_other_names_is_shown(redactor):
    for form in (
        ["--port", "80"],
        [["accept", "text/html"]],
        {"name": "colour", "value": "red"},
        ["token", None, True],
        {"id": 7, "value": 8},
    ):
        assert redactor.value(form) == form


def test_a_planted_secret_never_comes_through_in_any_form(redactor):
    leaked = []
    for name, secret, form in FORMS:
        text = json.dumps(redactor.value(form, "form"), ensure_ascii=False)
        leaked += [(name, piece, text) for piece in pieces(secret) if piece in text]
        assert MASK in text, (name, text)
    assert leaked == []


def test_what_netra_holds_itself_is_known_in_its_usual_forms():
    held = Held(b"salt")
    secret = "plainwordsecretvalue"  # nothing about it looks like a secret
    held.add(secret.encode())
    held.add(json.dumps(["first in a list", {"refresh_token": "anothersecretword"}]).encode())
    redactor = Redactor(held.__contains__)
    forms = [
        secret,
        secret.encode().hex(),
        base64.b64encode(secret.encode()).decode(),
        f"a={secret}",
        f"/x/{secret}/y",
        "anothersecretword",
    ]
    for form in forms:
        assert redactor.text(f"got {form} here") in {f"got {MASK} here", f"got a={MASK} here"}, form
    assert redactor.text("got plainwordsecret here") == "got plainwordsecret here"


def test_a_cut_leaves_no_half_secret(redactor):
    for lead in range(LONGEST_TEXT - len(JWT) - 2, LONGEST_TEXT + 2, 7):
        text = redactor.text("word " * (lead // 5) + JWT + " tail" * 100)
        assert JWT[:16] not in text


ORDINARY = [
    "order 42 of ACME-2024-0001 failed: connection refused",
    "/api/v1/tenants/acme/batch/runs/run_01hzxw8m4k7q2v5n9r3t6y1b0c",
    "paid_invoice_delivered after 1.25 s",
    "2026-11-29T15:45:06.123456Z",
    "550e8400-e29b-41d4-a716-446655440000",
    "shop.orders:Order.total line 17",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "application/x-www-form-urlencoded",
    "http://127.0.0.1:8071/hook",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "Grüße aus Köln 🛫",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_text_stays_readable(redactor, text):
    assert redactor.text(text) == text


def test_whatever_cannot_be_judged_is_left_out(redactor, monkeypatch):
    monkeypatch.setattr("netra_backend.observability.debug.redaction._by_shape", lambda text: 1 / 0)
    assert redactor.value({"a": "some ordinary text"}) == {UNJUDGED: UNJUDGED} or redactor.value("some ordinary text") == UNJUDGED


def test_hostile_text_takes_a_bounded_time(redactor):
    """16 KiB of what patterns are slow at; each must be done within what a request may lose."""
    import time

    for text in (
        "a" * 16000,
        '"' * 16000,
        "password " * 1700,
        "<password " * 1600,
        "name=" * 3000,
        "Bearer " * 2000,
        "://" * 5000,
        "-----BEGIN " * 1400,
    ):
        began = time.process_time()
        redactor.text(text)
        assert time.process_time() - began < 0.5, text[:12]
