"""`netra sso`, over the database and over a server, with the same answers."""

from __future__ import annotations

import json

import pytest

from .driving import netra, run


def registration(name):
    places = {"token": [f"http://127.0.0.1/{name}/token"], "authorize": f"http://127.0.0.1/{name}/authorize"}
    return {"client_id": "netra", "issuer": f"http://127.0.0.1/{name}", "endpoints": places}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    data = tmp_path_factory.mktemp("served") / "data"
    with netra("serve", "--data", data, "--dev", "--port", "0", "--no-workers") as process:
        ready, before = process.until(event="ready")
        yield ("--server", ready["url"], "--key", before[0]["key"]), data


@pytest.fixture(params=["server", "database"])
def ask(request, served, capsys, tmp_path):
    """A command for a tenant of the test's own, over that way; and a file of JSON."""
    remote, data = served
    way = remote if request.param == "server" else ("--data", data)
    tenant = f"acme-{request.param}"
    assert run(capsys, "tenant", "create", tenant, *way).code == 0

    def asked(*words, file=None):
        words = [*words, "--file", tmp_path / "file.json"] if file is not None else words
        (tmp_path / "file.json").write_text(json.dumps(file))
        return run(capsys, *words, "--tenant", tenant, *way, "--json")

    return asked


def test_providers_are_set_shown_pinned_and_linked(ask):
    assert ask("sso", "status").error["code"] in {"no_provider", "refused"}
    for rank, name in enumerate(("first", "backup")):
        assert ask("oauth", "client", "set", name, file=registration(name)).code == 0
        made = ask("sso", "provider", "set", name, file={"client": name, "rank": rank, "default_role": "viewer"})
        assert (made.code, made.document["rank"], made.document["state"]) == (0, rank, "up")
    status = ask("sso", "status")
    assert (status.code, status.document["active"], len(status.document["providers"])) == (0, "first", 2)
    assert ask("sso", "pin", "backup").document["pinned"] == "backup"
    assert ask("sso", "pin").document["pinned"] is None
    linked = ask("sso", "link", "first", "--subject", "u1", "--backup", "backup", "--backup-subject", "b1")
    assert (linked.code, linked.document["subject"]) == (0, "u1")
    assert ask("sso", "pin", "nobody").code == 1
    assert ask("sso", "provider", "set", "first", file={"client": "first", "strange": 1}).code == 2


def test_operators_have_providers_of_the_installation(served, capsys, tmp_path):
    remote, data = served
    file = tmp_path / "file.json"
    file.write_text(json.dumps({"client": registration("own"), "roles": {"admin": ["sre"]}, "role_claim": "groups"}))
    for way in (remote, ("--data", data)):
        made = run(capsys, "sso", "provider", "set", "own", "--file", file, "--tenant", "*", *way, "--json")
        assert (made.code, made.document["client"], made.document["issuer"]) == (0, "own", "http://127.0.0.1/own")
        status = run(capsys, "sso", "status", "--tenant", "*", *way, "--json")
        assert (status.code, status.document["active"]) == (0, "own")
    assert run(capsys, "sso", "provider", "set", "own", "--file", file, "--tenant", "nobody", *remote, "--json").code == 1
