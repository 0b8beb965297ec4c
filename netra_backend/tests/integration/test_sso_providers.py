"""Failover between two certified authorization servers of npm: who gets in where, and what neither of them ever sees of the other."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, closing

import pytest

from netra_backend.oauth.sso.errors import LoginRefused

from ..support.oidc import BACK, OidcProvider, fingerprint
from ..support.sign_on import TENANT, add_provider, looked_until, signing_on, state_of
from ..support.storage import with_its_server
from ..support.vaults import audited

CODE = "authorization_code"


@pytest.fixture
def engine(request):
    """Named by each test: `test_sso_failover.py` runs every step on every engine, without processes of Node's."""
    return with_its_server(request)


@pytest.fixture(scope="module")
def servers():
    with ExitStack() as stack:
        yield [stack.enter_context(closing(OidcProvider().start())) for _ in range(2)]


@pytest.fixture
def first(servers):
    return healed(servers[0])


@pytest.fixture
def backup(servers):
    return healed(servers[1])


def healed(server):
    """As if nothing had been done to it."""
    server.suffer("none")
    server.become("user")
    return server


@pytest.fixture
async def netra(request, prepared, first, backup):
    """A tenant with both; `user` of the first one is `b-1` at the backup. Time enough for a server on a busy machine."""
    timeout = "800ms" if request.node.callspec.params.get("outage") == "held" else "3s"
    async with signing_on(prepared, oauth_http_timeout=timeout, oauth_lease_ttl="9s") as netra:
        await add_provider(netra, "first", first)
        await add_provider(netra, "backup", backup, rank=1)
        await netra.sso.link(TENANT, "first", "user", "backup", "b-1")
        yield netra


class Way:
    """One login: begun at whichever provider logins go to, consented there, and finished."""

    def __init__(self, netra, server):
        self.netra, self.server = netra, server

    async def begin(self):
        address, self.cookie = await self.netra.sso.logins.begin(TENANT, BACK, "/ui/overview")
        assert address.startswith(self.server.url), address
        self.answer = await asyncio.to_thread(self.server.consent, {"authorize_url": address})
        return self

    async def finish(self, **changes):
        _, session, _ = await self.netra.sso.logins.finish({**self.answer, **changes}, self.cookie)
        return session


async def logged_in(netra, server):
    way = await Way(netra, server).begin()
    return await way.finish()


async def refused(way, **changes):
    with pytest.raises(LoginRefused) as caught:
        await way.finish(**changes)
    return caught.value.reason


@pytest.mark.parametrize(("engine", "outage"), [("apsw", "error"), ("postgres", "cut"), ("apsw", "held")], indirect=["engine"])
async def test_logins_go_to_the_backup_while_the_first_provider_fails_and_come_back(netra, first, backup, outage):
    assert (await looked_until(netra, active="first"))["flips"] == 0
    known = await logged_in(netra, first)
    assert (known.subject, known.issuer, known.backup) == ("user", first.url, False)
    in_flight = await Way(netra, first).begin()
    seen = len(backup.came(CODE))
    first.suffer(outage)
    assert state_of(await looked_until(netra, active="backup"), "first") == "down"
    assert await refused(in_flight) == "outcome_unknown"  # its code was the first one's, and nobody else is asked
    assert len(backup.came(CODE)) == seen

    backup.become("b-1")
    stood_in = await logged_in(netra, backup)
    assert (stood_in.subject, stood_in.issuer, stood_in.backup) == ("b-1", backup.url, True)
    assert stood_in.identity == known.identity
    assert stood_in.expires_us < known.expires_us
    backup.become("user")  # the subject of somebody else there
    assert await refused(await Way(netra, backup).begin()) == "unknown_subject"

    backup.become("b-1")
    begun_there = await Way(netra, backup).begin()
    first.suffer("none")
    assert (await looked_until(netra, active="first", returning=None))["flips"] == 2
    assert (await begun_there.finish()).issuer == backup.url  # where it was begun
    assert (await logged_in(netra, first)).identity == known.identity
    assert set(first.came(CODE)).isdisjoint(backup.came(CODE))
    assert fingerprint(in_flight.answer["code"]) not in backup.came(CODE)


@pytest.mark.parametrize("engine", ["postgres"], indirect=True)
async def test_a_provider_that_flaps_is_left_once_at_most_and_not_gone_back_to(netra, first):
    await looked_until(netra, active="first")
    for _ in range(4):  # no three failures in a row: it is left alone
        for outage in ("error", "none"):
            first.suffer(outage)
            await netra.sso.watch.look_at(TENANT, first.url)
    assert ((await netra.sso.status(TENANT))["active"], (await netra.sso.status(TENANT))["flips"]) == ("first", 0)
    first.suffer("error")
    await looked_until(netra, active="backup")
    for _ in range(4):  # no five answers in a row: it is not gone back to
        for outage in ("none", "none", "error"):
            first.suffer(outage)
            await netra.sso.watch.look_at(TENANT, first.url)
    status = await netra.sso.status(TENANT)
    assert (status["active"], status["returning"], status["flips"]) == ("backup", None, 1)
    first.suffer("none")
    await looked_until(netra, active="first", returning=None)
    assert [each for each in await audited(netra) if each.startswith("sso.")].count("sso.flip") == 4  # away, and three steps back


@pytest.mark.parametrize("engine", ["apsw"], indirect=True)
async def test_an_attackers_failing_logins_bring_no_failover_about(netra, first):
    await looked_until(netra, active="first")
    way = await Way(netra, first).begin()
    attacks = [
        *({"code": f"stolen-{number}"} for number in range(6)),
        {"iss": "https://evil.example"},
        {"error": "server_error"},
        {"code": ""},
    ]
    for changes in attacks:
        bad = await Way(netra, first).begin()
        assert await refused(bad, **changes) in {"invalid_grant", "wrong_issuer", "server_error", "no_code"}
        assert await refused(bad) == "unknown_state"
    status = await netra.sso.status(TENANT)
    assert (status["active"], state_of(status, "first")) == ("first", "up")  # not until the next probe either
    status = await looked_until(netra, active="first")
    assert (state_of(status, "first"), status["flips"], status["held"]) == ("up", 0, False)
    assert (await way.finish()).subject == "user"
