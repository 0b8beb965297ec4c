"""Two copies of each verb of the vault at once, through two doors to one database: as if one of them had run before the other."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from netra_backend.errors import NetraError
from netra_backend.oauth import flows, store
from netra_backend.oauth.errors import GrantInUse
from netra_backend.oauth.flows import Beginning
from netra_backend.oauth.model import Client, Grant, Lease, Ready
from netra_backend.storage.sealing import RootKeys, Sealer
from netra_backend.storage.tenants import ensure

from ..support.storage import ACME, SYSTEM
from .test_concurrent_webhook_copies import verbs_of

PACKAGE = Path(__file__).parents[2]
SEALER = Sealer(RootKeys({"r1": b"1" * 32}))
CLIENT = Client(b"c" * 16, "idp", None, ("http://one/token",), "http://one/authorize", None, "id", "none", ())
FAR_US = 10**18
READS = {
    "store.client_named", "store.client_of", "store.client_of_connection", "store.clients", "store.connection_named",
    "store.connection_and_client", "store.connections", "store.current", "store.due", "store.generations", "store.spool_key",
    "flows.found", "flows.get", "flows.look", "flows.overdue", "flows.due_polls", "flows.ended",
}  # fmt: skip
HERE = {
    "store.set_client", "store.import_grant", "store.replace", "store.fail", "store.begin", "store.send_again", "store.give_up",
    "store.doubt", "store.reject", "store.commit", "store.revoke", "store.note_reading",
    "flows.begin", "flows.consume", "flows.commit", "flows.end", "flows.expire", "flows.follow", "flows.take_poll",
    "flows.poll_later", "flows.trim",
}  # fmt: skip
"""`replace` and `fail` are steps of verbs that are here, `note_reading` inserts one row with an id of its own."""


def grant(number, expires_us=FAR_US):
    return Grant(f"at-{number}", f"rt-{number}", 0, expires_us)


async def both(pair, verb, *arguments):
    return await asyncio.gather(*(door.write(verb, *arguments, scope=ACME) for door in pair), return_exceptions=True)


@pytest.fixture
async def pair(pair):
    await pair[0].write(ensure, "acme", scope=SYSTEM)
    return pair


async def a_connection(database):
    await database.write(store.set_client, SEALER, CLIENT, scope=ACME)
    return await database.write(store.import_grant, SEALER, "user", "idp", grant(1), scope=ACME)


async def a_lease(database):
    made = await a_connection(database)
    lease = await database.write(store.begin, SEALER, made.id, 1, b"h" * 16, None, scope=ACME)
    assert isinstance(lease, Lease)
    return lease


async def state_of(database, id_):
    return await database.write(store.current, SEALER, id_, scope=ACME)


def test_every_verb_of_the_vault_has_its_two_copies_here():
    verbs = {verb for path in (PACKAGE / "oauth").glob("*.py") for verb in verbs_of(path)}
    assert verbs - READS - HERE == set(), "add a test of two copies at once, or say that it only reads"
    assert (READS | HERE) - verbs == set(), "no such verb any more"


async def test_two_registrations_are_one_and_a_conflict_or_one_after_the_other(pair):
    found = await both(pair, store.set_client, SEALER, CLIENT)
    assert all(isinstance(each, Client | NetraError) for each in found)
    assert any(isinstance(each, Client) for each in found)


async def test_two_imports_of_a_new_name_are_one(pair):
    await pair[0].write(store.set_client, SEALER, CLIENT, scope=ACME)
    found = await both(pair, store.import_grant, SEALER, "user", "idp", grant(1))
    assert all(isinstance(each, GrantInUse) or each.name == "user" for each in found)
    assert (await pair[0].read(store.connection_named, SEALER, "user", scope=ACME)).refresh == "rt-1"


async def test_two_imports_over_a_connection_follow_each_other(pair):
    await a_connection(pair[0])
    found = await both(pair, store.import_grant, SEALER, "user", "idp", grant(2))
    assert sorted(each.generation for each in found) == [3, 5]


async def test_a_lease_is_taken_once(pair):
    made = await a_connection(pair[0])
    holders = (b"a" * 16, b"b" * 16)
    steps = await asyncio.gather(
        *(door.write(store.begin, SEALER, made.id, 1, holder, None, scope=ACME) for door, holder in zip(pair, holders, strict=True))
    )
    assert sorted(type(step).__name__ for step in steps) == ["Busy", "Lease"]


async def test_a_lapsed_lease_is_taken_over_once(pair):
    lease = await a_lease(pair[0])
    lapsed = (lease.holder, lease.fence)
    steps = await asyncio.gather(
        *(
            door.write(store.begin, SEALER, lease.connection.id, 1, holder, lapsed, scope=ACME)
            for door, holder in zip(pair, (b"a" * 16, b"b" * 16), strict=True)
        )
    )
    assert sorted(type(step).__name__ for step in steps) == ["Busy", "Lease"]
    (taken,) = (step for step in steps if isinstance(step, Lease))
    assert (taken.replayed, taken.fence) == (True, lease.fence + 1)
    assert not await pair[0].write(store.send_again, lease, 0, scope=ACME)  # the former holder has lost it


async def test_two_replays_are_counted_both(pair):
    lease = await a_lease(pair[0])
    assert await both(pair, store.send_again, lease, 0) == [True, True]
    assert (await state_of(pair[0], lease.connection.id)).attempts == 3


async def test_one_successor_is_committed_once(pair):
    lease = await a_lease(pair[0])
    was = lease.connection
    found = await both(pair, store.commit, SEALER, was.id, was.generation, was.rt_fp, grant(2), 0)
    assert [each.generation for each in found] == [2, 2]


async def test_of_two_successors_of_one_token_one_is_committed_and_one_kept(pair):
    lease = await a_lease(pair[0])
    was = lease.connection
    commits = (
        door.write(store.commit, SEALER, was.id, was.generation, was.rt_fp, grant(number), 0, scope=ACME)
        for door, number in zip(pair, (2, 3), strict=True)
    )
    found = await asyncio.gather(*commits)
    assert [each.generation for each in found] == [2, 2]
    now = await state_of(pair[0], was.id)
    other = {"rt-2": "rt-3", "rt-3": "rt-2"}[now.refresh]
    lease = await pair[0].write(store.begin, SEALER, was.id, 2, b"h" * 16, None, scope=ACME)
    promoted, is_promoted = await pair[0].write(store.reject, SEALER, lease, "invalid_grant", scope=ACME)
    assert (promoted.refresh, promoted.generation, is_promoted) == (other, 3, True)


async def test_two_refusals_are_one(pair):
    lease = await a_lease(pair[0])
    found = await both(pair, store.reject, SEALER, lease, "invalid_grant")
    assert [(now.state, promoted) for now, promoted in found] == [("reauth_required", False)] * 2


async def test_two_doubts_are_one(pair):
    lease = await a_lease(pair[0])
    found = await both(pair, store.doubt, SEALER, lease, "timeout", 1.0)
    assert [each.state for each in found] == ["at_risk"] * 2


async def test_an_attempt_is_given_up_once(pair):
    lease = await a_lease(pair[0])

    async def give_up(tx):
        return await store.give_up(tx, SEALER, lease, 60.0, keep_intent=False, tried=[("http://one/token", "connect")])

    found = await both(pair, give_up)
    assert [(each.holder, each.attempt_fp) for each in found] == [(None, None)] * 2
    step = await pair[0].write(store.begin, SEALER, lease.connection.id, 1, b"h" * 16, None, scope=ACME)
    assert isinstance(step, Ready)  # the pause is not over


async def test_a_success_and_a_refusal_at_once_leave_the_success(pair):
    lease = await a_lease(pair[0])
    was = lease.connection
    await asyncio.gather(
        pair[0].write(store.commit, SEALER, was.id, was.generation, was.rt_fp, grant(2), 0, scope=ACME),
        pair[1].write(store.reject, SEALER, lease, "invalid_grant", scope=ACME),
    )
    now = await state_of(pair[0], was.id)
    assert (now.state, now.refresh) == ("active", "rt-2")


async def test_a_success_and_a_revocation_at_once_leave_nothing(pair):
    lease = await a_lease(pair[0])
    was = lease.connection
    await asyncio.gather(
        pair[0].write(store.commit, SEALER, was.id, was.generation, was.rt_fp, grant(2), 0, scope=ACME),
        pair[1].write(store.revoke, SEALER, "user", "test", scope=ACME),
    )
    now = await state_of(pair[0], was.id)
    assert (now.state, now.access, now.refresh) == ("revoked", None, None)


async def test_two_revocations_are_one(pair):
    made = await a_connection(pair[0])
    await both(pair, store.revoke, SEALER, "user", "test")
    assert (await state_of(pair[0], made.id)).generation == 2


async def a_flow(database, state=b"s" * 32):
    await database.write(store.set_client, SEALER, CLIENT, scope=ACME)
    await database.write(flows.begin, SEALER, "new", "idp", Beginning(state, "verifier", "http://back/"), scope=ACME)
    found = await database.read(flows.found, state, scope=replace(ACME, tenant="*"))
    return found[1]


async def test_two_ways_of_a_new_name_are_one_pending_connection(pair):
    await pair[0].write(store.set_client, SEALER, CLIENT, scope=ACME)
    begins = (
        door.write(flows.begin, SEALER, "new", "idp", Beginning(state * 32, "v", "http://back/"), scope=ACME)
        for door, state in zip(pair, (b"a", b"b"), strict=True)
    )
    found = await asyncio.gather(*begins, return_exceptions=True)
    assert all(isinstance(each, tuple | GrantInUse) for each in found)
    assert (await pair[0].read(store.connection_named, SEALER, "new", scope=ACME)).state == "pending"


async def test_a_state_is_consumed_once(pair):
    flow = await a_flow(pair[0])
    found = await both(pair, flows.consume, SEALER, flow)
    assert sorted(each is None for each in found) == [False, True]


async def a_flow_of(database, kind, **facts):
    await database.write(store.set_client, SEALER, CLIENT, scope=ACME)
    await database.write(flows.begin, SEALER, "new", "idp", Beginning(kind[:1].encode() * 32, "v", kind=kind, **facts), scope=ACME)
    return (await database.read(flows.found, kind[:1].encode() * 32, scope=replace(ACME, tenant="*")))[1]


async def test_a_link_is_followed_once(pair):
    flow = await a_flow_of(pair[0], "link")
    found = await both(pair, flows.follow, SEALER, flow)
    assert sorted(each is None for each in found) == [False, True]


async def test_a_devices_code_is_asked_for_by_one(pair):
    flow = await a_flow_of(pair[0], "device", interval_s=0)
    found = await both(pair, flows.take_poll, SEALER, flow, 60)
    assert sorted(each is None for each in found) == [False, True]
    await both(pair, flows.poll_later, flow, 7)
    assert (await pair[0].read(flows.get, SEALER, flow, scope=ACME)).interval_s == 7


async def test_a_codes_tokens_are_committed_once(pair):
    flow = await a_flow(pair[0])
    await pair[0].write(flows.consume, SEALER, flow, scope=ACME)
    connection = (await pair[0].read(flows.get, SEALER, flow, scope=ACME)).connection
    found = await both(pair, flows.commit, SEALER, flow, connection, grant(1))
    assert [(each.state, each.generation) for each in found] == [("active", 1)] * 2


async def test_a_way_that_ended_is_deleted_once_and_one_that_is_open_is_not(pair):
    flow = await a_flow(pair[0])
    assert await both(pair, flows.trim, [flow]) == [0, 0]
    await pair[0].write(flows.end, SEALER, flow, "failed", "one", scope=ACME)
    assert sorted(await both(pair, flows.trim, [flow])) == [0, 1]


async def test_a_way_ends_once(pair):
    flow = await a_flow(pair[0])
    await asyncio.gather(
        pair[0].write(flows.end, SEALER, flow, "failed", "one", scope=ACME),
        pair[1].write(flows.expire, SEALER, flow, scope=ACME),
        pair[1].write(flows.end, SEALER, flow, "refused", "two", scope=ACME),
    )
    ended = await pair[0].read(flows.get, SEALER, flow, scope=ACME)
    now = await pair[0].read(store.connection_named, SEALER, "new", scope=ACME)
    assert (now.state, now.reason) == ("failed", ended.reason)
