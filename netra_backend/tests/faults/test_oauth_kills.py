"""Whatever process is killed or stopped at whatever moment of a refresh, no grant is lost and no superseded token is sent."""

from __future__ import annotations

import itertools
import os
import random
from contextlib import closing, suppress

import pytest

from ..support.places import Shared
from ..support.vault_world import TENANT, TTL_S, VaultWorld
from ..support.zygote import Died, until
from .test_kills import FAILPOINTS

OF_THE_VAULT = [name for name in FAILPOINTS if name.startswith("oauth.") and not name.startswith("oauth.code_")]
OF_CODES = ["oauth.code_consumed_before_commit", "oauth.code_before_send", "oauth.spooled_before_commit"]
AFTER_A_FAULT = {
    "oauth.answered_before_noted": "503",
    "oauth.given_up_before_commit": "429@1",
    "oauth.decided_before_commit": "503",
}
"""What the provider must do for a failpoint to be reached."""

KILLS = int(os.environ.get("NETRA_KILLS", "5"))
SEED = int(os.environ.get("NETRA_KILL_SEED", "1"))


def place_of(engine, request):
    if engine == "sqlite":
        return None
    server = request.getfixturevalue("postgres_server")
    return Shared(server, server.create_database())


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, zygote, tmp_path):
    with closing(VaultWorld(zygote, tmp_path, place_of(request.param, request))) as world:
        yield world


def renewed(child, name, generations):
    """Refresh once more: a grant that was lost would be refused now."""
    token = child.ask("refresh", tenant=TENANT, name=name)
    assert token.get("generation") in generations, token
    assert not token["stale"]


@pytest.mark.parametrize("profile", ["strict", "forking-grace"])
@pytest.mark.parametrize("failpoint", OF_THE_VAULT)
def test_a_process_killed_at_a_failpoint_loses_no_grant(world, failpoint, profile):
    provider = world.provider(profile, AFTER_A_FAULT.get(failpoint, "none"))
    world.connect(provider, "user")
    victim = world.start(f"{failpoint}=kill")
    victim.tell("token", tenant=TENANT, name="user")
    world.died(victim)
    provider.ask("control", fault="none")
    survivor = world.start()
    token = until(lambda: (found := survivor.ask("token", tenant=TENANT, name="user")).get("access_token") and found, "a token")
    assert (token["generation"], token["stale"]) == (2, False)
    renewed(survivor, "user", {3})
    stats = provider.ask("stats")
    assert stats["superseded"] == []
    assert stats["most_in_flight"] == 1


def test_a_successor_that_was_read_is_committed_by_the_next_start(world):
    provider = world.provider("strict")
    world.connect(provider, "user")
    victim = world.start("oauth.spooled_before_commit=kill")
    victim.tell("token", tenant=TENANT, name="user")
    world.died(victim)
    survivor = world.start()
    assert survivor.ask("status", tenant=TENANT, name="user")["generation"] == 2
    assert len(provider.ask("stats")["requests"]) == 1
    renewed(survivor, "user", {3})


@pytest.mark.parametrize("profile", ["strict", "idempotent-grace", "forking-grace", "previous-only", "no-rotation"])
def test_a_process_that_stood_still_after_its_answer_loses_and_overwrites_nothing(world, profile):
    """O7: its answer is in the spool, another has gone on from there when it wakes."""
    provider = world.provider(profile)
    world.connect(provider, "user")
    sleeper = world.start("oauth.spooled_before_commit=pause")
    asked = sleeper.tell("token", tenant=TENANT, name="user")
    sleeper.frozen()
    other = world.start()
    assert other.ask("token", tenant=TENANT, name="user")["generation"] == 2
    newest = other.ask("refresh", tenant=TENANT, name="user")
    assert newest["generation"] == 3
    sleeper.thaw()
    late = sleeper.answer(asked)
    assert (late["generation"], late["access_token"]) == (3, newest["access_token"])
    assert other.ask("status", tenant=TENANT, name="user")["generation"] == 3
    renewed(other, "user", {4})
    assert provider.ask("stats")["superseded"] == []


def test_a_process_that_stood_still_before_sending_sends_nothing_any_more(world):
    """O3: its lease is another's by now, and its token is superseded."""
    provider = world.provider("strict")
    world.connect(provider, "user")
    sleeper = world.start("oauth.intent_before_send=pause")
    asked = sleeper.tell("token", tenant=TENANT, name="user")
    sleeper.frozen()
    other = world.start()
    assert other.ask("token", tenant=TENANT, name="user")["generation"] == 2
    sleeper.thaw()
    assert sleeper.answer(asked)["generation"] == 2
    stats = provider.ask("stats")
    assert (len(stats["requests"]), stats["superseded"]) == (1, [])


def test_a_lease_is_not_taken_before_its_time_from_a_process_that_lives(world):
    provider = world.provider("strict", "delay:0.4@1")
    world.connect(provider, "user")
    first, second = world.start(), world.start()
    asked = first.tell("token", tenant=TENANT, name="user")
    until(lambda: provider.ask("stats")["requests"], "the request has arrived")
    assert second.ask("token", tenant=TENANT, name="user")["generation"] == 2
    assert first.answer(asked)["generation"] == 2
    stats = provider.ask("stats")
    assert (len(stats["requests"]), stats["most_in_flight"]) == (1, 1)
    assert TTL_S / 3 > 0.4  # the request fits into the lease


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_a_thousand_callers_in_each_of_four_processes_make_one_request(zygote, tmp_path, engine, request):
    """With the leases of an installation, not of a test: 4,000 callers keep two cores busy for longer than a second."""
    with closing(VaultWorld(zygote, tmp_path, place_of(engine, request), lease_ttl="10s", oauth_lease_ttl="30s")) as world:
        ask_from_everywhere(world)


def ask_from_everywhere(world):
    provider = world.provider("strict", "delay:0.2@1")
    world.connect(provider, "user")
    processes = [world.start() for _ in range(4)]
    for process in processes:
        process.ask("status", tenant=TENANT, name="user")
    asked = [(process, process.tell("tokens", tenant=TENANT, name="user", callers=1000)) for process in processes]
    answers = [process.answer(number, 60) for process, number in asked]
    assert all(answer == answers[0] and len(answer) == 1 for answer in answers), answers
    assert len(provider.ask("stats")["requests"]) == 1


@pytest.mark.parametrize("profile", ["idempotent-grace", "forking-grace", "previous-only", "keep-old", "no-rotation", "early-reject"])
def test_random_kills_lose_no_grant(world, profile, request):
    """Three processes that refresh one grant after the other; whoever is killed, the next one goes on."""
    chance = random.Random(f"{SEED}/{request.node.name}")
    provider = world.provider(profile, lifetime_s=3600)
    world.connect(provider, "user")
    for _ in range(KILLS):
        while len(world.children) < 3:
            at = chance.choice([*OF_THE_VAULT, ""])
            world.start(f"{at}@{chance.randint(1, 3)}=kill" if at else "")
        until(_refresh_until_one_is_sent(world, provider), "they refresh, or somebody died")
        victim = chance.choice(world.children)
        victim.kill()
        world.children.remove(victim)
        world.children = [child for child in world.children if not _is_dead(child)]
    world.kill_all()
    survivor = world.start()
    token = until(lambda: (found := survivor.ask("refresh", tenant=TENANT, name="user")).get("access_token") and found, "a token", 60)
    assert not token["stale"]
    status = survivor.ask("status", tenant=TENANT, name="user")
    assert status["state"] == "active"
    assert provider.ask("stats")["most_in_flight"] <= 2  # one that was killed may still be answered when the next one asks


@pytest.mark.parametrize("failpoint", OF_CODES)
def test_a_process_killed_while_it_redeems_a_code_sends_it_once_at_most(world, failpoint):
    """O9: what was read is committed by the next; what was not sent is not known to be, and is never sent again."""
    provider = world.provider("strict")
    first = world.start()
    first.ask("register", tenant=TENANT, registration=provider.ask("registration", changes={}))
    begun = first.ask("begin", tenant=TENANT, name="new")
    answer = provider.ask("consent", url=begun["authorize_url"])
    world.stop(first)
    victim = world.start(f"{failpoint}=kill")
    victim.tell("callback", answer=answer)
    world.died(victim)
    survivor = world.start()
    if failpoint == "oauth.code_before_send":
        assert survivor.ask("status", tenant=TENANT, name="new")["state"] == "pending"
        again = survivor.ask("begin", tenant=TENANT, name="new")
        answer = provider.ask("consent", url=again["authorize_url"])
    assert survivor.ask("callback", answer=answer)["state"] == "active"
    sent = [line["grant"] for line in provider.ask("stats")["requests"]]
    assert len(sent) == len(set(sent)) == 1
    renewed(survivor, "new", {2})


def _refresh_until_one_is_sent(world, provider):
    """Asks all again and again: a refresh that was under way already serves those who come while it is."""
    seen, looks = len(provider.ask("stats")["requests"]), itertools.count()

    def look():
        if next(looks) % 100 == 0:
            for child in world.children:
                with suppress(Died):
                    child.tell("refresh", tenant=TENANT, name="user")
        return len(provider.ask("stats")["requests"]) > seen or any(_is_dead(child) for child in world.children)

    return look


def _is_dead(child):
    return child.gone or child.has_ended()
