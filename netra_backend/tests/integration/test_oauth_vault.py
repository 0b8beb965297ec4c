"""The vault through a whole Netra, on both engines, against a provider that rotates and fails in every way."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from netra_backend.errors import InvalidInput, NestedTransaction, NotFound, Unavailable
from netra_backend.kernel.failpoints import FailpointError
from netra_backend.oauth import refresh, store
from netra_backend.oauth.errors import ConnectionRevoked, GrantInUse, ReauthRequired, RefreshFailed
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.testing.grants import PROFILES
from netra_backend.testing.provider import Provider

from ..support.storage import eventually, everything_stored, with_its_server
from ..support.vaults import NAME, TENANT, audited, connect, vault

REPLAYED = {"idempotent-grace", "forking-grace", "previous-only", "keep-old", "no-rotation", "early-reject"}
"""Profiles under which a refresh token whose answer was lost may be sent again."""


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(request, prepared):
    async with vault(prepared, request.node.callspec.params.get("fault", "")) as netra:
        yield netra


async def test_a_token_that_has_ended_is_refreshed_once_for_all_callers_of_all_processes(prepared):
    async with Provider("strict", "delay:0.1") as provider, vault(prepared) as one, vault(prepared) as two, vault(prepared) as three:
        await connect(one, provider)
        asked = [netra.oauth.token(TENANT, NAME) for netra in (one, two, three) for _ in range(200)]
        tokens = await asyncio.gather(*asked)
        assert len(provider.requests) == 1
        assert {(token.generation, token.stale) for token in tokens} == {(2, False)}
        assert len({token.access_token for token in tokens}) == 1


@pytest.mark.parametrize("profile", PROFILES)
async def test_tokens_follow_each_other_under_every_profile(netra, profile):
    async with Provider(profile) as provider:
        await connect(netra, provider)
        for generation in range(2, 6):
            token = await netra.oauth.refresh(TENANT, NAME)
            assert (token.generation, token.stale) == (generation, False)
            assert provider.grants.is_good(token.access_token, asyncio.get_running_loop().time()) or profile == "early-reject"
        assert provider.superseded() == []


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("fault", ["drop@1", "garbage@1", "503-after@1", "delay:1@1"])
async def test_an_answer_that_is_lost_is_asked_for_again_where_the_provider_allows_it(netra, profile, fault):
    async with Provider(profile, fault) as provider:
        await connect(netra, provider, replay_window_s=30 if profile in REPLAYED else None)
        if profile in REPLAYED:
            token = await netra.oauth.token(TENANT, NAME)
            assert (token.generation, token.stale) == (2, False)
        else:  # nobody knows of this provider that it is strict: the replay tells
            with pytest.raises(ReauthRequired):
                await netra.oauth.token(TENANT, NAME)
            assert (await netra.oauth.status(TENANT, NAME))["reason"] == "rotation_lost"
        assert len(provider.requests) == 2
        assert provider.most_in_flight == 1 or fault == "delay:1@1"


async def test_a_provider_known_to_be_strict_is_not_asked_again_while_the_old_token_lives(netra):
    async with Provider("strict", "drop@1") as provider:
        old = await connect(netra, provider, expires_in=600, replay_window_s=0)
        token = await netra.oauth.refresh(TENANT, NAME)
        assert (token.access_token, token.stale) == (old["access_token"], True)
        status = await netra.oauth.status(TENANT, NAME)
        assert (status["state"], status["reason"], status["generation"]) == ("at_risk", "reset", 1)
        for _ in range(5):
            assert (await netra.oauth.token(TENANT, NAME)).stale
        assert len(provider.requests) == 1
        assert "connection.at_risk" in await audited(netra)


async def test_a_server_error_before_anything_was_done_costs_nothing(netra):
    async with Provider("strict", "503@2") as provider:
        await connect(netra, provider)
        token = await netra.oauth.token(TENANT, NAME)
        assert (token.generation, token.stale) == (2, False)
        assert [line["status"] for line in provider.requests] == [503, 503, 200]
        assert (await netra.oauth.status(TENANT, NAME))["state"] == "active"


async def test_a_grant_that_the_provider_refuses_needs_its_user(netra):
    async with Provider("strict") as provider:
        tokens = await connect(netra, provider)
        provider.grants.revoke_token(tokens["refresh_token"])
        with pytest.raises(ReauthRequired):
            await netra.oauth.token(TENANT, NAME)
        status = await netra.oauth.status(TENANT, NAME)
        assert (status["state"], status["reason"]) == ("reauth_required", "revoked")
        with pytest.raises(ReauthRequired):
            await netra.oauth.refresh(TENANT, NAME)
        assert len(provider.requests) == 1


async def test_the_old_token_serves_to_its_end_when_the_grant_was_refused(netra):
    async with Provider("strict") as provider:
        tokens = await connect(netra, provider, expires_in=600)
        provider.grants.revoke_token(tokens["refresh_token"])
        with pytest.raises(ReauthRequired):
            await netra.oauth.refresh(TENANT, NAME)
        token = await netra.oauth.token(TENANT, NAME)
        assert (token.access_token, token.stale) == (tokens["access_token"], True)


async def test_the_second_secret_is_tried_and_becomes_the_first(netra):
    async with Provider("strict", secrets=["new"]) as provider:
        await connect(netra, provider, client_secrets=["old", "new"])
        assert (await netra.oauth.token(TENANT, NAME)).generation == 2
        assert [line["status"] for line in provider.requests] == [401, 200]
        assert (await netra.oauth.refresh(TENANT, NAME)).generation == 3
        assert [line["status"] for line in provider.requests] == [401, 200, 200]


async def test_a_wrong_registration_leaves_the_grant_as_it_is(netra):
    async with Provider("strict") as provider:
        await connect(netra, provider, client_secrets=["wrong"])
        with pytest.raises(RefreshFailed, match="invalid_client"):
            await netra.oauth.token(TENANT, NAME)
        assert (await netra.oauth.status(TENANT, NAME))["state"] == "active"
        await netra.oauth.set_client(TENANT, "provider", provider.registration())
        assert (await netra.oauth.refresh(TENANT, NAME)).generation == 2


async def test_an_endpoint_that_cannot_be_reached_gives_way_to_the_next_within_one_call(netra, unused_tcp_port):
    async with Provider("strict") as provider:
        endpoints = {"token": [f"http://127.0.0.1:{unused_tcp_port}/token", provider.url + "/token"]}
        await connect(netra, provider, endpoints=endpoints)
        assert (await netra.oauth.token(TENANT, NAME)).generation == 2


async def test_after_a_request_has_left_no_other_endpoint_is_asked(netra):
    async with Provider("strict", "drop") as first, Provider("strict") as second:
        await connect(netra, first, endpoints={"token": [first.url + "/token", second.url + "/token"]}, replay_window_s=0)
        with pytest.raises(RefreshFailed):
            await netra.oauth.token(TENANT, NAME)
        assert (len(first.requests), len(second.requests)) == (1, 0)


async def test_a_token_in_doubt_goes_to_the_endpoint_that_may_have_taken_it_and_to_no_other(netra, unused_tcp_port):
    async with Provider("no-rotation", "drop@1") as second:
        await connect(netra, second, endpoints={"token": [f"http://127.0.0.1:{unused_tcp_port}/token", second.url + "/token"]})
        asking = asyncio.create_task(netra.oauth.token(TENANT, NAME))
        await second.arrived.wait()
        async with Provider("strict", port=unused_tcp_port) as first:  # the first endpoint is back, and must not be asked
            assert (await asking).generation == 2
            assert (len(first.requests), len(second.requests)) == (0, 2)


async def test_where_no_endpoint_can_be_reached_each_is_named_with_its_cause(netra, unused_tcp_port):
    async with Provider("strict") as provider:
        await connect(
            netra, provider, endpoints={"token": [f"http://127.0.0.1:{unused_tcp_port}/a", f"http://127.0.0.1:{unused_tcp_port}/b"]}
        )
        with pytest.raises(RefreshFailed, match=r"/a: connect; .*/b: connect"):
            await netra.oauth.token(TENANT, NAME)
        assert (await netra.oauth.status(TENANT, NAME))["state"] == "active"


async def test_cancelling_every_caller_changes_neither_the_request_nor_its_outcome(netra):
    async with Provider("strict", "delay:0.2") as provider:
        await connect(netra, provider)
        callers = [asyncio.create_task(netra.oauth.token(TENANT, NAME)) for _ in range(10)]
        await provider.arrived.wait()
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        token = await netra.oauth.token(TENANT, NAME)
        assert (token.generation, len(provider.requests)) == (2, 1)


async def test_a_caller_cancelled_at_any_of_its_turns_changes_nothing(netra):
    async with Provider("no-rotation") as provider:
        await connect(netra, provider)
        for turns in range(0, 60, 3):
            before = (await netra.oauth.status(TENANT, NAME))["generation"]
            caller = asyncio.create_task(netra.oauth.refresh(TENANT, NAME))
            for _ in range(turns):
                await asyncio.sleep(0)
            caller.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await caller
            assert (await netra.oauth.refresh(TENANT, NAME)).generation in {before + 1, before + 2}
        assert provider.most_in_flight == 1


async def test_nothing_can_be_had_after_a_revocation_here_or_elsewhere(prepared):
    async with Provider("strict") as provider, vault(prepared) as one, vault(prepared) as two:
        tokens = await connect(one, provider, expires_in=3600)
        assert (await two.oauth.token(TENANT, NAME)).access_token == tokens["access_token"]
        status = await one.oauth.revoke(TENANT, NAME)
        began = asyncio.get_running_loop().time()
        assert (status["state"], status["generation"]) == ("revoked", 2)
        with pytest.raises(ConnectionRevoked):
            await one.oauth.token(TENANT, NAME)

        async def is_refused():
            try:
                await two.oauth.token(TENANT, NAME)
            except ConnectionRevoked:
                return True
            return False

        await eventually(is_refused)
        assert asyncio.get_running_loop().time() - began < 1.2
        assert not provider.grants.is_refreshable(tokens["refresh_token"])  # the provider was told


async def test_a_refresh_that_ends_after_a_revocation_brings_nothing_back(netra):
    async with Provider("strict", "delay:0.2") as provider:
        await connect(netra, provider)
        asking = asyncio.create_task(netra.oauth.token(TENANT, NAME))
        await provider.arrived.wait()
        await netra.oauth.revoke(TENANT, NAME)
        with pytest.raises(ConnectionRevoked):
            await asking
        assert (await netra.oauth.status(TENANT, NAME))["state"] == "revoked"


async def test_a_refresh_that_was_committed_before_a_revocation_is_not_served_after_it(netra, monkeypatch):
    async with Provider("strict") as provider:
        await connect(netra, provider)
        revoked = threading.Event()
        monkeypatch.setattr(netra.oauth._spool, "remove", lambda path: revoked.wait(10) and path.unlink())
        asking = asyncio.create_task(netra.oauth.token(TENANT, NAME))

        async def is_committed():
            return (await netra.oauth.status(TENANT, NAME))["generation"] == 2

        await eventually(is_committed)
        await netra.oauth.revoke(TENANT, NAME)
        revoked.set()
        await asking  # whoever asked before that may have what was good then
        with pytest.raises(ConnectionRevoked):
            await netra.oauth.token(TENANT, NAME)


async def test_a_token_in_the_last_part_of_its_life_is_renewed_behind_the_callers_back(netra):
    async with Provider("strict", "delay:0.8", lifetime_s=3600) as provider:
        old = await connect(netra, provider, expires_in=4)
        meanwhile = 0

        async def is_renewed():
            nonlocal meanwhile
            token = await netra.oauth.token(TENANT, NAME)
            assert not token.stale
            if token.access_token != old["access_token"]:
                return True
            meanwhile += len(provider.requests)  # the provider has been asked and has not answered: whoever asks us has not waited for it
            return False

        await eventually(is_renewed)
        assert meanwhile
        assert len(provider.requests) == 1


async def test_a_token_is_not_renewed_before_three_fifths_of_its_life_whatever_is_asked(netra):
    async with Provider("strict", lifetime_s=100) as provider:
        await connect(netra, provider)
        for _ in range(10):
            await netra.oauth.token(TENANT, NAME, min_valid_s=5000)
        assert len(provider.requests) == 1


@pytest.mark.parametrize("lifetime_s", [0, -5])
async def test_a_token_that_has_ended_on_arrival_is_not_asked_for_again_and_again(netra, lifetime_s):
    async with Provider("strict", lifetime_s=lifetime_s) as provider:
        await connect(netra, provider)
        for _ in range(3):
            with pytest.raises(RefreshFailed):
                await netra.oauth.token(TENANT, NAME)
        assert len(provider.requests) <= 3


@pytest.mark.parametrize("failpoint", [store.GRANTED, refresh.SPOOLED, refresh.COMMITTED])
async def test_an_answer_whose_commit_failed_is_committed_from_the_spool(netra, prepared, failpoint):
    async with Provider("strict") as provider:
        await connect(netra, provider)
        netra.runtime.failpoints.arm(failpoint, "raise")
        with pytest.raises(FailpointError):
            await netra.oauth.token(TENANT, NAME)
        token = await netra.oauth.token(TENANT, NAME)
        assert (token.generation, token.stale, len(provider.requests)) == (2, False, 1)
        await netra.oauth.replay_leftovers()
        assert list((prepared / "oauth-spool").iterdir()) == []


async def test_refreshing_by_hand_does_not_send_a_token_in_doubt_to_a_strict_provider_either(netra):
    async with Provider("strict", "drop@1") as provider:
        await connect(netra, provider, expires_in=600, replay_window_s=0)
        for _ in range(3):
            assert (await netra.oauth.refresh(TENANT, NAME)).stale
        assert len(provider.requests) == 1


async def test_connections_of_one_grant_are_refused(netra):
    async with Provider("strict") as provider:
        tokens = await connect(netra, provider)
        with pytest.raises(GrantInUse):
            await netra.oauth.import_(TENANT, "other", "provider", tokens)
        await netra.oauth.import_(TENANT, NAME, "provider", tokens)  # the same name may have it again


async def test_a_refresh_token_that_the_provider_gives_to_two_connections_is_renewed_by_the_first_alone(netra, prepared, monkeypatch):
    async with Provider("strict") as provider:
        tokens = await connect(netra, provider, expires_in=3600, name="first")
        await connect(netra, provider, name="second")
        monkeypatch.setattr(provider.grants, "refresh", lambda *_: {**tokens, "access_token": "at-shared", "expires_in": 3600})
        assert (await netra.oauth.token(TENANT, "second")).access_token == "at-shared"
        stand = {each["name"]: (each["state"], each["generation"], each["refreshable"]) for each in await netra.oauth.connections(TENANT)}
        assert stand == {"first": ("active", 1, True), "second": ("active", 2, False)}
        assert list((prepared / "oauth-spool").iterdir()) == []


async def test_tenants_do_not_see_each_others_connections(netra):
    async with Provider("strict") as provider:
        await connect(netra, provider, expires_in=3600)
        await netra.tenant("globex")
        with pytest.raises(NotFound):
            await netra.oauth.token("globex", NAME)
        assert await netra.oauth.connections("globex") == []


async def test_an_answer_that_the_spool_has_no_room_for_is_committed_all_the_same(netra, prepared, caplog):
    folder = prepared / "oauth-spool"
    folder.rmdir()
    folder.write_text("no folder any more")
    async with Provider("strict") as provider:
        await connect(netra, provider)
        for generation in (2, 3):
            assert (await netra.oauth.refresh(TENANT, NAME)).generation == generation
        assert provider.superseded() == []
    assert "no safe copy in the spool" in caplog.text


async def test_no_token_or_secret_stands_in_the_database_the_spool_or_the_log(netra, prepared, caplog):
    async with Provider("strict", secrets=["planted-secret"]) as provider:
        tokens = await connect(netra, provider, client_secrets=["planted-secret"])
        token = await netra.oauth.token(TENANT, NAME)
        stored = everything_stored(netra.database)
        planted = [tokens["access_token"], tokens["refresh_token"], token.access_token, "rt-g1-2", "planted-secret"]
        for secret in planted:
            assert secret.encode() not in stored
            assert secret.encode().hex().encode() not in stored
            assert secret not in caplog.text
        assert list((prepared / "oauth-spool").iterdir()) == []


async def test_a_held_transaction_is_not_left_waiting_for_its_own_writer(netra):
    async with Provider("strict") as provider:
        await connect(netra, provider)
        async with netra.transaction(tenant=TENANT):
            with pytest.raises(NestedTransaction):
                await netra.oauth.token(TENANT, NAME)


async def test_a_401_renews_the_token_once_and_the_request_is_repeated(netra):
    async with Provider("access-dies") as provider:
        tokens = await connect(netra, provider, expires_in=3600)
        provider.grants.families["g1"].access.clear()  # dead before its time
        reply = await netra.oauth.request(TENANT, NAME, "GET", provider.url + "/userinfo")
        assert (reply.status, len(provider.requests)) == (200, 1)
        assert (await netra.oauth.token(TENANT, NAME)).access_token != tokens["access_token"]


async def test_a_request_carries_the_token_and_json_to_and_fro(netra):
    async with Provider("strict") as provider, MisbehavingEndpoint() as service:
        tokens = await connect(netra, provider, expires_in=3600)
        await netra.oauth.request(TENANT, NAME, "POST", service.url, json={"id": 1}, headers={"x-of-mine": "1"})
        (asked,) = service.received
        assert (asked.method, asked.body, asked.headers["content-type"]) == ("POST", b'{"id":1}', "application/json")
        assert (asked.headers["authorization"], asked.headers["x-of-mine"]) == (f"Bearer {tokens['access_token']}", "1")
        assert (await netra.oauth.request(TENANT, NAME, "GET", provider.url + "/userinfo")).json() == {"sub": "u1"}
        with pytest.raises(InvalidInput, match="not JSON"):
            await netra.oauth.request(TENANT, NAME, "POST", service.url, json=object())


async def test_an_issuer_that_does_not_answer_is_told_with_what_to_look_at(netra):
    with pytest.raises(Unavailable, match="could not be asked") as refused:
        await netra.oauth.set_client(TENANT, "gone", {"issuer": "http://127.0.0.1:9", "client_id": "netra"})
    assert "address" in refused.value.fix


async def test_the_token_endpoint_is_found_by_the_issuers_metadata(netra):
    async with Provider("strict") as provider:
        shown = await netra.oauth.set_client(
            TENANT, "found", {"issuer": provider.url, "client_id": "netra", "client_secrets": ["secret-a"]}
        )
        assert shown["endpoints"]["token"] == [provider.url + "/token"]
        assert "secret-a" not in str(shown)


@pytest.mark.parametrize(
    "registration",
    [
        {},
        {"client_id": "x"},
        {"client_id": "x", "endpoints": {"token": ["ftp://x/"]}},
        {"client_id": "x", "endpoints": {"token": ["http://x/"]}, "surprise": 1},
        {"client_id": "x", "endpoints": {"token": ["http://x/"]}, "client_secrets": ["a", "b", "c"]},
        {"client_id": "x", "endpoints": {"token": ["http://x/"]}, "auth": "mtls"},
        {"client_id": "x", "endpoints": {"token": ["http://x/"]}, "replay_window_s": -1},
    ],
)
async def test_a_registration_that_cannot_be_used_is_refused(netra, registration):
    with pytest.raises(InvalidInput):
        await netra.oauth.set_client(TENANT, "bad", registration)


async def test_a_revocation_is_told_by_the_secret_that_the_provider_takes_and_a_refusal_is_seen(netra, caplog):
    async with Provider("strict", secrets=["second"]) as provider:
        for name, secrets, is_told in (("one", ["first", "second"], True), ("two", ["first"], False)):
            tokens = await connect(netra, provider, expires_in=3600, name=name, client_secrets=secrets)
            await netra.oauth.revoke(TENANT, name)
            assert provider.grants.is_refreshable(tokens["refresh_token"]) is not is_told
            assert ("does not take it that a grant was revoked" in caplog.text) is not is_told


async def test_callers_who_ask_while_a_token_is_renewed_behind_their_backs_begin_nothing_more(netra, monkeypatch):
    async with Provider("strict", "delay:0.3") as provider:
        await connect(netra, provider, expires_in=3600)
        await netra.oauth.token(TENANT, NAME)
        monotonic = netra.runtime.clock.monotonic
        monkeypatch.setattr(netra.oauth.memory, "_monotonic", lambda: monotonic() + 3400)  # in the last part of its life
        for _ in range(20):
            assert (await netra.oauth.token(TENANT, NAME)).generation == 1
            assert len(netra.oauth._background) == 1
        assert len(provider.requests) <= 1


async def test_a_refresh_token_alone_is_no_access_token_whatever_the_clock_says(netra, monkeypatch):
    async with Provider("strict", "503") as provider:
        await netra.oauth.set_client(TENANT, "provider", provider.registration())
        await netra.oauth.import_(TENANT, NAME, "provider", {"refresh_token": provider.grant()["refresh_token"]})
        wall_us = netra.runtime.clock.wall_us
        monkeypatch.setattr(netra.runtime.clock, "wall_us", lambda: wall_us() - 3600 * 1_000_000, raising=False)
        with pytest.raises(RefreshFailed):
            await netra.oauth.token(TENANT, NAME)


async def test_what_is_due_is_renewed_before_anybody_asks(prepared):
    async with Provider("strict", lifetime_s=4) as provider, vault(prepared, workers=True) as netra:
        await connect(netra, provider)
        first = await netra.oauth.token(TENANT, NAME)

        async def is_renewed():
            return (await netra.oauth.status(TENANT, NAME))["generation"] > first.generation

        await eventually(is_renewed)
        assert len(provider.requests) == 2


async def test_memory_serves_nothing_after_a_revocation_under_whatever_name_of_the_tenant(netra):
    async with Provider("strict") as provider:
        tokens = await connect(netra, provider, expires_in=3600)
        assert netra.oauth.token_at_hand(TENANT, NAME) is None  # nobody has asked for it yet
        assert (await netra.oauth.token(TENANT, NAME)).access_token == tokens["access_token"]
        assert netra.oauth.token_at_hand(TENANT, NAME).access_token == tokens["access_token"]
        assert netra.oauth.token_at_hand(TENANT, NAME, 5000) is None
        await netra.oauth.revoke(TENANT, NAME)
        assert netra.oauth.token_at_hand(TENANT, NAME) is None


async def test_memory_serves_the_newest_token_only(netra):
    async with Provider("strict") as provider:
        await connect(netra, provider, expires_in=3600)
        for _ in range(5):
            await netra.oauth.token(TENANT, NAME)
            newest = await netra.oauth.refresh(TENANT, NAME)
            at_hand = netra.oauth.token_at_hand(TENANT, NAME)
            assert at_hand is None or at_hand == newest
            assert await netra.oauth.token(TENANT, NAME) == newest


async def test_memory_alone_serves_for_a_second_at_most(netra, monkeypatch):
    async with Provider("strict") as provider:
        await connect(netra, provider, expires_in=3600)
        await netra.oauth.token(TENANT, NAME)
        now = asyncio.get_running_loop().time()
        monkeypatch.setattr(netra.oauth.memory, "_monotonic", lambda: now + 1.1)
        assert netra.oauth.token_at_hand(TENANT, NAME) is None


async def test_memory_serves_no_token_that_either_clock_calls_ended(netra, monkeypatch):
    async with Provider("strict") as provider:
        await connect(netra, provider, expires_in=3600)
        await netra.oauth.token(TENANT, NAME)
        wall_us = netra.runtime.clock.wall_us()
        monkeypatch.setattr(netra.oauth.memory, "_wall_us", lambda: wall_us + 3600 * 1_000_000)
        assert netra.oauth.token_at_hand(TENANT, NAME) is None


async def test_a_wall_clock_that_is_set_back_gives_no_token_more_time(netra, monkeypatch):
    async with Provider("strict") as provider:
        await connect(netra, provider, expires_in=3600)
        await netra.oauth.token(TENANT, NAME)
        monotonic = netra.runtime.clock.monotonic
        monkeypatch.setattr(netra.oauth.memory, "_monotonic", lambda: monotonic() + 3600)  # an hour, of which the wall clock says nothing
        token = await netra.oauth.token(TENANT, NAME)
        assert (token.generation, token.stale, len(provider.requests)) == (2, False, 1)
