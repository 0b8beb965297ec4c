"""Whatever process is killed or stopped at whatever moment of a refresh, no grant is lost and no superseded token is sent."""

from __future__ import annotations

import itertools
import json
import os
import random
from contextlib import closing, suppress
from pathlib import Path

import pytest
from joserfc.jwk import ECKey

from ..support.places import place_of
from ..support.vault_world import TENANT, TTL_S, VaultWorld
from ..support.zygote import Died, until
from .test_kills import FAILPOINTS

OF_WAYS = ("oauth.code_", "oauth.link_", "oauth.device_", "oauth.flows_")
OF_THE_VAULT = [name for name in FAILPOINTS if name.startswith("oauth.") and not name.startswith(OF_WAYS)]
OF_CODES = ["oauth.code_consumed_before_commit", "oauth.code_before_send", "oauth.spooled_before_commit"]
OF_DEVICES = ["oauth.device_turn_before_commit", "oauth.device_turn_before_ask", "oauth.spooled_before_commit"]
AFTER_A_FAULT = {
    "oauth.answered_before_noted": "503",
    "oauth.given_up_before_commit": "429@1",
    "oauth.decided_before_commit": "503",
}
"""What the provider must do for a failpoint to be reached."""

REACHED_BY_A_SUCCESS = [
    "oauth.leased_before_commit",
    "oauth.intent_before_send",
    "oauth.spooled_before_commit",
    "oauth.granted_before_commit",
    "oauth.committed_before_unspooled",
]
KILLS = int(os.environ.get("NETRA_KILLS", "10"))
SEED = int(os.environ.get("NETRA_KILL_SEED", "1"))


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


@pytest.mark.parametrize("failpoint", ["oauth.intent_before_send", "oauth.spooled_before_commit", "oauth.granted_before_commit"])
def test_a_process_killed_while_it_asks_by_an_assertion_leaves_a_connection_that_goes_on(world, failpoint):
    """The same protocol: the next process commits what was read, or signs anew; no assertion is sent twice."""
    provider = world.provider("strict")
    key = ECKey.generate_key("P-256")
    provider.ask("control", trusted={"service": key.as_dict(private=False)})
    signs = {"key": json.dumps(key.as_dict(private=True)), "issuer": "service"}
    first = world.start()
    first.ask("register", tenant=TENANT, registration=provider.ask("registration", changes={"client_secrets": [], "assertion": signs}))
    assert first.ask("own", tenant=TENANT, name="service", grant="jwt_bearer")["generation"] == 2
    world.stop(first)
    victim = world.start(f"{failpoint}=kill")
    victim.tell("refresh", tenant=TENANT, name="service")
    world.died(victim)
    survivor = world.start()
    token = until(lambda: (found := survivor.ask("refresh", tenant=TENANT, name="service")).get("access_token") and found, "a token")
    assert not token["stale"]
    assert survivor.ask("status", tenant=TENANT, name="service")["state"] == "active"
    stats = provider.ask("stats")
    assert {line["status"] for line in stats["requests"]} == {200}
    assert stats["most_in_flight"] == 1
    answers = len(stats["requests"])
    assert token["generation"] - 1 == answers  # each answer that was read is a generation


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
    stats = provider.ask("stats")
    assert stats["most_in_flight"] <= 2  # one that was killed may still be answered when the next one asks
    evidence(request, KILLS, stats, status["generation"], lost=int(status["state"] != "active" or token["stale"]))


@pytest.mark.parametrize("profile", ["strict", "access-dies"])
def test_random_kills_at_failpoints_lose_no_grant_of_a_provider_that_takes_no_token_twice(world, profile, request):
    """Every successor that was read is the parent of the next: as many generations as answers, and no token sent twice."""
    chance = random.Random(f"{SEED}/{request.node.name}")
    provider = world.provider(profile, lifetime_s=3600)
    world.connect(provider, "user")
    for _ in range(KILLS):
        victim = world.start(f"{chance.choice(REACHED_BY_A_SUCCESS)}@{chance.randint(1, 3)}=kill")
        until(lambda: _died_of(victim), "it died of a refresh")  # noqa: B023
        until(victim.has_ended, "it is gone")
        world.children.remove(victim)
    survivor = world.start()
    token = survivor.ask("refresh", tenant=TENANT, name="user")
    assert not token["stale"]
    stats = provider.ask("stats")
    answers = sum(line["status"] == 200 for line in stats["requests"])
    assert (stats["superseded"], stats["most_in_flight"], answers) == ([], 1, token["generation"] - 1)
    evidence(request, KILLS, stats, token["generation"], lost=answers + 1 - token["generation"])


def evidence(request, kills, stats, generation, lost):
    """For the soak: what this cell did."""
    path = os.environ.get("NETRA_EVIDENCE")
    if path:
        cell = request.node.name.partition("[")[2].rstrip("]")
        facts = {"kills": kills, "requests": len(stats["requests"]), "generation": generation, "lost": lost}
        with Path(path).open("a") as file:
            file.write(json.dumps({"cell": cell, **facts, "superseded": len(stats["superseded"])}) + "\n")


def _died_of(victim):
    try:
        victim.ask("refresh", tenant=TENANT, name="user")
    except Died:
        return True
    return False


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


def registered(world):
    """A provider, and a process that is registered there."""
    provider = world.provider("strict")
    provider.ask("approve")
    first = world.start()
    first.ask("register", tenant=TENANT, registration=provider.ask("registration", changes={}))
    return provider, first


def test_a_link_is_not_used_up_by_a_process_that_is_killed_before_it_sent_its_user_on(world):
    """O12."""
    provider, first = registered(world)
    token = first.ask("link", tenant=TENANT, name="new")
    world.stop(first)
    victim = world.start("oauth.link_followed_before_commit=kill")
    victim.tell("follow", token=token)
    world.died(victim)
    survivor = world.start()
    answer = provider.ask("consent", url=survivor.ask("follow", token=token))
    assert survivor.ask("follow", token=token)["error"] == "LinkUsed"
    assert survivor.ask("callback", answer=answer)["state"] == "active"
    renewed(survivor, "new", {2})


def asked_of(victim):
    """Whether it has died of what it was asked to do, once the code's interval was over."""
    try:
        victim.ask("poll")
    except Died:
        return True
    return False


@pytest.mark.parametrize("failpoint", OF_DEVICES)
def test_a_process_killed_while_it_asks_for_a_devices_code_loses_no_grant(world, failpoint):
    """O13: one code, one grant, whoever asks for it in the end."""
    provider, first = registered(world)
    first.ask("device", tenant=TENANT, name="tv")
    provider.ask("approve")
    world.stop(first)
    victim = world.start(f"{failpoint}=kill")
    until(lambda: asked_of(victim), "it asked, and died of it", 30)
    until(victim.has_ended, "it is gone")
    world.children.remove(victim)
    survivor = world.start()
    until(lambda: survivor.ask("poll") is not None and survivor.ask("status", tenant=TENANT, name="tv")["state"] == "active", "a grant", 30)
    assert [line["status"] for line in provider.ask("stats")["requests"]] == [200]
    renewed(survivor, "tv", {2})


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
