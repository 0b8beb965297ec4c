"""The first set-up on PostgreSQL, on a server that has never seen Netra: roles, schema, the URL, and who may not serve."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from urllib.parse import urlsplit

import asyncpg
import pytest

from ....storage.postgres_schema import with_user
from ...support.postgres_server import OwnServer
from .driving import finished, netra, run


@pytest.fixture(scope="module")
def bare():
    """A server without Netra's roles: its superuser's URL and an owner's."""
    server = OwnServer()
    yield SimpleNamespace(server=server, superuser=server.url, owner=asyncio.run(server.owned_database()))
    server.close()


@pytest.fixture(scope="module")
def set_up(bare, tmp_path_factory):
    """The commands of a first set-up, each with only the owner's URL known, what they answered, and the installation's folder."""
    settings = {"NETRA_MIGRATE_URL": bare.owner}
    return SimpleNamespace(
        refused=finished("migrate", "--json", **settings),
        first=finished("migrate", "--create-roles", "--json", **settings),
        second=finished("migrate", "--create-roles", **settings),
        data=tmp_path_factory.mktemp("set_up") / "data",
    )


async def _ask(url, sql):
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def password_of(url):
    return urlsplit(url).password


def test_without_roles_migrate_refuses_and_names_the_command_that_makes_them(bare, set_up):
    refused = set_up.refused
    assert (refused.code, refused.out, refused.error["code"]) == (4, "", "roles_missing")
    assert "netra migrate --create-roles" in refused.error["fix"]
    assert password_of(bare.owner) not in refused.err


def test_print_shows_roles_and_tables_and_asks_no_server(capsys, monkeypatch):
    monkeypatch.setenv("NETRA_MIGRATE_URL", "postgresql://owner@db.invalid/netra")
    printed = run(capsys, "migrate", "--print")
    assert printed.code == 0
    assert "create role netra_run login noinherit" in printed.out
    assert "create table netra_delivery" in printed.out


def test_the_roles_are_made_once_and_their_url_is_printed_once(bare, set_up):
    first, second = set_up.first, set_up.second
    assert (first.code, second.code) == (0, 0)
    made = urlsplit(first.document["url"])
    assert (made.username, made.hostname, made.port, made.path) == ("netra_run", "127.0.0.1", bare.server.port, "/netra")
    assert first.document["applied"][0] == "0001_substrate"
    assert "keeps its password" in second.out
    assert made.password not in second.out + second.err
    assert password_of(bare.owner) not in first.out + first.err + second.out + second.err


def test_migrate_is_idempotent(bare, set_up, capsys, monkeypatch):
    monkeypatch.setenv("NETRA_MIGRATE_URL", bare.owner)
    again = run(capsys, "migrate", "--json")
    assert (again.code, again.document["applied"]) == (0, [])
    assert ":****@" in again.document["database"]


def test_the_printed_url_serves(set_up, capsys):
    settings = {"NETRA_DATABASE_URL": set_up.first.document["url"], "NETRA_DATA": str(set_up.data)}
    with netra("serve", "--port", "0", **settings) as server:
        ready, before = server.until(event="ready")
        assert ready["engine"] == "postgresql"
        made = run(capsys, "tenant", "create", "acme", "--server", ready["url"], "--key", before[0]["key"], "--json")
        assert made.document["uid"] == "acme"
        assert server.ends() == 0
    assert not (set_up.data / "netra.db").exists()


@pytest.mark.parametrize("who", ["owner", "superuser"])
def test_a_role_that_policies_do_not_bind_may_not_serve(who, bare, set_up, tmp_path):
    url = bare.owner if who == "owner" else bare.superuser.removesuffix("/postgres") + "/netra"
    done = finished("serve", "--data", tmp_path / "data", "--port", "0", NETRA_DATABASE_URL=url)
    assert (done.code, done.out, done.error["code"]) == (4, "", "privileged_role")
    assert "netra migrate --create-roles" in done.error["fix"]
    assert password_of(url) not in done.err


def test_a_role_without_rights_is_told_which_one_to_use(bare, set_up, tmp_path, capsys):
    asyncio.run(_ask(bare.superuser, "create role stranger login password 'stranger-1'"))
    done = run(capsys, "tenant", "list", "--data", tmp_path / "data", "--database-url", with_user(bare.owner, "stranger", "stranger-1"))
    assert (done.code, done.error["code"]) == (4, "wrong_role")
    assert "netra_run" in done.error["fix"]


def test_who_may_not_make_tables_is_told_to_be_the_owner(set_up, capsys, monkeypatch):
    url = set_up.first.document["url"]
    monkeypatch.setenv("NETRA_MIGRATE_URL", url.removesuffix("/netra") + "/postgres")
    done = run(capsys, "migrate", "--create-roles", "--json")
    assert (done.code, done.error["code"]) == (4, "not_the_owner")
    assert "NETRA_MIGRATE_URL" in done.error["fix"]
    assert password_of(url) not in done.err


def test_the_file_that_a_call_names_is_migrated_whatever_the_environment_says(bare, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("NETRA_MIGRATE_URL", bare.owner)
    done = run(capsys, "migrate", "--json", "--data", tmp_path / "data", "--database-url", f"sqlite:///{tmp_path / 'own.db'}")
    assert (done.code, done.document["database"]) == (0, str(tmp_path / "own.db"))


def test_the_url_for_netras_role_carries_nothing_of_the_owners_login():
    given = "postgresql://owner:secret-1@db:5432/netra?sslmode=require&user=owner&password=secret-2&sslrootcert=/etc/ca.pem"
    assert with_user(given, "netra_run", "p") == "postgresql://netra_run:p@db:5432/netra?sslmode=require&sslrootcert=/etc/ca.pem"
    assert with_user("postgresql:///netra?host=/run/postgresql", "netra_run", "p") == "postgresql://netra_run:p@/netra?host=/run/postgresql"


def test_a_server_that_ends_is_waited_for_and_its_password_reaches_no_log(bare, set_up, capsys):
    url = set_up.first.document["url"]
    settings = {"NETRA_DATABASE_URL": url, "NETRA_DATA": str(set_up.data), "NETRA_OPERATOR_KEY": "k" * 40, "NETRA_LEASE_TTL": "1s"}
    with netra("serve", "--port", "0", **settings) as server:
        ready, _ = server.until(event="ready")
        ask = ("--server", ready["url"], "--key", "k" * 40, "--json")
        bare.server.stop("immediate")
        try:
            refused = run(capsys, "tenant", "create", "during", *ask)
            direct = run(capsys, "tenant", "list", "--data", set_up.data, "--database-url", url, "--json")
        finally:
            bare.server.start()
        assert (refused.code, direct.code, direct.error["code"]) == (4, 4, "database_unreachable")
        _until_served(capsys, "tenant", "create", "afterwards", *ask)
        errors = server.errors()
        assert server.ends() == 0
    assert "does not answer" in errors or "was not answered" in errors  # whoever met it first says so, once
    assert password_of(url) not in errors + refused.err + direct.err + json.dumps(refused.error)


def _until_served(capsys, *words):
    """The server takes work again by itself; until then it says 503."""
    for _ in range(200):
        if run(capsys, *words).code == 0:
            return
    raise AssertionError("it does not come back")
