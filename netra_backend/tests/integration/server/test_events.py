"""A tenant's events over REST: in order, none missed, and nobody else's."""

from __future__ import annotations

import pytest

from netra_backend.server.app import create_app

from ...support.server import API, client_of, message, tenant_key
from ...support.storage import eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")
EVENTS = f"{API}/tenants/acme/events"


async def followed(client, after=0, path=EVENTS):
    """Everything behind a number, asked for until there is no more; and the number then."""
    found, done = [], False
    while not done:
        page = (await client.get(path, params={"after": after})).json()
        found, after, done = found + page["data"], page["after"], page["done"]
    return found, after


async def test_whoever_goes_on_behind_the_last_number_misses_no_event_and_sees_none_twice(netra, operator):
    sent, found, after = [], [], 0

    async def all_of_them():
        nonlocal after
        more, after = await followed(operator, after)
        found.extend(more)
        return [each["message"] for each in found] == sent

    for number in range(1, 4):
        sent.append((await message(operator, eventType=f"thing.happened{number}"))["id"])
        await eventually(all_of_them)
    assert [each["type"] for each in found] == ["thing.happened1", "thing.happened2", "thing.happened3"]
    assert [each["seq"] for each in found] == sorted({each["seq"] for each in found})
    begun = (await operator.get(EVENTS)).json()
    assert (begun["data"], begun["after"] >= after, begun["done"]) == ([], True, True)


async def test_a_tenant_follows_its_own_events_and_no_others(netra, operator):
    own, other = await tenant_key(operator), await tenant_key(operator, "globex")
    theirs = await message(operator, "globex")
    mine = await message(operator)
    looker = await tenant_key(operator, scopes=["endpoint:secret"])
    async with (
        client_of(create_app(netra), own["key"]) as acme,
        client_of(create_app(netra), other["key"]) as globex,
        client_of(create_app(netra), looker["key"]) as narrow,
    ):

        async def both():
            here, _ = await followed(acme)
            there, _ = await followed(globex, path=EVENTS.replace("acme", "globex"))
            return [[each["message"] for each in found] for found in (here, there)] == [[mine["id"]], [theirs["id"]]]

        await eventually(both)
        assert (await globex.get(EVENTS, params={"after": 0})).status_code == 404
        assert (await narrow.get(EVENTS, params={"after": 0})).status_code == 403


async def test_a_number_that_is_none_is_refused(operator):
    assert (await operator.get(EVENTS, params={"after": -1})).status_code == 422
    assert (await operator.get(EVENTS, params={"after": "soon"})).status_code == 422
