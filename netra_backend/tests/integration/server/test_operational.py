"""The operator's own endpoints, and the events that they get, over real HTTP."""

from __future__ import annotations

import json

import pytest
from standardwebhooks import Webhook
from svix.api import SvixAsync, SvixOptions
from svix.models import (
    OperationalWebhookEndpointHeadersIn,
    OperationalWebhookEndpointIn,
    OperationalWebhookEndpointSecretIn,
    OperationalWebhookEndpointUpsertIn,
)

from netra_backend.kernel.scope import Scope
from netra_backend.storage import tenants
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.webhooks import endpoints
from netra_backend.webhooks.intake import StaleSnapshot, ingest

from ...support.platform import arm, fail
from ...support.server import API, OPERATOR, actions, client_of, endpoint, message, new_netra, serving
from ...support.storage import SYSTEM, eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")
PLAIN = {"workers": True, "webhooks_schedule": "none", "webhooks_breaker_failures": 1000}
PATH = f"{API}/operational-webhook/endpoint"


@pytest.fixture
async def netra(tmp_path):
    async with new_netra(tmp_path, **PLAIN) as netra:
        yield netra


async def operational(operator, url="http://127.0.0.1:9/", **fields):
    made = await operator.post(PATH, json={"url": url, **fields})
    assert made.status_code == 201, made.text
    return made.json()


def kinds(receiver):
    return [json.loads(each.body)["type"] for each in receiver.received]


async def test_a_dead_letter_is_told_signed_in_svixs_shape(operator):
    async with MisbehavingEndpoint(keep=True) as office, MisbehavingEndpoint("500") as receiver:
        told = await operational(operator, office.url)
        secret = (await operator.get(f"{PATH}/{told['id']}/secret")).json()["key"]
        hook = await endpoint(operator, uid="hook", url=receiver.url)
        sent = await message(operator, eventId="e-1")
        await eventually(lambda: kinds(office) == ["message.attempt.exhausted"])
        (got,) = office.received
        event = Webhook(secret).verify(got.body, got.headers)
        app = (await operator.get(f"{API}/app/acme")).json()
        assert event["data"] | {"lastAttempt": None} == {
            "appId": app["id"],
            "appUid": "acme",
            "endpointId": hook["id"],
            "endpointUid": "hook",
            "msgId": sent["id"],
            "msgEventId": "e-1",
            "lastAttempt": None,
        }
        assert event["data"]["lastAttempt"]["responseStatusCode"] == 500
        assert event["data"]["lastAttempt"]["id"].startswith("atmpt_")


async def test_an_endpoint_that_its_receiver_or_somebody_disables_is_told(operator):
    async with MisbehavingEndpoint(keep=True) as office, MisbehavingEndpoint("410") as receiver:
        await operational(operator, office.url, filterTypes=["endpoint.disabled"])
        gone, other = await endpoint(operator, url=receiver.url), await endpoint(operator, filterTypes=["never"])
        await message(operator)
        await operator.patch(f"{API}/app/acme/endpoint/{other['id']}", json={"disabled": True})
        await eventually(lambda: len(office.received) == 2)
        told = {json.loads(each.body)["data"]["endpointId"]: json.loads(each.body)["data"]["trigger"] for each in office.received}
        assert told == {gone["id"]: "automatic", other["id"]: "manual"}


async def test_events_are_tried_again_until_the_operators_endpoint_takes_them(operator):
    async with MisbehavingEndpoint("503-then-ok:2", keep=True) as office:
        await operational(operator, office.url, retrySchedule=[0.05, 0.05, 0.05])
        hook = await endpoint(operator)
        await operator.patch(f"{API}/app/acme/endpoint/{hook['id']}", json={"disabled": True})
        await eventually(lambda: [each.status for each in office.received] == [503, 503, 200])
        assert len({each.headers["webhook-id"] for each in office.received}) == 1


async def test_what_happens_to_the_operators_own_endpoints_is_told_to_nobody(operator, netra):
    async with MisbehavingEndpoint("500") as office:
        told = await operational(operator, office.url, retrySchedule=[])
        hook = await endpoint(operator)
        await operator.patch(f"{API}/app/acme/endpoint/{hook['id']}", json={"disabled": True})
        await eventually(lambda: office.received)
        await operator.patch(f"{PATH}/{told['id']}", json={"disabled": True})
        await operator.patch(f"{PATH}/{told['id']}", json={"disabled": False})
        marker = await endpoint(operator)
        await operator.patch(f"{API}/app/acme/endpoint/{marker['id']}", json={"disabled": True})
        await eventually(lambda: len(office.received) == 2)
        assert {json.loads(each.body)["data"]["endpointId"] for each in office.received} == {hook["id"], marker["id"]}


async def test_an_event_from_before_the_first_endpoint_is_not_kept_for_it(operator, netra):
    hook = await endpoint(operator)
    await operator.patch(f"{API}/app/acme/endpoint/{hook['id']}", json={"disabled": True})
    await netra.leader.drain()
    await netra.webhooks.dispatcher.operational.follow()
    async with MisbehavingEndpoint(keep=True) as office:
        await operational(operator, office.url)
        marker = await endpoint(operator)
        await operator.patch(f"{API}/app/acme/endpoint/{marker['id']}", json={"disabled": True})
        await eventually(lambda: office.received)
        assert json.loads(office.received[0].body)["data"]["endpointId"] == marker["id"]


async def test_the_operators_tenant_is_nobodys_application(operator, netra):
    await operational(operator)
    for number in range(3):
        await operator.post(f"{API}/app", json={"name": "n", "uid": f"later-{number}"})
    pages, iterator = [], None
    while iterator is not None or not pages:
        shown = (await operator.get(f"{API}/app", params={"limit": 1, **({"iterator": iterator} if iterator else {})})).json()
        pages += [each["uid"] for each in shown["data"]]
        iterator = None if shown["done"] else shown["iterator"]
    assert pages == ["acme", "later-0", "later-1", "later-2"]
    row = await netra.database.read(tenants.by_name, "*", scope=SYSTEM)
    assert (await operator.get(f"{API}/app/{row.app_id}")).status_code == 404
    found = await netra.database.read(endpoints.page, (-1, b""), 10, scope=SYSTEM)
    assert len(found) == 1
    assert await netra.database.read(endpoints.page, (-1, b""), 10, scope=Scope("acme", "tester")) == []


async def test_an_event_becomes_one_message_whatever_fails_on_the_way(operator, netra):
    async with MisbehavingEndpoint(keep=True) as office:
        await operational(operator, office.url)
        arm(netra, "webhooks.operational_taken_before_commit", fail)
        hook = await endpoint(operator)
        await operator.patch(f"{API}/app/acme/endpoint/{hook['id']}", json={"disabled": True})
        await eventually(lambda: office.received)
        marker = await endpoint(operator)
        await operator.patch(f"{API}/app/acme/endpoint/{marker['id']}", json={"disabled": True})
        await eventually(lambda: len(office.received) == 2)
        assert [json.loads(each.body)["data"]["endpointId"] for each in office.received] == [hook["id"], marker["id"]]


async def test_an_event_is_not_passed_by_where_the_operators_endpoints_change_meanwhile(operator, netra, monkeypatch):
    stale = iter([True, False, False, False])

    async def changed_meanwhile(tx, items):
        return [StaleSnapshot() for _ in items] if next(stale) else await ingest(tx, items)

    monkeypatch.setattr("netra_backend.webhooks.operational.ingest", changed_meanwhile)
    async with MisbehavingEndpoint(keep=True) as office:
        await operational(operator, office.url)
        hook = await endpoint(operator)
        await operator.patch(f"{API}/app/acme/endpoint/{hook['id']}", json={"disabled": True})
        await eventually(lambda: office.received)
        assert [json.loads(each.body)["data"]["endpointId"] for each in office.received] == [hook["id"]]
    assert not next(stale)


async def test_only_an_operator_sees_them(app, operator):
    made = await operational(operator)
    key = (await operator.post(f"{API}/tenants/acme/keys", json={"name": "a"})).json()["key"]
    async with client_of(app, key) as tenant:
        for method, path in (("GET", PATH), ("POST", PATH), ("GET", f"{PATH}/{made['id']}/secret"), ("DELETE", f"{PATH}/{made['id']}")):
            assert (await tenant.request(method, path)).status_code == 403


async def test_headers_that_are_credentials_are_named_and_not_shown(operator):
    made = await operational(operator, headers={"X-Team": "ops", "Authorization": "Bearer s3cret"})
    path = f"{PATH}/{made['id']}/headers"
    assert (await operator.get(path)).json() == {"headers": {"X-Team": "ops"}, "sensitive": ["Authorization"]}
    assert (await operator.patch(path, json={"headers": {"X-Two": "2"}, "deleteHeaders": ["x-team"]})).status_code == 204
    assert (await operator.get(path)).json() == {"headers": {"X-Two": "2"}, "sensitive": ["Authorization"]}
    assert (await operator.put(path, json={"headers": {}})).status_code == 204
    assert (await operator.get(path)).json() == {"headers": {}, "sensitive": []}
    assert (await operator.put(path, json={"headers": {"Host": "x"}})).status_code == 422


async def test_what_is_done_to_them_is_in_the_operators_audit_trail(operator):
    made = await operational(operator)
    await operator.post(f"{PATH}/{made['id']}/secret/rotate", json={})
    await operator.delete(f"{PATH}/{made['id']}")
    wanted = {"endpoint.create", "endpoint.secret.create", "endpoint.secret.expire", "endpoint.delete"}
    assert wanted <= set(await actions(operator, f"{API}/audit"))


async def test_svixs_own_client_keeps_the_operators_endpoints(netra):
    async with serving(netra) as url:
        svix = SvixAsync(OPERATOR, SvixOptions(server_url=url, retry_schedule=[]))
        try:
            await keep_endpoints(svix.operational_webhook.endpoint)
        finally:
            await svix._httpx_client.aclose()


async def keep_endpoints(client):
    made = await client.create(OperationalWebhookEndpointIn(url="https://example.com/ops", uid="ops", event_types=["endpoint.disabled"]))
    assert (await client.get("ops")).id == made.id
    changed = await client.upsert("ops", OperationalWebhookEndpointUpsertIn(url="https://example.com/other", throttle_rate=5))
    assert (changed.url, changed.throttle_rate) == ("https://example.com/other", 5)
    assert [each.id for each in (await client.list()).data] == [made.id]
    await client.set_headers("ops", OperationalWebhookEndpointHeadersIn(headers={"X-Team": "ops"}))
    assert (await client.get_headers("ops")).headers == {"X-Team": "ops"}
    before = (await client.get_secret("ops")).key
    await client.rotate_secret("ops", OperationalWebhookEndpointSecretIn())
    assert (await client.get_secret("ops")).key != before
    await client.delete("ops")
    assert (await client.list()).data == []
