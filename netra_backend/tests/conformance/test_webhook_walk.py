"""The walk over lanes with due deliveries on every engine: it comes by each of them, and by each tenant soon."""

from __future__ import annotations

import pytest

from netra_backend.webhooks import endpoints
from netra_backend.webhooks.intake import Target, ingest
from netra_backend.webhooks.walk import SHARE, Walk, go_on

from ..support.storage import SYSTEM
from ..support.webhooks import SEALER, claimed, described, due, endpoint_of, in_tenant, intake, live_node, version_of

PART = 4 * SHARE


async def part(database, walk, limit=PART):
    """The lanes of the next part, and where the walk then stands."""
    found, walk = await database.read(go_on, walk, limit, scope=SYSTEM)
    return [lane for lane, _ in found], walk


async def many_lanes(database, tenant, count):
    """A message that is due for that many endpoints of one tenant; these, in the order of the walk."""
    first = await endpoint_of(database, tenant)

    async def others(tx):
        return [await endpoints.create(tx, SEALER, described(), None) for _ in range(count - 1)]

    made = [first, *await database.write(others, scope=in_tenant(tenant))]
    item = intake(first, await version_of(database, tenant), targets=[Target(each.id) for each in made])
    await database.write(ingest, [item], None, scope=SYSTEM)
    return sorted(made, key=lambda each: each.id)


async def test_a_backlog_of_one_lane_hides_no_other_lane(database):
    lanes = [await endpoint_of(database, tenant) for tenant in ("a", "b", "c")]
    await due(database, lanes[0], 50)
    for endpoint in lanes[1:]:
        await due(database, endpoint)
    found, walk = await part(database, Walk(), 10)
    assert found == [(endpoint.tenant, endpoint.id) for endpoint in lanes]
    assert walk.is_over
    one_by_one, walk = [], Walk()
    for _ in lanes:
        found, walk = await part(database, walk, 1)
        one_by_one += [lane[0] for lane in found]
        assert walk.is_over == (len(one_by_one) == len(lanes))
    assert one_by_one == ["a", "b", "c"]


@pytest.mark.parametrize("limit", [1, SHARE, PART])
async def test_a_tenant_of_very_many_lanes_keeps_no_other_waiting_until_its_last_one(database, limit):
    flood = [("acme", each.id) for each in await many_lanes(database, "acme", 2 * SHARE + 1)]
    beside = [("zulu", each.id) for each in await many_lanes(database, "zulu", 1)]
    seen, walk = await part(database, Walk(), limit)
    while not walk.is_over:
        found, walk = await part(database, walk, limit)
        seen += found
    assert seen == [*flood[:SHARE], *beside, *flood[SHARE : 2 * SHARE], *beside, *flood[2 * SHARE :], *beside]


async def test_a_round_that_is_cut_into_parts_leaves_out_nobody_and_comes_by_no_lane_twice(database):
    flood = {tenant: await many_lanes(database, tenant, SHARE + 1) for tenant in ("acme", "zulu")}
    parts, walk = [], Walk()
    while not parts or not walk.is_over:
        found, walk = await part(database, walk, SHARE)
        parts.append(found)
    assert [[*dict.fromkeys(tenant for tenant, _ in found)] for found in parts] == [["acme"], ["zulu"], ["acme", "zulu"]]
    assert sorted(lane for found in parts for lane in found) == [(tenant, each.id) for tenant in flood for each in flood[tenant]]


async def test_a_tenant_that_has_nothing_due_any_more_does_not_keep_the_walk_going(database):
    node = await live_node(database)
    flood = await many_lanes(database, "acme", SHARE + 1)
    _, walk = await part(database, Walk(), SHARE)
    assert not walk.is_over
    for endpoint in flood:
        assert len(await claimed(database, node, endpoint)) == 1
    found, walk = await part(database, walk)
    assert found == []
    assert walk.is_over
