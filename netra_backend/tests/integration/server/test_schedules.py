"""Retry schedules over REST: set on event types, endpoints and messages, shown again, and followed."""

from __future__ import annotations

import pytest

from netra_backend.kernel.scope import SYSTEM_TENANT
from netra_backend.testing.endpoint import MisbehavingEndpoint

from ...support.server import API, endpoint, message, new_netra
from ...support.storage import eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")
PLAIN = {"workers": True, "webhooks_schedule": "none", "webhooks_breaker_failures": 1000}
EVENT_TYPE = {"name": "thing.happened", "description": "d"}


@pytest.fixture
async def netra(tmp_path):
    async with new_netra(tmp_path, **PLAIN) as netra:
        yield netra


async def dead(operator, sent):
    """The delivery, once it is a dead letter."""
    found = []

    async def over():
        found[:] = (await operator.get(f"{API}/app/acme/msg/{sent['id']}/endpoint")).json()["data"]
        return found and all(each["state"] == "dead" for each in found)

    await eventually(over)
    return found


async def attempts_of(operator, **fields):
    sent = await message(operator, **fields)
    return {each["uid"]: each["attempts"] for each in await dead(operator, sent)}


async def test_a_message_goes_before_its_endpoint_and_that_before_its_event_type(netra, operator):
    async with MisbehavingEndpoint("500") as receiver:
        await endpoint(operator, uid="plain", url=receiver.url)
        await endpoint(operator, uid="own", url=receiver.url, retrySchedule=[0.01, 0.01])
        assert await attempts_of(operator) == {"plain": 1, "own": 3}
        made = await operator.post(f"{API}/event-type", json={**EVENT_TYPE, "retrySchedule": [0.01]})
        assert made.json()["retrySchedule"] == [0.01]

        async def is_known():  # to ask by sending would open the breaker: twenty attempts of which half fail do
            return "thing.happened" in (await netra.webhooks.snapshots.get(SYSTEM_TENANT)).schedules

        await eventually(is_known)
        assert await attempts_of(operator) == {"plain": 2, "own": 3}
        assert await attempts_of(operator, retrySchedule=[0.01, 0.01, 0.01]) == {"plain": 4, "own": 4}


async def test_schedules_are_shown_as_they_were_given_and_null_takes_them_away(operator):
    made = await endpoint(operator, retrySchedule="svix")
    assert made["retrySchedule"] == "svix"
    path = f"{API}/app/acme/endpoint/{made['id']}"
    assert (await operator.patch(path, json={"retrySchedule": [5, 300]})).json()["retrySchedule"] == [5.0, 300.0]
    assert (await operator.patch(path, json={"description": "d"})).json()["retrySchedule"] == [5.0, 300.0]
    assert (await operator.patch(path, json={"retrySchedule": None})).json()["retrySchedule"] is None
    sent = await message(operator, retrySchedule=[])
    assert (await operator.get(f"{API}/app/acme/msg/{sent['id']}")).json()["retrySchedule"] == []


@pytest.mark.parametrize("given", ["slowly", [-1], [None], [1] * 101, 5, {"a": 1}])
async def test_what_is_no_schedule_is_422_and_says_what_would_be_one(operator, given):
    body = {"eventType": "thing.happened", "payload": {}, "retrySchedule": given}
    hook = {"url": "https://example.com/", "retrySchedule": given}
    for path, sent in (("app/acme/msg", body), ("app/acme/endpoint", hook), ("event-type", {**EVENT_TYPE, "retrySchedule": given})):
        refused = await operator.post(f"{API}/{path}", json=sent)
        assert refused.status_code == 422, (path, refused.text)
        assert "retrySchedule" in str(refused.json()["detail"][0]["loc"])
        assert path == "app/acme/msg" or given == 5 or "[5, 300, 1800]" in refused.text or "string" in refused.text


async def test_a_repetition_with_another_schedule_is_another_body(operator):
    await message(operator, eventId="e", retrySchedule=[1])
    again = await operator.post(
        f"{API}/app/acme/msg", json={"eventType": "thing.happened", "payload": {"n": 1}, "eventId": "e", "retrySchedule": [2]}
    )
    assert again.status_code == 422
