"""A process that is killed while it gets a token for a delivery loses neither the grant nor the message."""

from __future__ import annotations

from contextlib import closing

import pytest

from ..support.places import place_of
from ..support.vault_world import TENANT, VaultWorld
from ..support.zygote import until

FAILPOINTS = [
    "oauth.leased_before_commit",
    "oauth.intent_before_send",
    "oauth.spooled_before_commit",
    "oauth.committed_before_unspooled",
    "webhooks.before_attempt",
    "webhooks.after_attempt_before_ack",
]
WITHIN_S = 60.0


@pytest.fixture(params=["sqlite", "postgres"])
def world(request, zygote, tmp_path):
    with closing(VaultWorld(zygote, tmp_path, place_of(request.param, request))) as world:
        yield world


@pytest.mark.parametrize("failpoint", FAILPOINTS)
def test_a_process_killed_while_it_gets_a_token_loses_no_grant_and_no_message(world, failpoint):
    provider = world.provider("strict")
    world.connect(provider, "user")
    receiver = world.receiver()
    first = world.start()
    first.ask("hook", tenant=TENANT, url=receiver.ask("url"), connection="user")
    message = first.ask("send", tenant=TENANT)
    world.stop(first)
    world.died(world.start(f"{failpoint}=kill", workers=True))
    survivor = world.start(workers=True)
    until(lambda: survivor.ask("delivery", tenant=TENANT, message=message)["state"] == "delivered", "it is delivered", WITHIN_S)
    delivery = survivor.ask("delivery", tenant=TENANT, message=message)
    assert delivery["number"] == 1
    token = survivor.ask("token", tenant=TENANT, name="user")
    stats = provider.ask("stats")
    assert (token["generation"], len(stats["requests"]), stats["superseded"]) == (2, 1, [])
    received = receiver.ask("authorizations")
    assert set(received) == {f"Bearer {token['access_token']}"}
    assert len(received) == (2 if failpoint == "webhooks.after_attempt_before_ack" else 1)
