"""The vault's processes are killed and paused, and asked by thousands, beside the certified authorization server of npm."""

from __future__ import annotations

from contextlib import closing

import pytest

from ..support.oidc import OidcProvider
from ..support.places import place_of
from ..support.vault_world import TENANT, VaultWorld
from ..support.zygote import until

FAILPOINTS = ["oauth.leased_before_commit", "oauth.intent_before_send", "oauth.spooled_before_commit", "oauth.granted_before_commit"]
CALLERS = 1000


@pytest.fixture(params=["sqlite", "postgres"])
def place(request):
    return place_of(request.param, request)


@pytest.fixture(scope="module")
def provider():
    with closing(OidcProvider().start()) as provider:
        yield provider


def refreshed(provider, before):
    return len(provider.refreshes()) - before


def test_a_thousand_callers_in_each_of_four_processes_make_one_request(zygote, tmp_path, place, provider):
    with closing(VaultWorld(zygote, tmp_path, place, lease_ttl="10s", oauth_lease_ttl="30s", oauth_http_timeout="10s")) as world:
        world.connect(provider, "user")
        before = len(provider.refreshes())
        processes = [world.start() for _ in range(4)]
        for process in processes:
            process.ask("status", tenant=TENANT, name="user")
        provider.fail("slow")
        asked = [(process, process.tell("tokens", tenant=TENANT, name="user", callers=CALLERS)) for process in processes]
        answers = [process.answer(number, 60) for process, number in asked]
        assert all(answer == answers[0] and len(answer) == 1 for answer in answers), answers
        assert refreshed(provider, before) == 1
        assert provider.is_active(answers[0][0][0])


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_process_killed_at_a_failpoint_loses_no_grant(zygote, tmp_path, place, provider, failpoint):
    with closing(VaultWorld(zygote, tmp_path, place, oauth_http_timeout="5s", oauth_lease_ttl="15s")) as world:
        world.connect(provider, "user")
        before = len(provider.refreshes())
        victim = world.start(f"{failpoint}=kill")
        victim.tell("token", tenant=TENANT, name="user")
        world.died(victim)
        survivor = world.start()
        token = until(lambda: (found := survivor.ask("token", tenant=TENANT, name="user")).get("access_token") and found, "a token")
        assert (token["generation"], token["stale"]) == (2, False)
        assert refreshed(provider, before) == 1
        assert survivor.ask("refresh", tenant=TENANT, name="user")["generation"] == 3
        assert provider.superseded() == []


def test_a_process_that_stood_still_past_its_lease_sends_nothing_any_more(zygote, tmp_path, place, provider):
    with closing(VaultWorld(zygote, tmp_path, place)) as world:
        world.connect(provider, "user")
        before = len(provider.refreshes())
        sleeper = world.start("oauth.intent_before_send=pause")
        asked = sleeper.tell("token", tenant=TENANT, name="user")
        sleeper.frozen()
        other = world.start()
        assert other.ask("token", tenant=TENANT, name="user")["generation"] == 2
        sleeper.thaw()
        assert sleeper.answer(asked)["generation"] == 2
        assert refreshed(provider, before) == 1
