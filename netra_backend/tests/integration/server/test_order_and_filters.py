"""Messages in order and payload filters, over REST and on the wire."""

from __future__ import annotations

import json

import pytest

from netra_backend.testing.endpoint import MisbehavingEndpoint

from ...support.server import API, endpoint, message, new_netra
from ...support.storage import eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")
SOON = {"workers": True, "webhooks_schedule": "50ms,50ms,50ms,50ms", "webhooks_breaker_failures": 100}


@pytest.fixture
async def netra(tmp_path):
    async with new_netra(tmp_path, **SOON) as netra:
        yield netra


def numbers(receiver, key=None):
    bodies = [json.loads(each.body) for each in receiver.received if each.status == 200]
    return [body["n"] for body in bodies if key is None or body["key"] == key]


async def test_a_failing_first_one_holds_its_key_and_no_other_and_nothing_overtakes(operator):
    async with MisbehavingEndpoint("503-then-ok:3", keep=True) as receiver:
        await endpoint(operator, url=receiver.url, ordering="key")
        for n in range(12):
            await message(operator, payload={"n": n, "key": n % 3}, orderingKey=f"k{n % 3}")
        await eventually(lambda: len(numbers(receiver)) == 12)
        for key in range(3):
            assert numbers(receiver, key) == list(range(key, 12, 3))


async def test_an_endpoint_may_have_all_its_messages_in_one_line(operator):
    async with MisbehavingEndpoint("503-then-ok:2", keep=True) as receiver:
        await endpoint(operator, url=receiver.url, ordering="endpoint")
        for n in range(8):
            await message(operator, payload={"n": n})
        await eventually(lambda: len(numbers(receiver)) == 8)
        assert numbers(receiver) == list(range(8))


async def test_a_message_shows_its_key_and_what_waits_shows_no_time(operator):
    await endpoint(operator, ordering="key", url="http://127.0.0.1:9/")
    for _ in range(2):
        sent = await message(operator, orderingKey="order-7")
    assert (await operator.get(f"{API}/app/acme/msg/{sent['id']}")).json()["orderingKey"] == "order-7"
    (waiting,) = (await operator.get(f"{API}/app/acme/msg/{sent['id']}/endpoint")).json()["data"]
    assert (waiting["state"], waiting["nextAttempt"]) == ("due", None)


async def test_a_repetition_with_another_ordering_key_is_another_body(operator):
    await message(operator, eventId="e", orderingKey="a")
    again = await operator.post(
        f"{API}/app/acme/msg", json={"eventType": "thing.happened", "payload": {"n": 1}, "eventId": "e", "orderingKey": "b"}
    )
    assert again.status_code == 422


async def test_a_filter_decides_which_messages_go_there(operator):
    async with MisbehavingEndpoint(keep=True) as receiver:
        made = await endpoint(operator, url=receiver.url, filter='data.amount >= 100 and "eu" in tags')
        assert made["filter"] == 'data.amount >= 100 and "eu" in tags'
        for n, (amount, tags) in enumerate([(99, ["eu"]), (100, ["eu"]), (100, None), ("100", ["eu"]), (101, ["us", "eu"])]):
            await message(operator, payload={"n": n, "amount": amount}, tags=tags)
        await eventually(lambda: len(receiver.received) == 2)
        assert sorted(numbers(receiver)) == [1, 4]
        cleared = await operator.patch(f"{API}/app/acme/endpoint/{made['id']}", json={"filter": None})
        assert cleared.json()["filter"] is None
        await message(operator, payload={"n": 5, "amount": 1})
        await eventually(lambda: len(receiver.received) == 3)


@pytest.mark.parametrize(
    "field", [{"filter": "data.amount >"}, {"filter": ""}, {"filter": "x" * 5000}, {"ordering": "fifo"}, {"filter": "f(data)"}]
)
async def test_what_means_nothing_is_refused_where_it_is_saved(operator, field):
    body = {"url": "http://127.0.0.1:9/", **field}
    answer = await operator.post(f"{API}/app/acme/endpoint", json=body)
    assert answer.status_code == 422
    assert answer.json()["detail"][0]["loc"] == ["body", next(iter(field))]


@pytest.mark.parametrize("key", ["", "x" * 257, 7, "a\nb"])
async def test_an_ordering_key_that_is_none_is_refused(operator, key):
    answer = await operator.post(f"{API}/app/acme/msg", json={"eventType": "a.b", "payload": {}, "orderingKey": key})
    assert answer.status_code == 422
