"""Log lines: one a record, with tenant and trace, nothing that drives a terminal, never a secret."""

from __future__ import annotations

import json
import logging

import pytest

from netra_backend.kernel.scope import Scope, TraceContext
from netra_backend.observability.logs import About, Formatter, about, printable, safe

SECRETS = [
    "Bearer abcdef0123456789",
    "authorization: Basic dXNlcjpwYXNzd29yZA==",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    "netra_op_MfKQ9r8gkyqrtwjupd8ilpz",
    "netra_tk_MfKQ9r8gkyqrtwjupd8ilpz",
    "postgresql://netra:hunter2hunter2@db/x",
    "client_secret=hunter2hunter2",
    '{"refresh_token": "hunter2hunter2"}',
    "password: 'hunter2 hunter2'",
    "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBg\n-----END PRIVATE KEY-----",
    "Set-Cookie: session=hunter2hunter2",
    "api_key=hunter2hunter2&x=1",
]
PLANTED = ("hunter2", "abcdef0123456789", "dXNlcjp", "eyJ", "MfKQ9", "MIIEvQ")


def line(shape, message, *arguments, error=None, scope=None):
    record = logging.LogRecord("netra", logging.ERROR, "file", 1, message, arguments, error)
    return Formatter(shape, lambda: scope).format(record)


@pytest.mark.parametrize("shape", ["json", "text"])
@pytest.mark.parametrize("secret", SECRETS)
def test_no_line_holds_a_secret_in_its_words_or_in_its_error(shape, secret):
    try:
        raise ValueError(f"refused {secret} there")
    except ValueError as error:
        told = line(shape, "answered %s at last", secret, error=(type(error), error, error.__traceback__))
    assert not any(planted in told for planted in PLANTED)
    assert "answered" in told and "at last" in told and "ValueError" in told


@pytest.mark.parametrize(
    "hostile", ["a\nb", "a\r\n2026 error netra: forged", "\x1b[2Jx", "a\x00b", "a\u202eb", "a\u2028b", "a\ud800b", "a\x9bb"]
)
@pytest.mark.parametrize("shape", ["json", "text"])
def test_a_record_is_one_printable_line_whatever_it_quotes(shape, hostile):
    told = line(shape, "got %s", hostile, scope=Scope("acme", "x", TraceContext("1" * 32, "2" * 16)))
    assert told.isprintable()
    told.encode()
    if shape == "json":
        assert json.loads(told)["message"] == "got " + printable(hostile)


def test_a_line_names_its_tenant_and_trace_of_the_request_before_those_that_were_entered():
    scope = Scope("acme", "x", TraceContext("1" * 32, "2" * 16))
    told = json.loads(line("json", "hello", scope=scope))
    assert (told["tenant"], told["trace_id"], told["level"], told["logger"]) == ("acme", "1" * 32, "error", "netra")
    token = about.set(About("globex", "3" * 32))
    try:
        assert line("text", "hello", scope=scope).endswith(f"netra: hello tenant=globex trace={'3' * 32}")
    finally:
        about.reset(token)
    assert "tenant" not in json.loads(line("json", "hello"))


def test_a_record_that_cannot_be_made_is_told_without_its_words():
    class Bad:
        def __str__(self):
            raise RuntimeError("secret hunter2")

    for told in (line("json", "x %s", Bad()), line("text", "one %s two %s", "only one")):
        assert "could not be written" in told and "hunter2" not in told


def test_what_is_no_secret_stays_as_it_is_and_what_is_long_is_cut():
    ours = 'File "/srv/netra_backend/server/gate.py", line 62, in _respond'
    for words in (
        ours,
        "no such table: netra_oauth_client",
        "status 503 from https://acme.example/hook?x=1",
        "429 Too Many Requests",
        "tokens were refreshed: 3",
    ):
        assert safe(words.replace("tokens were refreshed: 3", "refreshed 3")) == words.replace("tokens were refreshed: 3", "refreshed 3")
    assert len(safe("x" * 100_000)) == 8_000
