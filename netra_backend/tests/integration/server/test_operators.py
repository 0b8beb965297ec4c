"""Operators' verbs over REST: tasks in Svix's shape and in ours, dead letters by filter, cancellations, erased content."""

from __future__ import annotations

import pytest

from netra_backend.kernel.ids import from_text
from netra_backend.kernel.scope import Scope
from netra_backend.storage.statements import parse

from ...support.server import API, client_of, endpoint, message

AGO = "2020-01-01T00:00:00Z"
KEPT = parse("-- name: kept\nselect payload_until_us, created_us from netra_message where tenant = :tenant and id = :id")["kept"]
WHY = {"why": "sent by mistake"}


async def skipped(operator, made):
    """A message that the endpoint did not want at the time; it does now."""
    await operator.patch(f"{API}/app/acme/endpoint/{made['id']}", json={"disabled": True})
    sent = await message(operator)
    await operator.patch(f"{API}/app/acme/endpoint/{made['id']}", json={"disabled": False})
    return sent


async def state_of(operator, sent):
    (destination,) = (await operator.get(f"{API}/app/acme/msg/{sent['id']}/endpoint")).json()["data"]
    return destination["state"]


async def test_a_recovery_is_a_background_task_in_svixs_shape(operator):
    made = await endpoint(operator)
    begun = await operator.post(f"{API}/app/acme/endpoint/{made['id']}/recover", json={"since": AGO})
    assert begun.status_code == 202
    assert begun.json().keys() == {"id", "status", "task", "updatedAt"}
    assert (begun.json()["status"], begun.json()["task"]) == ("running", "endpoint.recover")
    got = (await operator.get(f"{API}/background-task/{begun.json()['id']}")).json()
    assert {**got, "data": None} == {**begun.json(), "data": None}
    assert got["data"]["messagesSent"] == 0


async def test_a_repeated_request_with_its_key_is_one_task(operator):
    made = await endpoint(operator)
    headers = {"idempotency-key": "recover-1"}
    path = f"{API}/app/acme/endpoint/{made['id']}/recover"
    first, second = [await operator.post(path, json={"since": AGO}, headers=headers) for _ in range(2)]
    assert first.json()["id"] == second.json()["id"]
    assert second.headers["idempotency-replayed"] == "true"
    assert len((await operator.get(f"{API}/tenants/acme/webhooks/tasks")).json()["data"]) == 1


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("recover", {}),
        ("recover", {"since": "yesterday"}),
        ("recover", {"since": "2999-01-01T00:00:00Z"}),
        ("recover", {"since": "2020-01-02T00:00:00Z", "until": AGO}),
        ("bulk-replay", {"since": AGO, "status": 1}),
        ("bulk-replay", {"since": AGO, "statusCodeClass": 7}),
        ("replay-missing", {"since": "0001-01-01T00:00:00Z"}),
    ],
)
async def test_a_body_that_says_nothing_to_walk_over_is_refused_in_svixs_shape(operator, verb, body):
    made = await endpoint(operator)
    refused = await operator.post(f"{API}/app/acme/endpoint/{made['id']}/{verb}", json=body)
    assert refused.status_code == 422
    assert isinstance(refused.json()["detail"], list)


async def test_a_disabled_endpoint_and_an_unknown_one_are_not_recovered(operator):
    await endpoint(operator, uid="off", disabled=True)
    assert (await operator.post(f"{API}/app/acme/endpoint/off/recover", json={"since": AGO})).status_code == 422
    assert (await operator.post(f"{API}/app/acme/endpoint/nobody/recover", json={"since": AGO})).status_code == 404


async def test_background_tasks_are_the_operators_and_a_tenant_has_its_own(app, operator):
    made = await endpoint(operator)
    task = (await operator.post(f"{API}/app/acme/endpoint/{made['id']}/recover", json={"since": AGO})).json()["id"]
    key = (await operator.post(f"{API}/tenants/acme/keys", json={"name": "own"})).json()["key"]
    await operator.post(f"{API}/tenants", json={"uid": "globex"})
    theirs = (await operator.post(f"{API}/tenants/globex/keys", json={"name": "own"})).json()["key"]
    async with client_of(app, key) as tenant, client_of(app, theirs) as other:
        assert (await tenant.get(f"{API}/background-task")).status_code == 403
        assert (await tenant.get(f"{API}/background-task/{task}")).status_code == 403
        assert (await tenant.get(f"{API}/tenants/acme/webhooks/tasks/{task}")).json()["task"] == task
        assert (await other.get(f"{API}/tenants/globex/webhooks/tasks/{task}")).status_code == 404
        assert (await other.post(f"{API}/tenants/globex/webhooks/tasks/{task}/cancel")).status_code == 404
        assert (await other.get(f"{API}/tenants/acme/webhooks/tasks/{task}")).status_code == 404


async def test_background_tasks_are_listed_by_kind_state_and_page(operator):
    made = await endpoint(operator)
    path = f"{API}/app/acme/endpoint/{made['id']}"
    ids = [
        (await operator.post(f"{path}/{verb}", json={"since": AGO})).json()["id"] for verb in ("recover", "bulk-replay", "replay-missing")
    ]
    await operator.post(f"{API}/tenants/acme/webhooks/endpoints/{made['id']}/cancel", json=WHY)
    await operator.post(f"{API}/tenants/acme/webhooks/tasks/{ids[0]}/cancel", json=WHY)

    async def listed(**query):
        return [each["id"] for each in (await operator.get(f"{API}/background-task", params=query)).json()["data"]]

    assert await listed() == ids[::-1]
    assert await listed(order="ascending") == ids
    assert await listed(status="failed") == ids[:1]
    assert await listed(task="endpoint.bulk-replay") == ids[1:2]
    assert await listed(task="sdk.generate") == []
    first = (await operator.get(f"{API}/background-task", params={"limit": 2})).json()
    assert not first["done"]
    assert await listed(iterator=first["iterator"]) == ids[:1]


async def test_a_task_is_cancelled_once_and_says_why(operator):
    made = await endpoint(operator)
    task = (await operator.post(f"{API}/app/acme/endpoint/{made['id']}/recover", json={"since": AGO})).json()["id"]
    path = f"{API}/tenants/acme/webhooks/tasks/{task}"
    ended = await operator.post(f"{path}/cancel", json=WHY)
    assert (ended.json()["state"], ended.json()["reason"], ended.json()["kind"]) == ("cancelled", WHY["why"], "recover")
    assert (await operator.post(f"{path}/cancel")).status_code == 409
    shown = (await operator.get(path)).json()
    assert (shown["since"], shown["endpoint"]) == ("2020-01-01T00:00:00.000000Z", made["id"])
    assert (await operator.get(f"{API}/tenants/acme/webhooks/tasks", params={"after": task})).json()["data"] == []


async def test_a_message_is_cancelled_with_a_reason_and_its_id_or_event_id(operator):
    made = await endpoint(operator)
    sent = await message(operator, eventId="inv_42")
    path = f"{API}/tenants/acme/webhooks/messages"
    assert (await operator.post(f"{path}/inv_42/cancel", json={})).status_code == 422
    assert (await operator.post(f"{path}/inv_42/cancel", json=WHY)).json() == {"cancelled": [made["id"]], "under_way": []}
    assert await state_of(operator, sent) == "cancelled"
    assert (await operator.post(f"{path}/{sent['id']}/cancel", json=WHY)).json() == {"cancelled": [], "under_way": []}
    refused = await operator.post(f"{path}/{sent['id']}/cancel", json={**WHY, "endpoint": made["id"]})
    assert (refused.status_code, refused.json()["code"]) == (409, "illegal_transition")
    assert (await operator.post(f"{path}/msg_nobody/cancel", json=WHY)).status_code == 404


async def test_an_expunged_message_is_shown_as_svix_shows_it_and_not_sent_again(operator):
    made = await endpoint(operator)
    sent = await message(operator, eventId="inv_42")
    assert (await operator.delete(f"{API}/app/acme/msg/inv_42/content")).status_code == 204
    shown = (await operator.get(f"{API}/app/acme/msg/{sent['id']}")).json()
    assert (shown["payload"], shown["eventType"]) == ({"expired": True}, sent["eventType"])
    assert await state_of(operator, sent) == "cancelled"
    refused = await operator.post(f"{API}/app/acme/msg/{sent['id']}/endpoint/{made['id']}/resend")
    assert (refused.status_code, refused.json()["code"]) == (409, "expunged")
    assert (await operator.delete(f"{API}/app/acme/msg/nobody/content")).status_code == 404
    again = await message(operator, eventId="inv_42")
    assert (again["id"], again["payload"]) == (sent["id"], {"expired": True})


async def test_the_time_for_which_a_payload_is_kept_is_part_of_the_message(operator, netra):
    for body, kept_us in (
        ({"payloadRetentionPeriod": 2}, 48 * 3600 * 10**6),
        ({"payloadRetentionPeriod": 2, "payloadRetentionHours": 1}, 3600 * 10**6),
    ):
        sent = await message(operator, **body)
        assert sent["payload"] != {"expired": True}
        stored = await netra.database.read(kept_until, sent["id"], scope=Scope("acme", "tester"))
        assert stored[0] - stored[1] == kept_us


async def kept_until(tx, message_id):
    return await tx.one(KEPT, id=from_text("msg", message_id))


async def test_dead_letters_are_filtered_and_driven_again(operator, netra):
    made = await endpoint(operator)
    sent = await skipped(operator, made)
    path = f"{API}/tenants/acme/webhooks/dead"
    assert (await operator.get(path, params={"endpoint": made["id"], "event_type": ["a.b"], "since": AGO})).json()["data"] == []
    assert (await operator.get(path, params={"endpoint": "nobody"})).status_code == 404
    assert (await operator.get(path, params={"since": "yesterday"})).status_code == 422
    begun = await operator.post(f"{path}/redrive", json={"endpoint": made["id"], "event_types": ["a.b"], "until": "2021-01-01T00:00:00Z"})
    assert (begun.status_code, begun.json()["kind"], begun.json()["states"]) == (202, "redrive", ["dead"])
    assert begun.json()["until"] == "2021-01-01T00:00:00.000000Z"
    assert await state_of(operator, sent) == "skipped"
    assert (await operator.post(f"{path}/redrive", json={"endpont": "x"})).status_code == 422
