"""Whatever process is killed at whatever moment of a login, a session's renewal, a failover or a trade, nothing is half made.

Every failpoint of single sign-on is killed once on both engines, beside the certified authorization server of npm, which rotates strictly. What
was acknowledged stands afterwards, what was not can be done by somebody else, and no code and no token is sent twice.
"""

from __future__ import annotations

from collections import Counter
from contextlib import closing

import pytest

from ..support.oidc import OidcProvider
from ..support.places import place_of
from ..support.vault_world import TENANT, SignOnWorld
from ..support.zygote import Died, until
from .test_kills import FAILPOINTS

OF_LOGINS = [
    "sso.way_begun_before_commit",
    "sso.way_consumed_before_commit",
    "sso.code_before_send",
    "sso.logged_in_before_commit",
    "sso.touched_before_commit",
    "sso.logged_out_before_commit",
]
OF_RENEWALS = [
    "sso.turn_before_commit",
    "sso.renewal_before_send",
    "sso.renewal_spooled_before_commit",
    "sso.renewed_before_commit",
    "sso.renewal_committed_before_unspooled",
]
OF_PROVIDERS = ["sso.provider_set_before_commit", "sso.linked_before_commit", "sso.rotation_before_commit"]
OF_TRADES = ["sso.traded_before_commit", "sso.traded_before_answer"]
OF_CHORES = ["sso.trimmed_before_commit", "sso.trades_forgotten_before_commit"]
ALONE = ["sso.ended_by_provider_before_commit", "sso.key_made_before_commit"]
SETTINGS = {
    "oauth_http_timeout": "5s",
    "oauth_lease_ttl": "15s",
    "sso_window": "100ms",
    "sso_dwell": "100ms",
    "sso_return": "1d",
}
CODE = "authorization_code"


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, zygote, tmp_path):
    with closing(SignOnWorld(zygote, tmp_path, place_of(request.param, request), **SETTINGS)) as world:
        yield world


@pytest.fixture(scope="module")
def server():
    with closing(OidcProvider().start()) as server:
        yield server


@pytest.fixture
def provider(server):
    server.suffer("none")
    return server


def with_a_provider(world, provider):
    """A process at which people of the tenant can log in."""
    child = world.start()
    made = child.ask("provider", tenant=TENANT, name="first", registration=provider.registration())
    assert made.get("issuer") == provider.url, made
    return child


def logged_in(child, provider):
    """The session of somebody who logs in there."""
    address, browser = child.ask("begin", tenant=TENANT)
    answer = child.ask("finish", answer=provider.consent({"authorize_url": address}), browser=browser)
    assert answer.get("subject") == "user", answer
    return answer["text"]


def killed(world, failpoint, *steps):
    """A process that died of its failpoint at one of these steps; the answers that it gave before."""
    victim = world.start(f"{failpoint}=kill")
    answers = []
    with pytest.raises(Died):
        for step in steps:
            answers.append(step(victim, answers))
    world.died(victim)
    return answers


def test_every_failpoint_of_single_sign_on_is_killed_here():
    named = [*OF_LOGINS, *OF_RENEWALS, *OF_PROVIDERS, *OF_TRADES, *OF_CHORES, *ALONE]
    assert sorted(named) == [name for name in FAILPOINTS if name.startswith("sso.")]


@pytest.mark.parametrize("failpoint", OF_LOGINS)
def test_a_process_killed_while_somebody_logs_in_makes_a_session_whole_or_none(world, provider, failpoint):
    survivor = with_a_provider(world, provider)
    answers = killed(
        world,
        failpoint,
        lambda victim, _: victim.ask("begin", tenant=TENANT),
        lambda victim, told: victim.ask("finish", answer=provider.consent({"authorize_url": told[0][0]}), browser=told[0][1]),
        lambda victim, _: victim.ask("age", tenant=TENANT),
        lambda victim, told: victim.ask("session", text=told[1]["text"]),
        lambda victim, told: victim.ask("log_out", text=told[1]["text"]),
    )
    acknowledged = answers[1:2]
    assert survivor.ask("sessions", tenant=TENANT) == len(acknowledged)
    assert survivor.ask("audited", tenant=TENANT).count("sso.login") == len(acknowledged)
    assert [survivor.ask("session", text=each["text"]) for each in acknowledged] == ["user"] * len(acknowledged)
    assert "sso.logout" not in survivor.ask("audited", tenant=TENANT)
    text = logged_in(survivor, provider)
    assert survivor.ask("log_out", text=text) == 1
    assert survivor.ask("session", text=text) is None
    codes = Counter(provider.came(CODE))
    assert max(codes.values()) == 1


@pytest.mark.parametrize("failpoint", OF_RENEWALS)
def test_a_process_killed_while_it_renews_costs_no_session(world, provider, failpoint):
    survivor = with_a_provider(world, provider)
    text = logged_in(survivor, provider)
    before = len(provider.refreshes())
    killed(world, failpoint, lambda victim, _: victim.ask("renew", tenant=TENANT))
    for _ in range(3):
        survivor.ask("renew", tenant=TENANT)
        assert survivor.ask("session", text=text) == "user"
    asked = [line["status"] for line in provider.refreshes()[before:]]
    assert asked == [200] * (3 if failpoint in {"sso.turn_before_commit", "sso.renewal_before_send"} else 4)
    assert provider.superseded() == []


def test_a_session_that_was_killed_of_is_renewed_by_the_next_start(world, provider):
    first = with_a_provider(world, provider)
    logged_in(first, provider)
    killed(world, "sso.renewal_spooled_before_commit", lambda victim, _: victim.ask("renew", tenant=TENANT))
    spool = world.folder / "sso-spool"
    assert len(list(spool.iterdir())) == 1
    world.start().ask("status", tenant=TENANT)
    assert list(spool.iterdir()) == []


def test_a_process_that_stood_still_in_its_turn_overwrites_no_newer_token_of_a_session(world, provider):
    survivor = with_a_provider(world, provider)
    text = logged_in(survivor, provider)
    sleeper = world.start("sso.renewal_spooled_before_commit=pause")
    asked = sleeper.tell("renew", tenant=TENANT)
    sleeper.frozen()
    for _ in range(2):
        survivor.ask("renew", tenant=TENANT)
    sleeper.thaw()
    sleeper.answer(asked)
    survivor.ask("renew", tenant=TENANT)
    assert survivor.ask("session", text=text) == "user"
    assert provider.superseded() == []


def test_a_process_killed_while_a_provider_ends_a_session_leaves_it_to_be_ended(world, provider):
    survivor = with_a_provider(world, provider)
    text = logged_in(survivor, provider)
    provider.fail("drop")  # the token is traded, the answer lost: the next request with it is refused
    survivor.ask("renew", tenant=TENANT)
    assert survivor.ask("session", text=text) == "user"
    killed(world, "sso.ended_by_provider_before_commit", lambda victim, _: victim.ask("renew", tenant=TENANT))
    assert survivor.ask("session", text=text) == "user"
    survivor.ask("renew", tenant=TENANT)
    assert survivor.ask("session", text=text) is None
    assert survivor.ask("audited", tenant=TENANT).count("sso.logout") == 1


def test_a_process_killed_while_it_sets_a_provider_leaves_none_and_no_rotation(world, provider):
    registration = provider.registration()
    killed(
        world,
        "sso.provider_set_before_commit",
        lambda victim, _: victim.ask("provider", tenant=TENANT, name="first", registration=registration),
    )
    survivor = world.start()
    assert survivor.ask("status", tenant=TENANT)["error"] == "no_provider"
    assert "sso_provider.set" not in survivor.ask("audited", tenant=TENANT)
    survivor.ask("provider", tenant=TENANT, name="first", registration=registration)
    assert survivor.ask("status", tenant=TENANT)["active"] == "first"


def with_a_backup(world, provider, backup):
    survivor = with_a_provider(world, provider)
    made = survivor.ask("provider", tenant=TENANT, name="backup", registration=backup.registration(), rank=1)
    assert made.get("rank") == 1, made
    return survivor


@pytest.fixture(scope="module")
def backup():
    with closing(OidcProvider().start()) as backup:
        yield backup


def test_a_process_killed_while_it_links_somebody_has_linked_nobody(world, provider, backup):
    survivor = with_a_backup(world, provider, backup)
    killed(world, "sso.linked_before_commit", lambda victim, _: victim.ask("link", tenant=TENANT, subject="user", backup_subject="b"))
    assert "sso_identity.link" not in survivor.ask("audited", tenant=TENANT)
    assert survivor.ask("link", tenant=TENANT, subject="user", backup_subject="b")["backup_subject"] == "b"


def test_a_process_killed_while_it_leads_logins_elsewhere_has_not_and_the_next_one_does_it_once(world, provider, backup):
    survivor = with_a_backup(world, provider, backup)
    victim = world.start("sso.rotation_before_commit@3=kill")  # the first two write down that probes have failed
    provider.suffer("error")
    with pytest.raises(Died):
        until(lambda: victim.ask("look", tenant=TENANT)["active"] == "backup", "it dies of the change")
    world.died(victim)
    assert survivor.ask("status", tenant=TENANT)["active"] == "first"
    status = until(lambda: (now := survivor.ask("look", tenant=TENANT))["active"] == "backup" and now, "logins go to the backup")
    assert status["flips"] == 1
    assert survivor.ask("audited", tenant=TENANT).count("sso.flip") == 1
    assert until(lambda: survivor.ask("told"), "the operator hears of it") == ["down"]


@pytest.mark.parametrize("failpoint", OF_TRADES)
def test_a_process_killed_while_it_trades_gives_one_token_at_most_for_one(world, failpoint):
    survivor = world.start()
    token = survivor.ask("issue", tenant=TENANT)
    killed(world, failpoint, lambda victim, _: victim.ask("trade", tenant=TENANT, token=token))
    answer = survivor.ask("trade", tenant=TENANT, token=token)
    if failpoint == "sso.traded_before_commit":
        assert answer["issued_token_type"].endswith(":access_token")
    else:
        assert answer["error"] == "ExchangeRefused"
        assert survivor.ask("trade", tenant=TENANT, token=survivor.ask("issue", tenant=TENANT))["access_token"]
    trades = survivor.ask("audited", tenant=TENANT).count("token.impersonate")
    assert trades == (1 if failpoint == "sso.traded_before_commit" else 2)


def test_a_process_killed_while_it_makes_a_signing_key_has_published_none(world):
    survivor = world.start()
    token = survivor.ask("issue", tenant=TENANT)
    killed(world, "sso.key_made_before_commit", lambda victim, _: victim.ask("rotate_keys"))
    assert survivor.ask("keys") == 1
    survivor.ask("rotate_keys")
    assert survivor.ask("keys") == 2
    assert survivor.ask("trade", tenant=TENANT, token=token)["access_token"]


@pytest.mark.parametrize("failpoint", OF_CHORES)
def test_a_process_killed_while_it_forgets_what_is_over_leaves_that_to_the_next(world, provider, failpoint):
    survivor = with_a_provider(world, provider)
    text = logged_in(survivor, provider)
    killed(world, failpoint, lambda victim, _: victim.ask("trim"))
    survivor.ask("trim")
    assert survivor.ask("sessions", tenant=TENANT) == 1
    assert survivor.ask("session", text=text) == "user"
