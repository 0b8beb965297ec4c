"""Endpoint health on every engine: swapped only as it was seen, one probe in the fleet, gates that only rise."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from functools import partial

import pytest

from netra_backend.kernel.scope import Scope
from netra_backend.resilience.circuit_breaker import CLOSED, Breaker
from netra_backend.storage.audit_append import Q as AUDIT
from netra_backend.webhooks import endpoints, health, probes, store
from netra_backend.webhooks.intake import ingest
from netra_backend.webhooks.model import WELL, EndpointHealth, News

from ..support.storage import SYSTEM, query, take_outbox
from ..support.webhooks import claimed, due, endpoint_of, in_tenant, intake, live_node, outcome, reap, row, version_of

LONG_AGO = Breaker("open", 1_000, 2_000, openings=1)
FOR_EVER = Breaker("open", 1_000, 2**60, openings=1)


def lane_of(endpoint):
    return endpoint.tenant, endpoint.id


def news(endpoint, before=WELL, after=WELL, disable=""):
    return News(*lane_of(endpoint), before, after, disable)


async def settle(database, *changes):
    await database.write(health.settle, list(changes), scope=SYSTEM)


async def health_of(database, endpoint):
    return (await database.read(health.health_of, [lane_of(endpoint)], scope=SYSTEM)).get(lane_of(endpoint), WELL)


async def opened(database, breaker=LONG_AGO, tenant="acme", **fields):
    """An endpoint whose breaker stands so."""
    endpoint = await endpoint_of(database, tenant)
    await settle(database, news(endpoint, after=EndpointHealth(breaker, **fields)))
    return endpoint


def wanted(endpoint, node, before=LONG_AGO, *, since_us=5_000, until_us=2**60):
    seen = EndpointHealth(before)
    probing = replace(before, phase="half_open", since_us=since_us, until_us=until_us)
    return lane_of(endpoint), seen, EndpointHealth(probing, node)


async def take(database, node, *swaps):
    return await database.write(probes.take, node, list(swaps), scope=SYSTEM)


async def test_an_endpoint_that_was_always_well_has_no_row(database):
    endpoint = await endpoint_of(database)
    assert await health_of(database, endpoint) == WELL
    assert await database.read(health.unwell, ("", b""), scope=SYSTEM) == []


async def test_an_acknowledgement_changes_the_breaker_with_the_delivery_or_not_at_all(database):
    endpoint, node = await endpoint_of(database), await live_node(database)
    await due(database, endpoint, 2)
    kept, lost = await claimed(database, node, endpoint)
    opening = EndpointHealth(FOR_EVER)
    await database.write(store.release, node, [lost.key], scope=SYSTEM)
    zombie = replace(outcome(lost, "due", due_us=1), news=news(endpoint, after=opening))
    assert await database.write(store.acknowledge, [zombie], scope=SYSTEM) == [False]
    assert await health_of(database, endpoint) == WELL, "an owner that lost its lease changed a state"
    ours = replace(outcome(kept, "due", due_us=1), news=news(endpoint, after=opening))
    assert await database.write(store.acknowledge, [ours], scope=SYSTEM) == [True]
    assert await health_of(database, endpoint) == opening


async def test_a_swap_from_a_state_that_is_not_there_any_more_changes_nothing(database):
    endpoint = await opened(database)
    other = EndpointHealth(Breaker("open", 9, 9, openings=9))
    for stale in (WELL, EndpointHealth(replace(LONG_AGO, openings=7)), EndpointHealth(replace(LONG_AGO, until_us=3))):
        await settle(database, news(endpoint, stale, other))
        assert await health_of(database, endpoint) == EndpointHealth(LONG_AGO)
    await settle(database, news(endpoint, EndpointHealth(LONG_AGO), other))
    assert await health_of(database, endpoint) == other


async def test_an_endpoint_that_is_well_again_is_found_well_and_may_fall_ill_again(database):
    endpoint = await opened(database)
    await settle(database, news(endpoint, EndpointHealth(LONG_AGO), WELL))
    assert await health_of(database, endpoint) == WELL
    assert await database.read(health.unwell, ("", b""), scope=SYSTEM) == []
    await settle(database, news(endpoint, WELL, EndpointHealth(FOR_EVER)))
    assert await health_of(database, endpoint) == EndpointHealth(FOR_EVER)


async def test_the_outcomes_of_one_group_are_one_swap_and_a_broken_chain_keeps_its_newest_part(database):
    endpoint, other = await endpoint_of(database), await endpoint_of(database)
    one, two, three = (EndpointHealth(Breaker(limit=4, credit=credit)) for credit in (1, 2, 3))
    await settle(database, news(endpoint, WELL, one), news(other, WELL, one), news(endpoint, one, two))
    assert [await health_of(database, each) for each in (endpoint, other)] == [two, one]
    await settle(database, news(endpoint, one, three), news(endpoint, two, three))
    assert await health_of(database, endpoint) == three


async def test_of_two_swaps_at_once_from_one_state_one_is_made(pair):
    endpoint = await opened(pair[0])
    closings = [EndpointHealth(Breaker(since_us=at_us, openings=1, limit=1)) for at_us in (7, 8)]
    await asyncio.gather(*(settle(door, news(endpoint, EndpointHealth(LONG_AGO), each)) for door, each in zip(pair, closings, strict=True)))
    assert await health_of(pair[0], endpoint) in closings


async def test_of_two_first_changes_at_once_one_is_made(pair):
    endpoint = await endpoint_of(pair[0])
    openings = [EndpointHealth(replace(FOR_EVER, since_us=at_us)) for at_us in (7, 8)]
    await asyncio.gather(*(settle(door, news(endpoint, WELL, each)) for door, each in zip(pair, openings, strict=True)))
    assert await health_of(pair[0], endpoint) in openings


async def test_the_latest_of_several_gates_holds_whatever_became_of_the_swap(pair):
    endpoint = await opened(pair[0], gate_us=2**50)
    stale = EndpointHealth(Breaker(limit=3))
    changes = [news(endpoint, stale, replace(stale, gate_us=gate_us)) for gate_us in (2**51, 2**49)]
    await asyncio.gather(*(settle(door, change) for door, change in zip(pair, changes, strict=True)))
    await settle(pair[0], changes[1])  # the nearer one last, whoever came first
    assert await health_of(pair[0], endpoint) == EndpointHealth(LONG_AGO, gate_us=2**51)


async def test_a_gate_that_has_passed_is_cleared_and_one_that_holds_is_not(database):
    passed, holding = await opened(database, CLOSED, gate_us=5), await opened(database, CLOSED, gate_us=2**60)
    for endpoint, gate_us in ((passed, 5), (holding, 2**60)):
        await settle(database, news(endpoint, EndpointHealth(gate_us=gate_us), WELL))
    assert [(await health_of(database, each)).gate_us for each in (passed, holding)] == [0, 2**60]


@pytest.mark.parametrize("unwell", [{"breaker": FOR_EVER}, {"breaker": CLOSED, "gate_us": 2**60}], ids=["parked", "gated"])
async def test_nothing_is_claimed_for_an_endpoint_that_is_parked_or_gated_whoever_does_not_know_it_yet(database, unwell):
    endpoint, node = await opened(database, **unwell), await live_node(database)
    well = await endpoint_of(database)
    (message,) = await due(database, endpoint)
    await due(database, well)
    before = await row(database, endpoint, message)
    lanes = [(lane_of(endpoint), 10), (lane_of(well), 10)]
    assert [each.endpoint_id for each in await database.write(store.claim, node, lanes, scope=SYSTEM)] == [well.id]
    assert await row(database, endpoint, message) == before


async def test_what_is_claimed_in_a_slow_start_is_as_much_as_is_asked_for(database):
    endpoint, node = await opened(database, Breaker(since_us=5, openings=1, limit=2)), await live_node(database)
    await due(database, endpoint, 3)
    assert len(await claimed(database, node, endpoint, free=2)) == 2


async def test_the_prober_gets_the_one_delivery_that_was_due_for_longest(database):
    endpoint, node = await opened(database), await live_node(database)
    messages = [(await due(database, endpoint))[0] for _ in range(3)]
    taken = await take(database, node, wanted(endpoint, node))
    assert (taken.lanes, [each.message.id for each in taken.deliveries]) == ({lane_of(endpoint)}, messages[:1])
    assert await health_of(database, endpoint) == wanted(endpoint, node)[2]
    assert [(await row(database, endpoint, message)).state for message in messages] == ["leased", "due", "due"]
    assert await claimed(database, await live_node(database), endpoint) == []


async def test_each_change_of_the_phase_is_kept_with_its_time_whoever_makes_it_and_nothing_else_is(database):
    endpoint, node = await opened(database), await live_node(database)
    await due(database, endpoint, 2)
    await take(database, node, wanted(endpoint, node))
    await database.write(probes.give_up, [lane_of(endpoint)], node, scope=SYSTEM)
    found = await turns_of(database, endpoint)
    assert found == [("open", found[0].at_us), ("half_open", 5_000), ("open", 1_000)]
    given_up = (await health_of(database, endpoint)).breaker
    slow = Breaker(since_us=9_000, openings=1, limit=1)
    await settle(database, news(endpoint, EndpointHealth(given_up), EndpointHealth(slow)))
    await settle(database, news(endpoint, EndpointHealth(slow), EndpointHealth(replace(slow, limit=2))))
    assert (await turns_of(database, endpoint))[0] == ("closed", 9_000)
    await settle(database, news(endpoint, EndpointHealth(replace(slow, limit=2)), EndpointHealth(FOR_EVER)))
    await database.write(endpoints.disable, *lane_of(endpoint), "it was asked for", scope=SYSTEM)
    assert [each.phase for each in await turns_of(database, endpoint)] == ["closed", "open", "closed", "open", "half_open", "open"]


async def test_of_a_breaker_that_turns_without_end_the_newest_hundred_are_kept(database):
    endpoint, before = await endpoint_of(database), WELL
    for number in range(1, 131):
        after = EndpointHealth(Breaker("open" if number % 2 else "closed", 10**15 + number, 2**60))
        await settle(database, news(endpoint, before, after))
        before = after
    found = await turns_of(database, endpoint)
    assert 100 <= len(found) < 130
    assert [each.at_us - 10**15 for each in found] == [*range(130, 130 - len(found), -1)]


async def turns_of(database, endpoint):
    return await database.read(health.turns, endpoint.id, scope=Scope(endpoint.tenant, "tester"))


async def test_of_two_processes_at_once_one_takes_the_probe(pair):
    endpoint, nodes = await opened(pair[0]), [await live_node(pair[0]), await live_node(pair[0])]
    await due(pair[0], endpoint, 5)
    taken = await asyncio.gather(*(take(door, node, wanted(endpoint, node)) for door, node in zip(pair, nodes, strict=True)))
    assert sorted(len(each.lanes) for each in taken) == [0, 1]
    assert sum(len(each.deliveries) for each in taken) == 1
    prober = (await health_of(pair[0], endpoint)).prober
    assert [node for node, each in zip(nodes, taken, strict=True) if each.lanes] == [prober]


async def test_a_probe_is_taken_only_with_something_to_send_and_only_by_a_node_that_lives(database):
    endpoint, node, dead = await opened(database), await live_node(database), await live_node(database)
    assert (await take(database, node, wanted(endpoint, node))).lanes == set()
    await due(database, endpoint)
    await reap(database, dead)
    assert (await take(database, dead, wanted(endpoint, dead))).lanes == set()
    assert await health_of(database, endpoint) == EndpointHealth(LONG_AGO)


async def test_a_gate_is_not_undercut_by_a_probe(database):
    endpoint, node = await opened(database, gate_us=2**60), await live_node(database)
    await due(database, endpoint)
    assert (await take(database, node, wanted(endpoint, node))).lanes == set()


async def test_a_prober_whose_time_is_over_is_replaced_and_its_outcome_counts_no_more(database):
    endpoint, slow, next_ = await opened(database), await live_node(database), await live_node(database)
    await due(database, endpoint, 2)
    await take(database, slow, wanted(endpoint, slow))
    was = wanted(endpoint, slow)[2]
    mine = EndpointHealth(replace(was.breaker, since_us=9_000), next_)
    taken = await take(database, next_, (lane_of(endpoint), was, mine))
    assert len(taken.deliveries) == 1
    await settle(database, news(endpoint, was, EndpointHealth(Breaker(since_us=9_500, openings=1, limit=1))))
    assert await health_of(database, endpoint) == mine


async def test_the_probe_of_a_dead_node_is_given_up_and_that_of_a_living_one_is_not(database):
    lanes, nodes = [await opened(database), await opened(database)], [await live_node(database), await live_node(database)]
    for endpoint, node in zip(lanes, nodes, strict=True):
        await due(database, endpoint)
        await take(database, node, wanted(endpoint, node))
    await reap(database, nodes[0])
    assert await database.write(probes.give_up, [lane_of(each) for each in lanes], scope=SYSTEM) == [lane_of(lanes[0])]
    again = await health_of(database, lanes[0])
    assert (again.breaker.phase, again.prober, again.breaker.openings) == ("open", None, 1)
    assert again.breaker.until_us < 2**60, "the next probe may be taken now"
    assert (await health_of(database, lanes[1])).prober == nodes[1]


async def test_two_sweeps_at_once_give_a_dead_nodes_probe_up_once(pair):
    endpoint, node = await opened(pair[0]), await live_node(pair[0])
    await due(pair[0], endpoint)
    await take(pair[0], node, wanted(endpoint, node))
    await reap(pair[0], node)
    given = await asyncio.gather(*(door.write(probes.give_up, [lane_of(endpoint)], scope=SYSTEM) for door in pair))
    assert sorted(map(len, given)) == [0, 1]


async def test_what_waited_past_its_deadline_dies_before_the_probe_and_has_burned_no_attempt(database):
    endpoint, node = await opened(database), await live_node(database)
    version = await version_of(database)
    expired = [await past_its_deadline(database, endpoint, version) for _ in range(2)]
    (alive,) = await due(database, endpoint)
    taken = await take(database, node, wanted(endpoint, node))
    assert (taken.expired, [each.message.id for each in taken.deliveries]) == (2, [alive])
    for message in expired:
        stands = await row(database, endpoint, message)
        assert (stands.state, stands.number) == ("dead", 0)
        assert "deadline" in stands.reason


async def past_its_deadline(database, endpoint, version):
    item = replace(intake(endpoint, version), deadline_s=-1.0)
    (answer,) = await database.write(ingest, [item], None, scope=SYSTEM)
    return answer.message.id


async def test_two_takers_at_once_bury_each_expired_delivery_once(pair):
    endpoint, nodes = await opened(pair[0]), [await live_node(pair[0]), await live_node(pair[0])]
    version = await version_of(pair[0])
    for _ in range(3):
        await past_its_deadline(pair[0], endpoint, version)
    taken = await asyncio.gather(*(take(door, node, wanted(endpoint, node)) for door, node in zip(pair, nodes, strict=True)))
    assert sorted(each.expired for each in taken) == [0, 3]
    assert [each.lanes for each in taken] == [set(), set()]


async def test_a_receivers_wish_disables_its_endpoint_once_with_an_entry_and_an_event(database):
    endpoint = await opened(database)
    before = await version_of(database)
    wish = news(endpoint, EndpointHealth(LONG_AGO), EndpointHealth(LONG_AGO), "the receiver answered 410")
    await settle(database, wish)
    await settle(database, wish)
    assert (await database.read(endpoints.get, endpoint.text_id, scope=in_tenant("acme"))).disabled
    assert await version_of(database) == before + 1
    assert await health_of(database, endpoint) == WELL, "what is due for it would wait, and nothing is sent any more"
    entries = await database.read(partial(query, statement=AUDIT.list_audit_entries, after=b"", limit=100), scope=in_tenant("acme"))
    (entry,) = [each for each in entries if each[3] == "endpoint.disable"]
    assert entry[5] == endpoint.id.hex() and "410" in entry[9]
    (event,) = [item for item in await emitted(database) if item["type"] == "endpoint.disabled"]
    assert (event["endpoint"], event["reason"]) == (endpoint.id.hex(), "the receiver answered 410")


async def emitted(database):
    """Every event so far, whether the log's leader has moved it or not."""
    rows = await database.write(take_outbox, scope=SYSTEM)
    return [item for _, stream, _, items, _ in rows if stream == "events" for _, item in json.loads(items)]


async def test_two_wishes_at_once_disable_once(pair):
    endpoint = await endpoint_of(pair[0])
    before = await version_of(pair[0])
    await asyncio.gather(*(settle(door, news(endpoint, disable="the receiver answered 410")) for door in pair))
    assert await version_of(pair[0]) == before + 1


@pytest.mark.parametrize(
    ("change", "well"), [({"url": "http://127.0.0.1/new"}, True), ({"disabled": True}, True), ({"description": "x"}, False)]
)
async def test_another_url_or_being_disabled_makes_an_endpoint_well_and_no_other_change_does(database, change, well):
    endpoint = await opened(database, FOR_EVER, gate_us=2**60)
    await database.write(endpoints.update, endpoint.text_id, change, scope=in_tenant("acme"))
    assert (await health_of(database, endpoint) == WELL) is well


async def test_a_deleted_endpoint_is_well_so_that_what_was_due_is_cancelled_at_once(database):
    endpoint = await opened(database, FOR_EVER)
    await database.write(endpoints.bury, endpoint.text_id, scope=in_tenant("acme"))
    assert await health_of(database, endpoint) == WELL


async def test_a_change_and_a_swap_at_once_end_as_one_after_the_other(pair):
    endpoint = await opened(pair[0])
    closing = EndpointHealth(Breaker(since_us=9, openings=1, limit=1))
    await asyncio.gather(
        pair[0].write(endpoints.update, endpoint.text_id, {"url": "http://127.0.0.1/new"}, scope=in_tenant("acme")),
        settle(pair[1], news(endpoint, EndpointHealth(LONG_AGO), closing)),
    )
    assert await health_of(pair[0], endpoint) == WELL, "the swap came first and was reset, or came second and was lost"


async def test_those_that_are_not_well_are_found_page_by_page(database, monkeypatch):
    monkeypatch.setattr(health, "PAGE", 2)
    sick = sorted([lane_of(await opened(database, tenant=tenant)) for tenant in ("a", "b", "b", "c", "c")])
    await endpoint_of(database, "d")
    found, after = [], ("", b"")
    while page := await database.read(health.unwell, after, scope=SYSTEM):
        assert len(page) <= 2
        found += [lane for lane, _ in page]
        after = found[-1]
    assert found == sick


async def test_the_counts_are_those_of_every_tenant(database):
    node = await live_node(database)
    probing = Breaker("half_open", 1, 2, openings=1)
    for tenant, breaker, fields in (
        ("a", FOR_EVER, {"gate_us": 2**60}),
        ("b", FOR_EVER, {}),
        ("b", probing, {"prober": node}),
        ("c", Breaker(since_us=3, openings=1, limit=4), {}),
        ("c", CLOSED, {"gate_us": 2**60}),
        ("c", CLOSED, {"gate_us": 1}),
    ):
        await opened(database, breaker, tenant, **fields)
    assert await database.read(health.counts, scope=SYSTEM) == {"open": 2, "half_open": 1, "slow_start": 1, "gated": 2, "failing": 0}


async def test_a_tenant_is_shown_its_own_endpoints_health(database):
    mine, theirs = await opened(database, tenant="acme"), await opened(database, tenant="globex")
    shown = await database.read(health.with_health, [mine, theirs], scope=in_tenant("acme"))
    assert [each for _, each in shown] == [EndpointHealth(LONG_AGO), WELL]
