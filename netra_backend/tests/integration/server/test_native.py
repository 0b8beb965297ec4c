"""Routes of our own, lists and their iterators, probes, and the document over all of it."""

from __future__ import annotations

import json

import pytest

from netra_backend.errors import NetraError
from netra_backend.kernel.ids import from_text
from netra_backend.kernel.runtime import Runtime
from netra_backend.resilience.circuit_breaker import Breaker
from netra_backend.server.app import create_app
from netra_backend.server.metrics import PrometheusMetrics
from netra_backend.testing.endpoint import MisbehavingEndpoint
from netra_backend.webhooks import health
from netra_backend.webhooks.model import WELL, EndpointHealth, News

from ...support.server import API, OPERATOR, SYSTEM, actions, client_of, endpoint, message, new_netra
from ...support.storage import eventually

pytestmark = pytest.mark.usefixtures("every_server_engine")


async def test_tenants_are_made_listed_and_found_by_uid_and_id(operator):
    made = await operator.post(f"{API}/tenants", json={"uid": "globex"}, headers={"idempotency-key": "k"})
    again = await operator.post(f"{API}/tenants", json={"uid": "globex"}, headers={"idempotency-key": "k"})
    assert (made.status_code, made.json()["name"]) == (201, "globex")
    assert (again.json(), again.headers["idempotency-replayed"]) == (made.json(), "true")
    other = await operator.post(f"{API}/tenants", json={"uid": "initech"}, headers={"idempotency-key": "k"})
    assert (other.status_code, other.json()["code"]) == (422, "key_reused")
    listed = (await operator.get(f"{API}/tenants")).json()
    assert [each["uid"] for each in listed["data"]] == ["acme", "globex"]
    assert (await operator.get(f"{API}/tenants/{made.json()['id']}")).json() == made.json()


async def test_dead_letters_are_listed_and_driven_again(tmp_path):
    async with (
        new_netra(tmp_path, workers=True, webhooks_schedule="10ms") as netra,
        client_of(create_app(netra)) as operator,
        MisbehavingEndpoint("503") as receiver,
    ):
        await operator.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})
        made = await endpoint(operator, url=receiver.url)
        sent = [await message(operator) for _ in range(3)]

        async def dead(**params):
            return (await operator.get(f"{API}/tenants/acme/webhooks/dead", params=params)).json()

        async def all_dead():
            return len((await dead())["data"]) == 3

        await eventually(all_dead)
        first = await dead(limit=2)
        second = await dead(limit=2, iterator=first["iterator"])
        assert sorted(each["message"] for each in first["data"] + second["data"]) == sorted(each["id"] for each in sent)
        assert (first["done"], second["done"]) == (False, True)
        assert {(each["endpoint"], each["last_status"], each["attempts"]) for each in first["data"]} == {(made["id"], 503, 2)}
        receiver.behave("ok")
        resent = await operator.post(f"{API}/app/acme/msg/{sent[0]['id']}/endpoint/{made['id']}/resend")
        assert resent.status_code == 202

        async def one_less():
            return len((await dead())["data"]) == 2

        await eventually(one_less)
        assert "delivery.resend" in await actions(operator)


async def test_a_delivery_to_a_disabled_endpoint_is_not_resent(operator):
    made = await endpoint(operator, disabled=True)
    sent = await message(operator)
    destination = (await operator.get(f"{API}/app/acme/msg/{sent['id']}/endpoint")).json()["data"][0]
    assert (destination["state"], destination["statusText"]) == ("skipped", "canceled")
    assert (await operator.post(f"{API}/app/acme/msg/{sent['id']}/endpoint/{made['id']}/resend")).status_code == 422


async def test_audit_entries_are_paged_by_id(operator):
    for number in range(4):
        await endpoint(operator, uid=f"e{number}")
    path = f"{API}/tenants/acme/audit"
    whole = (await operator.get(path, params={"limit": 250})).json()["data"]
    pages, after = [], None
    while True:
        page = (await operator.get(path, params={"limit": 4} | ({"after": after} if after else {}))).json()
        pages += page["data"]
        after = page["after"]
        if page["done"]:
            break
    assert pages == whole
    assert len({entry["trace_id"] for entry in whole}) == 5
    assert (await operator.get(path, params={"after": "junk"})).status_code == 422


LISTS = ["/app", "/app/acme/endpoint", "/app/acme/msg", "/event-type", "/tenants", "/tenants/acme/webhooks/dead"]


async def test_a_forged_iterator_is_refused(operator):
    await endpoint(operator)
    await message(operator)
    await operator.put(f"{API}/event-type/a.b", json={"description": "d"})
    for path in LISTS:
        own = (await operator.get(API + path)).json()["iterator"] or ""
        forged = ["x", "-", "é", "Y", "Y" * 33, "\x00", "=" * 8, own + "A", own[:-1], own.swapcase(), "A" * 2000]
        for iterator in [each for each in forged if each != own]:
            answer = await operator.get(API + path, params={"iterator": iterator})
            assert (path, iterator, answer.status_code // 100) == (path, iterator, 4)
        if own:
            assert (await operator.get(API + path, params={"iterator": own})).json()["data"] == []


async def test_an_iterator_of_another_list_is_refused(operator):
    iterator = (await operator.get(f"{API}/app")).json()["iterator"]
    for path in ("/event-type", "/tenants/acme/webhooks/dead"):
        assert (await operator.get(API + path, params={"iterator": iterator})).status_code == 422


async def test_a_limit_out_of_range_is_refused(operator):
    for path in LISTS:
        for limit in ("0", "251", "-1", "x", "1e9", ""):
            answer = await operator.get(API + path, params={"limit": limit})
            assert (path, limit, answer.status_code) == (path, limit, 422)


async def test_a_trailing_slash_makes_no_difference_and_redirects_nowhere(operator):
    for path in ("/app", "/app/acme", "/app/acme/endpoint", "/app/acme/msg"):
        assert (await operator.get(f"{API}{path}/")).json() == (await operator.get(API + path)).json()
    assert (await operator.post(f"{API}/app/acme/msg/", json={"eventType": "a", "payload": {}})).status_code == 202


async def test_a_route_that_is_not_there_and_a_method_that_is_not(operator):
    missing, wrong = await operator.get(f"{API}/nothing"), await operator.delete(f"{API}/app")
    assert (missing.status_code, missing.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"], wrong.headers["allow"]) == (405, "method_not_allowed", "GET")


async def test_readiness_tells_why_not(netra, app, operator, monkeypatch):
    async with client_of(app, None) as nobody:
        assert (await nobody.get("/ready")).json() == {"ready": True, "reasons": []}
        app.edge.draining = True
        monkeypatch.setattr(netra.membership, "_beaten_at", -1e9)
        answer = await nobody.get("/ready")
        assert answer.status_code == 503
        assert [reason["code"] for reason in answer.json()["reasons"]] == ["quiet", "draining"]


async def test_metrics_show_the_queue_and_what_the_parts_counted(tmp_path):
    metrics = PrometheusMetrics()
    async with new_netra(tmp_path, runtime=Runtime(metrics=metrics)) as netra:
        async with client_of(create_app(netra)) as operator:
            await operator.post(f"{API}/app", json={"name": "Acme", "uid": "acme"})
            await endpoint(operator)
            await message(operator)
            netra.runtime.metrics.count("netra_webhook_deliveries_total", 2, outcome="dead")
            lines = (await operator.get("/metrics")).text.splitlines()
        assert 'netra_webhook_deliveries_total{outcome="dead"} 2.0' in lines
        assert 'netra_webhook_deliveries_total{outcome="delivered"} 0.0' in lines
        assert "netra_webhook_queue_depth 1.0" in lines
        assert any(line.startswith("netra_webhook_oldest_due_seconds ") for line in lines)
        assert {
            f'netra_breaker_state{{part="webhooks",state="{state}"}} 0.0' for state in ("open", "half_open", "slow_start", "gated")
        } <= {*lines}
        async with client_of(create_app(netra), None) as nobody:
            assert (await nobody.get("/metrics")).status_code == 401
        async with client_of(create_app(netra, dev=True), None) as nobody:
            assert (await nobody.get("/metrics")).status_code == 200


async def test_an_endpoint_is_shown_with_its_breaker_and_counted_in_the_gauge(netra, operator):
    made = await endpoint(operator)
    assert made["breaker"] == {"state": "closed", "parkedUntil": None, "gatedUntil": None, "failingSince": None}
    lane = "acme", from_text("ep", made["id"])
    parked = EndpointHealth(Breaker("open", 0, 2_000_000, openings=1), gate_us=2**50)
    await netra.database.write(health.settle, [News(*lane, WELL, parked)], scope=SYSTEM)
    times = {"parkedUntil": "1970-01-01T00:00:02.000000Z", "gatedUntil": "2005-09-05T05:58:26.842624Z", "failingSince": None}
    shown = {"state": "open", **times}
    assert (await operator.get(f"{API}/app/acme/endpoint/{made['id']}")).json()["breaker"] == shown
    assert [each["breaker"] for each in (await operator.get(f"{API}/app/acme/endpoint")).json()["data"]] == [shown]
    assert (await operator.patch(f"{API}/app/acme/endpoint/{made['id']}", json={"description": "x"})).json()["breaker"] == shown
    lines = (await operator.get("/metrics")).text.splitlines()
    assert 'netra_breaker_state{part="webhooks",state="open"} 1.0' in lines
    again = await operator.patch(f"{API}/app/acme/endpoint/{made['id']}", json={"url": "https://example.com/new"})
    assert again.json()["breaker"]["state"] == "closed"


async def test_the_document_holds_every_route_and_what_it_refers_to(app, operator):
    async with client_of(app, None) as nobody:
        document = (await nobody.get("/openapi.json")).json()
    assert {"/api/v1/app/{app_id}/msg", "/api/v1/app/{app_id}/msg/batch"} <= set(document["paths"])
    assert {"get", "post"} == set(document["paths"]["/api/v1/app/{app_id}/msg"])
    text = json.dumps(document)
    for name in {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}:
        assert name in document["components"]["schemas"]
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


async def test_what_goes_wrong_here_is_a_500_with_an_id_and_nothing_else(netra, operator, monkeypatch, caplog):
    async def fail(*_, **__):
        raise RuntimeError("the secret of the house")

    class Odd(NetraError):
        """The other secret of the house."""

    async def fail_oddly(*_, **__):
        raise Odd

    for broken in (fail, fail_oddly):
        monkeypatch.setattr(netra.database, "read", broken)
        monkeypatch.setattr(netra.webhooks, "accept", broken)
        trace = "0af7651916cd43dd8448eb211c80319c"
        headers = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        for answer in (
            await operator.get(f"{API}/app", headers=headers),
            await operator.post(f"{API}/app/acme/msg", json={"eventType": "a", "payload": {}}, headers=headers),
        ):
            assert (answer.status_code, answer.json()["code"]) == (500, "internal")
            assert answer.json()["detail"] == f"internal error {trace}"
            assert "house" not in answer.text
            assert trace in caplog.text
    assert "the secret of the house" in caplog.text
    assert OPERATOR not in caplog.text
