"""`netra oauth` over the database, against a provider that is a process of its own."""

from __future__ import annotations

import json
import urllib.request

import pytest
from joserfc.jwk import RSAKey

from .driving import Process, run


@pytest.fixture
def provider():
    process = Process("netra_backend.testing.provider", "--profile", "strict", "--port", "0")
    yield process.line()
    process.close()


@pytest.fixture
def netra(tmp_path, monkeypatch, capsys, provider):
    monkeypatch.setenv("NETRA_EGRESS_ALLOW", "127.0.0.0/8")
    monkeypatch.setenv("NETRA_EGRESS_PORTS", str(provider["port"]))
    data = tmp_path / "data"
    assert run(capsys, "tenant", "create", "acme", "--data", data).code == 0

    def ask(*words):
        return run(capsys, "oauth", *words, "--tenant", "acme", "--data", data, "--json")

    registration = {"client_id": "netra", "client_secrets": ["secret-a"], "issuer": provider["issuer"]}
    (tmp_path / "client.json").write_text(json.dumps(registration))
    (tmp_path / "tokens.json").write_text(json.dumps({**provider["tokens"], "expires_in": 0}))
    assert ask("client", "set", "idp", "--file", tmp_path / "client.json").code == 0
    return ask


def test_tokens_are_imported_shown_renewed_and_revoked(netra, tmp_path, provider):
    made = netra("import", "idp", "--file", tmp_path / "tokens.json", "--name", "user")
    assert (made.code, made.document["state"], made.document["generation"]) == (0, "active", 1)
    token = netra("token", "user")
    assert (token.code, token.document["generation"]) == (0, 2)
    assert netra("refresh", "user").document["generation"] == 3
    assert [each["name"] for each in netra("list").document["connections"]] == ["user"]
    assert [each["name"] for each in netra("client", "list").document["clients"]] == ["idp"]
    assert netra("revoke", "user").document["state"] == "revoked"
    refused = netra("token", "user")
    assert (refused.code, refused.error["code"]) == (1, "connection_revoked")
    with urllib.request.urlopen(provider["url"] + "/stats") as stats:
        assert json.load(stats)["superseded"] == []


def test_what_is_no_file_or_no_object_is_a_wrong_call(netra, tmp_path):
    assert netra("import", "idp", "--file", tmp_path / "absent").code == 2
    (tmp_path / "list.json").write_text("[]")
    assert netra("import", "idp", "--file", tmp_path / "list.json").code == 2
    assert netra("token", "nobody").code == 1


def test_known_providers_are_listed_with_their_sources(capsys):
    listed = run(capsys, "oauth", "providers", "--json")
    assert listed.code == 0
    found = {each["provider"]: each for each in listed.document["providers"]}
    assert (found["xero"]["replay_window_s"], found["google"]["rotation"]) == (1800, "never")
    assert all(each["source"].startswith("https://") for each in found.values())


def test_a_client_connects_by_its_own_right_and_a_device_by_a_code(netra):
    own = netra("connect", "idp", "--name", "service", "--by", "client-credentials")
    assert (own.code, own.document["kind"], own.document["state"]) == (0, "client_credentials", "active")
    shown = netra("connect", "idp", "--name", "tv", "--by", "device", "--wait", "0")
    assert (shown.code, shown.document["user_code"]) == (0, "CODE-1")
    assert netra("connect", "idp", "--name", "new", "--by", "link").code == 2  # nobody listens who could open it


def test_a_client_connects_by_what_it_signs(netra, tmp_path, provider):
    key = RSAKey.generate_key(2048)
    trusted = json.dumps({"trusted": {"service": {"keys": [key.as_dict(private=False)]}}}).encode()
    urllib.request.urlopen(provider["url"] + "/control", trusted).close()
    signs = {"key": key.as_pem(private=True).decode(), "issuer": "service"}
    (tmp_path / "signs.json").write_text(json.dumps({"client_id": "netra", "issuer": provider["issuer"], "assertion": signs}))
    shown = netra("client", "set", "signer", "--file", tmp_path / "signs.json")
    assert (shown.code, "PRIVATE" in json.dumps(shown.document)) == (0, False)
    own = netra("connect", "signer", "--name", "service", "--by", "jwt-bearer")
    assert (own.code, own.document["kind"], own.document["state"]) == (0, "jwt_bearer", "active")
    assert netra("token", "service").document["generation"] == 2
    refused = netra("connect", "idp", "--name", "other", "--by", "jwt-bearer")
    assert (refused.code, "assertion" in refused.error["fix"]) == (2, True)


def test_an_api_key_is_kept_and_printed_when_it_is_asked_for(netra, tmp_path):
    (tmp_path / "kind.json").write_text('{"kind": "api_key"}')
    (tmp_path / "key.json").write_text('{"api_key": "planted-key"}')
    assert netra("client", "set", "mailer", "--file", tmp_path / "kind.json").code == 0
    assert netra("import", "mailer", "--file", tmp_path / "key.json", "--name", "mail").document["kind"] == "api_key"
    assert netra("token", "mail").document["access_token"] == "planted-key"


def test_a_user_comes_back_to_the_command_that_waits_for_him(netra, tmp_path, provider):
    command = ["oauth", "connect", "idp", "--name", "walks", "--tenant", "acme", "--data", str(tmp_path / "data"), "--json"]
    allowed = {"NETRA_EGRESS_ALLOW": "127.0.0.0/8", "NETRA_EGRESS_PORTS": str(provider["port"])}
    waiting = Process("netra_backend.cli.main", *command, **allowed)
    try:
        begun = waiting.line()
        with urllib.request.urlopen(begun["authorize_url"]) as page:  # the provider sends the browser on to the command
            assert page.read() == b"Connected. You can close this page."
        assert (waiting.line()["state"], waiting.child.wait(30)) == ("active", 0)
    finally:
        waiting.close()
    assert netra("token", "walks").code == 0


def test_nobody_who_comes_back_is_told_so_and_what_to_do(netra):
    waited = netra("connect", "idp", "--name", "late", "--wait", "0.1")
    assert waited.code == 1
    assert "nobody came back" in waited.err
    refused = netra("connect", "idp", "--name", "late", "--wait", "0")
    assert (refused.code, "--server" in refused.error["fix"]) == (2, True)
    assert "connect" in netra("token", "late").error["fix"]
