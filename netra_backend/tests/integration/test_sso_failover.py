"""Which provider new logins go to, with issuers that fail: in the database, told, shared, and not to be brought about by strangers."""

from __future__ import annotations

import asyncio

import pytest

from netra_backend.errors import Conflict, InvalidInput
from netra_backend.kernel.scope import Scope
from netra_backend.oauth.errors import UnknownClient
from netra_backend.oauth.sso import store
from netra_backend.oauth.sso.errors import AlreadyLinked, BadProvider, NoProvider, UnknownProvider
from netra_backend.storage import log

from ..support.issuers import issuing
from ..support.sign_on import TENANT, add_provider, looked_until, signing_on, state_of
from ..support.storage import SYSTEM, eventually, with_its_server
from ..support.vaults import HASTY, audited

SCOPE = Scope(TENANT, "tester")


@pytest.fixture(params=["apsw", "postgres"])
def engine(request):
    return with_its_server(request)


@pytest.fixture
async def netra(request, prepared):
    """It is hasty only where a provider answers late: a busy machine must not look like one."""
    late = request.node.callspec.params.get("fault") == "slow"
    async with signing_on(prepared, **(HASTY if late else {})) as netra:
        yield netra


@pytest.fixture
async def first():
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
async def backup():
    async with issuing() as issuer:
        yield issuer


@pytest.fixture
async def two(netra, first, backup):
    await add_provider(netra, "first", first)
    await add_provider(netra, "backup", backup, rank=1)


async def told(netra):
    """What the operator was told of single sign-on."""

    async def read(tx):
        return await log.read_after(tx, "operational", 0, 1000)

    await eventually(lambda: netra.leader.leads)
    await netra.leader.drain()
    rows = await netra.database.read(read, scope=SYSTEM)
    return [(item["type"], item["reason"], item["to"], item["share"]) for row in rows for _, item in row.items]


@pytest.mark.parametrize("fault", ["error", "slow"])
async def test_new_logins_go_to_the_backup_and_come_back_in_steps(netra, first, two, prepared, fault):
    assert (await looked_until(netra, active="first"))["flips"] == 0
    if fault == "error":
        first.down = 503
    else:
        first.held = asyncio.Event()
    status = await looked_until(netra, active="backup")
    assert (state_of(status, "first"), status["flips"]) == ("down", 1)
    async with signing_on(prepared) as other:  # another process reads the same
        assert (await other.sso.status(TENANT))["active"] == "backup"
    first.down = None
    if first.held is not None:
        first.held.set()
        first.held = None
    assert (await looked_until(netra, returning="first"))["share"] == 10
    assert (await looked_until(netra, returning="first", share=50))["active"] == "backup"
    assert (await looked_until(netra, active="first", returning=None))["flips"] == 2
    assert await told(netra) == [("sso.flipped", "down", "backup", 100), ("sso.flipped", "recovered", "first", 10)]
    flips = [action for action in await audited(netra) if action.startswith("sso.")]
    assert flips == ["sso.settled", *["sso.flip"] * 4]


async def test_after_two_flips_it_holds_and_says_so_once(netra, first, backup, two):
    first.down = 503
    await looked_until(netra, active="backup")
    first.down = None
    await looked_until(netra, active="first", returning=None)
    first.down = 503
    assert (await looked_until(netra, held=True))["active"] == "first"
    for _ in range(3):
        await netra.sso.watch.look_at(TENANT)
    assert [reason for _, reason, _, _ in await told(netra)] == ["down", "recovered", "held"]
    assert (await netra.sso.pin(TENANT, "backup"))["active"] == "backup"  # somebody decides, whatever the limit


async def test_nothing_changes_by_itself_before_the_dwell_is_over(prepared, first, backup):
    async with signing_on(prepared, sso_dwell="1h") as netra:
        await add_provider(netra, "first", first)
        await add_provider(netra, "backup", backup, rank=1)
        first.down = 503
        status = await looked_until(netra, active="backup")
        assert 3590 < status["dwell_left_s"] <= 3600
        first.down, backup.down = None, 503
        await eventually(lambda: _is(netra, "backup", "down"))
        assert (await netra.sso.status(TENANT))["active"] == "backup"


async def _is(netra, name, state):
    await netra.sso.watch.look_at(TENANT)
    return state_of(await netra.sso.status(TENANT), name) == state


async def test_failing_logins_of_a_stranger_bring_no_failover_about(netra, first, two):
    await looked_until(netra, active="first")
    before = len(first.asked)
    for _ in range(1000):  # each of them could not reach the issuer, they say
        netra.sso.watch.hint(TENANT, first.url)
    await eventually(lambda: not netra.sso.watch._tasks)
    status = await netra.sso.status(TENANT)
    assert (status["active"], state_of(status, "first"), status["flips"]) == ("first", "up", 0)
    assert 3 <= len(first.asked) - before <= 8  # one probe, or two where the thousand took long


async def test_refreshes_that_fail_bring_an_issuer_into_doubt_and_one_probe_more_calls_it_down(prepared, first, backup):
    async with signing_on(prepared, sso_window="60s", oauth_breaker_failures=1000) as netra:
        await add_provider(netra, "first", first)
        await add_provider(netra, "backup", backup, rank=1)
        first.token = lambda _: (503, {"error": "server_error"})
        for number in range(10):
            tokens = {"access_token": f"a{number}", "refresh_token": f"r{number}", "expires_in": 0}
            await netra.oauth.import_(TENANT, f"user-{number}", "first", tokens)
        await asyncio.gather(*(netra.oauth.refresh(TENANT, f"user-{number}") for number in range(10)), return_exceptions=True)
        await eventually(lambda: _state(netra, "first", "degraded"))
        await netra.sso.watch.look_at(TENANT, first.url)
        assert (await netra.sso.status(TENANT))["active"] == "backup"


async def _state(netra, name, state):
    return state_of(await netra.sso.status(TENANT), name) == state


async def test_refusals_of_a_token_endpoint_are_health(netra, first, two):
    for error, status in (("invalid_client", 401), ("unauthorized_client", 400), ("slow_down", 400), ("temporarily_unavailable", 429)):
        first.token = lambda _, e=error, s=status: (s, {"error": e})
        for _ in range(4):
            await netra.sso.watch.look_at(TENANT, first.url)
    assert (await netra.sso.status(TENANT))["active"] == "first"
    first.token = lambda _: (400, {"error": "server_error"})
    for _ in range(3):
        await netra.sso.watch.look_at(TENANT, first.url)
    assert (await netra.sso.status(TENANT))["active"] == "backup"


async def test_one_process_watches_and_another_goes_on_where_it_has_ended(prepared, first, backup):
    async with signing_on(prepared) as one, signing_on(prepared) as two:
        await add_provider(one, "first", first)
        await add_provider(one, "backup", backup, rank=1)
        await one.sso.watch.look()
        await two.sso.watch.look()
        asked = len(first.asked)
        await two.sso.watch.look()
        assert len(first.asked) == asked  # the first one has the lease
        first.down = 503
        await one.sso.watch.look_at(TENANT, first.url)
        await two.sso.watch.look_at(TENANT, first.url)
        await one.sso.watch.look_at(TENANT, first.url)
        assert (await two.sso.status(TENANT))["active"] == "backup"


async def test_a_chore_that_hangs_keeps_no_look_waiting_and_is_not_begun_twice(netra):
    begun = []

    async def hanging():
        begun.append("chore")
        await asyncio.Event().wait()

    netra.sso.watch.chores[:] = [hanging]
    for _ in range(3):
        await asyncio.wait_for(netra.sso.watch.look(), 10)
    assert begun == ["chore"]


async def test_a_provider_needs_an_issuer_that_people_can_log_in_at(netra, first):
    with pytest.raises(UnknownClient):
        await netra.sso.set_provider(TENANT, "first", {"client": "nobody"})
    await netra.oauth.set_client(TENANT, "plain", {"endpoints": {"token": "http://127.0.0.1/t"}, "client_id": "netra"})
    with pytest.raises(BadProvider, match="nobody can log in"):
        await netra.sso.set_provider(TENANT, "first", {"client": "plain"})
    bad = [
        {"algorithms": ["none"]}, {"algorithms": ["HS256"]}, {"roles": {"king": ["x"]}}, {"roles": {"admin": ["x"]}}, {"default_role": "king"},
        {"role_claim": 7}, {"audiences": "x"}, {"strange": 1}, {"rank": -1}, {"rank": True}, {"enabled": 1}, {"client": ""},
    ]  # fmt: skip
    for given in bad:
        with pytest.raises(InvalidInput):
            await add_provider(netra, "first", first, **given)
    with pytest.raises(NoProvider):
        await netra.sso.status(TENANT)


async def test_a_pin_leads_and_a_provider_that_is_taken_away_is_led_to_no_more(netra, first, backup, two):
    with pytest.raises(UnknownProvider):
        await netra.sso.pin(TENANT, "nobody")
    assert (await netra.sso.pin(TENANT, "backup"))["pinned"] == "backup"
    await add_provider(netra, "backup", backup, rank=1, enabled=False)
    status = await netra.sso.status(TENANT)
    assert (status["active"], status["pinned"]) == ("first", None)
    with pytest.raises(UnknownProvider):
        await netra.sso.pin(TENANT, "backup")


async def test_an_identity_is_linked_beforehand_to_one_and_never_in_a_chain(netra, two):
    made = await netra.sso.link(TENANT, "first", "u1", "backup", "b1")
    assert made == await netra.sso.link(TENANT, "first", "u1", "backup", "b1")  # the same again
    for arguments in (
        ("first", "u2", "backup", "b1"),  # of two people
        ("backup", "b1", "first", "u3"),  # a backup's backup
        ("backup", "b2", "first", "u1"),  # who has a backup becomes none
    ):
        with pytest.raises(AlreadyLinked):
            await netra.sso.link(TENANT, *arguments)
    with pytest.raises(UnknownProvider):
        await netra.sso.link(TENANT, "first", "u1", "nobody", "b1")
    for arguments in (("first", "u1", "first", "u2"), ("first", "", "backup", "b"), ("first", "u\n", "backup", "b")):
        with pytest.raises(InvalidInput):
            await netra.sso.link(TENANT, *arguments)


async def test_two_changes_at_once_are_as_if_one_had_been_first(netra, first, backup, two, prepared):
    async with signing_on(prepared) as other:
        pins = await asyncio.gather(*(each.sso.pin(TENANT, "backup") for each in (netra, other)), return_exceptions=True)
        assert all(isinstance(each, Conflict) or each["pinned"] == "backup" for each in pins)
        links = [each.sso.link(TENANT, "first", "u1", "backup", f"b{number}") for number, each in enumerate((netra, other))]
        assert all(isinstance(each, Conflict | dict) for each in await asyncio.gather(*links, return_exceptions=True))
        seen = await netra.database.read(store.rotation, scope=SCOPE)
        swaps = [each.database.write(store.swap, seen[1], seen[0].advanced(1), None, scope=SCOPE) for each in (netra, other)]
        found = await asyncio.gather(*swaps, return_exceptions=True)
        assert sorted(type(each).__name__ for each in found) == ["NoneType", "RotationMoved"]
